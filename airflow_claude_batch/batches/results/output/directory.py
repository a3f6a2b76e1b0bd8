"""A directory of records on object storage.

It holds ``succeeded/part-00000.jsonl``, ``errored/part-00000.jsonl``, one pair a part of
the job, and ``summary.json``, written last: where it is, the directory is complete. Names depend on
the job only, so delivering again overwrites. While a delivery is under way ``_delivery.json`` says whose it
is; afterwards the summary does. A directory is one job's: another's is not overwritten unasked.
``progress.json`` names the parts that are complete, for readers that begin before the last one is.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import msgspec

from airflow_claude_batch.batches.errors import (
    ConfigurationError,
    missing_package,
)
from airflow_claude_batch.batches.results.output.line_files import Jsonl
from airflow_claude_batch.batches.results.output.parquet import Parquet
from airflow_claude_batch.batches.results.output.writers import SETS, Compression, Format, PartWriter
from airflow_claude_batch.batches.storage import Folder

SUMMARY = "summary.json"
PROGRESS = "progress.json"
MARKER = "_delivery.json"
"""Whose delivery is under way; gone when the summary is there."""


def open_directory(
    folder: Folder,
    *,
    format: Literal["jsonl", "parquet", "raw"] = "jsonl",
    compression: Compression = None,
    output_schema: dict[str, Any] | None = None,
    include_message: bool = False,
    include_reused: bool = False,
    overwrite: bool = False,
) -> Directory:
    """Open a directory of records.

    Args:
        folder: The directory.
        format: ``jsonl``, ``parquet`` (needs the extra ``parquet``), or ``raw``: the API's own
            result lines, unchanged, as JSONL.
        compression: Of JSONL files, or inside Parquet files (there ``None`` means snappy);
            ``zstd`` needs the extra ``parquet``.
        output_schema: JSON Schema of the answers, for typed Parquet columns.
        include_message: Whether there is a Parquet column for the API's whole message.
        include_reused: Whether there is a Parquet column that says which answers were given before.
        overwrite: Replace what another job delivered there.

    Returns:
        The directory, as an output.

    Raises:
        ConfigurationError: For a format or compression that there is not.
    """
    if format not in ("jsonl", "parquet", "raw") or compression not in (None, "gzip", "zstd"):
        raise ConfigurationError(
            f"output_format={format!r} with compression={compression!r}: output_format is 'jsonl', 'parquet' "
            "or 'raw', compression None, 'gzip' or 'zstd'."
        )
    if format == "parquet" or compression == "zstd":
        _need_pyarrow(format, compression)
    if format == "parquet":
        columns = {"include_message": include_message, "include_reused": include_reused}
        kind: Format = Parquet(compression, output_schema, **columns)
    else:
        kind = Jsonl(compression, raw=format == "raw")
    return Directory(folder, kind, overwrite=overwrite, words=(format, compression))


def _need_pyarrow(format: str, compression: str | None) -> None:
    try:
        import pyarrow  # noqa: F401
    except ImportError as error:
        wanted = "output_format='parquet'" if format == "parquet" else f"compression={compression!r}"
        raise missing_package(wanted, "pyarrow", "parquet") from error


class Owner(msgspec.Struct, kw_only=True):
    """Whose a directory is; read from a summary, too."""

    job: str | None = None
    """URL of the job; None for batches that something else submitted."""
    batch_ids: list[str] = []
    """Those batches."""

    def may_be_replaced_by(self, other: Owner) -> bool:
        """Whether it is the same delivery, or a later one of the same task instance."""
        if self.job is None or other.job is None:
            return self.job == other.job and sorted(self.batch_ids) == sorted(other.batch_ids)
        return self.job.rpartition("/")[0] == other.job.rpartition("/")[0]

    def __str__(self) -> str:
        return f"the job {self.job}" if self.job else f"the batches {', '.join(self.batch_ids[:3])}"


_decode_owner = msgspec.json.Decoder(Owner).decode


def check_free(folder: Folder, home: Folder) -> None:
    """See that a directory holds nothing of another task instance's, before anything is paid for.

    Args:
        folder: The directory.
        home: Of the task instance, below ``storage_path``.

    Raises:
        ConfigurationError: When another job was delivered there, or is being delivered.
    """
    for name in (SUMMARY, MARKER):
        _refuse_another(folder, name, Owner(job=f"{home.url}/"))


def _refuse_another(folder: Folder, name: str, mine: Owner) -> None:
    try:
        owner = _decode_owner(folder.read(name))
    except (FileNotFoundError, msgspec.DecodeError):  # none, or none of ours: cut off by a kill
        return
    if owner.may_be_replaced_by(mine):
        return
    what = "holds the results of" if name == SUMMARY else "is being filled with the results of"
    raise ConfigurationError(
        f"{folder.url} {what} {owner} ({name} says so); {mine} does not overwrite them. Give each "
        "job an output_path of its own, for example with {{ run_id }} in it, or set overwrite=True."
    )


class Directory:
    """Records as files on object storage.

    Args:
        folder: Where they go.
        format: How a set of records becomes a file.
        overwrite: Replace what another job delivered there.
        words: The format and the compression as `open_directory` takes them.
    """

    keeps_parts = True

    def __init__(
        self,
        folder: Folder,
        format: Format,
        *,
        overwrite: bool = False,
        words: tuple[str, str | None],
    ) -> None:
        self.folder = folder
        self._format = format
        self._words = words
        self._overwrite = overwrite
        self.raw = format.raw
        self.parts_at_a_time = format.parts_at_a_time
        self.name = f"{folder.url} {'raw ' if format.raw else ''}{format.suffix}"

    def reserve(self, job: str | None, batch_ids: Sequence[str]) -> None:
        """Say whose directory this is, unless it is another's.

        A newer job of the same task instance takes over: it replaces the older one.

        Args:
            job: URL of the job that is delivered; None for batches that something else submitted.
            batch_ids: Which batches those are.

        Raises:
            ConfigurationError: When another job was delivered there, or is being delivered.
        """
        mine = Owner(job=job, batch_ids=[] if job else sorted(batch_ids))
        text = msgspec.json.encode(mine) + b"\n"
        if not self._overwrite:
            _refuse_another(self.folder, SUMMARY, mine)
        if self.folder.create(MARKER, text):
            return
        if not self._overwrite:
            _refuse_another(self.folder, MARKER, mine)
        self.folder.write(MARKER, text)

    def begin(self, inputs: Iterable[bytes] = ()) -> bytes | None:
        """A directory with a summary is complete; from now on this one is not."""
        self._format.prepare(inputs)
        return self.folder.take(SUMMARY)

    def restore(self, summary: bytes) -> None:
        """The summary is another worker's, which had finished."""
        self.folder.create(SUMMARY, summary)

    def misfit(self, output: Any, text: str) -> str | None:
        """Why the output of an answer does not fit into the files; None where it does."""
        return self._format.misfit(output, text)

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
            try:
                yield PartWriter(files[0], files[1], raw=self.raw)
                for file in files:
                    file.close()
            except BaseException:
                for file in files:
                    file.abandon()
                raise

    def tell_progress(self, parts: list[int], **told: Any) -> None:
        """Write ``progress.json``: the files of each set that are whole and stay as they are."""
        names = [self._file_name(number) for number in parts]
        files = {set_: [f"{set_}/{name}" for name in names] for set_ in SETS}
        self.folder.write(PROGRESS, msgspec.json.format(msgspec.json.encode({**told, **files}), indent=2))

    def forget_progress(self) -> None:
        """Remove it: no file is whole yet that stays as it is."""
        self.folder.remove_file(PROGRESS)

    def place(self) -> dict[str, Any]:
        """What it takes to open it again."""
        return {"path": self.folder.url, "format": self._words[0], "compression": self._words[1]}

    def paths(self) -> dict[str, str | None]:
        """Where the files are."""
        url = self.folder.url.rstrip("/")
        plain = _without_connection(url)
        return {
            "succeeded_path": f"{url}/succeeded",
            "errored_path": f"{url}/errored",
            "summary_path": f"{url}/{SUMMARY}",
            "succeeded_uri": f"{plain}/succeeded",
            "errored_uri": f"{plain}/errored",
        }

    def finish(self, summary: dict[str, Any], parts: list[int]) -> dict[str, Any]:
        """Remove files of an earlier or interrupted delivery, then write the summary."""
        wanted = {self._file_name(number) for number in parts}
        for set_ in SETS:
            folder = self.folder.child(set_)
            for name in [*folder.names(), *folder.unfinished()]:
                if name.startswith("part-") and name not in wanted:
                    folder.remove_file(name)
        self.folder.write(SUMMARY, msgspec.json.format(msgspec.json.encode(summary), indent=2) + b"\n")
        self.folder.remove_file(MARKER)
        return summary

    def _file_name(self, number: int) -> str:
        return f"part-{number:05d}.{self._format.suffix}"


def _without_connection(url: str) -> str:
    """A URL as tools outside Airflow understand it: ``s3://conn@bucket/key`` is ``s3://bucket/key``."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"
