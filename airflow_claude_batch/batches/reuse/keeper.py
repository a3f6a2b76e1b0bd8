"""Keeping the answers of a part as they are delivered, for later jobs and for repeated requests of this."""

from __future__ import annotations

import contextlib
import datetime
import logging
from collections.abc import Callable, Collection, Iterator
from typing import IO, Any

import msgspec

from airflow_claude_batch.batches.api.result_lines import whole_result
from airflow_claude_batch.batches.results.download import Arrivals
from airflow_claude_batch.batches.results.output.arrow_arrays import fixed, integers, strings, texts
from airflow_claude_batch.batches.reuse.fingerprint import DIGEST_BYTES, as_text
from airflow_claude_batch.batches.reuse.pair_writer import PairWriter
from airflow_claude_batch.batches.reuse.sources import FirstLine
from airflow_claude_batch.batches.reuse.store import answers_schema, milliseconds, need_pyarrow

log = logging.getLogger(__name__)

COMPLETE = frozenset({"end_turn", "stop_sequence", "tool_use"})
"""Stop reasons of answers that are whole."""


class _Result(msgspec.Struct):
    message: msgspec.Raw


class _Line(msgspec.Struct):
    result: _Result


_decode_lines = msgspec.json.Decoder(_Line).decode_lines
_encode = msgspec.json.Encoder().encode


class PartKeeper:
    """Takes of one part what later requests can use.

    Args:
        answered_at: When the answers were given.
        batch_id: By which batch; None for single calls.
        pair: Takes the answers for later jobs; None where they are kept already.
        repeated: Fingerprints of requests that others of the job repeat.
        open_firsts: Opens the file for what these are answered; it is called if there is any.
    """

    def __init__(
        self,
        *,
        answered_at: datetime.datetime,
        batch_id: str | None,
        pair: PairWriter | None,
        repeated: Collection[bytes] = (),
        open_firsts: Callable[[], IO[bytes]] | None = None,
    ) -> None:
        self._answered_at = answered_at
        self._batch_id = batch_id
        self._repeated = repeated
        self._open_firsts = open_firsts
        self._firsts: IO[bytes] | None = None
        self._pair = pair
        self.failed = False
        """Whether the store takes no more."""

    def see(self, arrivals: Arrivals) -> None:
        """Note what repeated requests are answered, whatever it is."""
        chosen = [own.fingerprint in self._repeated for own in arrivals.own] if self._repeated else []
        if not any(chosen) or self._open_firsts is None:
            return
        self._firsts = self._firsts or self._open_firsts()
        first = arrivals.select(chosen)
        for row, own, text in zip(first.lines.rows, first.own, first.lines.texts, strict=True):
            line = FirstLine(
                fingerprint=as_text(own.fingerprint).decode(),
                batch_id=self._batch_id,
                answered_at=self._answered_at.isoformat(),
                type=row.result.type,
                result=whole_result(text),
            )
            self._firsts.write(_encode(line) + b"\n")

    def keep(self, answers: Arrivals) -> None:
        """Keep answers that are whole; those that are empty are not among them."""
        if self._pair is None or self.failed:
            return
        messages = [row.result.message for row in answers.lines.rows]
        chosen = [
            bool(own.fingerprint) and message is not None and message.stop_reason in COMPLETE
            for own, message in zip(answers.own, messages, strict=True)
        ]
        whole = answers.select(chosen)
        if not whole.lines.rows:
            return
        try:
            self._pair.add(self._table(whole))
        except Exception as error:  # noqa: BLE001  # each store has errors of its own; the answers come first
            not_kept(error)
            self.failed = True

    def _table(self, answers: Arrivals) -> Any:
        pa, _ = need_pyarrow()
        rows, own = answers.lines.rows, answers.own
        messages = [row.result.message for row in rows]
        models = [None if message is None else message.model for message in messages]
        schema, count = answers_schema(), len(rows)
        kinds = {field.name: field.type for field in schema}
        columns = {
            "digest": fixed([one.fingerprint[:DIGEST_BYTES] for one in own], kinds["digest"]),
            "check": fixed([one.fingerprint[DIGEST_BYTES:] for one in own], kinds["check"]),
            "answered_at": integers([milliseconds(self._answered_at)] * count, kinds["answered_at"]),
            "batch_id": strings([self._batch_id] * count, kinds["batch_id"]),
            "custom_id": strings([row.custom_id for row in rows], kinds["custom_id"]),
            "model": strings(models, kinds["model"]),
            "message": texts(
                [bytes(line.result.message) for line in _decode_lines(answers.lines.data)], kinds["message"]
            ),
        }
        return pa.table([columns[name] for name in schema.names], schema=schema)


def not_kept(error: Exception) -> None:
    """Say that answers are not kept, which costs their price again and nothing else."""
    log.warning("Answers cannot be kept for later jobs (%s); these will ask them again", type(error).__name__)


@contextlib.contextmanager
def keeping(pair: PairWriter, keeper: PartKeeper) -> Iterator[None]:
    """What a keeper has kept counts when the block ends well; a store that fails stops nothing."""
    try:
        yield
    except BaseException:
        pair.discard()
        raise
    try:
        if keeper.failed:
            pair.discard()
        else:
            pair.finish()
    except Exception as error:  # noqa: BLE001  # likewise
        not_kept(error)
