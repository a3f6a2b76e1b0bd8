"""Delivering results, as a task does it: wait, fetch, send again what is worth it, write, judge.

`ResultsStep.run` returns the summary, or says what the task has to wait for.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.job import authority, lease
from airflow_claude_batch.batches.job.identity import root_relative
from airflow_claude_batch.batches.job.job import Job, open_job, read_ledger
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.citations import check_quotes
from airflow_claude_batch.batches.results.delivery import Delivery
from airflow_claude_batch.batches.results.late import go_on_without_batches
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.output.inline import Inline
from airflow_claude_batch.batches.results.output.writers import Output
from airflow_claude_batch.batches.results.resubmission import spool_next
from airflow_claude_batch.batches.results.summarise import judge
from airflow_claude_batch.batches.submission.policy import Policy
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.common.handle import Handle
from airflow_claude_batch.common.scalars import check_form, scalars
from airflow_claude_batch.common.settings import (
    deliver_every_seconds,
    max_inline_bytes,
    price_factor,
    reconcile_grace_seconds,
    share_jobs_between_dags,
    storage_root,
)
from airflow_claude_batch.common.steps import ComeBack, Done, Step, WaitFor
from airflow_claude_batch.common.xcoms import HANDLE_KEY
from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
from airflow_claude_batch.runtime.budgets import Budgets, declared_budget
from airflow_claude_batch.runtime.output_place import output_folder
from airflow_claude_batch.runtime.reporting import report, tell
from airflow_claude_batch.runtime.reuse import job_answers
from airflow_claude_batch.runtime.spending import JobSpending, prices_of, settle_replaced
from airflow_claude_batch.runtime.task import generation_of
from airflow_claude_batch.runtime.trying import without_asset_events
from airflow_claude_batch.runtime.waiting import (
    begin_wait,
    direct_calls,
    look,
    push_progress,
    tell_going_direct,
    wait_for_submission,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from airflow_claude_batch.batches.direct.answer import DirectCalls
    from airflow_claude_batch.batches.job.job import Later
    from airflow_claude_batch.batches.reuse.job_answers import JobAnswers
    from airflow_claude_batch.batches.waiting.wait import Wait
    from airflow_claude_batch.options import AnswerPolicy, Resubmission

log = logging.getLogger(__name__)

OWNED_BY_ANOTHER_SECONDS = 15.0
CANCELLED_LOOK_SECONDS = 10.0
"""Between two looks at batches that were cancelled because the job is needed."""
IN_PLACE_SECONDS, IN_PLACE_LOOK_SECONDS = 20.0, 1.0
"""For so long that is done in the worker, and so often."""


@dataclass(frozen=True, kw_only=True)
class ResultsInput:
    """What a results step was given, rendered; see ``ResultsArguments`` for the fields."""

    batch: Handle
    output_path: str | None
    output_format: Literal["jsonl", "parquet", "raw"]
    compression: Literal["gzip", "zstd"] | None
    resubmission: Resubmission
    answer_policy: AnswerPolicy
    output_schema: Any
    check: Callable[[dict[str, Any]], str | None] | None
    conn_id: str
    storage_path: str | None
    overwrite: bool
    poll_interval: float | None
    cancel_on_kill: bool | None
    """While waiting: cancel the batches when a person ends the task; None for those of a job."""
    folder_per_map_index: bool
    """Whether the instances of a mapped task share ``output_path``."""
    outlets: list[Any]
    """The task's assets."""
    retries: int
    """Of the task, which tells a retry from a clear."""

    @classmethod
    def of(cls, operator: Any, *, batch: Any, cancel_on_kill: bool | None = None) -> ResultsInput:
        """What an operator was given.

        Args:
            operator: One whose template fields are rendered.
            batch: A handle, a batch id, or a list of ids.
            cancel_on_kill: See the field.
        """
        given = scalars(operator, [one.name for one in fields(cls)])
        check_form(given)
        given |= {
            "batch": Handle.parse(batch),
            "cancel_on_kill": cancel_on_kill,
            "output_format": given["output_format"] or "jsonl",
            "overwrite": bool(given["overwrite"]),
            "outlets": list(operator.outlets or ()),
            "retries": operator.retries or 0,
        }
        return cls(**given)


