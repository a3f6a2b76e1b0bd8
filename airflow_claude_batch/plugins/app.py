"""The web application behind the Claude Batches page: a JSON API over queries, and the built bundle."""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Annotated, Any, Literal

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.api_fastapi.logging.decorators import action_logging
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query
from fastapi.staticfiles import StaticFiles
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from airflow_claude_batch.plugins import guards, jobs, queries
from airflow_claude_batch.plugins.cancel import NotCancelableError, cancel
from airflow_claude_batch.plugins.claude_batches import STATIC
from airflow_claude_batch.plugins.guards import MayEdit, ReadableDagIds
from airflow_claude_batch.plugins.queries import JobFilter, TaskKey
from airflow_claude_batch.plugins.totals import totals

RUN_LIMIT = 100
"""Jobs shown in the tab of a run or a mapped task."""

LARGEST_INDEX = 2**31 - 1
NO_NUL = r"^[^\x00]*$"
"""PostgreSQL knows no such character."""

Identifier = Annotated[str, Query(min_length=1, max_length=250, pattern=NO_NUL)]


def _in_utc(time: datetime.datetime) -> datetime.datetime:
    try:
        return time.replace(tzinfo=time.tzinfo or datetime.UTC).astimezone(datetime.UTC)
    except OverflowError:
        raise ValueError("there is no such time in UTC") from None


Moment = Annotated[datetime.datetime, AfterValidator(_in_utc)]

router = APIRouter(prefix="/api", dependencies=[*guards.READ, Depends(guards.never_stored)])


def create_app() -> FastAPI:
    """The application that Airflow's API server mounts."""
    app = FastAPI(title="Claude Batches", openapi_url=None, docs_url=None, redoc_url=None)
    app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


class JobQuery(BaseModel):
    """Which page of which list of jobs."""

    model_config = ConfigDict(extra="forbid")

    view: Literal["in_flight", "recent"]
    dag_id: str | None = Field(None, min_length=1, max_length=250)
    result: Literal["delivered", "partial", "failed"] | None = None
    since: Moment | None = None
    q: str = Field("", max_length=250, pattern=NO_NUL)
    limit: int = Field(15, ge=1, le=100)
    offset: int = Field(0, ge=0, le=1_000_000)


@router.get("/jobs")
def list_jobs(
    query: Annotated[JobQuery, Query()], session: SessionDep, readable: ReadableDagIds
) -> dict[str, Any]:
    """One page of the jobs in flight, or of those that are not."""
    wanted = JobFilter(
        dag_ids=readable & {query.dag_id} if query.dag_id else readable,
        in_flight=query.view == "in_flight",
        result=query.result,
        since=query.since,
        search=query.q.strip(),
    )
    rows, total = queries.list_jobs(session, wanted, limit=query.limit, offset=query.offset)
    return {"jobs": [jobs.as_row(job) for job in jobs.load(session, rows)], "total": total}


@router.get("/dags")
def list_dags(readable: ReadableDagIds) -> dict[str, Any]:
    """DAGs to filter by."""
    return {"dag_ids": sorted(readable)}


@router.get("/totals")
def show_totals(
    session: SessionDep,
    readable: ReadableDagIds,
    tz: Annotated[str, Query(max_length=64)] = "UTC",
    dag_id: Annotated[str | None, Query(max_length=250)] = None,
) -> dict[str, Any]:
    """Sums over the last days."""
    try:
        zone = zoneinfo.ZoneInfo(tz)
    except (ValueError, zoneinfo.ZoneInfoNotFoundError, OSError):
        zone = zoneinfo.ZoneInfo("UTC")
    now = datetime.datetime.now(datetime.UTC)
    return totals(session, readable & {dag_id} if dag_id else readable, now, zone)


@router.get("/job")
def show_job(
    session: SessionDep,
    may_edit: MayEdit,
    dag_id: Identifier,
    run_id: Identifier,
    task_id: Identifier,
    map_index: Annotated[int, Query(ge=-1, le=LARGEST_INDEX)] = -1,
) -> dict[str, Any]:
    """One job."""
    job = _job(session, TaskKey(dag_id, run_id, task_id, map_index))
    return jobs.as_details(job) | {"may_edit": may_edit}


@router.get("/run")
def show_run(
    session: SessionDep,
    may_edit: MayEdit,
    dag_id: Identifier,
    run_id: Identifier,
    task_id: Annotated[str | None, Query(max_length=250, pattern=NO_NUL)] = None,
    map_index: Annotated[int | None, Query(ge=-1, le=LARGEST_INDEX)] = None,
) -> dict[str, Any]:
    """The newest jobs of a run, or those of them that one of its tasks takes part in."""
    wanted = JobFilter(dag_ids=[dag_id], run_id=run_id, map_index=map_index)
    rows, total = queries.list_jobs(session, wanted, limit=RUN_LIMIT)
    found = jobs.load(session, rows)
    if task_id is not None:
        found = [job for job in found if any(task.key.task_id == task_id for task in job.tasks)]
    return {
        "jobs": [jobs.as_details(job) | {"may_edit": may_edit} for job in found],
        "left_out": total - len(rows),
    }


class CancelBody(BaseModel):
    """The task instance that submitted the job."""

    model_config = ConfigDict(extra="forbid")

    run_id: str = Field(min_length=1, max_length=250, pattern=NO_NUL)
    task_id: str = Field(min_length=1, max_length=250, pattern=NO_NUL)
    map_index: int = Field(-1, ge=-1, le=LARGEST_INDEX)


@router.post(
    "/dags/{dag_id}/cancel",
    dependencies=[*guards.EDIT, Depends(action_logging(event="claude_batch_cancel"))],
)
def cancel_job(dag_id: str, body: CancelBody, session: SessionDep, user: GetUserDep) -> dict[str, Any]:
    """Cancel the batches of a job."""
    job = _job(session, TaskKey(dag_id, body.run_id, body.task_id, body.map_index))
    try:
        return {"batches": cancel(session, job, user.get_name())}
    except NotCancelableError as error:
        raise HTTPException(409, str(error)) from error


def _job(session: Any, key: TaskKey) -> jobs.Job:
    row = queries.announced_job(session, key)
    if row is None:
        raise HTTPException(404, "This task instance has no Claude batch job.")
    return jobs.load(session, [row])[0]
