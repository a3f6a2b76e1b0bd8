"""The user's own end of a task: ``timeout`` and ``execution_timeout``, over all deferrals of a try.

Airflow enforces ``execution_timeout`` only while a process of the task runs, and begins anew after each
deferral (up to 3.3). So a try notes in an XCom when it began, each deferral ends in time, and who comes back
too late fails here.
"""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.errors import WaitTimeoutError
from airflow_claude_batch.common.handle import Handle
from airflow_claude_batch.common.scalars import scalar
from airflow_claude_batch.common.xcoms import STARTED_AT
from airflow_claude_batch.runtime.sensor import give_up, unproved

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Deadline:
    """When a try is over."""

    name: str
    """The argument that says so."""
    after: datetime.timedelta
    at: datetime.datetime

    @property
    def passed(self) -> bool:
        """Whether it is over."""
        return datetime.datetime.now(datetime.UTC) >= self.at


def deadline_of(operator: Any, context: Context) -> Deadline | None:
    """The deadline of the try that runs; None where the user has set none."""
    limits = {"execution_timeout": operator.execution_timeout}
    if hasattr(operator, "on_timeout") and not hasattr(operator, "poke_interval"):
        limits["timeout"] = operator.timeout  # a sensor's is its wait's
    spans = {name: scalar("timeout", limit) for name, limit in limits.items()}
    given = {name: datetime.timedelta(seconds=span) for name, span in spans.items() if span is not None}
    if not given:
        return None
    ti = context["ti"]
    noted = ti.xcom_pull(task_ids=ti.task_id, key=STARTED_AT, map_indexes=ti.map_index)
    if noted is None:
        noted = datetime.datetime.now(datetime.UTC).isoformat()
        ti.xcom_push(key=STARTED_AT, value=noted)
    name = min(given, key=lambda name: given[name])
    return Deadline(name=name, after=given[name], at=datetime.datetime.fromisoformat(noted) + given[name])


def fail_if_over(operator: Any, context: Context, event: dict[str, Any]) -> None:
    """After a deferral: end a try that is over, and do with its batches what ``on_timeout`` says.

    Args:
        operator: Of the task.
        context: Airflow's.
        event: The trigger's.

    Raises:
        WaitTimeoutError: When the deadline has passed before the batches have ended.
    """
    deadline = deadline_of(operator, context)
    waited = "batch_ids" in event
    if deadline is None or event.get("status") == "ended" or not deadline.passed:
        return
    if waited and event.get("status") != "timeout":
        return  # the wait has its own reason to end

    open_ids = event.get("open_batch_ids", []) if waited else event.get("unwanted", [])
    cancel = getattr(operator, "on_timeout", "leave") == "cancel"
    left_alone: list[str] = []
    if cancel and waited:
        given_by_id = (
            getattr(operator, "batch", None) is not None and Handle.parse(operator.batch).job is None
        )
        dag_id = context["ti"].dag_id
        left_alone = unproved(open_ids, dag_id, operator.storage_path, given_by_id=given_by_id)
    done = ""
    if open_ids:
        done = give_up(operator.conn_id, open_ids, cancel=cancel, left_alone=left_alone) + " "
    raise WaitTimeoutError(
        f"{deadline.name} of {deadline.after} has passed, over all deferrals of this try. {done}"
        f"on_timeout is {'cancel' if cancel else 'leave'!r}; a retry goes on with what was submitted."
    )
