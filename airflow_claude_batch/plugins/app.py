"""The web application behind the Claude Batches page: a JSON API over queries, and the built bundle."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, Literal

from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep
from airflow.api_fastapi.logging.decorators import action_logging
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Path, Query, Request
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from airflow_claude_batch.plugins import guards, jobs
from airflow_claude_batch.plugins.attention import attention
from airflow_claude_batch.plugins.bundle import STATIC
from airflow_claude_batch.plugins.cancel import NotCancelableError, cancel
from airflow_claude_batch.plugins.failures import NotShownError, failed_records
from airflow_claude_batch.plugins.guards import MayEdit, ReadableDagIds
from airflow_claude_batch.plugins.queries import lists
from airflow_claude_batch.plugins.queries.lists import JobFilter
from airflow_claude_batch.plugins.queries.rows import TaskKey
from airflow_claude_batch.plugins.schedule import expected
from airflow_claude_batch.plugins.spending import spending
from airflow_claude_batch.plugins.statements import SECONDS, TooSlowError
from airflow_claude_batch.plugins.totals import totals
from airflow_claude_batch.plugins.zones import day_in, zone_of

RUN_LIMIT = 100
"""Jobs shown in the tab of a run or a mapped task."""

LARGEST_INDEX = 2**31 - 1
NO_NUL = r"^[^\x00]*$"
"""PostgreSQL knows no such character."""

Identifier = Annotated[str, Query(min_length=1, max_length=250, pattern=NO_NUL)]
DagId = Annotated[str | None, Query(max_length=250, pattern=NO_NUL)]


def _chosen(readable: ReadableDagIds, dag_id: DagId = None) -> set[str]:
    """The DAG that is asked for, or all, as far as the user may read them."""
    return readable & {dag_id} if dag_id else readable


ChosenDagIds = Annotated[set[str], Depends(_chosen)]


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
    app.add_exception_handler(TooSlowError, _too_slow)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    return app


def _too_slow(_: Request, __: Exception) -> JSONResponse:
    detail = f"The database did not answer within {SECONDS:g} seconds. Choose a shorter time or a single DAG."
    return JSONResponse({"detail": detail}, 503)


class JobQuery(BaseModel):
    """Which page of which list of jobs."""

    model_config = ConfigDict(extra="forbid")

    view: Literal["in_flight", "recent"]
    dag_id: str | None = Field(None, min_length=1, max_length=250)
    result: Literal["delivered", "partial", "failed"] | None = None
    since: Moment | None = None
    day: datetime.date | None = None
    """Of the time zone; jobs that were submitted on it."""
    tz: str = Field("UTC", max_length=64)
    q: str = Field("", max_length=250, pattern=NO_NUL)
    limit: int = Field(15, ge=1, le=100)
    offset: int = Field(0, ge=0, le=1_000_000)


@router.get("/jobs")
def list_jobs(
    query: Annotated[JobQuery, Query()], session: SessionDep, readable: ReadableDagIds
) -> dict[str, Any]:
    """One page of the jobs in flight, or of those that are not."""
    since, until = (query.since, None) if query.day is None else day_in(zone_of(query.tz), query.day)
    wanted = JobFilter(
        dag_ids=readable & {query.dag_id} if query.dag_id else readable,
        in_flight=query.view == "in_flight",
        result=query.result,
        since=since,
        until=until,
        search=query.q.strip(),
        by_deadline=query.view == "in_flight",
    )
    rows, total = lists.list_jobs(session, wanted, limit=query.limit, offset=query.offset)
    return {"jobs": [jobs.as_row(job) for job in jobs.load(session, rows)], "total": total}


@router.get("/dags")
def list_dags(session: SessionDep, readable: ReadableDagIds) -> dict[str, Any]:
    """DAGs to filter by."""
    return {"dag_ids": sorted(lists.announcing_dag_ids(session, readable))}


@router.get("/attention")
def show_attention(session: SessionDep, chosen: ChosenDagIds) -> dict[str, Any]:
    """What needs attention."""
    now = datetime.datetime.now(datetime.UTC)
    return attention(session, chosen, now)


@router.get("/totals")
def show_totals(
    session: SessionDep,
    chosen: ChosenDagIds,
    tz: Annotated[str, Query(max_length=64)] = "UTC",
) -> dict[str, Any]:
    """Sums over the last days."""
    now = datetime.datetime.now(datetime.UTC)
    return totals(session, chosen, now, zone_of(tz))


@router.get("/schedule")
def show_schedule(session: SessionDep, chosen: ChosenDagIds) -> dict[str, Any]:
    """What the runs of the next hours will cost, as far as their DAGs' past tells."""
    now = datetime.datetime.now(datetime.UTC)
    return expected(session, chosen, now)


