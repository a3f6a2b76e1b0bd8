"""The result lines of parts that are not sent: from an earlier job's answers, or from this job's own."""

from __future__ import annotations

import contextlib
import datetime
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from airflow_claude_batch.batches.api.result_lines import (
    Lines,
    Message,
    Result,
    ResultLine,
    Reused,
    as_utf_8,
    read_lines,
)
from airflow_claude_batch.batches.results.output.arrow_arrays import texts
from airflow_claude_batch.batches.reuse.asked import read_asked
from airflow_claude_batch.batches.reuse.fingerprint import FINGERPRINT_BYTES, from_text
from airflow_claude_batch.batches.reuse.gather import answers_of, read_answers
from airflow_claude_batch.batches.reuse.store import need_pyarrow
from airflow_claude_batch.batches.storage import Folder, iter_lines

BLOCK = 1 << 20
"""Bytes that are given out at a time, more or less."""
_encode = msgspec.json.Encoder().encode


class FirstLine(msgspec.Struct):
    """What a request was answered that others of the job repeat; a line of ``firsts-<part>.jsonl``."""

    fingerprint: str
    batch_id: str | None
    answered_at: str
    type: str
    """Of the result."""
    result: msgspec.Raw


_decode_messages = msgspec.json.Decoder(list[Message]).decode
_decode_first = msgspec.json.Decoder(FirstLine).decode


@dataclass(frozen=True, kw_only=True)
class _Unpaid:
    folder: Folder
    """The job's."""
    number: int
    """Of the part."""
    inputs: str
    """Its inputs file."""
    sent_at: datetime.datetime
    service: Literal["batch"] = "batch"
    paid: bool = False
    existing: int = 0
    """Nothing that does not come is waited for: it is asked in the next round."""

    def check(self) -> None:
        """They are there, or reading them fails."""


class KnownAnswers(_Unpaid):
    """The answers of earlier jobs, as `gather` has brought them."""

    @property
    def name(self) -> str:
        """Of the file."""
        return f"{self.folder.url}/{answers_of(self.number)}"

    def lines(self, *, mend: bool) -> Iterator[Lines]:
        """Some lines at a time; each time from the first on.

        Args:
            mend: Whether bytes that are no UTF-8 are replaced.
        """
        pa, _ = need_pyarrow()
        import pyarrow.compute as pc

        custom_ids: list[str] = []
        fingerprints = bytearray()
        for some in read_asked(self.folder, self.inputs):
            custom_ids += [one.custom_id for one in some]
            fingerprints += from_text("".join([one.reuse for one in some]))
        kind = pa.binary(FINGERPRINT_BYTES)
        wanted = pa.Array.from_buffers(kind, len(custom_ids), [None, pa.py_buffer(fingerprints)])
        origin_of, between = functools.cache(_origin), texts([b""], pa.binary())[0]
        for answers in _in_blocks(read_answers(self.folder, self.number)):
            halves = (answers[name].cast(pa.binary()) for name in ("digest", "check"))
            found = pc.binary_join_element_wise(*halves, between)
            same = pc.equal(found, wanted.take(answers["place"]).cast(pa.binary()))
            if not pc.all(same).as_py():  # only the first bytes of a digest are the same
                answers = answers.filter(same)
            moments = answers["answered_at"].cast("int64").to_pylist()
            yield _read(
                [custom_ids[place] for place in answers["place"].to_pylist()],
                answers["message"].cast("binary").to_pylist(),
                list(map(origin_of, answers["batch_id"].to_pylist(), moments)),
                mend=mend,
            )


def _in_blocks(tables: Iterable[Any]) -> Iterator[Any]:
    """The same rows, so many at a time that their bytes are a block."""
    for table in tables:
        rows = max(BLOCK * table.num_rows // max(table.nbytes, 1), 1)
        for start in range(0, table.num_rows, rows):
            yield table.slice(start, rows)


def _origin(batch_id: str | None, moment: int) -> Reused:
    """Where an answer comes from that was given so many milliseconds after 1970."""
    return Reused(batch_id, datetime.datetime.fromtimestamp(moment / 1000, datetime.UTC).isoformat())


def _read(
    custom_ids: Sequence[str], messages: Sequence[bytes], origins: Sequence[Reused], *, mend: bool
) -> Lines:
    """The lines of some answers. Their bytes, which few want, are put together when they are asked for."""

    def compose() -> bytes:
        line = b'{"custom_id":"%b","result":{"type":"succeeded","message":%b},"reused":%b}\n'
        parts = zip(custom_ids, messages, origins, strict=True)
        return b"".join([line % (name.encode(), message, _encode(origin)) for name, message, origin in parts])

    data = b"[%b]" % b",".join(messages)
    if not mend or as_utf_8(data) is data:
        with contextlib.suppress(msgspec.DecodeError):
            decoded = _decode_messages(data)
            if len(decoded) == len(messages):
                parts = zip(custom_ids, decoded, origins, strict=True)
                return Lines(
                    [
                        ResultLine(name, Result("succeeded", message), origin)
                        for name, message, origin in parts
                    ],
                    compose,
                )
    return read_lines(as_utf_8(compose()) if mend else compose()).lines


class RepeatedAnswers(_Unpaid):
    """What requests of the same job were answered that ask the same."""

    @property
    def name(self) -> str:
        """Of the part."""
        return f"the repeated requests in {self.folder.url}/{self.inputs}"

    @contextlib.contextmanager
    def open(self) -> Iterator[Iterator[bytes]]:
        """Blocks of lines; each time from the first on."""
        yield _blocks(self._lines())

    def _lines(self) -> Iterator[bytes]:
        waiting: dict[str, list[str]] = {}
        for some in read_asked(self.folder, self.inputs):
            for one in some:
                waiting.setdefault(one.reuse, []).append(one.custom_id)
        for name in sorted(first_files(self.folder), reverse=True):  # what a later round brought counts
            with self.folder.open_read(name) as file:
                for first in map(_decode_first, iter_lines(file)):
                    for custom_id in waiting.pop(first.fingerprint, ()):
                        yield _repeat(first, custom_id)


def _repeat(first: FirstLine, custom_id: str) -> bytes:
    line = b'{"custom_id":"%b","result":%b' % (custom_id.encode(), bytes(first.result))
    if first.type == "succeeded":
        line += b',"reused":' + _encode(Reused(first.batch_id, first.answered_at))
    return line + b"}\n"


def firsts_of(number: int) -> str:
    """Name of the file with what requests of a part were answered that others repeat."""
    return f"firsts-{number:05d}.jsonl"


def first_files(folder: Folder) -> list[str]:
    """All of these files of a job."""
    return [name for name in folder.names() if name.startswith("firsts-")]


def _blocks(lines: Iterator[bytes]) -> Iterator[bytes]:
    held, size = [], 0
    for line in lines:
        held.append(line)
        size += len(line)
        if size >= BLOCK:
            yield b"".join(held)
            held, size = [], 0
    yield b"".join(held)
