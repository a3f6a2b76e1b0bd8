"""Records as Parquet files with typed columns (extra ``parquet``).

Columns are the fields of the records. ``usage`` is a struct of integers; ``output`` has the type that
the output schema describes, as far as Parquet has one; ``message`` and ``result`` have no fixed shape and
are JSON text.

``input`` has the type that the user's columns have in common over the *whole job*, read from its stored
inputs before the first result. So all files of a set have one schema, whichever part or round they belong
to, nothing that comes later can fail to fit, and the same job always makes the same files. It costs one
more pass over the inputs.
"""

from __future__ import annotations

import contextlib
import decimal
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import IO, Any, get_type_hints

import msgspec

from airflow_claude_batch.batches.api.result_lines import NOTHING, Reused, Usage, read_usage
from airflow_claude_batch.batches.errors import ResultsError
from airflow_claude_batch.batches.requests.output_schema import shorten
from airflow_claude_batch.batches.results.citations import Citation
from airflow_claude_batch.batches.results.output import arrow_arrays as columns
from airflow_claude_batch.batches.results.output.json_types import (
    JSON_TEXT,
    NULL,
    Json,
    JsonColumn,
    Type,
    infer,
    json_texts,
)
from airflow_claude_batch.batches.results.output.output_types import (
    Convert,
    column_type,
    encode_text,
    typed_field,
)
from airflow_claude_batch.batches.results.output_records import ErroredRecord, SucceededRecord

log = logging.getLogger(__name__)

ROWS = 2_048
"""Rows of a row group at most; they are held in memory until it is written."""
GROUP_BYTES = 4 << 20
"""A row group closes earlier when its texts and inputs take up so much."""
SHOWN_PATHS = 10
"""Columns that are named in the log where they could not be typed."""

REPEATED = ["stop_reason", "model", "outcome", "error_type", "tool", "prompt_version", "version"]
"""Columns of few values, which are stored once."""

USAGE_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)
_ORIGIN = ("request_digest", "prompt_version", "version")
"""Columns that both sets have, last."""

_MISFITS = (ValueError, TypeError, OverflowError)
"""What Arrow raises for values that a column's type does not hold; its own errors are of these."""

_decode_text = msgspec.json.Decoder(str).decode
_LONG = re.compile(r"[\d.]{16}|[eE]-\d{3}")
"""A number in JSON that a float may not hold to the last digit."""
_decode_exactly = msgspec.json.Decoder(float_hook=decimal.Decimal).decode
_decode_usages = msgspec.json.Decoder(list[Usage | None]).decode

_Make = Callable[[list[Any], Any], Any]
"""Makes a column of some values and its type."""
_Columns = dict[str, tuple[Any, _Make]]
"""The Arrow field of each column, and how it is made."""