@router.get("/costs")
def show_costs(
    readable: ReadableDagIds,
    period: Literal["day", "week", "month"] = "month",
    dag_id: DagId = None,
    tag: Annotated[str | None, Query(max_length=150, pattern=r"^[A-Za-z0-9_-]{1,40}=[^\x00]*$")] = None,
) -> dict[str, Any]:
    """What was spent, from the book of costs, and how much of the budgets is used."""
    now = datetime.datetime.now(datetime.UTC)
    return spending(readable, now, period=period, dag_id=dag_id, tag=tag)


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
    rows, total = lists.list_jobs(session, wanted, limit=RUN_LIMIT)
    found = jobs.load(session, rows)
    if task_id is not None:
        found = [job for job in found if any(task.key.task_id == task_id for task in job.tasks)]
    return {
        "jobs": [jobs.as_details(job) | {"may_edit": may_edit} for job in found],
        "left_out": total - len(rows),
    }


@router.get("/batches")
def list_batches(
    session: SessionDep,
    dag_id: Identifier,
    run_id: Identifier,
    task_id: Identifier,
    map_index: Annotated[int, Query(ge=-1, le=LARGEST_INDEX)] = -1,
    state: Literal["ended", "open"] | None = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> dict[str, Any]:
    """One page of a job's batches."""
    job = _job(session, TaskKey(dag_id, run_id, task_id, map_index))
    return jobs.batch_page(job, state=state, limit=limit, offset=offset)


@router.get("/failures")
def list_failures(
    session: SessionDep,
    dag_id: Identifier,
    run_id: Identifier,
    task_id: Identifier,
    map_index: Annotated[int, Query(ge=-1, le=LARGEST_INDEX)] = -1,
) -> dict[str, Any]:
    """The first failed records of a job."""
    job = _job(session, TaskKey(dag_id, run_id, task_id, map_index))
    try:
        return failed_records(session, job)
    except NotShownError as error:
        raise HTTPException(409, str(error)) from error


class CancelBody(BaseModel):
    """The task instance that submitted the job."""

    model_config = ConfigDict(extra="forbid")

    run_id: str = Field(min_length=1, max_length=250, pattern=NO_NUL)
    task_id: str = Field(min_length=1, max_length=250, pattern=NO_NUL)
    map_index: int = Field(-1, ge=-1, le=LARGEST_INDEX)


def cancel_body(body: Annotated[bytes, Depends(guards.bounded_body)]) -> CancelBody:
    """What is to be cancelled; read before the audit log is, so that nothing else gets into it."""
    try:
        return CancelBody.model_validate_json(body)
    except ValidationError as error:
        # Without what was sent: an answer is no place for it either.
        raise HTTPException(422, error.errors(include_input=False, include_url=False)) from None


_write_audit_log = action_logging(event="claude_batch_cancel")


async def audited(
    request: Request, session: SessionDep, user: GetUserDep, _: Annotated[CancelBody, Depends(cancel_body)]
) -> None:
    """Note who asks for what, once it is known to be a question."""
    await _write_audit_log(request, session, user)


@router.post("/dags/{dag_id}/cancel", dependencies=[*guards.EDIT, Depends(audited)])
def cancel_job(
    dag_id: Annotated[str, Path(max_length=250)],
    body: Annotated[CancelBody, Depends(cancel_body)],
    session: SessionDep,
    user: GetUserDep,
) -> dict[str, Any]:
    """Cancel the batches of a job."""
    job = _job(session, TaskKey(dag_id, body.run_id, body.task_id, body.map_index))
    try:
        return cancel(session, job, user.get_name())
    except NotCancelableError as error:
        raise HTTPException(409, str(error)) from error


def _job(session: Any, key: TaskKey) -> jobs.Job:
    row = lists.announced_job(session, key)
    if row is None:
        raise HTTPException(404, "This task instance has no Claude batch job.")
    return jobs.load(session, [row])[0]
