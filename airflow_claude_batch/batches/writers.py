"""Where records go: a directory on object storage, or a list that travels in XCom.

A directory holds ``succeeded/part-00000.jsonl``, ``errored/part-00000.jsonl``, one pair a part of
the job, and ``summary.json``, written last: where it is, the directory is complete. Names depend on
the job only, so delivering again overwrites.
"""

from __future__ import annotations

import contextlib
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, Protocol

import msgspec

from airflow_claude_batch.batches.errors import ConfigurationError, ResultsTooLargeError
from airflow_claude_batch.batches.storage import Folder

SUMMARY = "summary.json"
SETS = ("succeeded", "errored")
GZIP_LEVEL = 3
BLOCK = 128 << 10
"""Bytes of records that are gathered before they are written."""

Compression = Literal["gzip", "zstd"] | None


class RecordFile(Protocol):
    """Takes the records of one set of one part."""

    def add(self, records: Sequence[msgspec.Struct]) -> None:
        """Add records."""

    def add_lines(self, lines: bytes) -> None:
        """Add result lines as the API sent them, each with its end."""

    def close(self) -> None:
        """Write what is held back. Not called when an exception ends the part."""


class Format(Protocol):
    """How a set of records becomes a file."""

    suffix: str
    """Of file names, for example ``jsonl.gz``."""
    raw: bool
    """Whether it takes the API's own lines instead of records."""
    parts_at_a_time: int
    """Parts that may be downloaded and written at the same time; each takes memory."""

    def open(self, file: IO[bytes], set_: str) -> RecordFile:
        """Begin a file of one of the two sets."""


@dataclass(frozen=True)
class PartWriter:
    """Takes the records of one part."""

    succeeded: RecordFile
    errored: RecordFile
    raw: bool = False
    """Whether lines are wanted instead of records."""


class Output(Protocol):
    """Takes the records of a job."""

    name: str
    """Where the records go and in which form, in words that tell two places apart."""
    durable: bool
    """Whether a delivered part outlives this process."""
    raw: bool
    """Whether lines are wanted instead of records."""
    parts_at_a_time: int
    """Parts that may be downloaded and written at the same time; each takes memory."""

    def part(self, number: int) -> contextlib.AbstractContextManager[PartWriter]:
        """A writer for one part; its records count when the block ends well."""

    def has(self, number: int) -> bool:
        """Whether a part that was delivered once is still there."""

    def begin(self) -> None:
        """Before a part of a delivery."""

    def paths(self) -> dict[str, str | None]:
        """URLs for the summary: succeeded_path, errored_path, summary_path."""

    def finish(self, summary: dict[str, Any], parts: list[int]) -> dict[str, Any]:
        """After the last part; returns the value for XCom."""


def open_directory(
    folder: Folder,
    *,
    format: Literal["jsonl", "parquet", "raw"] = "jsonl",
    compression: Compression = None,
    output_schema: dict[str, Any] | None = None,
    include_message: bool = False,
) -> Directory:
    """A directory of records.

    :param format: ``jsonl``, ``parquet`` (needs the extra ``parquet``), or ``raw``: the API's own
        result lines, unchanged, as JSONL
    :param compression: of JSONL files, or inside Parquet files (there ``None`` means snappy);
        ``zstd`` needs the extra ``parquet``
    :param output_schema: JSON Schema of the answers, for typed Parquet columns
    :raises ConfigurationError: for a format or compression that there is not
    """
    if format not in ("jsonl", "parquet", "raw") or compression not in (None, "gzip", "zstd"):
        raise ConfigurationError(
            f"output_format={format!r} with compression={compression!r}: output_format is 'jsonl', 'parquet' "
            "or 'raw', compression None, 'gzip' or 'zstd'."
        )
    if format == "parquet" or compression == "zstd":
        _need_pyarrow(format, compression)
    if format == "parquet":
        from airflow_claude_batch.batches.parquet import Parquet

        return Directory(folder, Parquet(compression, output_schema, include_message))
    return Directory(folder, Jsonl(compression, raw=format == "raw"))


def _need_pyarrow(format: str, compression: str | None) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        wanted = "output_format='parquet'" if format == "parquet" else f"compression={compression!r}"
        raise ConfigurationError(
            f"{wanted} needs pyarrow: pip install 'airflow-claude-batch[parquet]'"
        ) from error


