"""Reuse of answers, as tasks do it: which store a job has, and how it is reached."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.job.spool import MAX_REQUESTS
from airflow_claude_batch.batches.reuse.job_answers import JobAnswers
from airflow_claude_batch.batches.reuse.router import LookUp
from airflow_claude_batch.batches.reuse.store import Scope, Store
from airflow_claude_batch.common.settings import open_folder

if TYPE_CHECKING:
    from airflow_claude_batch.batches.job.ledger import Ledger
    from airflow_claude_batch.batches.storage import Folder
    from airflow_claude_batch.options import Reuse
    from airflow_claude_batch.runtime.submit_input import SubmitInput


def look_up(given: SubmitInput, root: Folder, ti: Any, *, ask_all: bool) -> LookUp:
    """What a submit step wants of earlier answers.

    Args:
        given: What the step was given, with a ``reuse``.
        root: ``storage_path``.
        ti: Airflow's task instance.
        ask_all: Whether everything is asked anew.
    """
    wanted: Reuse | None = given.reuse
    assert wanted is not None
    scope = Scope(name=wanted.scope, dag_id=ti.dag_id, task_id=ti.task_id, conn_id=given.conn_id)
    return LookUp(
        store=Store.of(scope, root, open_folder(wanted.store) if wanted.store else None),
        max_age=wanted.max_age if isinstance(wanted.max_age, datetime.timedelta) else None,
        betas=given.betas,
        version=given.prompt_version,
        part_requests=int(given.limits.requests or MAX_REQUESTS),
        ask_all=ask_all,
        go_on=wanted.on_store_error == "ask",
    )


def job_answers(ledger: Ledger, root: Folder) -> JobAnswers | None:
    """What a delivery needs of the reuse of answers; None for a job without."""
    note = ledger.reuse
    if note is None:
        return None
    below = f"{root.url.rstrip('/')}/"
    inside = note.store.startswith(below)
    folder = root.child(*note.store.removeprefix(below).split("/")) if inside else open_folder(note.store)
    age = note.max_age_seconds
    return JobAnswers(store=Store(folder), max_age=None if age is None else datetime.timedelta(seconds=age))
