"""Submission: exactly one paid batch a part.

For each part the intent is recorded, the body is POSTed once, the batch id is recorded. Whatever interrupts
that leaves a part to send (nothing was sent), a submitted one (all is well) or an uncertain one; then the
list of batches is asked before anything is sent again (see ``lost_answers``).
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import random
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import assert_never

from airflow_claude_batch.batches.api.cancel import cancel_all
from airflow_claude_batch.batches.api.client import Batch, BatchesApi
from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.errors import (
    AccessError,
    ConfigurationError,
    LostOwnershipError,
    RejectedError,
)
from airflow_claude_batch.batches.job import lease as leases
from airflow_claude_batch.batches.job.job import Job, Later
from airflow_claude_batch.batches.job.part import Part, PartState
from airflow_claude_batch.batches.job.part_reader import read_body
from airflow_claude_batch.batches.job.spool import bisect_part
from airflow_claude_batch.batches.job.unsent import spare_unsent
from airflow_claude_batch.batches.submission.create_errors import Failure, Kind, classify
from airflow_claude_batch.batches.submission.lost_answers import LostAnswers, cannot_ask
from airflow_claude_batch.batches.submission.policy import (
    NotYetError,
    Policy,
    explain,
    seconds_from_now,
    seconds_until,
)
from airflow_claude_batch.batches.submission.record import (
    forget_intent,
    hand_over_or_cancel,
    record_batch,
    record_intent,
)

log = logging.getLogger(__name__)

UPLOADS = 2
"""Parts that upload at the same time."""
LOOK_SECONDS = 15.0
"""Between two looks at the batch that writes the shared prefix."""
QUEUE_SECONDS = 60.0
"""Between two looks at the processing queue."""
KILL_SECONDS = 3.0
"""How long a kill waits for a POST under way; Airflow follows SIGTERM with SIGKILL after 5 s."""


@dataclass(kw_only=True)
class Submission:
    """Submits what a job still has to submit."""

    job: Job
    api: BatchesApi
    policy: Policy = field(default_factory=Policy)
    created: list[str] = field(default_factory=list)
    """Batches that this attempt made, for a kill to cancel."""
    _running: set[Future[None]] = field(default_factory=set)
    _killed: bool = False
    _newest: datetime.datetime | None = None
    """When the newest batch known was created."""

    def run(self) -> Later | None:
        """Submit every part that has no batch yet.

        Returns:
            None when all parts have their batch, otherwise when to come back and why.

        Raises:
            SubmissionError: When it cannot succeed; batches made so far stay in the ledger.
            LostOwnershipError: When another process has taken the job over.
        """
        spare_unsent(self.job)
        self._check_queue_limit()
        slept = 0.0
        while True:
            try:
                open_parts = self._open_parts()
                if not open_parts:
                    return None
                self._advance_all(open_parts)
            except NotYetError as error:
                later = error.later
            else:
                continue
            seconds = seconds_until(later.at)
            slept += seconds
            if later.batch_id is not None or slept > self.policy.in_place_seconds:
                earliest = seconds_from_now(self.policy.in_place_seconds)
                return replace(later, at=max(later.at, earliest))
            log.info("%s; going on in %.1f s", later.reason, seconds)
            time.sleep(seconds)

    def cancel_created(self) -> None:
        """Cancel the batches that this attempt made: the task was killed.

        A POST that is under way gets some seconds to end; if it does not, its intent stays in the
        ledger, and the next try finds the batch. Airflow also kills a worker that it took for lost, when the
        next try is already at work with these batches: then they are left alone.
        """
        self._killed = True
        wait(self._running, timeout=KILL_SECONDS)
        with contextlib.suppress(Exception):  # each store has errors of its own; the batches are ours
            if leases.taken_over(self.job.folder.parent, self.job.lease.number):
                log.warning("Killed, but another worker goes on with this job; its batches go on, too")
                return
        for answer in cancel_all(self.api, self.created):
            log.warning("The task was killed: %s", answer)

    # Which parts go on

    def _open_parts(self) -> list[Part]:
        """Parts without a batch; the first one alone while it has to write the shared prefix to the cache."""
        ledger = self.job.ledger
        open_states = (PartState.TO_SEND, PartState.UNCERTAIN)
        open_parts = [part for part in ledger.batch_parts if part.state in open_states]
        if not open_parts or not ledger.warm_cache:
            return open_parts
        first = ledger.batch_parts[0]
        if first.batch_id is None:
            return [first]
        self._until_warm(first.batch_id)
        return open_parts

    def _until_warm(self, batch_id: str) -> None:
        """Go on when the batch that writes the shared prefix into the cache has ended."""
        try:
            ended = self.api.retrieve(batch_id).ended
        except Exception as error:  # noqa: BLE001  # a look that fails is repeated
            log.warning("Could not look at %s: %s", batch_id, describe_error(error))
            ended = False
        if not ended:
            reason = f"waiting until {batch_id} has written the shared prefix into the cache"
            raise NotYetError(Later(at=seconds_from_now(LOOK_SECONDS), reason=reason, batch_id=batch_id))
        with self.job.change() as ledger:
            ledger.warm_cache = False

    def _advance_all(self, parts: list[Part]) -> None:
        """One step for each part, some at a time; none begins after one that says when all may go on."""
        queue, held = list(parts), list[NotYetError]()
        running = self._running
        with ThreadPoolExecutor(UPLOADS, thread_name_prefix="claude-batch-submit") as pool:
            while queue or running:
                stopped = self._killed or any(not error.alone for error in held)
                while queue and len(running) < UPLOADS and not stopped:
                    running.add(pool.submit(self._advance, queue.pop(0)))
                if not running:
                    break
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                running -= done
                held += [error for future in done if (error := _not_yet(future)) is not None]
        if held:
            raise min(held, key=lambda error: (error.later.batch_id is not None, error.later.at))

    def _advance(self, part: Part) -> None:
        """Bring one part nearer to its batch.

        Raises:
            NotYetError: Where it has to wait.
        """
        if part.state is PartState.UNCERTAIN:
            self._lost_answers.settle(part)
        if part.state is PartState.TO_SEND and not self.job.ledger.sends_batches:
            spare_unsent(self.job)
        elif part.state is PartState.TO_SEND:
            self._wait_for_room(part)
            self._send(part)

    # Sending

    def _send(self, part: Part) -> None:
        """POST a part once, and record what came of it."""
        if self._newest is None:
            self._newest = self._look_for_the_newest()
        record_intent(self.job, part, at=self.api.now(), newest_before=self._newest)
        try:
            body = read_body(self.job.folder, part, self.job.check)
            batch = self.api.create(body, part.bytes, self.job.ledger.betas)
        except Exception as error:  # noqa: BLE001  # classify() knows them all; unknown is uncertain
            self._lost_answers.note(part)
            sent = read_body(self.job.folder, part, before_the_end=lambda: None)
            failure = classify(error, self.api.conn_id, sent)
        else:
            self.created.append(batch.id)
            self._newest = max(filter(None, (self._newest, batch.created_at)))
            self._record(part, batch)
            return
        # Outside the except block: a traceback would show the API's sentence as it is, prompts included.
        self.job.check()  # where the job is another's by now, it is not for this process to act
        self._after(part, failure)

    def _record(self, part: Part, batch: Batch) -> None:
        try:
            record_batch(self.job, part, batch)
        except LostOwnershipError:
            hand_over_or_cancel(self.job, part, batch, self.api)
            raise
        log.info("Submitted batch %s with %s requests", batch.id, part.request_count)

    def _look_for_the_newest(self) -> datetime.datetime | None:
        try:
            newest = self.api.newest()
        except Exception as error:  # noqa: BLE001  # some gateways have no list; the search begins earlier then
            log.info("Could not look at the list of batches before submitting: %s", describe_error(error))
            return None
        return newest.created_at if newest else None

    def _after(self, part: Part, failure: Failure) -> None:
        """What follows from a failed create."""
        match failure.kind:
            case Kind.UNCERTAIN:
                log.warning("Not known whether a batch was created: %s", failure.reason)
                self._lost_answers.settle(part)
            case Kind.TOO_LARGE:
                forget_intent(self.job, part)
                self._split(part, failure)
            case Kind.FINAL:
                forget_intent(self.job, part)
                if not self._give_up(part, failure):
                    raise failure.error(explain(self.job, failure.reason))
            case Kind.RETRY:
                forget_intent(self.job, part)
                log.info("Not created: %s", failure.reason)
                at = seconds_from_now(failure.wait_seconds * random.uniform(1, 1.2))
                raise NotYetError(Later(at=at, reason=failure.reason, unreachable=failure.unreachable))
            case _:
                assert_never(failure.kind)

    def _split(self, part: Part, failure: Failure) -> None:
        """Replace a part by two halves; they are submitted with the next round of parts."""
        if part.request_count == 1:
            raise RejectedError(
                explain(
                    self.job, f"one request of {part.bytes} bytes is too large for the API: {failure.reason}"
                )
            )
        log.warning("%s bytes are too many for the API (%s); splitting the part", part.bytes, failure.reason)
        with self.job.change() as ledger:
            ledger.parts += bisect_part(self.job.folder, part, first_file=len(ledger.parts))
            part.split = True

    def _give_up(self, part: Part, failure: Failure) -> bool:
        """Leave a part of a later round unsent; its requests are delivered with the failure they had before.

        Only while the job is being delivered: a delivery must be complete, even if the credit is used up.
        """
        ledger = self.job.ledger
        delivering = ledger.delivery_generation >= ledger.generation
        if not part.round or not delivering or failure.error is AccessError:
            return False
        log.error("Round %s cannot be sent: %s", part.round, failure.reason)
        with self.job.change():
            part.given_up = failure.reason
        return True

    @cached_property
    def _lost_answers(self) -> LostAnswers:
        return LostAnswers(job=self.job, api=self.api, policy=self.policy)

    # The processing queue

    def _check_queue_limit(self) -> None:
        limit = self.policy.max_requests_in_queue
        largest = max((part.request_count for part in self.job.ledger.batch_parts), default=0)
        if limit is not None and largest > limit:
            raise ConfigurationError(
                f"The limit of requests in the queue is {limit}, and one batch has {largest}: it could never "
                "be submitted. Nothing was sent. Raise the limit (in_queue) or make batches smaller."
            )

    def _wait_for_room(self, part: Part) -> None:
        limit = self.policy.max_requests_in_queue
        if limit is None:
            return
        import anthropic

        day_ago = self.api.now() - datetime.timedelta(hours=25)
        try:
            queued = sum(batch.request_counts.processing for batch in self.api.list_since(day_ago))
        except anthropic.APIError as error:
            raise cannot_ask(self.job, self.api, error) from error
        if queued + part.request_count > limit:
            reason = f"{queued} requests are in processing; the limit of requests in the queue is {limit}"
            raise NotYetError(Later(at=seconds_from_now(QUEUE_SECONDS), reason=reason))


def _not_yet(future: Future[None]) -> NotYetError | None:
    """Why a part could not go on; any other failure is raised."""
    error = future.exception()
    if error is None or isinstance(error, NotYetError):
        return error
    raise error
