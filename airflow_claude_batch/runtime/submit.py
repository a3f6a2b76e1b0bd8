"""Submitting, as a task does it: the operator's arguments become the engine's input, and the engine runs.

`SubmitStep.run` returns the job's handle, or says what the task has to wait for.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException

from airflow_claude_batch.batches.accounts.reservation import release
from airflow_claude_batch.batches.errors import (
    EmptyInputError,
    NotReachedYetError,
    UnreachableError,
)
from airflow_claude_batch.batches.job.answers import has_sent
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.job import Job, Later, start_job
from airflow_claude_batch.batches.results.late import go_on_without_batches
from airflow_claude_batch.batches.results.resubmission import resubmit_cancelled
from airflow_claude_batch.batches.submission.policy import Policy
from airflow_claude_batch.batches.submission.preflight import Models, probe
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.batches.submission.supersede import supersede
from airflow_claude_batch.common.map_index import names_given, names_to_come
from airflow_claude_batch.common.settings import (
    allow_unsafe_storage,
    probe_above_usd,
    reconcile_grace_seconds,
    storage_root,
    unreachable_seconds,
)
from airflow_claude_batch.common.steps import ComeBack, Done, Step
from airflow_claude_batch.common.xcoms import UNREACHABLE, xcom_place
from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
from airflow_claude_batch.runtime.budgets import Budgets
from airflow_claude_batch.runtime.earlier_jobs import paid_before
from airflow_claude_batch.runtime.on_time import check_direct, note_deadline
from airflow_claude_batch.runtime.prepare import (
    answer_by_batches,
    answer_directly_if_small,
    has_batches,
    prepare_for_results,
    share,
)
from airflow_claude_batch.runtime.reporting import announce
from airflow_claude_batch.runtime.reuse import look_up
from airflow_claude_batch.runtime.spending import JobSpending, prices_of
from airflow_claude_batch.runtime.submit_input import SubmitInput, build_input
from airflow_claude_batch.runtime.task import generation_of
from airflow_claude_batch.runtime.trying import (
    conf_of,
    is_dry_run,
    is_forced_new,
    plan,
    trial_of,
    without_asset_events,
)
from airflow_claude_batch.runtime.waiting import direct_calls, wait_for_submission

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.direct.answer import DirectCalls
    from airflow_claude_batch.options import Budget

log = logging.getLogger(__name__)

UNREACHABLE_LOOK_SECONDS = 30.0
"""Between two tries to reach the API."""


class SubmitStep:
    """One attempt at submitting.

    Args:
        given: What the task was given.
        context: Airflow's, of this try.
        when_stored: Called with the context when the input is stored.
        before_sending: Called when the input is stored, nothing of it was sent, and something is to be.
    """

    def __init__(
        self,
        given: SubmitInput,
        context: Context,
        *,
        when_stored: Callable[[Context], None] | None = None,
        before_sending: Callable[[], None] | None = None,
    ) -> None:
        self._given = given
        self._context = context
        self._when_stored, self._before_sending = when_stored, before_sending
        self._names = names_to_come(context)
        self._hook = ClaudeBatchHook(given.conn_id)
        self._submission: Submission | None = None
        self._direct: DirectCalls | None = None
        self._paid_before: dict[str, Any] | None = None

    def run(self) -> Step:
        """Store the input, if that is not done yet, and send what is not sent yet.

        Raises:
            AirflowSkipException: Where there are no records, and that means to skip the task.
        """
        try:
            return self._run()
        except EmptyInputError as error:
            if self._given.on_empty != "skip":
                raise
            raise AirflowSkipException(f"There are no records, and on_empty is 'skip': {error}") from None
        except BaseException:
            self._submission = None  # what it has sent is the next try's; a kill from now on is no reason
            raise

    def _run(self) -> Step:
        ti = self._context["ti"]
        conf = conf_of(self._context)
        self._given = given = replace(self._given, trial=trial_of(self._given.trial, conf))
        check_direct(
            given.betas,
            direct_below=given.direct_below or 0,
            trial=given.trial.records is not None and bool(given.trial.direct),
            deadline=given.deadline,
            then=given.on_deadline,
        )
        dry = is_dry_run(given.dry_run, conf)
        if not dry:
            self._announce()
        try:
            return self._start(ti, conf, dry=dry)
        except NotReachedYetError as error:
            at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=UNREACHABLE_LOOK_SECONDS)
            reason = str(error)
        # Outside the except block, so that a pause is no exception's context.
        self._note_unreachable(reason)
        log.warning("%s; going on at %s, no worker slot held until then", reason, at)
        return ComeBack(at=at)

    def _start(self, ti: Any, conf: Mapping[str, Any], *, dry: bool) -> Step:
        given, root = self._given, storage_root(self._given.storage_path)
        models = Models(api=self._hook.batches, betas=given.betas)
        force_new = is_forced_new(given.recovery.force_new, conf)
        source = build_input(given, self._context, self._hook, models)
        if given.reuse is not None:
            source = replace(source, reuse=look_up(given, root, ti, ask_all=force_new))
        with start_job(
            root,
            Identity(**xcom_place(ti)),
            source,
            generation=generation_of(ti, given.retries),
            conn_id=given.conn_id,
            allow_unsafe_storage=allow_unsafe_storage(),
            force_new=force_new,
        ) as (job, replaced):
            self._paid_before = paid_before(job.folder)
            only_stored = dry and not has_sent(job.folder, job.ledger)  # what was sent before is to be seen
            if not only_stored:
                self._announce(ledger=job.ledger)
            self._keep_names(job)
            if self._when_stored is not None:
                self._when_stored(self._context)
            share(job, list(given.recovery.shared_with))
            self._note_deadline(job)
            trial = job.ledger.trial is not None and bool(given.trial.direct)
            answer_directly_if_small(job, given.direct_below or 0, trial=trial)
            if not dry:
                if self._before_sending is not None and not has_sent(job.folder, job.ledger):
                    self._before_sending()
                budgets = prepare_for_results(given, self._context, job, self._hook)
                return self._spend(job, replaced, budgets)
            warnings: list[str] = []
            budgets = prepare_for_results(given, self._context, job, self._hook, warnings)
            warnings += self._spending(job, budgets).objections()
            without_asset_events(self._context)
            if only_stored:
                with job.change() as ledger:
                    ledger.dry_run = True
            return Done(value=plan(job, models, warnings))

    def cancel_created(self) -> None:
        """Cancel what this attempt has submitted, so that nobody pays for what nobody wants."""
        if self._direct is not None:
            self._direct.stop()
        if self._given.recovery.cancel_on_kill and self._submission is not None:
            self._submission.cancel_created()

    def _spending(self, job: Job, budgets: Budgets) -> JobSpending:
        return JobSpending(job=job, api=self._hook.batches, budgets=budgets, prices=prices_of(self._hook))

    def _spend(self, job: Job, replaced: list[Job], budgets: Budgets) -> Step:
        """Send the job, once the book has its estimate and the budgets let it pass."""
        if job.ledger.dry_run:
            with job.change() as ledger:
                ledger.dry_run = False
        for old in replaced:
            release(old)
        spending = self._spending(job, budgets)
        if job.ledger.request_count and (later := spending.reserve()) is not None:
            return self._wait_for_budget(later, job)
        with spending.released_unless_sent():
            return self._send(job, replaced, spending)

    def _wait_for_budget(self, later: Later, job: Job) -> Step:
        """Come back when a budget may have room; a job that is needed before that is delivered without."""
        answer_by_batches(job)  # only they have a deadline; the next try chooses again
        now = datetime.datetime.now(datetime.UTC)
        go_on_without_batches(job, self._hook.batches, now, lambda parts: later.reason)
        if job.ledger.without_batches is None:
            return self._pause(later, job)
        return Done(value=job.ledger.handle)

    def _send(self, job: Job, replaced: list[Job], spending: JobSpending) -> Step:
        given, api = self._given, self._hook.batches
        for old in replaced:
            supersede(old, job.folder.url, api, cancel=given.recovery.on_changed_requests == "cancel")
        if job.ledger.request_count and _wants_probe(given.budget, job.ledger.estimate):
            probe(job, api, prices_of(self._hook))
        self._submission = Submission(job=job, api=api, policy=_policy(given))
        self._direct = direct_calls(job, self._hook)
        now = datetime.datetime.now(datetime.UTC)
        try:
            later = (
                resubmit_cancelled(job, api, self._context["ti"].try_number)
                or go_on_without_batches(job, api, now, spending.reserve_direct)
                or spending.reserve_rest()
                or self._submission.run()
                or self._answer_directly(job)
            )
        finally:
            self._announce(ledger=job.ledger)
        if later is not None and later.unreachable and not has_batches(job):
            self._note_unreachable(later.reason)
        else:
            self._reached()
        if later is not None:
            return self._pause(later, job)
        _say_what_is_sent(job, self._submission.created)
        return Done(value=job.ledger.handle)

    def _answer_directly(self, job: Job) -> Later | None:
        """Answer a small job here; what is late is the results step's, which cancels and waits first."""
        assert self._direct is not None
        return self._direct.run() if job.ledger.without_batches is None else None

    def _keep_names(self, job: Job) -> None:
        """Remember what the function has set for ``map_index_template``, or put it back."""
        given = names_given(self._context, self._names)
        if given.items() - job.ledger.map_index_names.items():
            with job.change() as ledger:
                ledger.map_index_names |= given
        self._context.update(job.ledger.map_index_names | given)  # type: ignore[typeddict-item]

    def _note_deadline(self, job: Job) -> None:
        given = self._given
        note_deadline(
            job,
            self._context,
            deadline=given.deadline,
            then=given.on_deadline,
            minutes=given.direct_minutes,
            budget=given.budget,
        )

    def _note_unreachable(self, reason: str) -> None:
        """Remember since when the API has not been reached.

        Raises:
            UnreachableError: When that has been so for too long.
        """
        ti, now, limit = self._context["ti"], datetime.datetime.now(datetime.UTC), unreachable_seconds()
        since = ti.xcom_pull(task_ids=ti.task_id, key=UNREACHABLE, map_indexes=ti.map_index)
        if since is None:
            ti.xcom_push(key=UNREACHABLE, value=now.isoformat())
        elif (now - datetime.datetime.fromisoformat(since)).total_seconds() >= limit:
            raise UnreachableError(
                f"Given up after {limit:.0f} s ([claude_batch] unreachable_seconds): {reason} A retry begins "
                "anew; nothing was sent."
            )

    def _reached(self) -> None:
        ti = self._context["ti"]
        if ti.xcom_pull(task_ids=ti.task_id, key=UNREACHABLE, map_indexes=ti.map_index) is not None:
            ti.xcom_push(key=UNREACHABLE, value=None)

    def _pause(self, later: Later, job: Job) -> Step:
        log.info("%s; going on at %s, no worker slot held until then", later.reason, later.at)
        self._announce(ledger=job.ledger, pause={"reason": later.reason, "until": later.at.isoformat()})
        cancel = bool(self._given.recovery.cancel_on_kill)
        return wait_for_submission(later, job, self._context["ti"].dag_id, cancel_on_kill=cancel)

    def _announce(self, **progress: Any) -> None:
        model = self._given.model or self._hook.connection_model
        progress["paid_before"] = self._paid_before
        announce(self._context, conn_id=self._given.conn_id, model=model, **progress)


def _say_what_is_sent(job: Job, created: list[str]) -> None:
    """What this try has sent and what was sent, and paid, before: a resume or a clear sends nothing again."""
    before = [batch_id for batch_id in job.ledger.batch_ids if batch_id not in created]
    for batch_ids, said in (
        (created, "Sent %s requests in %s batches: %s"),
        (before, "Sent before: %s requests in %s batches: %s"),
    ):
        requests = sum(part.request_count for part in job.ledger.live_parts if part.batch_id in batch_ids)
        if batch_ids:
            log.info(said, requests, len(batch_ids), ", ".join(batch_ids))


def _wants_probe(budget: Budget, estimate: Mapping[str, Any]) -> bool:
    if budget.probe is not None:
        return bool(budget.probe)
    return (estimate.get("total_usd") or 0.0) > probe_above_usd()


def _policy(given: SubmitInput) -> Policy:
    in_queue = given.limits.in_queue
    return Policy(
        on_ambiguous="fail" if given.recovery.on_ambiguous == "fail" else "wait",
        max_requests_in_queue=None if in_queue is None else int(in_queue),
        grace_seconds=reconcile_grace_seconds(),
    )
