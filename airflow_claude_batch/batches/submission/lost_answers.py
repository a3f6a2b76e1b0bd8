"""Finding out what became of a POST whose answer was lost, before anything is sent again.

`reconcile` says what the API shows now; here is what follows from it: adopt the part's batch, wait, send the
part again, or ask a person.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import (
    AmbiguousSubmissionError,
    IncompleteResultsError,
    RejectedError,
)
from airflow_claude_batch.batches.job import lease as leases
from airflow_claude_batch.batches.job.job import Job, Later
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.submission import reconcile
from airflow_claude_batch.batches.submission.create_errors import classify
from airflow_claude_batch.batches.submission.policy import NotYetError, Policy, explain, seconds_from_now
from airflow_claude_batch.batches.submission.record import forget_intent, record_batch

log = logging.getLogger(__name__)

LONGEST_LOOK_SECONDS = 15.0
"""Between two looks at what the API shows."""


@dataclass(kw_only=True)
class LostAnswers:
    """The POSTs of a job whose answers were lost, in this process or in one before it."""

    job: Job
    api: BatchesApi
    policy: Policy
    _ended: dict[str, float] = field(default_factory=dict)
    """When POSTs of this process ended without an answer, by the part's file."""

    def note(self, part: Part) -> None:
        """A POST of this process has just ended without the batch's id."""
        self._ended[part.requests] = time.monotonic()

    def settle(self, part: Part) -> None:
        """Find out what became of a part's POST; afterwards the part is submitted, or to be sent.

        Raises:
            NotYetError: While it is too early to say.
            AmbiguousSubmissionError: Where nothing can tell any more.
        """
        import anthropic
        import httpx2

        try:
            finding = reconcile.find_batch(self.job, part, self.api)
        except (anthropic.APIError, httpx2.TransportError, IncompleteResultsError) as error:
            raise cannot_ask(self.job, self.api, error) from error
        if finding.foreign:
            log.info("Not this job's: %s", ", ".join(finding.foreign))
            with self.job.change():
                part.foreign = [*part.foreign, *finding.foreign]
        if finding.batch is not None:
            batch, count = finding.batch, part.request_count
            log.warning(
                "Adopting batch %s (%s requests, created %s), whose answer was lost",
                batch.id,
                count,
                batch.created_at,
            )
            record_batch(self.job, part, batch, adopted=True)
            return
        self._wait_while_it_may_appear(part)
        self._wait_for_candidates(part, finding)
        log.info("No batch was created by the interrupted POST of %s; sending it", part.intent_at)
        forget_intent(self.job, part)

    def _wait_while_it_may_appear(self, part: Part) -> None:
        """Nothing is concluded before the grace is over, counted from the POST's last sign of life."""
        home, lease = self.job.folder.parent, part.intent_lease
        if lease == self.job.lease.number:
            quiet: float | None = time.monotonic() - self._ended[part.requests]
        elif leases.alive(home, lease):
            reason = "another worker may still be sending this part"
            raise NotYetError(Later(at=seconds_from_now(leases.RENEW_SECONDS), reason=reason), alone=True)
        else:
            quiet = leases.silence(home, lease)
        left = 0.0 if quiet is None else self.policy.grace_seconds - quiet
        if left > 0:
            at = seconds_from_now(min(left, self._look_seconds))
            reason = "looking once more for a batch whose answer was lost"
            raise NotYetError(Later(at=at, reason=reason), alone=True)

    def _wait_for_candidates(self, part: Part, finding: reconcile.Finding) -> None:
        """Go on when no batch is left that may turn out to be the part's."""
        may_be = [batch.id for batch in (*finding.candidates, *finding.unreadable)]
        if not may_be:
            return
        ids = ", ".join(may_be)
        nobody_can_tell = not finding.candidates and not finding.rivals
        if self.policy.on_ambiguous == "fail" or nobody_can_tell:
            url, number = self.job.folder.url, self.job.number_of(part)
            raise AmbiguousSubmissionError(
                explain(
                    self.job,
                    f"The answer to a create was lost, and each of these batches could be it: {ids}. Nothing "
                    "more was sent. Look at them in the Claude Console; then say which it is with "
                    f"`claude-batch adopt BATCH_ID --job {url} --part {number}`, or that it is none of them "
                    f"with `claude-batch adopt --none --job {url} --part {number}`, and clear the task",
                )
            )
        reason = f"waiting until {ids} have ended, to see whether one of them is this job's"
        waits_for = finding.candidates[0].id if finding.candidates else None
        at = seconds_from_now(self._look_seconds)
        raise NotYetError(Later(at=at, reason=reason, batch_id=waits_for, certain=False), alone=True)

    @property
    def _look_seconds(self) -> float:
        return min(max(self.policy.grace_seconds / 4, 0.2), LONGEST_LOOK_SECONDS)


def cannot_ask(job: Job, api: BatchesApi, error: Exception) -> NotYetError:
    """The API could not be asked; until it can be, nothing is sent.

    Raises:
        Final: Where asking again would not help.
    """
    failure = classify(error, api.conn_id)
    if failure.error is not RejectedError:
        raise failure.error(explain(job, failure.reason)) from error
    reason = f"the API cannot be asked about its batches: {failure.reason}"
    return NotYetError(Later(at=seconds_from_now(failure.wait_seconds), reason=reason))