class Directory:
    """Records as files on object storage."""

    durable = True

    def __init__(self, folder: Folder, format: Format) -> None:
        self.folder = folder
        self._format = format
        self.raw = format.raw
        self.parts_at_a_time = format.parts_at_a_time
        self.name = f"{folder.url} {'raw ' if format.raw else ''}{format.suffix}"

    def begin(self) -> None:
        """A directory with a summary is complete; from now on this one is not."""
        self.folder.remove_file(SUMMARY)

    def has(self, number: int) -> bool:
        """Whether both files of a part are there."""
        return all(self.folder.exists(f"{set_}/{self._file_name(number)}") for set_ in SETS)

    @contextlib.contextmanager
    def part(self, number: int) -> Iterator[PartWriter]:
        """Both files of a part appear under their names only when they are whole."""
        name = self._file_name(number)
        with contextlib.ExitStack() as stack:
            files = [
                self._format.open(stack.enter_context(self.folder.replace(f"{set_}/{name}")), set_)
                for set_ in SETS
            ]
            yield PartWriter(files[0], files[1], raw=self.raw)
            for file in files:
                file.close()

    def paths(self) -> dict[str, str | None]:
        """Where the files are."""
        url = self.folder.url.rstrip("/")
        return {
            "succeeded_path": f"{url}/succeeded",
            "errored_path": f"{url}/errored",
            "summary_path": f"{url}/{SUMMARY}",
        }

    def finish(self, summary: dict[str, Any], parts: list[int]) -> dict[str, Any]:
        """Remove files of an earlier or interrupted delivery, then write the summary."""
        wanted = {self._file_name(number) for number in parts}
        for set_ in SETS:
            folder = self.folder.child(set_)
            for name in folder.names():
                if name.startswith("part-") and name not in wanted:
                    folder.remove_file(name)
        self.folder.write(SUMMARY, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
        return summary

    def _file_name(self, number: int) -> str:
        return f"part-{number:05d}.{self._format.suffix}"


class Jsonl:
    """Records as JSON lines, compressed or not; or the API's own lines.

    :param raw: whether the API's own lines are written
    """

    parts_at_a_time = 2

    def __init__(self, compression: Compression = None, *, raw: bool = False) -> None:
        self._compression = compression
        self.raw = raw
        self.suffix = {None: "jsonl", "gzip": "jsonl.gz", "zstd": "jsonl.zst"}[compression]

    def open(self, file: IO[bytes], set_: str) -> RecordFile:
        """Begin a file."""
        if self._compression == "gzip":
            # Without a time stamp the same records make the same bytes.
            return _Lines(gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0))
        if self._compression == "zstd":
            import pyarrow

            return _Lines(pyarrow.CompressedOutputStream(_KeptOpen(file), "zstd"))
        return _Lines(_KeptOpen(file))


class _Lines:
    """Records as lines, gathered into blocks."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._blocks: list[bytes] = []
        self._size = 0
        self._encode_lines = msgspec.json.Encoder().encode_lines

    def add(self, records: Sequence[msgspec.Struct]) -> None:
        self._hold(self._encode_lines(records))

    def add_lines(self, lines: bytes) -> None:
        self._hold(lines)

    def _hold(self, block: bytes) -> None:
        self._blocks.append(block)
        self._size += len(block)
        if self._size >= BLOCK:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._file.close()

    def _flush(self) -> None:
        self._file.write(b"".join(self._blocks))
        self._blocks, self._size = [], 0


class _KeptOpen:
    """A file whose owner closes it, not the compressor on top."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self.write = file.write
        self.flush = file.flush

    def close(self) -> None:
        """The owner does."""


class Inline:
    """Records as two lists in the XCom value, up to a size.

    :param max_bytes: size of the records as JSON
    """

    name = "xcom"
    durable = False
    raw = False
    parts_at_a_time = 2

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parts: dict[int, tuple[_InlineRecords, _InlineRecords]] = {}

    def begin(self) -> None:
        """Nothing to prepare."""

    def has(self, number: int) -> bool:
        """Whether the part was delivered to this object."""
        return number in self._parts

    @contextlib.contextmanager
    def part(self, number: int) -> Iterator[PartWriter]:
        """Lists for one part."""
        files = _InlineRecords(self), _InlineRecords(self)
        yield PartWriter(*files)
        self._parts[number] = files

    def check_size(self, more: int) -> None:
        """Refuse what does not fit.

        :param more: bytes in files that are not complete yet
        :raises ResultsTooLargeError: when the limit is passed
        """
        size = more + sum(file.size for files in self._parts.values() for file in files)
        if size > self._max_bytes:
            raise ResultsTooLargeError(
                f"The records take up more than {self._max_bytes} bytes, the most that goes into XCom "
                "([claude_batch] max_inline_bytes). Set output_path to a directory on object storage, for "
                "example output_path='s3://bucket/results/{{ run_id }}', and clear the task: the answers are "
                "not lost."
            )

    def paths(self) -> dict[str, str | None]:
        """There are no files."""
        return {"succeeded_path": None, "errored_path": None, "summary_path": None}

    def finish(self, summary: dict[str, Any], parts: list[int]) -> dict[str, Any]:
        """The summary with the records in it."""
        records = {
            set_: [record for number in parts for record in self._parts[number][position].records]
            for position, set_ in enumerate(SETS)
        }
        return {**summary, **records}


class _InlineRecords:
    def __init__(self, owner: Inline) -> None:
        self._owner = owner
        self.size = 0
        self.records: list[Any] = []

    def add(self, records: Sequence[msgspec.Struct]) -> None:
        self.add_lines(msgspec.json.Encoder().encode_lines(records))

    def add_lines(self, lines: bytes) -> None:
        self.size += len(lines)
        self._owner.check_size(self.size)
        self.records += msgspec.json.Decoder().decode_lines(lines)

    def close(self) -> None:
        """Nothing is held back."""
