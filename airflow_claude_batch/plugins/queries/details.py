"""What belongs to certain jobs: XComs, task instances, what the DAG's code declares, a cancellation."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any, NamedTuple

from airflow.models.dagrun import DagRun
from airflow.models.serialized_dag import SerializedDagModel
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import Text, cast, func, or_, select, tuple_
from sqlalchemy.orm import Session

from airflow_claude_batch.common.xcoms import CANCELED, HANDLE_KEY, XCOM_KEY
from airflow_claude_batch.operators.arguments import DEFAULTS
from airflow_claude_batch.plugins.queries.rows import AnnouncedJob, JobValue, TaskKey, TaskState
from airflow_claude_batch.plugins.shapes import JOB_KEYS
from airflow_claude_batch.plugins.statements import run


def job_values(session: Session, jobs: Iterable[AnnouncedJob]) -> list[JobValue]:
    """What all tasks of these jobs' runs have said about jobs."""
    jobs = list(jobs)
    rows = run(
        session,
        select(
            XComModel.dag_id,
            XComModel.run_id,
            XComModel.task_id,
            XComModel.map_index,
            XComModel.key,
            cast(XComModel.value, Text),
            XComModel.timestamp,
        ).where(
            XComModel.dag_run_id.in_({job.dag_run_id for job in jobs}),
            XComModel.map_index.in_({job.key.map_index for job in jobs}),
            XComModel.key.in_(JOB_KEYS),
        ),
    )
    return [JobValue(TaskKey(*row[:4]), *row[4:]) for row in rows]


def task_states(session: Session, jobs: Iterable[AnnouncedJob], task_ids: Collection[str]) -> list[TaskState]:
    """Task instances of these jobs' runs that are of this package, or that have these task ids."""
    jobs = list(jobs)
    operator = func.coalesce(TaskInstance.custom_operator_name, TaskInstance.operator)
    rows = run(
        session,
        select(
            TaskInstance.dag_id,
            TaskInstance.run_id,
            TaskInstance.task_id,
            TaskInstance.map_index,
            TaskInstance.state,
            operator,
            TaskInstance.try_number,
            TaskInstance.start_date,
            TaskInstance.end_date,
        ).where(
            # SQLite finds pairs by an index only where it may look for each half.
            TaskInstance.dag_id.in_({job.key.dag_id for job in jobs}),
            TaskInstance.run_id.in_({job.key.run_id for job in jobs}),
            tuple_(TaskInstance.dag_id, TaskInstance.run_id).in_(
                {(job.key.dag_id, job.key.run_id) for job in jobs}
            ),
            TaskInstance.map_index.in_({job.key.map_index for job in jobs}),
            or_(
                TaskInstance.task_id.in_(task_ids),
                TaskInstance.operator.like("ClaudeBatch%"),
                TaskInstance.custom_operator_name.like("@task.claude_batch%"),
            ),
        ),
    )
    return [TaskState(TaskKey(*row[:4]), *row[4:]) for row in rows]


def named_elsewhere(session: Session, batch_ids: Iterable[str], dag_id: str) -> set[str]:
    """Which of these batches jobs of other DAGs have announced, or submitted in a later round."""
    rows = run(
        session,
        select(cast(XComModel.value, Text)).where(
            XComModel.key.in_((XCOM_KEY, HANDLE_KEY)), XComModel.dag_id != dag_id
        ),
    ).scalars()
    wanted = set(batch_ids)
    found: set[str] = set()
    for text in rows:
        found |= {batch_id for batch_id in wanted - found if f'"{batch_id}"' in text}
    return found


class Declared(NamedTuple):
    """What a DAG's code names."""

    conn_ids: set[str]
    storage_paths: set[str]
    output_paths: set[str]

    def storage_path_of(self, job: str) -> str | None:
        """The path of a task that keeps its jobs in a place of its own, if this job lies there."""
        return next(
            (path for path in self.storage_paths if job.startswith(f"{path.rstrip('/')}/jobs/")), None
        )


def declared_places(session: Session, dag_id: str) -> Declared:
    """Connections that a DAG's tasks use, and paths that they name, as its code says.

    Templates stay as they are written.
    """
    row = SerializedDagModel.get(dag_id, session=session)
    written = ((row.data or {}).get("dag") or {}).get("tasks") or [] if row else []
    tasks = [_arguments(task.get("__var", task)) for task in written]
    return Declared(
        *(
            {value for task in tasks if isinstance(value := task.get(name), str) and value}
            for name in ("conn_id", "storage_path", "output_path")
        )
    )


def _arguments(task: dict[str, Any]) -> dict[str, Any]:
    if not task.get("_is_mapped"):
        return task
    # Defaults of a mapped task are not written down.
    return {"conn_id": DEFAULTS["conn_id"], **task.get("partial_kwargs", {})}


def note_cancellation(session: Session, key: TaskKey, value: dict[str, Any]) -> None:
    """Write down, beside the job, who asked for its batches to be cancelled."""
    run = select(DagRun.id).where(DagRun.dag_id == key.dag_id, DagRun.run_id == key.run_id)
    session.merge(
        XComModel(
            key=CANCELED,
            value=value,
            dag_run_id=session.scalar(run),
            dag_id=key.dag_id,
            run_id=key.run_id,
            task_id=key.task_id,
            map_index=key.map_index,
        )
    )
