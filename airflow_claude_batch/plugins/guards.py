"""Who may call the page's API: Airflow's own rules, on every endpoint.

A list holds only jobs of DAGs that the user may read; naming one DAG asks for the right to read it. What
changes something asks for the right to edit the DAG and its task instances, and must come from Airflow's
own pages or with a token of its own: a session cookie travels with requests that other sites make, too.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.configuration import conf
from fastapi import Depends, HTTPException, Request, Response

READ = [
    Depends(requires_access_dag("GET", DagAccessEntity.XCOM)),
    Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE)),
]
"""Of the DAG that path or query name; without one, of any."""

MOST_BODY_BYTES = 4_096

_may_edit = (
    requires_access_dag("PUT"),
    requires_access_dag("PUT", DagAccessEntity.TASK_INSTANCE),
)


def readable_dag_ids(user: GetUserDep, session: SessionDep) -> set[str]:
    """DAGs that the user may read."""
    permitted = get_auth_manager().get_authorized_dag_ids(user=user, method="GET", session=session)
    return set(permitted)


ReadableDagIds = Annotated[set[str], Depends(readable_dag_ids)]


def may_edit(request: Request, user: GetUserDep) -> bool:
    """Whether the user may edit the DAG that path or query name."""
    try:
        for required in _may_edit:
            required(request, user)
    except HTTPException:
        return False
    return True


MayEdit = Annotated[bool, Depends(may_edit)]


def own_pages_only(request: Request) -> None:
    """Refuse what another site's page may have sent with this user's cookie."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise HTTPException(415, "Send JSON.")
    # Another site's page can have cookies sent, but knows no token. Airflow 3.1 takes the cookie where the
    # token is not valid, so only a request without cookies is let through.
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip() and not request.cookies:
        return
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise HTTPException(403, "This request came from another site.")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc not in _own_hosts(request):
        raise HTTPException(403, "This request came from another site.")


async def bounded_body(request: Request) -> bytes:
    """The body of a change, if it is as short as those are.

    Whoever reads the request later, Airflow's audit log for one, sees no more.
    """
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BODY_BYTES:
            raise HTTPException(413, f"The body is longer than {MOST_BODY_BYTES} bytes.")
    request._body = body  # what Starlette remembers of a body that was read whole
    return body


def never_stored(response: Response) -> None:
    """Keep answers out of caches: they are one user's."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"


EDIT = [
    Depends(own_pages_only),
    *(Depends(required) for required in _may_edit),
]
"""What a change asks for."""


def _own_hosts(request: Request) -> set[str]:
    base_url = conf.get("api", "base_url", fallback="")
    return {request.headers.get("host", ""), urlsplit(base_url).netloc} - {""}
