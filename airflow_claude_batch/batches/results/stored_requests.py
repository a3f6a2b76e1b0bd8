"""What was sent in a part, request by request, for those answers that cannot be read without it.

The requests file is indexed when the first of them is asked for. Lines stay on the disk: a local file is read
where it is, any other is copied into an unnamed temporary file first.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from array import array
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import msgspec

from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.requests.output_schema import shorten
from airflow_claude_batch.batches.storage import Folder, iter_lines

TOOLS_KEPT = 64
"""Lists of tools whose schemas are kept ready."""


class _Params(msgspec.Struct):
    tools: msgspec.Raw = msgspec.Raw(b"")
    messages: msgspec.Raw = msgspec.Raw(b"")


class _Line(msgspec.Struct):
    custom_id: str
    params: _Params


class _IdOnly(msgspec.Struct, gc=False):
    custom_id: str


_decode_line = msgspec.json.Decoder(_Line).decode
_decode_id = msgspec.json.Decoder(_IdOnly).decode
_Tools = dict[str, Any]
"""By name: the validator of a tool's input, or None where nothing is known of that."""


class StoredRequests:
    """The requests of one part."""

    def __init__(self, folder: Folder, part: Part) -> None:
        self._folder = folder
        self._part = part
        self._stack = contextlib.ExitStack()
        self._known: dict[bytes, _Tools] = {}

    def messages(self, custom_id: str) -> Any:
        """The messages of a request."""
        line = self._line(custom_id)
        return None if line is None else msgspec.json.decode(line.params.messages or b"null")

    def fault_of_call(self, custom_id: str, name: str | None, value: Any) -> str | None:
        """What is wrong with a call of a tool, by the tools that the request offers; None if nothing is."""
        line = self._line(custom_id)
        if line is None:
            return None
        tools = self._tools(bytes(line.params.tools))
        if name not in tools:
            return None if _SERVER in tools else "the answer calls a tool that the request does not offer"
        error = _first_error(tools[name], value)
        if error is None:
            return None
        path = ".".join(map(str, error.absolute_path)) or "the input of the tool"
        return shorten(f"{path}: {error.message}")

    def close(self) -> None:
        """Give the disk back."""
        self._stack.close()

    def _line(self, custom_id: str) -> _Line | None:
        file, numbers, ends = self._index
        number = numbers.get(custom_id)
        if number is None:
            return None
        return _decode_line(os.pread(file.fileno(), ends[number + 1] - ends[number], ends[number]))

    @cached_property
    def _index(self) -> tuple[IO[bytes], dict[str, int], array[int]]:
        part, folder = self._part, self._folder
        in_place = folder.is_local and not part.requests.endswith(".gz")
        numbers: dict[str, int] = {}
        ends = array("Q", [0])
        with folder.open_read(part.requests) as stored:
            if in_place:
                file: IO[bytes] = Path(folder.locate(part.requests)).open("rb")  # noqa: SIM115  # likewise
            else:
                file = tempfile.TemporaryFile(prefix="claude-batch-")  # noqa: SIM115
            self._stack.enter_context(file)
            for line in iter_lines(stored):
                custom_id = _decode_id(line).custom_id
                numbers[part.marked if custom_id == part.stored_id else custom_id] = len(ends) - 1
                ends.append(ends[-1] + len(line) + 1)
                if not in_place:
                    file.write(line + b"\n")
        if not in_place:
            file.flush()
        return file, numbers, ends

    def _tools(self, tools: bytes) -> _Tools:
        if tools not in self._known:
            if len(self._known) >= TOOLS_KEPT:
                self._known.clear()
            self._known[tools] = _read_tools(tools)
        return self._known[tools]


_SERVER = ""
"""Stands for tools whose names are not in the request, such as those of an MCP server."""


def _first_error(validator: Any, value: Any) -> Any:
    """Where a value does not keep to a schema; None where it does, or where nothing is known of that."""
    if validator is None:
        return None
    try:
        return next(iter(validator.iter_errors(value)), None)
    except Exception:  # noqa: BLE001  # a schema of a record may lead nowhere or to itself, and fails in many ways
        return None


def _read_tools(tools: bytes) -> _Tools:
    import jsonschema  # type: ignore[import-untyped]
    from referencing import Registry

    found: _Tools = {}
    for tool in msgspec.json.decode(tools or b"[]") or ():
        name, schema = tool.get("name"), tool.get("input_schema")
        if not isinstance(name, str):
            found[_SERVER] = None
            continue
        found[name] = None
        if isinstance(schema, dict):
            with contextlib.suppress(jsonschema.SchemaError, RecursionError):
                jsonschema.Draft202012Validator.check_schema(schema)
                # The default registry opens whatever files and addresses a schema refers to.
                found[name] = jsonschema.Draft202012Validator(schema, registry=Registry())
    return found
