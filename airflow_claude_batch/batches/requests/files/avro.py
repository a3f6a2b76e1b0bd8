"""Avro object container files: blocks of records, each bounded before it is decoded.

The container is read here, because ``fastavro`` unpacks a block whatever its size; it decodes the records.
"""

from __future__ import annotations

import bz2
import datetime
import decimal
import io
import json
import lzma
import math
import uuid
import zlib
from collections.abc import Iterator
from typing import IO, Any

from airflow_claude_batch.batches.errors import (
    missing_package,
)
from airflow_claude_batch.batches.requests.files.options import ReadOptions
from airflow_claude_batch.batches.requests.files.rows import (
    LONGEST_RECORD,
    Broken,
    Row,
    UnreadableFileError,
    pick,
    too_long,
)
from airflow_claude_batch.batches.requests.files.stored import Stored

_MAGIC, _SYNC = b"Obj\x01", 16


def read_avro(stored: Stored, options: ReadOptions) -> Iterator[Row]:
    """The rows.

    Raises:
        UnreadableFileError: Where it cannot be read any further.
        ConfigurationError: Without fastavro.
    """
    try:
        from fastavro import parse_schema, schemaless_reader
    except ImportError:
        raise missing_package(f"Reading {stored.url}", "fastavro", "avro") from None
    file = stored.stream()
    metadata = _metadata(file)
    sync = file.read(_SYNC)
    schema = parse_schema(json.loads(metadata["avro.schema"]))
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise UnreadableFileError("the rows of an Avro file are records", "another type")
    names = pick(options.columns, [field["name"] for field in schema["fields"]])
    codec = metadata.get("avro.codec", b"null").decode()
    number = 0
    while (count := _long(file, may_end=True)) is not None:
        block = io.BytesIO(_unpacked(_bytes(file), codec, number))
        for _ in range(count):
            number += 1
            try:
                record: Any = schemaless_reader(block, schema, None)
            except Exception as error:  # noqa: BLE001  # the decoder raises all kinds at damaged blocks
                rule = "the record cannot be read (the file was read no further)"
                raise UnreadableFileError(rule, type(error).__name__, f"row {number}") from None
            yield _row(f"{stored.url} row {number}", record, names)
        if file.read(_SYNC) != sync:
            raise UnreadableFileError(
                "the file is damaged (it was read no further)", "a block", f"row {number}"
            )


def _row(where: str, record: dict[str, Any], names: list[str]) -> Row:
    row = {}
    for name in names:
        try:
            row[name] = _text(record[name])
        except UnicodeDecodeError:
            rule = "bytes are text where they are UTF-8; these are not; leave it out: columns=…"
            return Broken(where=f"{where}, column {name!r}", value="bytes", rule=rule)
    return row


def _text(value: Any) -> Any:
    """The value with bytes, dates, times, decimals and UUIDs as text, as those of Parquet are."""
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    if isinstance(value, uuid.UUID):
        return str(value)
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, dict):
        return {key: _text(item) for key, item in value.items()}
    return [_text(item) for item in value] if isinstance(value, list) else value


def _metadata(file: IO[bytes]) -> dict[str, bytes]:
    if file.read(4) != _MAGIC:
        raise UnreadableFileError("the file is no Avro object container", "another beginning")
    metadata = {}
    while count := _long(file) or 0:
        if count < 0:  # the size of the block follows
            _long(file)
        for _ in range(abs(count)):
            key = _bytes(file).decode()
            metadata[key] = _bytes(file)
    return metadata


def _long(file: IO[bytes], *, may_end: bool = False) -> int | None:
    """A number of Avro: seven bits a byte, the sign in the last bit; None at the end of the file."""
    value = shift = 0
    while shift < 64:
        byte = file.read(1)
        if not byte:
            if may_end and not shift:
                return None
            raise EOFError("the file ends in the middle of a block")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return (value >> 1) ^ -(value & 1)
        shift += 7
    raise UnreadableFileError("the file is damaged (it was read no further)", "a number of more than 64 bits")


def _bytes(file: IO[bytes]) -> bytes:
    size = _long(file) or 0
    if not 0 <= size <= LONGEST_RECORD:
        raise too_long("block", f"{LONGEST_RECORD} bytes", "of rows")
    data = file.read(size)
    if len(data) < size:
        raise EOFError("the file ends in the middle of a block")
    return data


def _unpacked(data: bytes, codec: str, number: int) -> bytes:
    if codec == "null":
        return data
    most = LONGEST_RECORD + 1
    if codec == "deflate":
        unpacked = zlib.decompressobj(-15).decompress(data, most)
    elif codec == "bzip2":
        unpacked = bz2.BZ2Decompressor().decompress(data, most)
    elif codec == "xz":
        unpacked = lzma.LZMADecompressor().decompress(data, most)
    elif codec in ("snappy", "zstandard"):
        unpacked = _by_arrow(data, codec, most)
    else:
        raise UnreadableFileError("its codec is null, deflate, bzip2, xz, snappy or zstandard", "another one")
    if len(unpacked) > LONGEST_RECORD:
        raise too_long("block", f"{LONGEST_RECORD} bytes", f"after row {number}")
    return unpacked


def _by_arrow(data: bytes, codec: str, most: int) -> bytes:
    import pyarrow

    if codec == "zstandard":
        with pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd") as stream:
            return bytes(stream.read(most))
    length = shift = 0  # snappy says at its beginning how long its content is
    for byte in data[:5]:
        length |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    if length > LONGEST_RECORD:
        return bytes(most)
    return bytes(pyarrow.decompress(data[:-4], length, "snappy", asbytes=True))  # a checksum ends it
