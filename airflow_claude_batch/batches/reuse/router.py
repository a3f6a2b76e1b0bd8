"""The look-up: which requests need not be asked, said while the input is stored."""

from __future__ import annotations

import datetime
import logging
from collections.abc import Container, Sequence
from dataclasses import dataclass

from airflow_claude_batch.batches.job.job import Reusing
from airflow_claude_batch.batches.job.ledger import ReuseNote
from airflow_claude_batch.batches.job.part_writer import Route
from airflow_claude_batch.batches.requests.request import Request
from airflow_claude_batch.batches.reuse.fingerprint import Fingerprints, as_text
from airflow_claude_batch.batches.reuse.known import KnownKeys, SeenKeys
from airflow_claude_batch.batches.reuse.store import Store, check_pyarrow, key_of, milliseconds, unreachable

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LookUp:
    """What a job wants of the answers of earlier ones."""

    store: Store
    max_age: datetime.timedelta | None
    """How old an answer may be; None for any age."""
    betas: Sequence[str]
    version: str | None
    """What else tells requests apart, see `Fingerprints`."""
    part_requests: int
    """Most requests in a part that is sent."""
    ask_all: bool = False
    """Whether to look nothing up, so that all is asked anew."""
    go_on: bool = False
    """Whether to ask everything where the store cannot be reached."""

    def __call__(self) -> Reusing:
        """Read what the store knows.

        Raises:
            StoreError: Where it cannot be reached, unless the job goes on without.
            ConfigurationError: Where pyarrow is not installed.
        """
        check_pyarrow()
        seconds = None if self.max_age is None else int(self.max_age.total_seconds())
        note = ReuseNote(
            store=self.store.folder.url, max_age_seconds=seconds, part_requests=self.part_requests
        )
        known = () if self.ask_all else self._known()
        return Reusing(router=AnswerRouter(Fingerprints(self.betas, self.version), known), note=note)

    def _known(self) -> Container[object]:
        not_before = None
        if self.max_age is not None:
            not_before = milliseconds(datetime.datetime.now(datetime.UTC) - self.max_age)
        try:
            known = KnownKeys(self.store, not_before)
        except Exception as error:  # noqa: BLE001  # each store has errors of its own
            if not self.go_on:
                raise unreachable(self.store.folder.url, error) from None
            reason = type(error).__name__
            log.warning(
                "The store of answers %s cannot be reached (%s); everything is asked",
                self.store.folder.url,
                reason,
            )
            return ()
        log.info("%s answers of earlier jobs are known in %s", len(known), self.store.folder.url)
        return known if len(known) else ()


class AnswerRouter:
    """Says which requests need not be asked.

    Args:
        fingerprints: Takes their fingerprints.
        known: The keys of answers that there are.
    """

    def __init__(self, fingerprints: Fingerprints, known: Container[object]) -> None:
        self._fingerprints = fingerprints
        self._known = known
        self._asked = SeenKeys()

    def route(self, request: Request) -> tuple[Route, bytes]:
        """Where a request goes, and the fingerprint that names its answer; called once for each."""
        fingerprint = self._fingerprints.of(request)
        key = key_of(fingerprint)
        if key in self._known:
            return "known", as_text(fingerprint)
        return "new" if self._asked.add(key) else "repeat", as_text(fingerprint)
