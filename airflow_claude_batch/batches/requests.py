"""From a user's record to the exact line that goes to the API.

A record is short (``prompt`` plus any Messages API parameter) or full (``params``). Whatever else
it carries are the user's own columns: they stay with us and come back beside the answer.
Validation is strict about what costs money (identity, required parameters, parameters that
batches refuse) and silent about the rest, which the API checks itself.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from airflow_claude_batch.batches.errors import Fault, InputError

CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Form of a custom_id (source: the API's documentation of message batches)."""

MESSAGE_PARAMETERS = frozenset(
    {
        "cache_control",
        "container",
        "context_management",
        "inference_geo",
        "max_tokens",
        "mcp_servers",
        "messages",
        "metadata",
        "model",
        "output_config",
        "service_tier",
        "stop_sequences",
        "system",
        "thinking",
        "tool_choice",
        "tools",
    }
)
"""Keys of a short record that are Messages API parameters; every other key is the user's own."""

REFUSED_PARAMETERS = {
    "stream": "batches do not stream; remove it",
    "speed": "batches have no speed setting; remove it",
    "fallbacks": "batches take no fallbacks; remove it",
    "betas": "betas belong to the whole batch; set betas=[...] on the operator",
    "extra_body": "batches take no extra_body; put the parameters into params",
    "extra_headers": "batches take no extra_headers; remove it",
    "extra_query": "batches take no extra_query; remove it",
    "temperature": "not accepted since API version 2026-10-21; remove it",
    "top_p": "not accepted since API version 2026-10-21; remove it",
    "top_k": "not accepted since API version 2026-10-21; remove it",
}
"""What batches refuse, and the way out. The API would report it only when the batch has ended."""

_encode = msgspec.json.Encoder().encode
_refused = REFUSED_PARAMETERS.keys()


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request, ready to be stored and sent."""

    custom_id: str
    line: bytes
    """``{"custom_id": …, "params": …}`` as compact JSON, without an end of line."""
    columns: dict[str, Any] | msgspec.Raw | None
    """The user's own columns (decoded or as JSON), or None where there are none."""


