"""What all operators do when a step cannot go on: free the worker slot, and come back."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.common.final_errors import no_retry_when_final
from airflow_claude_batch.common.steps import ComeBack, Done

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context

    from airflow_claude_batch.common.steps import Step


def finish(operator: BaseOperator, conn_id: str, step: Step, context: Context) -> Any:
    """The value of a step that is done; any other defers the task, which starts again from the top then.

    No deferral goes beyond the try's deadline.
    """
    if isinstance(step, Done):
        return step.value
    from airflow_claude_batch.runtime.deadline import deadline_of

    deadline = deadline_of(operator, context)
    # Not at the top: Airflow's trigger classes take 0.02 s to load, and few tasks of a DAG file defer.
    from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger
    from airflow_claude_batch.triggers.pause import PauseTrigger

    if isinstance(step, ComeBack):
        at = step.at if deadline is None else min(step.at, deadline.at)
        seconds = max((at - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)
        operator.defer(trigger=PauseTrigger(seconds, conn_id, step.unwanted), method_name="execute_complete")
    if deadline is not None:
        step.wait.timeout_at = min(filter(None, (step.wait.timeout_at, deadline.at)))
    trigger = ClaudeBatchTrigger.of(
        step.wait,
        conn_id,
        cancel_on_kill=step.cancel_on_kill,
        unproved=step.unproved,
        also_unwanted=step.also_unwanted,
    )
    operator.defer(trigger=trigger, method_name="execute_complete")
    raise AssertionError("defer() does not return")


def require_end(operator: BaseOperator, context: Context, event: dict[str, Any]) -> None:
    """Raise what a wait's event means, unless the task is to go on; a pause has nothing to say.

    Raises:
        WaitTimeoutError: When the try's deadline has passed.
        WaitError: When the wait has come to nothing; not retried where that would only come again.
    """
    from airflow_claude_batch.runtime.deadline import fail_if_over
    from airflow_claude_batch.runtime.waiting import raise_unless_ended

    fail_if_over(operator, context, event)
    if "batch_ids" in event:
        with no_retry_when_final():
            raise_unless_ended(event.get("status"), event.get("message", ""))