class Parquet:
    """The Parquet format.

    Args:
        output_schema: JSON Schema of the answers, for the column ``output``.
        include_message: Whether there is a column ``message`` with the API's whole message.
        include_reused: Whether there is a column ``reused``.
    """

    suffix = "parquet"
    raw = False
    parts_at_a_time = 1  # row groups take memory, and making them keeps one core busy as it is

    def __init__(
        self,
        compression: str | None,
        output_schema: dict[str, Any] | None,
        *,
        include_message: bool,
        include_reused: bool,
    ) -> None:
        self._compression = compression or "snappy"
        self._output_schema = output_schema
        self._include_message = include_message
        self._include_reused = include_reused
        self._input = JsonColumn(NULL)

    def misfit(self, output: Any, text: str) -> str | None:
        """Why the output of an answer does not fit into its column; None where it does.

        Args:
            output: Parsed.
            text: The JSON that it was parsed from: only there a decimal has all its digits.
        """
        if self._output_schema is None:
            return None
        type_, convert = self._output
        try:
            _converted(convert)([output], type_)
            if convert is not None and self._has_decimals and _LONG.search(text):
                convert(_decode_exactly(text))
        except _MISFITS:
            return (
                f"the answer holds a value that does not fit into Parquet as {shorten(str(type_))}: "
                "ask for it as text, or use output_format='jsonl', which takes any answer"
            )
        return None

    @cached_property
    def _output(self) -> tuple[Any, Convert | None]:
        """The type of the column ``output``, and how to fit a value into it."""
        if self._output_schema is not None:
            return column_type(self._output_schema)
        import pyarrow as pa

        return pa.string(), encode_text

    @cached_property
    def _has_decimals(self) -> bool:
        return "decimal128" in str(self._output[0])

    def prepare(self, inputs: Iterable[bytes]) -> None:
        """Find the type of the column ``input`` in the job's stored inputs."""
        try:
            type_: Type = infer(inputs, key="input")
        except (msgspec.DecodeError, RecursionError) as error:
            type_ = Json(f"{type(error).__name__} while its type was looked for")
        untyped = [f"{path} ({reason})" for path, reason in json_texts(type_, "input")]
        if untyped:
            more = f" and {len(untyped) - SHOWN_PATHS} more" if len(untyped) > SHOWN_PATHS else ""
            log.info("JSON text in Parquet: %s%s", ", ".join(untyped[:SHOWN_PATHS]), more)
        self._input = JsonColumn(type_)

    def open(self, file: IO[bytes], set_: str) -> _Table:
        """Begin a file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        makers = self._succeeded_columns(pa) if set_ == "succeeded" else self._errored_columns(pa)
        schema = pa.schema([field for field, _ in makers.values()])
        writer = pq.ParquetWriter(file, schema, compression=self._compression, use_dictionary=REPEATED)
        return _Table(writer, schema, {name: make for name, (_, make) in makers.items()})

    def _succeeded_columns(self, pa: Any) -> _Columns:
        makers: _Columns = {
            "custom_id": (pa.field("custom_id", pa.string()), columns.strings),
            "text": (pa.field("text", pa.string()), _texts),
            "stop_reason": (pa.field("stop_reason", pa.string()), columns.strings),
            "model": (pa.field("model", pa.string()), columns.strings),
            "usage": (pa.field("usage", pa.struct([(name, pa.int64()) for name in USAGE_FIELDS])), _usages),
            "cost_usd": (pa.field("cost_usd", pa.float64()), columns.numbers),
            "input": self._input_column(pa),
        }
        type_, convert = self._output
        makers["output"] = typed_field("output", type_, convert), _converted(convert)
        if self._include_message:
            makers["message"] = pa.field("message", pa.string(), metadata=JSON_TEXT), _json_texts
        types = {int | None: pa.int64(), str | None: pa.string()}
        fields = [(name, types[kind]) for name, kind in get_type_hints(Citation).items()]
        makers["tool"] = pa.field("tool", pa.string()), _converted(_unless_unset)
        makers["citations"] = pa.field("citations", pa.list_(pa.struct(fields))), _converted(_as_builtins)
        for name in _ORIGIN:
            makers[name] = pa.field(name, pa.string()), columns.strings
        if self._include_reused:
            names = [(name, pa.string()) for name in Reused.__struct_fields__]
            makers["reused"] = pa.field("reused", pa.struct(names)), _converted(_as_builtins)
        return makers

    def _errored_columns(self, pa: Any) -> _Columns:
        others: _Columns = {
            "retryable": (pa.field("retryable", pa.bool_()), columns.booleans),
            "rounds": (pa.field("rounds", pa.int64()), columns.integers),
            "cost_usd": (pa.field("cost_usd", pa.float64()), columns.numbers),
            "input": self._input_column(pa),
            "result": (pa.field("result", pa.string(), metadata=JSON_TEXT), _json_texts),
        }
        texts: _Columns = {
            name: (pa.field(name, pa.string()), columns.strings) for name in ErroredRecord.__struct_fields__
        }
        return texts | others

    def _input_column(self, pa: Any) -> tuple[Any, _Make]:
        column = self._input
        field = pa.field("input", column.arrow, metadata=column.metadata)
        return field, lambda values, _: column.array(column.decode(values))


class _Table:
    """Rows gathered by column, written a row group at a time."""

    def __init__(self, writer: Any, schema: Any, makers: dict[str, _Make]) -> None:
        self._writer = writer
        self._schema = schema
        self._makers = makers
        self._rows: list[msgspec.Struct] = []
        self._size = 0

    def add(self, records: Sequence[msgspec.Struct]) -> None:
        # A row group ends at the same record however they come in: the same records make the same file.
        record: Any
        for record in records:
            self._rows.append(record)
            if isinstance(record, SucceededRecord):
                # Copies: a record that waits for its row group must not hold the block that it came in.
                record.text = record.text.copy()
                record.usage = record.usage and record.usage.copy()
                self._size += len(memoryview(record.text))
            if record.input is not None:
                self._size += len(memoryview(record.input))
            if len(self._rows) >= ROWS or self._size >= GROUP_BYTES:
                self._flush()

    def add_lines(self, lines: bytes) -> None:
        raise NotImplementedError("Parquet files hold records, not the API's lines")

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def abandon(self) -> None:
        with contextlib.suppress(Exception):  # left open, it would write its end when it is collected
            self._writer.close()

    def _flush(self) -> None:
        import pyarrow as pa

        rows, self._rows, self._size = self._rows, [], 0
        if not rows:
            return
        arrays = []
        for column in self._schema:
            values = [getattr(row, column.name) for row in rows]
            try:
                arrays.append(self._makers[column.name](values, column.type))
            except (*_MISFITS, msgspec.DecodeError) as error:
                raise ResultsError(
                    f"Column {column.name} does not fit into Parquet as {column.type} "
                    f"({type(error).__name__}). Use output_format='jsonl', which takes any answer."
                ) from None  # its text quotes the value
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))


def _texts(values: list[msgspec.Raw], type_: Any) -> Any:
    """A column of JSON strings."""
    return columns.texts([_decode_text(value).encode() for value in values], type_)


def _usages(values: list[msgspec.Raw | None], type_: Any) -> Any:
    """A column of usages, decoded in one go."""
    try:
        usages = _decode_usages(b"[" + b",".join([value or b"null" for value in values]) + b"]")
    except msgspec.DecodeError:
        usages = [read_usage(value or NOTHING) for value in values]
    fields = [
        columns.integers(
            [None if usage is None else getattr(usage, name) or 0 for usage in usages], field.type
        )
        for name, field in zip(USAGE_FIELDS, type_, strict=True)
    ]
    return columns.structs(fields, [usage is None for usage in usages], type_)


def _json_texts(values: list[Any], type_: Any) -> Any:
    """A column of JSON texts as they are."""
    raw = [None if value is None or value is msgspec.UNSET else bytes(value) for value in values]
    return columns.texts(raw, type_)


def _converted(convert: Convert | None) -> _Make:
    """Makes a column of any type."""

    def make(values: list[Any], type_: Any) -> Any:
        import pyarrow as pa

        if all(value is msgspec.UNSET for value in values):
            return pa.nulls(len(values), type_)  # `array` would load pandas
        return pa.array(values if convert is None else [convert(value) for value in values], type_)

    return make


def _unless_unset(value: Any) -> Any:
    return None if value is msgspec.UNSET else value


def _as_builtins(value: Any) -> Any:
    return None if value is msgspec.UNSET else msgspec.to_builtins(value)
