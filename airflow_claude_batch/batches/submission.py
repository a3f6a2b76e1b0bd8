"""Submission: exactly one paid batch a part.

For each part the intent is recorded, the body is POSTed once, the batch id is recorded. Whatever
interrupts that leaves either no intent (nothing was sent), an intent and a batch id (all is well) or
an intent alone; then the list of batches is asked before anything is sent again.
"""

from __future__ import annotations

import datetime
import logging
import random
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Literal

from airflow_claude_batch.batches import lease as leases
from airflow_claude_batch.batches import ledger as ledgers
from airflow_claude_batch.batches import reconcile
from airflow_claude_batch.batches.api import Batch, BatchesApi
from airflow_claude_batch.batches.errors import (
    AccessError,
    AmbiguousSubmissionError,
    IncompleteResultsError,
    LostOwnershipError,
    RejectedError,
    SubmissionError,
)
from airflow_claude_batch.batches.jobs import Job
from airflow_claude_batch.batches.ledger import Part
from airflow_claude_batch.batches.retrying import Failure, Kind, classify
from airflow_claude_batch.batches.spool import bisect_part, read_body

log = logging.getLogger(__name__)

UPLOADS = 2
"""Parts that upload at the same time."""
KILL_SECONDS = 3.0
"""How long a kill waits for a POST under way; Airflow follows SIGTERM with SIGKILL after 5 s."""


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Choices of the user that submission obeys."""

    on_ambiguous: Literal["wait", "fail"] = "wait"
    """When several batches could be the one whose answer was lost: compare their custom_ids once
    they have ended, or fail at once."""
    max_requests_in_queue: int | None = None
    """Submit only while the workspace has fewer requests than this in processing."""
    grace_seconds: float = 60.0
    """How long a batch may take to appear in the list after its POST was interrupted."""
    in_place_seconds: float = 10.0
    """Waits up to so long in all are slept through; longer ones are handed back, so that no worker
    slot is held. (Airflow may fail a task that defers for only some seconds.)"""


@dataclass(frozen=True, kw_only=True)
class Later:
    """Submission cannot go on now. Not a failure: come back at ``at``."""

    at: datetime.datetime
    reason: str
    batch_id: str | None = None
    """Come back when this batch has ended, rather than at a certain time."""


@dataclass(kw_only=True)
class Submission:
    """Submits what a job still has to submit.

    :param created: ids of the batches that this attempt made, for a kill to cancel
    """

    job: Job
    api: BatchesApi
    policy: Policy = field(default_factory=Policy)
    created: list[str] = field(default_factory=list)
    _running: set[Future[Later | None]] = field(default_factory=set)
    _killed: bool = False

    def run(self) -> Later | None:
        """Submit every part that has no batch yet.

        :returns: None when all parts have their batch, otherwise when to come back and why
        :raises SubmissionError: when it cannot succeed; batches made so far stay in the ledger
        """
        slept = 0.0
        while True:
            waiting = [part for part in self.job.ledger.live_parts if not part.batch_id and not part.given_up]
            if not waiting:
                return None
            first = self.job.ledger.parts[0]
            if self.job.ledger.warm_cache and first.batch_id:
                if (later := self._until_warm(first.batch_id)) is not None:
                    return later
            elif self.job.ledger.warm_cache:
                waiting = [first]
            later = self._submit_all(waiting)
            if later is None:
                continue
            seconds = max((later.at - _now()).total_seconds(), 0.0)
            slept += seconds
            if slept > self.policy.in_place_seconds:
                earliest = _now() + datetime.timedelta(seconds=self.policy.in_place_seconds)
                return Later(at=max(later.at, earliest), reason=later.reason)
            log.info("%s; going on in %.1f s", later.reason, seconds)
            time.sleep(seconds)

    def cancel_created(self) -> None:
        """Cancel the batches that this attempt made: the task was killed.

        A POST that is under way gets some seconds to end; if it does not, its intent stays in the
        ledger, and the next try finds the batch.
        """
        self._killed = True
        wait(self._running, timeout=KILL_SECONDS)
        for batch_id in self.created:
            try:
                self.api.cancel(batch_id)
                log.warning("The task was killed; cancelled batch %s", batch_id)
            except Exception as error:  # noqa: BLE001  # the other batches still want cancelling
                log.error("The task was killed, but batch %s could not be cancelled: %s", batch_id, error)

    def _until_warm(self, batch_id: str) -> Later | None:
        """Wait for the batch that writes the shared prefix into the cache; the others read it there."""
        try:
            ended = self.api.retrieve(batch_id).ended
        except Exception as error:  # noqa: BLE001  # a look that fails is repeated
            log.warning("Could not look at %s: %s", batch_id, error)
            ended = False
        if not ended:
            reason = f"waiting until {batch_id} has written the shared prefix into the cache"
            return Later(at=_now() + datetime.timedelta(seconds=15), reason=reason, batch_id=batch_id)
        with self.job.change() as ledger:
            ledger.warm_cache = False
        return None

    def _submit_all(self, parts: list[Part]) -> Later | None:
        """One attempt at each part; starts no new one after the first that cannot go on."""
        with ThreadPoolExecutor(UPLOADS, thread_name_prefix="claude-batch-submit") as pool:
            queue, laters = list(parts), list[Later]()
            running = self._running
            while queue or running:
                while queue and len(running) < UPLOADS and not laters and not self._killed:
                    running.add(pool.submit(self._submit, queue.pop(0)))
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                running -= done
                laters += [later for future in done if (later := future.result()) is not None]
        return min(laters, key=lambda later: later.at) if laters else None

    def _submit(self, part: Part) -> Later | None:
        """Bring one part to its batch, or say when to come back."""
        if part.intent_at is not None:
            later = self._settle(part)
            if later is not None or part.batch_id:
                return later
        if (later := self._queue_has_room(part)) is not None:
            return later
        self._record_intent(part)
        try:
            batch = self.api.create(
                read_body(self.job.folder, part.requests), part.bytes, self.job.ledger.betas
            )
        except Exception as error:  # noqa: BLE001  # classify() knows them all; unknown is uncertain
            return self._after(part, classify(error, self.api.conn_id), error)
        self.created.append(batch.id)
        self._record_batch(part, batch)
        log.info("Submitted batch %s with %s requests", batch.id, part.request_count)
        return None

    def _after(self, part: Part, failure: Failure, error: Exception) -> Later | None:
        """What follows from a failed create."""
        if failure.kind is Kind.UNCERTAIN:
            log.warning("Not known whether a batch was created: %s", failure.reason)
            return self._settle(part, now=_now())
        with self.job.change():
            part.intent_at = None
        reconcile.withdraw(self.job, part)
        if failure.kind is Kind.TOO_LARGE:
            self._split(part, failure, error)
            return None
        if failure.kind is Kind.FINAL:
            if self._give_up(part, failure):
                return None
            raise failure.error(self._explain(failure.reason)) from error
        log.info("Not created: %s", failure.reason)
        seconds = failure.wait_seconds * random.uniform(1, 1.2)
        return Later(at=_now() + datetime.timedelta(seconds=seconds), reason=failure.reason)

    def _give_up(self, part: Part, failure: Failure) -> bool:
        """Leave a part of a later round unsent; its requests are delivered with the failure they had before.

        Only while the job is being delivered: a delivery must be complete, even if the credit is used up.
        """
        ledger = self.job.ledger
        if not part.round or ledger.delivery_life < ledger.life or failure.error is AccessError:
            return False
        log.error("Round %s cannot be sent: %s", part.round, failure.reason)
        with self.job.change():
            part.given_up = failure.reason
        return True

    def _settle(self, part: Part, now: datetime.datetime | None = None) -> Later | None:
        """Find out what became of an intent without a batch id.

        Afterwards the part has its batch, or no intent any more; or it is too early to say.

        :param now: last moment at which the POST was under way, where it was this process's own
        """
        import anthropic
        import httpx2

        try:
            finding = reconcile.find_batch(self.job, part, self.api)
        except (anthropic.APIError, httpx2.TransportError, IncompleteResultsError) as error:
            return self._ask_again(error)
        if finding.batch is not None:
            log.warning(
                "Adopting batch %s (%s requests, created %s), whose answer was lost",
                finding.batch.id,
                part.request_count,
                finding.batch.created_at,
            )
            self._record_batch(part, finding.batch, adopted="verified" if finding.certain else "unverified")
            return None
        if finding.undecided:
            return self._wait_to_compare(finding)
        home = self.job.folder.parent
        if (
            now is None
            and part.intent_lease != self.job.lease.number
            and leases.alive(home, part.intent_lease)
        ):
            at = _now() + datetime.timedelta(seconds=leases.RENEW_SECONDS)
            return Later(at=at, reason="another worker on this task may still be sending")
        last_sign = now or leases.last_renewal(home, part.intent_lease) or part.intent_at or _now()
        grace_ends = last_sign + datetime.timedelta(seconds=self.policy.grace_seconds)
        if _now() < grace_ends:
            at = min(grace_ends, _now() + datetime.timedelta(seconds=max(self.policy.grace_seconds / 4, 0.2)))
            return Later(at=at, reason="looking once more for a batch whose answer was lost")
        log.info("No batch was created by the interrupted POST of %s; sending it", part.intent_at)
        with self.job.change():
            part.intent_at = None
        reconcile.withdraw(self.job, part)
        return None

    def _ask_again(self, error: Exception) -> Later:
        """The API could not be asked what became of a POST; until it can be, nothing is sent."""
        failure = classify(error, self.api.conn_id)
        if failure.error is not RejectedError:
            raise failure.error(self._explain(failure.reason)) from error
        at = _now() + datetime.timedelta(seconds=failure.wait_seconds)
        return Later(at=at, reason=f"cannot look for a batch whose answer was lost: {failure.reason}")

    def _wait_to_compare(self, finding: reconcile.Finding) -> Later:
        ids = ", ".join(batch.id for batch in finding.undecided)
        if self.policy.on_ambiguous == "fail" or all(batch.ended for batch in finding.undecided):
            ledger = f"{self.job.folder.url}/{ledgers.LEDGER}"
            raise AmbiguousSubmissionError(
                self._explain(
                    f"The answer to a create was lost, and each of these batches could be it: {ids}. "
                    "Nothing more was sent. Look at their results; then write the right id into batch_id in "
                    f"{ledger} (or remove intent_at there to send the part again) and clear the task"
                )
            )
        at = _now() + datetime.timedelta(seconds=max(self.policy.grace_seconds / 4, 0.2))
        return Later(at=at, reason=f"waiting until {ids} have ended, to see which of them is this job's")

    def _queue_has_room(self, part: Part) -> Later | None:
        limit = self.policy.max_requests_in_queue
        if limit is None:
            return None
        import anthropic

        day_ago = _now() - datetime.timedelta(hours=25)
        try:
            queued = sum(batch.request_counts.processing for batch in self.api.list_since(day_ago))
        except anthropic.APIError as error:
            return self._ask_again(error)
        if queued == 0 or queued + part.request_count <= limit:
            return None
        at = _now() + datetime.timedelta(seconds=60)
        return Later(at=at, reason=f"{queued} requests are in processing; max_requests_in_queue is {limit}")

    def _record_intent(self, part: Part) -> None:
        at = _now()
        reconcile.announce(self.job, part, at)
        with self.job.change():
            part.intent_at, part.intent_lease = at, self.job.lease.number

    def _record_batch(
        self, part: Part, batch: Batch, adopted: Literal["", "unverified", "verified"] = ""
    ) -> None:
        """Write down a batch that exists; it is paid for, so do not give up easily."""
        for attempt in range(1, 5):
            try:
                self.job.claim(part, batch.id)
                with self.job.change():
                    part.batch_id, part.submitted_at, part.adopted = batch.id, batch.created_at, adopted
                break
            except LostOwnershipError:
                self._undo_if_replaced(part, batch)
                raise
            except OSError as error:
                if attempt == 4:
                    raise SubmissionError(
                        f"Batch {batch.id} was created, but {self.job.folder.url} cannot be written "
                        f"({error}). A retry of this task will find the batch and go on with it."
                    ) from error
                log.warning("Cannot record batch %s yet: %s", batch.id, error)
                time.sleep(2**attempt / 4)
        reconcile.withdraw(self.job, part)

    def _undo_if_replaced(self, part: Part, batch: Batch) -> None:
        """This process was taken for dead while it sent; whoever took over may have sent the part again."""
        recorded = ledgers.load(self.job.folder)
        other = recorded.parts[self.job.ledger.parts.index(part)].batch_id if recorded else None
        if other not in (None, batch.id):
            log.warning("Another worker submitted this part as %s; cancelling %s", other, batch.id)
            self.api.cancel(batch.id)

    def _split(self, part: Part, failure: Failure, error: Exception) -> None:
        """Replace a part by two halves; they are submitted with the next round of parts."""
        if part.request_count == 1:
            raise RejectedError(
                self._explain(f"one request of {part.bytes} bytes is too large for the API: {failure.reason}")
            ) from error
        log.warning("%s bytes are too many for the API (%s); splitting the part", part.bytes, failure.reason)
        with self.job.lock:
            halves = bisect_part(self.job.folder, part, first_file=len(self.job.ledger.parts))
            self.job.lease.check()
            self.job.ledger.parts += halves
            part.split = True
            ledgers.save(self.job.folder, self.job.ledger)

    def _explain(self, what: str) -> str:
        live = self.job.ledger.batch_ids
        kept = (
            f" Batches already submitted stay, and a retry goes on with them: {', '.join(live)}."
            if live
            else ""
        )
        return f"{what}.{kept}"


def retire(old: Job, new_url: str, api: BatchesApi, *, cancel: bool) -> None:
    """Note that a job was replaced by one with other requests.

    :param cancel: cancel its batches that still run; else they go on and are paid for
    """
    for part in old.ledger.live_parts if cancel else []:
        try:
            batch_id = part.batch_id
            if batch_id is None and part.intent_at is not None:
                found = reconcile.find_batch(old, part, api).batch
                batch_id = found.id if found else None
            if batch_id is not None and not api.retrieve(batch_id).ended:
                api.cancel(batch_id)
                log.warning("The requests have changed; cancelled batch %s of %s", batch_id, old.folder.url)
        except Exception as error:  # noqa: BLE001  # a batch that goes on is no reason not to submit
            log.error("A batch of the replaced job in %s was not cancelled: %s", old.folder.url, error)
    with old.change() as ledger:
        ledger.superseded_by = new_url


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
