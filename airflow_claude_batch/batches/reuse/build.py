"""Making a store from jobs of before: what batches answered is fetched again, while the API still has it.

What single calls answered lies with the job.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.foreign_text import describe_error, foreign_text
from airflow_claude_batch.batches.errors import LedgerError
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.part_reader import read_requests
from airflow_claude_batch.batches.job.stored import listed_jobs
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.classify import process_results
from airflow_claude_batch.batches.results.download import Download
from airflow_claude_batch.batches.results.line_sources import BatchResults, part_source
from airflow_claude_batch.batches.results.sent_requests import Ids, Own
from airflow_claude_batch.batches.results.unread import accepted_ids
from airflow_claude_batch.batches.reuse.compaction import compact
from airflow_claude_batch.batches.reuse.fingerprint import Fingerprints
from airflow_claude_batch.batches.reuse.keeper import PartKeeper
from airflow_claude_batch.batches.reuse.pair_writer import PairWriter
from airflow_claude_batch.batches.reuse.store import Scope, Store, need_pyarrow
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Built:
    """What came of it."""

    jobs: int = 0
    """Whose answers were looked at."""
    answers: int = 0
    """That are kept now."""
    kept_before: int = 0
    """Parts of jobs whose answers the store had already."""
    failed: int = 0
    """Parts whose results could not be fetched; the log says why."""


def build(
    root: Folder,
    dag_id: str,
    *,
    api_of: Callable[[str], BatchesApi],
    scope: str = "dag",
    version: str | None = None,
    answers: Folder | None = None,
) -> Built:
    """Keep the answers of a DAG's jobs that ``storage_path`` still has.

    What is kept, and by what, is the same as at a delivery; only the user's own checks are not known.

    Args:
        root: ``storage_path``.
        dag_id: Whose jobs.
        api_of: Gives the API of a connection, by its id.
        scope: ``task``, ``dag``, ``connection`` or a name, as in ``Reuse(scope=…)``.
        version: The ``prompt_version`` that later requests will have; None for those without.
        answers: Where stores lie; None for ``answers`` under ``storage_path``.
    """
    need_pyarrow()
    built, stores, kept = Built(), dict[str, Store](), dict[str, set[str]]()
    for job in listed_jobs(root, dag_id):
        try:
            ledger = job.load()
        except LedgerError as error:
            log.warning("Left alone: %s", foreign_text(error))
            continue
        if ledger is None or ledger.dag_id != dag_id:
            continue
        built.jobs += 1
        whose = Scope(name=scope, dag_id=dag_id, task_id=ledger.task_id, conn_id=ledger.conn_id)
        store = Store.of(whose, root, answers)
        if stores.setdefault(store.folder.url, store) is store:
            kept[store.folder.url] = {pair.id for pair in store.pairs()}
        for number, part in enumerate(ledger.parts):
            if part.batch_id or (part.way == "direct" and part.answered):
                _keep(store, job.folder, ledger, number, api_of, version, built, kept[store.folder.url])
    for store in stores.values():
        compact(store, datetime.datetime.now(datetime.UTC))
    return built


def _keep(
    store: Store,
    folder: Folder,
    ledger: Ledger,
    number: int,
    api_of: Callable[[str], BatchesApi],
    version: str | None,
    built: Built,
    kept: Container[str],
) -> None:
    """Keep the answers of one part, if they are not kept already."""
    part = ledger.parts[number]
    id_ = hashlib.blake2b(f"{folder.url}/{number}/{version}".encode(), digest_size=10).hexdigest()
    own = ledger.reuse is not None and ledger.reuse.store == store.folder.url and part.kept
    if own or id_ in kept:
        built.kept_before += 1
        return
    pair = PairWriter(store, id_)
    try:
        source = part_source(api_of(ledger.conn_id), folder, ledger, number)
        assert source is not None
        ended_at = source.batch.ended_at if isinstance(source, BatchResults) else None
        keeper = PartKeeper(answered_at=ended_at or source.sent_at, batch_id=part.batch_id, pair=pair)
        schema = None if ledger.output_schema is None else OutputSchema.of(ledger.output_schema)
        download = Download(
            source=source,
            inputs=_Asked(folder, part, Fingerprints(ledger.betas, version)),
            sent_as=part.sent_as,
            accepted=accepted_ids(folder, part),
        )
        process_results(download, None, reading=Reading(output_schema=schema), keeper=keeper)
        pair.finish()
    except Exception as error:  # noqa: BLE001  # the next job may have its results still
        pair.discard()
        built.failed += 1
        log.warning("Left out: the results of %s (%s)", part.batch_id or folder.url, describe_error(error))
        return
    built.answers += pair.rows


class _Asked(Ids):
    """The requests of a part, by what each answer is kept by."""

    def __init__(self, folder: Folder, part: Part, fingerprints: Fingerprints) -> None:
        super().__init__(folder, part.inputs)
        self._fingerprints = {
            request.custom_id: fingerprints(request.line, None) for request in read_requests(folder, part)
        }

    def take(self, custom_ids: Sequence[str]) -> list[Own | None]:
        """Take requests out."""
        taken = super().take(custom_ids)
        return [
            None if own is None else replace(own, fingerprint=self._fingerprints[custom_id])
            for custom_id, own in zip(custom_ids, taken, strict=True)
        ]

    def unanswered(self) -> Iterator[tuple[str, Own]]:
        """Of no interest here."""
        return iter(())
