"""From a user's record to the exact line that goes to the API.

A record is short (``prompt`` plus any Messages API parameter) or full (``params``). Whatever else
it carries are the user's own columns: they stay with us and come back beside the answer.
Validation is strict about what costs money (identity, required parameters, parameters that
batches refuse) and silent about the rest, which the API checks itself.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from airflow_claude_batch.batches.errors import Fault, InputError
from airflow_claude_batch.batches.requests.descriptions import describe, shorten
from airflow_claude_batch.batches.requests.json_values import as_json, not_encodable, to_json
from airflow_claude_batch.batches.requests.parameters import (
    MESSAGE_PARAMETERS,
    REFUSED_PARAMETERS,
    problems_of,
)

CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Form of a custom_id (source: the API's documentation of message batches)."""

_encode = msgspec.json.Encoder().encode


class Request(msgspec.Struct, frozen=True, gc=False):
    """One request, ready to be stored and sent."""

    custom_id: str
    line: bytes
    """``{"custom_id": …, "params": …}`` as compact JSON, without an end of line."""
    columns: bytes | None
    """The user's own columns as JSON, or None where there are none."""
    own_params: dict[str, Any] | None = None
    """What ``params`` gives, unless that is made of ``shared`` and ``prompt``."""
    fingerprint: bytes = b""
    """What was stored with it to find its answer by; empty for none."""
    shared: dict[str, Any] | None = None
    """Parameters that other requests have, too, as one object, and that say all but its one message."""
    prompt: str = ""
    """The user's text in that message."""

    @property
    def params(self) -> dict[str, Any] | None:
        """The body of the Messages API call that ``line`` holds; None for a request that was read back."""
        # Made when it is asked for: for a job that reuses no answers nobody does, and it takes 0.5 µs.
        return self.own_params if self.shared is None else with_prompt(self.shared, self.prompt)


class RequestEncoder:
    """Makes requests of records that say themselves what is sent: splits, checks and encodes them.

    Args:
        defaults: Messages API parameters for every request that does not set them itself.

    Raises:
        InputError: For a default that batches refuse or that is not JSON.
    """

    def __init__(self, defaults: Mapping[str, Any]) -> None:
        given = {key: value for key, value in defaults.items() if value is not None}
        faults = [
            Fault(index=0, where=f"default {key}", value=describe(given[key]), rule=REFUSED_PARAMETERS[key])
            for key in given
            if key in REFUSED_PARAMETERS
        ]
        if faults:
            raise InputError(faults)
        self.defaults: dict[str, Any] = to_json(given, 0, "default", faults)
        for key, value in self.defaults.items() if not faults else ():
            if not_encodable({key: value}) is not None:
                rule = "not JSON; text is Unicode without lone surrogates"
                faults.append(Fault(index=0, where=f"default {key}", value=describe(value), rule=rule))
        if faults:
            raise InputError(faults)

    def __call__(self, record: Any, index: int) -> Request:
        """The request for one record.

        Args:
            record: A short or a full one.
            index: Its position in the input, for messages.

        Raises:
            InputError: With every fault of this record.
        """
        return self.encode_json(as_json(record, index, is_parameter), index)

    def encode_json(self, record: Mapping[str, Any], index: int, custom_id: str | None = None) -> Request:
        """The same for a record that is JSON already; its own custom_id is a column where it has another."""
        faults: list[Fault] = []
        params, columns = self._split(record, index, faults)
        self._complete_output_config(params)
        own_id = record.get("custom_id")
        if custom_id is None:
            custom_id = own_id
        elif own_id not in (custom_id, None):
            columns["custom_id"] = own_id
        if not isinstance(custom_id, str) or not CUSTOM_ID.fullmatch(custom_id):
            faults.append(no_custom_id(custom_id, index))
        _check(params, index, faults)
        if faults:
            raise InputError(faults)
        return encode(str(custom_id), params, columns, index)

    def _split(
        self, record: Mapping[str, Any], index: int, faults: list[Fault]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Parameters of the message, and the user's own columns."""
        if record.get("params") is None:
            return self._split_short(record, index, faults)
        params, columns = dict(self.defaults), {}
        for key, value in record.items():
            if key == "prompt" or key in MESSAGE_PARAMETERS or key in REFUSED_PARAMETERS:
                rule = "a record with params holds its message parameters in there, not beside it"
                faults.append(Fault(index=index, where=key, value=describe(value), rule=rule))
            elif key not in ("custom_id", "params"):
                columns[key] = value
        if isinstance(record["params"], dict):
            params.update(record["params"])
            if None in params.values():
                params = {key: value for key, value in params.items() if value is not None}
        else:
            rule = "params is a mapping, the body of a Messages API call"
            value = describe(record["params"])
            faults.append(Fault(index=index, where="params", value=value, rule=rule))
        return params, columns

    def _complete_output_config(self, params: dict[str, Any]) -> None:
        """Keep the schema that all requests ask for where a record says something else there: its effort."""
        own, usual = params.get("output_config"), self.defaults.get("output_config")
        if own is not usual and isinstance(own, dict) and isinstance(usual, dict):
            params["output_config"] = {**usual, **own}

    def _split_short(
        self, record: Mapping[str, Any], index: int, faults: list[Fault]
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        params, columns = dict(self.defaults), {}
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
                faults.append(Fault(index=index, where="prompt", value=describe(prompt), rule=rule))
            params["messages"] = [{"role": "user", "content": prompt}]
        elif "messages" not in params:
            rule = "a record has a prompt, messages or params"
            value = shorten(sorted(record))
            faults.append(Fault(index=index, where="record keys", value=value, rule=rule))
            params["messages"] = [{"role": "user", "content": "-"}]
        return params, columns


def with_prompt(params: Mapping[str, Any], content: Any) -> dict[str, Any]:
    """Parameters with one message, the user's."""
    return {**params, "messages": [{"role": "user", "content": content}]}


def is_parameter(key: str) -> bool:
    """Whether a key of a record says what is sent."""
    return key in MESSAGE_PARAMETERS or key in REFUSED_PARAMETERS or key in ("prompt", "params")


def no_custom_id(value: Any, index: int) -> Fault:
    """What is wrong where a custom_id has another form."""
    form = "a custom_id is 1 to 64 letters, digits, hyphens or underscores"
    rule = f"{form}; custom_id='name of a column' on the operator makes one of any key"
    return Fault(index=index, where="custom_id", value=shorten(value), rule=rule)


def encode(custom_id: str, params: dict[str, Any], columns: dict[str, Any] | None, index: int) -> Request:
    """The request with its line, of parameters that have been checked.

    Raises:
        InputError: For text that JSON cannot hold, such as half a surrogate pair.
    """
    try:
        line = _encode({"custom_id": custom_id, "params": params})
        stored = _encode(columns) if columns else None
    except (ValueError, TypeError, OverflowError) as error:
        # The error's own text may quote the value.
        rule = f"not JSON ({type(error).__name__}); text is Unicode without lone surrogates"
        where = not_encodable(columns or {}) or f"request {custom_id}"
        raise InputError([Fault(index=index, where=where, value=describe(params), rule=rule)]) from None
    return Request(custom_id=custom_id, line=line, columns=stored, own_params=params)


def _check(params: dict[str, Any], index: int, faults: list[Fault]) -> None:
    """What the API would refuse only hours later, or for the whole batch."""
    max_tokens = params.get("max_tokens")
    if type(max_tokens) is float and max_tokens.is_integer():  # of a table that has rows without
        params["max_tokens"] = int(max_tokens)
    for where, value, rule in problems_of(params):
        faults.append(Fault(index=index, where=where, value=describe(value), rule=rule))
