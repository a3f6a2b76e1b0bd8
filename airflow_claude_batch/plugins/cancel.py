"""Cancelling a job's batches on a person's behalf.

What a job's tasks say of it are XComs, and who may edit those of one DAG may have nothing to do with another.
So connection and batch ids come from the job's ledger and from the claims. Where the API server cannot read
them, an announcement counts as far as others bear it out: the connection must be one that a task of the DAG
uses, and the batches none that another DAG has named; the answer says then that no more was known.
"""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy.orm import Session

from airflow_claude_batch.batches.api.foreign_text import foreign_text
from airflow_claude_batch.batches.errors import ClaudeBatchError, ConfigurationError
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.authority import claimed_by_others, owned_by
from airflow_claude_batch.batches.job.claims import BATCH_ID
from airflow_claude_batch.batches.job.identity import root_relative
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import PartState
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.plugins.jobs import Job
from airflow_claude_batch.plugins.proof import is_of, readable_root
from airflow_claude_batch.plugins.queries import details
from airflow_claude_batch.plugins.queries.rows import TaskKey

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import BatchesApi

MOST_CLAIMS = 100
"""Claims that are read for one request; for batches beyond, the ledger's word is enough."""
UNPROVED = (
    "The API server cannot read storage_path, so it is not proved that these batches are this job's: its "
    "connection is one that this DAG uses, and no other DAG has named the batches."
)
NOTHING_KNOWN = (
    "The job's ledger names no batch that could be cancelled: none is sent yet, or it is not known whether "
    "one was made. Mark the task failed to stop it."
)
UNSETTLED = (
    "Not all of the job is submitted: the task may send more, and what only may be its own was left alone. "
    "Mark the task failed to stop it."
)

log = logging.getLogger(__name__)


class NotCancelableError(Exception):
    """There is nothing that may be cancelled; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """What may be cancelled, and over which connection."""

    conn_id: str
    batch_ids: list[str]
    left_alone: list[str] = field(default_factory=list)
    """Batches that the ledger names, but no claim gives to this DAG."""
    warning: str | None = None
    """What could not be proved."""


def cancel(session: Session, job: Job, user_name: str) -> dict[str, Any]:
    """Ask the API to cancel every batch of a job that has not ended.

    What is in flight may still finish, and finished requests are delivered and billed.

    Returns:
        ``batches``, one row a batch with its state, and ``warning``, what could not be proved.

    Raises:
        NotCancelableError: When nothing is left to cancel, or it is not proved to be this job's, or the
            connection cannot be used.
    """
    from airflow_claude_batch.batches.api.cancel import cancel_all

    if not job.can_cancel:
        raise NotCancelableError("All batches of this job have ended.")
    key, target = job.row.key, _target(session, job)
    answers = cancel_all(_connect(target.conn_id), target.batch_ids)
    for answer in answers:
        log.log(answer.level, "%s has asked to cancel %s: %s", user_name, key, answer)
    accepted = sum(answer.status == "canceling" for answer in answers)
    if accepted:
        at = datetime.datetime.now(datetime.UTC).isoformat()
        details.note_cancellation(session, key, {"by": user_name, "at": at, "batches": accepted})
    rows = [
        {"id": answer.batch_id, "status": answer.status, "error": answer.problem or None}
        for answer in answers
    ]
    alone = "No claim under storage_path gives it to this DAG; it was left alone."
    rows += [{"id": batch_id, "status": None, "error": alone} for batch_id in target.left_alone]
    return {"batches": rows, "warning": target.warning}


def _target(session: Session, job: Job) -> Target:
    root, key, url = readable_root(), job.row.key, job.announcement.job or ""
    if root is None:
        return _borne_out(session, job)
    try:
        folder = root_relative(root, url)
    except ConfigurationError as error:
        elsewhere = _borne_out(session, job)
        if others := claimed_by_others(root, elsewhere.batch_ids[:MOST_CLAIMS], key.dag_id):
            raise NotCancelableError(f"{others[0]} was submitted by another DAG.") from error
        if _declared(session, key).storage_path_of(url) is None:
            raise NotCancelableError(f"The job {url[:200]!r} does not lie under storage_path.") from error
        return elsewhere
    try:
        ledger = ledgers.load(folder)
        if ledger is None or not is_of(ledger, folder, root, key):
            raise NotCancelableError(f"{url[:200]!r} is no job of this task instance.")
        return _proved(session, root, ledger, key)
    except ClaudeBatchError as error:
        raise NotCancelableError(str(error)) from error


def _proved(session: Session, root: Folder, ledger: Ledger, key: TaskKey) -> Target:
    """The batches of a job that are not delivered yet, by ledger and claims."""
    wanted = [part.batch_id for part in ledger.live_parts if part.batch_id and part.delivery is None]
    unsettled = any(part.state in (PartState.TO_SEND, PartState.UNCERTAIN) for part in ledger.live_parts)
    if not wanted:
        raise NotCancelableError(NOTHING_KNOWN if unsettled else "All batches of this job have ended.")
    owned = owned_by(root, wanted[:MOST_CLAIMS], key.dag_id)
    left_alone = [batch_id for batch_id in wanted[:MOST_CLAIMS] if batch_id not in owned]
    return Target(
        conn_id=ledger.conn_id or _only_connection(session, key),
        batch_ids=owned + wanted[MOST_CLAIMS:],
        left_alone=left_alone,
        warning=UNSETTLED if unsettled else None,
    )


def _borne_out(session: Session, job: Job) -> Target:
    """What the job's announcement says, as far as anything speaks for it.

    Raises:
        NotCancelableError: Where something speaks against it.
    """
    key, conn_id, batch_ids = job.row.key, job.announcement.conn_id, job.batch_ids
    for batch_id in batch_ids:
        if not BATCH_ID.fullmatch(batch_id):
            raise NotCancelableError(f"{batch_id[:100]!r} is no batch id.")
    if foreign := details.named_elsewhere(session, batch_ids, key.dag_id):
        raise NotCancelableError(f"{sorted(foreign)[0]} was submitted by another DAG.")
    if conn_id not in _declared(session, key).conn_ids:
        raise NotCancelableError(
            f"No task of this DAG uses the connection {conn_id[:100]!r}, and storage_path, which could "
            "say whose batches these are, cannot be read. Set [claude_batch] storage_path for the API server."
        )
    return Target(conn_id=conn_id, batch_ids=batch_ids, warning=UNPROVED)


def _declared(session: Session, key: TaskKey) -> details.Declared:
    return details.declared_places(session, key.dag_id)


def _only_connection(session: Session, key: TaskKey) -> str:
    """The DAG's connection, for ledgers from before it was recorded."""
    conn_ids = _declared(session, key).conn_ids
    if len(conn_ids) != 1:
        raise NotCancelableError("The job's ledger names no connection, and this DAG uses several, or none.")
    return conn_ids.pop()


def _connect(conn_id: str) -> BatchesApi:
    """The API over a connection.

    Raises:
        NotCancelableError: If it is not defined, of another type, or has no key.
    """
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook

    hook = ClaudeBatchHook(conn_id)
    try:
        conn_type = ClaudeBatchHook.get_connection(conn_id).conn_type
        if conn_type == hook.conn_type:
            return hook.batches
    except Exception as error:  # whatever it is, it concerns the connection
        why = f"{type(error).__name__}: {foreign_text(error)}"
        raise NotCancelableError(
            f"The connection {conn_id!r} cannot be used by the API server: {why}"
        ) from error
    raise NotCancelableError(
        f"The connection {conn_id!r} is of type {conn_type!r}; one of type {hook.conn_type!r} is wanted."
    )
