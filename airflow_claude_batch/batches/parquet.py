"""Records as Parquet files with typed columns (extra ``parquet``).

Columns are the fields of the records. ``usage`` is a struct of integers; ``output`` has the type that
the output schema describes, as far as Parquet has one; what has no fixed shape (``input``, ``message``,
``result``) is JSON text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import IO, Any

import msgspec

from airflow_claude_batch.batches import columns
from airflow_claude_batch.batches.errors import ResultsError
from airflow_claude_batch.batches.records import SucceededRecord
from airflow_claude_batch.batches.resultlines import NOTHING, Usage, read_usage

ROWS = 2_048
"""Rows of a row group at most; they are held in memory until it is written."""
GROUP_BYTES = 4 << 20
"""A row group closes earlier when its texts take up so much."""

REPEATED = ["stop_reason", "model", "outcome", "error_type"]
"""Columns of few values, which are stored once."""

USAGE_FIELDS = (
    "input_tokens",
    "output_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
)
_ERRORED = (
    "custom_id",
    "outcome",
    "error_type",
    "message",
    "request_id",
    "retryable",
    "rounds",
    "input",
    "cost_usd",
    "result",
)

_decode_text = msgspec.json.Decoder(str).decode
_decode_usages = msgspec.json.Decoder(list[Usage | None]).decode
_encode = msgspec.json.Encoder().encode

_Convert = Callable[[Any], Any]
_Make = Callable[[list[Any], Any], Any]
"""Makes a column of some values and its type."""


class Parquet:
    """The Parquet format.

    :param output_schema: JSON Schema of the answers, for the column ``output``
    :param include_message: whether there is a column ``message`` with the API's whole message
    """

    suffix = "parquet"
    raw = False
    parts_at_a_time = 1  # row groups take memory, and making them keeps one core busy as it is

    def __init__(
        self, compression: str | None, output_schema: dict[str, Any] | None, include_message: bool
    ) -> None:
        self._compression = compression or "snappy"
        self._output_schema = output_schema
        self._include_message = include_message

    def open(self, file: IO[bytes], set_: str) -> _Table:
        """Begin a file."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        makers = self._succeeded_columns(pa) if set_ == "succeeded" else _errored_columns(pa)
        schema = pa.schema([(name, type_) for name, (type_, _) in makers.items()])
        writer = pq.ParquetWriter(file, schema, compression=self._compression, use_dictionary=REPEATED)
        return _Table(writer, schema, {name: make for name, (_, make) in makers.items()})

    def _succeeded_columns(self, pa: Any) -> dict[str, tuple[Any, _Make]]:
        makers: dict[str, tuple[Any, _Make]] = {
            "custom_id": (pa.string(), _words),
            "text": (pa.string(), _texts),
            "stop_reason": (pa.string(), _words),
            "model": (pa.string(), _words),
            "usage": (pa.struct([(name, pa.int64()) for name in USAGE_FIELDS]), _usages),
            "cost_usd": (pa.float64(), columns.numbers),
            "input": (pa.string(), _json_texts),
        }
        if self._output_schema is not None:
            type_, convert = column_type(self._output_schema)
            makers["output"] = type_, _converted(convert)
        if self._include_message:
            makers["message"] = pa.string(), _json_texts
        return makers


def _errored_columns(pa: Any) -> dict[str, tuple[Any, _Make]]:
    others: dict[str, tuple[Any, _Make]] = {
        "retryable": (pa.bool_(), columns.booleans),
        "rounds": (pa.int64(), columns.integers),
        "cost_usd": (pa.float64(), columns.numbers),
        "input": (pa.string(), _json_texts),
        "result": (pa.string(), _json_texts),
    }
    return {name: others.get(name, (pa.string(), _words)) for name in _ERRORED}


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
        for record in records:
            self._rows.append(record)
            if isinstance(record, SucceededRecord):
                # Copies: a record that waits for its row group must not hold the block that it came in.
                record.text = record.text.copy()
                record.usage = record.usage and record.usage.copy()
                self._size += len(memoryview(record.text))
            if len(self._rows) >= ROWS or self._size >= GROUP_BYTES:
                self._flush()

    def add_lines(self, lines: bytes) -> None:
        raise NotImplementedError("Parquet files hold records, not the API's lines")

    def close(self) -> None:
        self._flush()
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
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
                raise ResultsError(
                    f"Column {column.name} does not fit into Parquet as {column.type}: {error}. Use "
                    "output_format='jsonl', which takes any answer."
                ) from error
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))