class ResultsStep:
    """One attempt at delivering.

    Args:
        given: What the task was given.
        context: Airflow's, of this try.
    """

    def __init__(self, given: ResultsInput, context: Context) -> None:
        self._given = given
        self._context = context
        self._hook = ClaudeBatchHook(given.conn_id)
        self._api = self._hook.batches
        self._own = False
        self._direct: DirectCalls | None = None
        self._stopping = False

    def stop(self) -> None:
        """Make no more single calls: the task was killed."""
        self._stopping = True
        if self._direct is not None:
            self._direct.stop()

    def run(self) -> Step:
        """Deliver what has ended, and judge when all is delivered.

        Raises:
            TooManyFailuresError: When the task is to fail; the output is complete then.
        """
        given = self._given
        step = self._deliver_batches() if given.batch.job is None else self._deliver_job(given.batch.job)
        if isinstance(step, Done):
            tell(step.value)
            outlets, trial = given.outlets, step.value["trial"]
            if trial is not None and not trial["asset_events"]:
                without_asset_events(self._context)
                outlets = []
            report(step.value, self._context, conn_id=given.conn_id, outlets=outlets)
            judge(step.value, float(given.answer_policy.max_failed_fraction))
        return step

    def _deliver_batches(self) -> Step:
        handle = self._given.batch
        self._check_claims(handle.batch_ids)
        delivery = self._delivery(self._schema(None))
        return self._wait_for(handle) or Done(value=delivery.deliver_batches(handle.batch_ids))

    def _deliver_job(self, url: str) -> Step:
        root = storage_root(self._given.storage_path)
        folder = root_relative(root, url)
        ledger, dag_id = read_ledger(folder), self._context["ti"].dag_id
        authority.check_job(root, folder, ledger, dag_id, shared=share_jobs_between_dags())
        self._own = authority.is_of(root, folder.url, ledger.dag_id, dag_id)
        delivery = self._delivery(self._schema(ledger.output_schema), job_answers(ledger, root))
        if lease.alive(folder.parent, lease.newest(folder.parent)):
            # Both would only stop each other.
            log.info("Another worker is at work on %s; coming back when it is done", folder.url)
            return ComeBack(at=datetime.now(UTC) + timedelta(seconds=OWNED_BY_ANOTHER_SECONDS))
        with open_job(root, url) as job:
            delivery.begin(job, generation_of(self._context["ti"], self._given.retries))
            if not delivery.pending(job):  # a round is spooled when all of the last one is delivered
                spool_next(job)
            while delivery.pending(job):
                if waiting := (self._be_on_time(job) or self._submit_rest(job) or self._answer_directly(job)):
                    return waiting
                if waiting := self._deliver_what_has_ended(delivery, job):
                    return waiting
                spool_next(job)
            summary = delivery.finish(job)
            self._spending(job).settle()
        if not folder.url.endswith("/job-1"):  # the first has replaced none
            settle_replaced(folder, root, self._hook)
        return Done(value=summary)

    def _check_claims(self, batch_ids: list[str]) -> None:
        """Another DAG's answers are no more to be had by their batch ids than by their job."""
        try:
            root = storage_root(self._given.storage_path)
        except ConfigurationError:  # not set: there are no jobs whose batches these could be
            return
        shared = share_jobs_between_dags()
        authority.check_batches(root, batch_ids, self._context["ti"].dag_id, shared=shared)

    def _submit_rest(self, job: Job) -> Step | None:
        """Submit the parts of a new round, or what was left; says when the API asks for patience."""
        if waiting := self._come_back(job, self._spending(job).reserve_rest()):
            return waiting
        policy = Policy(grace_seconds=reconcile_grace_seconds())
        return self._come_back(job, Submission(job=job, api=self._api, policy=policy).run())

    def _be_on_time(self, job: Job) -> Step | None:
        """When the job is needed: cancel what has not ended, and go on without it."""
        afford = self._spending(job).reserve_direct
        later = go_on_without_batches(job, self._api, datetime.now(UTC), afford)
        if job.ledger.open_parts and job.ledger.without_batches == "direct":
            tell_going_direct(self._context, job)
        return self._come_back(job, later)

    def _spending(self, job: Job) -> JobSpending:
        budgets = Budgets.booked(job.ledger, declared_budget(self._context, job.ledger))
        return JobSpending(job=job, api=self._api, budgets=budgets, prices=prices_of(self._hook))

    def _answer_directly(self, job: Job) -> Step | None:
        late = job.ledger.without_batches == "direct"
        tell = partial(tell_going_direct, self._context, job) if late else None
        self._direct = direct_calls(job, self._hook, tell)
        return self._come_back(job, self._direct.run())

    def _come_back(self, job: Job, later: Later | None) -> Step | None:
        """Give the worker slot back where the job cannot go on now."""
        if later is None:
            return None
        log.info("%s; going on at %s, no worker slot held until then", later.reason, later.at)
        return wait_for_submission(
            later,
            job,
            self._context["ti"].dag_id,
            cancel_on_kill=self._cancel_on_kill,
            poll_interval=self._given.poll_interval,
        )

    def _deliver_what_has_ended(self, delivery: Delivery, job: Job) -> Step | None:
        """Deliver the parts that are answered; says what the others wait for, where there are such."""
        batch_ids = [part.batch_id for _, part in delivery.pending(job) if part.batch_id]
        wait = self._look(batch_ids, job) if batch_ids else None
        open_ids = wait.open_ids if wait is not None else []
        every = deliver_every_seconds() if delivery.output.keeps_parts else 0.0
        if every or not open_ids:
            delivery.deliver_ended(job, leave=open_ids)
        if not open_ids:
            return None
        self._context["ti"].xcom_push(key=HANDLE_KEY, value=job.ledger.handle)
        rest = Handle(batch_ids=open_ids if every else batch_ids, job=self._given.batch.job)
        cancelled = any(part.late for part in job.ledger.open_parts)
        return self._pause(
            begin_wait(
                rest,
                poll_interval=CANCELLED_LOOK_SECONDS if cancelled else self._given.poll_interval,
                due_at=job.ledger.due_at,
                some_after=every,
            ),
            wait,
        )

    def _look(self, batch_ids: list[str], job: Job) -> Wait:
        """Look which of a job's batches have ended; cancelled ones usually do so in seconds."""
        wait = begin_wait(Handle(batch_ids=batch_ids, job=self._given.batch.job), poll_interval=None)
        cancelled = any(part.late for part in job.ledger.open_parts)
        until = time.monotonic() + (IN_PLACE_SECONDS if cancelled else 0.0)
        while not look(wait, self._api, log) and time.monotonic() < until and not self._stopping:
            time.sleep(IN_PLACE_LOOK_SECONDS)
        return wait

    def _wait_for(self, handle: Handle) -> Step | None:
        """What to wait for; None when the batches have ended."""
        wait = begin_wait(handle, poll_interval=self._given.poll_interval)
        if look(wait, self._api, log):
            return None
        return self._pause(wait, wait)

    def _pause(self, wait: Wait, seen: Wait | None) -> Step:
        """Wait without a worker slot, and say how far it has come."""
        if seen is not None:
            push_progress(self._context, seen.progress)
            wait.batches |= {key: batch for key, batch in seen.batches.items() if key in wait.batch_ids}
        return WaitFor(wait=wait, cancel_on_kill=self._cancel_on_kill)

    @property
    def _cancel_on_kill(self) -> bool:
        """Whether a person who ends the task ends its batches: only those of its own DAG's job."""
        return self._own and self._given.cancel_on_kill is not False

    def _schema(self, recorded: dict[str, Any] | None) -> OutputSchema | None:
        wanted = self._given.output_schema if self._given.output_schema is not None else recorded
        return None if wanted is None else OutputSchema.of(wanted)

    def _delivery(self, schema: OutputSchema | None, reuse: JobAnswers | None = None) -> Delivery:
        given = self._given
        quotes = tuple(given.answer_policy.quotes)
        if schema is not None:
            check_quotes(quotes, schema.json_schema)
        elif quotes:
            log.warning(
                "AnswerPolicy(quotes=…) names fields of the output, and there is no output_schema: only "
                "answers that call a tool have an output then"
            )
        reading = Reading(
            count_as_failed=tuple(given.answer_policy.count_as_failed),
            output_schema=schema,
            resubmit_invalid=bool(given.resubmission.invalid),
            include_message=bool(given.answer_policy.include_message),
            quotes=quotes,
            user_check=given.check,
        )
        return Delivery(
            api=self._api,
            output=self._output(schema, reused=reuse is not None),
            reading=reading,
            resubmit_rounds=int(given.resubmission.rounds),
            price_factor=price_factor(self._hook.connection_price_factor),
            reuse=reuse,
        )

    def _output(self, schema: OutputSchema | None, *, reused: bool) -> Output:
        given = self._given
        if not given.output_path:
            return Inline(max_inline_bytes())
        return open_directory(
            output_folder(given.output_path, self._context, of_map_index=given.folder_per_map_index),
            format=given.output_format,
            compression=given.compression,
            output_schema=schema.json_schema if schema else None,
            include_message=bool(given.answer_policy.include_message),
            include_reused=reused,
            overwrite=bool(given.overwrite),
        )