class Normaliser:
    """Turns records into requests.

    :param defaults: Messages API parameters for every request that does not set them itself
    :param watch: is shown the parameters of each valid request
    :raises InputError: for a default that batches refuse or that is not JSON
    """

    def __init__(
        self, defaults: Mapping[str, Any], watch: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        given = {key: value for key, value in defaults.items() if value is not None}
        faults = [
            Fault(index=0, where=f"default {key}", value=shorten(given[key]), rule=REFUSED_PARAMETERS[key])
            for key in given
            if key in REFUSED_PARAMETERS
        ]
        if faults:
            raise InputError(faults)
        self._watch = watch
        self._defaults: dict[str, Any] = to_json(given, 0, "default", faults)
        if faults:
            raise InputError(faults)

    def __call__(self, record: Any, index: int) -> Request:
        """The request for one record; ``index`` is its position in the input, for messages.

        :raises InputError: with every fault of this record
        """
        faults: list[Fault] = []
        if type(record) is not dict and not isinstance(record, Mapping):
            rule = 'a record is a mapping such as {"custom_id": "a", "prompt": "..."}'
            raise InputError([Fault(index=index, where="record", value=shorten(record), rule=rule)])
        if not is_json(record):
            record = to_json(record, index, "", faults)
            if faults:
                raise InputError(faults)
        params, columns = self._split(record, index, faults)
        custom_id = record.get("custom_id")
        if not isinstance(custom_id, str) or not CUSTOM_ID.fullmatch(custom_id):
            rule = "a custom_id is 1 to 64 letters, digits, hyphens or underscores"
            faults.append(Fault(index=index, where="custom_id", value=shorten(custom_id), rule=rule))
        _check(params, index, faults)
        if faults:
            raise InputError(faults)
        try:
            line = _encode({"custom_id": custom_id, "params": params})
        except (ValueError, TypeError, OverflowError) as error:
            fault = Fault(index=index, where="params", value=shorten(custom_id), rule=f"not JSON: {error}")
            raise InputError([fault]) from None
        if self._watch is not None:
            self._watch(params)
        return Request(custom_id=str(custom_id), line=line, columns=columns or None)

    def _split(
        self, record: Mapping[str, Any], index: int, faults: list[Fault]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters of the message, and the user's own columns."""
        if record.get("params") is None:
            return self._split_short(record, index, faults)
        params, columns = dict(self._defaults), {}
        for key, value in record.items() if len(record) > 2 else ():
            if key == "prompt" or key in MESSAGE_PARAMETERS or key in REFUSED_PARAMETERS:
                rule = "a record with params holds its message parameters in there, not beside it"
                faults.append(Fault(index=index, where=key, value=shorten(value), rule=rule))
            elif key not in ("custom_id", "params"):
                columns[key] = value
        if isinstance(record["params"], dict):
            params.update(record["params"])
            if None in params.values():
                params = {key: value for key, value in params.items() if value is not None}
        else:
            rule = "params is a mapping, the body of a Messages API call"
            value = shorten(record["params"])
            faults.append(Fault(index=index, where="params", value=value, rule=rule))
        return params, columns

    def _split_short(
        self, record: Mapping[str, Any], index: int, faults: list[Fault]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        params, columns = dict(self._defaults), {}
        for key, value in record.items():
            if key in MESSAGE_PARAMETERS or key in REFUSED_PARAMETERS:
                if value is not None:
                    params[key] = value
            elif key not in ("custom_id", "prompt", "params"):
                columns[key] = value
        prompt = record.get("prompt")
        if prompt is not None:
            if record.get("messages") is not None:
                rule = "a record has a prompt or messages, not both"
                faults.append(Fault(index=index, where="prompt", value=shorten(prompt), rule=rule))
            params["messages"] = [{"role": "user", "content": prompt}]
        elif "messages" not in params:
            rule = "a record has a prompt, messages or params"
            value = shorten(sorted(record))
            faults.append(Fault(index=index, where="record keys", value=value, rule=rule))
            params["messages"] = [{"role": "user", "content": "-"}]
        return params, columns


def _check(params: dict[str, Any], index: int, faults: list[Fault]) -> None:
    """What the API would refuse only hours later, or for the whole batch."""
    problems = []
    model, max_tokens, messages = params.get("model"), params.get("max_tokens"), params.get("messages")
    if not isinstance(model, str) or not model:
        way_out = "set it in the record, on the operator, or as model in the connection's extra"
        problems.append(("model", model, f"a model id is required; {way_out}"))
    if type(max_tokens) is not int or max_tokens < 1:
        problems.append(("max_tokens", max_tokens, "a whole number of at least 1 is required"))
    if not isinstance(messages, (list, tuple)) or not messages:
        problems.append(("messages", messages, "a list of at least one message is required"))
    else:
        for number, message in enumerate(messages):
            if not isinstance(message, dict) or not isinstance(message.get("role"), str):
                rule = 'a message is a mapping with "role" and "content"'
                problems.append((f"messages[{number}]", message, rule))
            elif not isinstance(message.get("content"), (str, list, tuple)) or not message["content"]:
                rule = "text or a list of blocks, not empty"
                problems.append((f"messages[{number}].content", message.get("content"), rule))
    if not _refused.isdisjoint(params):
        problems += [(key, params[key], REFUSED_PARAMETERS[key]) for key in _refused & params.keys()]
    for where, value, rule in problems:
        faults.append(Fault(index=index, where=where, value=shorten(value), rule=rule))


def is_json(value: Any) -> bool:
    """Whether the value can be encoded as it is; msgspec would turn NaN into null, bytes into base64."""
    kind = type(value)
    if kind is str or kind is int or kind is bool or value is None:
        return True
    if kind is dict:
        # A plain loop: this runs for every value of every record, and a generator costs twice as much.
        for key, item in value.items():
            if type(key) is not str or not (type(item) is str or is_json(item)):
                return False
        return True
    if kind is list or kind is tuple:
        return all(map(is_json, value))
    return kind is float and math.isfinite(value)


def to_json(value: Any, index: int, path: str, faults: list[Fault]) -> Any:
    """A JSON copy of the value: dates, times, UUIDs and decimals become text.

    Anything else that is not JSON is a fault, named by its path.
    """
    if is_json(value):
        return value
    if isinstance(value, Mapping):
        copy = {}
        for key, item in value.items():
            if isinstance(key, str):
                copy[str(key)] = to_json(item, index, f"{path}.{key}".lstrip("."), faults)
            else:
                rule = "keys are text in JSON"
                faults.append(Fault(index=index, where=path or "record", value=shorten(key), rule=rule))
        return copy
    if isinstance(value, (list, tuple)):
        return [to_json(item, index, f"{path}[{number}]", faults) for number, item in enumerate(value)]
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal, str)):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float) and math.isfinite(value):
        return float(value)
    kind = "NaN or infinite" if isinstance(value, float) else f"a {type(value).__name__}"
    rule = f"{kind} is not a JSON value; convert it to text or a number"
    faults.append(Fault(index=index, where=path or "record", value=shorten(value), rule=rule))
    return None


def shorten(value: Any, limit: int = 80) -> str:
    """A value for an error message: enough to find it by, not its whole content."""
    text = repr(value) if not isinstance(value, (bytes, bytearray)) else f"{len(value)} bytes"
    return text if len(text) <= limit else f"{text[: limit - 20]}... ({len(text)} characters)"