def _words(values: list[str | None], type_: Any) -> Any:
    """A column of texts."""
    return columns.texts([None if value is None else value.encode() for value in values], type_)


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


def _converted(convert: _Convert | None) -> _Make:
    """Makes a column of any type."""

    def make(values: list[Any], type_: Any) -> Any:
        import pyarrow as pa

        return pa.array(values if convert is None else [convert(value) for value in values], type_)

    return make


def column_type(schema: dict[str, Any]) -> tuple[Any, _Convert | None]:
    """The Parquet type for answers of a JSON Schema, and how to fit a value into it.

    What Parquet cannot say (unions, free-form objects, recursion) is JSON text.
    """
    return _Types(schema).of(schema)


class _Types:
    def __init__(self, root: dict[str, Any]) -> None:
        self._root = root
        self._open: list[str] = []

    def of(self, schema: Any) -> tuple[Any, _Convert | None]:
        import pyarrow as pa

        if not isinstance(schema, dict):
            return pa.string(), _encode_text
        if "$ref" in schema:
            return self._of_reference(schema["$ref"])
        kind = self._kind(schema)
        if isinstance(kind, dict):
            return self.of(kind)
        simple = {"string": pa.string(), "integer": pa.int64(), "boolean": pa.bool_()}
        if kind in simple:
            return simple[kind], None
        if kind == "number":
            return pa.float64(), _number
        if kind == "array" and "items" in schema:
            item, convert = self.of(schema["items"])
            return pa.list_(item), _list_of(convert)
        if kind == "object" and schema.get("properties"):
            return self._of_object(schema["properties"])
        return pa.string(), _encode_text

    def _kind(self, schema: dict[str, Any]) -> Any:
        """Its type's name; or the schema that is meant, where null is the only alternative."""
        kind = schema.get("type")
        if isinstance(kind, list):
            others = [name for name in kind if name != "null"]
            return others[0] if len(others) == 1 else None
        alternatives = [s for s in schema.get("anyOf", ()) if s != {"type": "null"}]
        if kind is None and len(alternatives) == 1:
            return alternatives[0]
        if kind is None and schema.get("enum") and all(isinstance(v, str) for v in schema["enum"]):
            return "string"
        return kind

    def _of_reference(self, reference: str) -> tuple[Any, _Convert | None]:
        import pyarrow as pa

        target: Any = self._root
        for name in reference.removeprefix("#").strip("/").split("/"):
            target = target.get(name, {}) if isinstance(target, dict) else {}
        if reference in self._open or not target:
            return pa.string(), _encode_text
        self._open.append(reference)
        try:
            return self.of(target)
        finally:
            self._open.pop()

    def _of_object(self, properties: dict[str, Any]) -> tuple[Any, _Convert | None]:
        import pyarrow as pa

        fields = {name: self.of(schema) for name, schema in properties.items()}
        converts = [(name, convert) for name, (_, convert) in fields.items() if convert is not None]

        def convert(value: Any) -> Any:
            if not isinstance(value, dict):
                return None
            if not converts:
                return value
            return value | {name: fit(value[name]) for name, fit in converts if name in value}

        return pa.struct([(name, type_) for name, (type_, _) in fields.items()]), convert


def _encode_text(value: Any) -> str | None:
    return None if value is None or value is msgspec.UNSET else _encode(value).decode()


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None


def _list_of(convert: _Convert | None) -> _Convert | None:
    if convert is None:
        return None
    return lambda values: [convert(value) for value in values] if isinstance(values, list) else None
