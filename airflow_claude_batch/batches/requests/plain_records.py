"""Records that say one text, and else what others have said before: most records are so.

What such a record asks for besides its text was checked with the first one, and is not looked at again; its
line is put together as for a template's prompt. The line is the same, byte for byte.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from airflow_claude_batch.batches.requests.json_values import is_json
from airflow_claude_batch.batches.requests.objects import MOST_LEVELS
from airflow_claude_batch.batches.requests.parameters import MESSAGE_PARAMETERS, REFUSED_PARAMETERS
from airflow_claude_batch.batches.requests.prompt_requests import PromptRequests
from airflow_claude_batch.batches.requests.request import Request

MOST_SHAPES, MOST_BYTES = 64, 65_536
"""Sets of parameters that are remembered, and how large one of them may be, as JSON."""
MOST_MISSES = 1_000
"""Records in a row after which nothing more is expected of what is remembered."""

_PARAMETERS = frozenset(MESSAGE_PARAMETERS | REFUSED_PARAMETERS.keys())
_OTHER_KEYS = ("custom_id", "prompt", "params")
_MESSAGE_KEYS = ["role", "content"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class PlainRecords:
    """Makes requests of plain records, as far as their like has been seen.

    Args:
        name: Says the custom_id of a record at a position; None where it has none that is legal, or is not
            plain for a reason of its own.
    """

    def __init__(self, name: Callable[[dict[str, Any], int], str | None]) -> None:
        self._name = name
        self._shapes: dict[bytes, PromptRequests] = {}
        """By the parameters that the record gives, as JSON."""
        self._new: bytes | None = None
        """The parameters of the record that was looked at last, where they are not remembered."""
        self._misses = 0
        """Records since the last one that was like one before."""

    def __call__(self, record: Any, index: int) -> Request | None:
        """The request of a record; None where it has to be looked at in full.

        Args:
            record: As it was given.
            index: Its position in the input, for messages.

        Raises:
            InputError: For text that JSON cannot hold, such as half a surrogate pair.
        """
        self._new = None
        if self._misses >= MOST_MISSES or (split := _split(record)) is None:
            return None
        shape, text, columns = split
        requests = self._shapes.get(shape)
        self._misses = self._misses + 1 if requests is None else 0
        if requests is None:
            self._new = shape
        if requests is None or not is_json(columns) or (custom_id := self._name(record, index)) is None:
            return None
        return requests(custom_id, text, columns, index)

    def learn(self, request: Request) -> None:
        """Remember what the last record asked for, which was looked at in full, and found right."""
        shape = self._new
        if shape is not None and len(shape) <= MOST_BYTES and len(self._shapes) < MOST_SHAPES:
            # Of the line: what the record holds may be changed by whoever made it.
            params = _decode(request.line)["params"]
            self._shapes[shape] = PromptRequests({**params, "messages": None})


def _split(record: Any) -> tuple[bytes, str, dict[str, Any]] | None:
    """A plain record's parameters as JSON, its text, and its columns; None for another record."""
    if type(record) is not dict:
        return None
    given, columns = {}, {}
    for key, value in record.items():
        if key in _PARAMETERS:
            given[key] = value
        elif key not in _OTHER_KEYS:
            columns[key] = value
    params = record.get("params")
    if params is None:
        text = record.get("prompt")
        if "messages" in given:
            return None
    elif given or "prompt" in record or type(params) is not dict:
        return None
    else:
        text, given = _only_text(params.get("messages")), {**params, "messages": None}
    if type(text) is not str or not text or text.isspace() or not is_json(given, MOST_LEVELS - 1):
        return None
    try:
        return _encode(given), text, columns
    except (ValueError, OverflowError):  # half a surrogate pair, an integer that is too large
        return None


def _only_text(messages: Any) -> Any:
    """The user's text, where there is nothing else, and it is written in the usual order."""
    if type(messages) is not list or len(messages) != 1 or type(message := messages[0]) is not dict:
        return None
    return message["content"] if list(message) == _MESSAGE_KEYS and message["role"] == "user" else None
