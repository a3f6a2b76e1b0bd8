"""Whose a job or a batch is, and what follows from it.

Ledger and claims say it, and nothing else: a handle is an XCom, which anybody may have written who may edit
the XComs of one DAG. So before another's answers would be read, or a batch be cancelled, it is asked here.
"""

from __future__ import annotations

from urllib.parse import unquote

from airflow_claude_batch.batches.errors import ClaudeBatchError, ConfigurationError
from airflow_claude_batch.batches.job.claims import find_claim
from airflow_claude_batch.batches.job.identity import folder_name, root_relative
from airflow_claude_batch.batches.job.job import read_ledger
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.storage import Folder


def is_of(root: Folder, job: str, recorded: str, dag_id: str) -> bool:
    """Whether a job is a DAG's.

    Args:
        root: ``storage_path``.
        job: URL of the job's folder.
        recorded: The DAG that ledger or claim name; empty in those from before it was recorded, where the
            folder's path tells.
        dag_id: The DAG.
    """
    return recorded == dag_id if recorded else _segment(root, job) == folder_name(dag_id)


def owned_by(root: Folder, batch_ids: list[str], dag_id: str) -> list[str]:
    """Those of the batches that claims give to this DAG: what may be cancelled on its behalf."""
    return [batch_id for batch_id in batch_ids if _owner_is(root, batch_id, dag_id)]


def claimed_by_others(root: Folder, batch_ids: list[str], dag_id: str) -> list[str]:
    """Those of the batches that claims give to another DAG."""
    return [batch_id for batch_id in batch_ids if _owner_is(root, batch_id, dag_id) is False]


def check_job(root: Folder, folder: Folder, ledger: Ledger, dag_id: str, *, shared: bool) -> None:
    """Return if a task of the DAG may deliver the job.

    Args:
        root: ``storage_path``.
        folder: Of the job.
        ledger: Of the job.
        dag_id: The task's DAG.
        shared: Whether all DAGs may deliver each other's jobs.

    Raises:
        ConfigurationError: If the job is another DAG's that does not share it.
    """
    if shared or dag_id in ledger.shared_with or is_of(root, folder.url, ledger.dag_id, dag_id):
        return
    owner = ledger.dag_id or unquote(_segment(root, folder.url))
    raise _refusal(f"The job {folder.url}", owner, dag_id)


def check_batches(root: Folder, batch_ids: list[str], dag_id: str, *, shared: bool) -> None:
    """The same for batches that are given by their ids: those that nobody claims are anybody's.

    Raises:
        ConfigurationError: If a batch is another DAG's that does not share its job.
    """
    for batch_id in [] if shared else claimed_by_others(root, batch_ids, dag_id):
        found = find_claim(root, batch_id)
        assert found is not None
        try:
            folder = root_relative(root, found.job)
            ledger = read_ledger(folder)
        except ClaudeBatchError:  # without its ledger nobody can say that the job is shared
            raise _refusal(f"Batch {batch_id}", found.dag_id or found.job, dag_id) from None
        check_job(root, folder, ledger, dag_id, shared=False)


def _owner_is(root: Folder, batch_id: str, dag_id: str) -> bool | None:
    """Whether the claim on a batch names the DAG; None where there is no claim."""
    found = find_claim(root, batch_id)
    return None if found is None else is_of(root, found.job, found.dag_id, dag_id)


def _segment(root: Folder, job: str) -> str:
    """The part of a job's path that stands for its DAG; empty for a place that is not below the root."""
    prefix = f"{root.url.rstrip('/')}/jobs/"
    return job.removeprefix(prefix).partition("/")[0] if job.startswith(prefix) else ""


def _refusal(what: str, owner: str, dag_id: str) -> ConfigurationError:
    return ConfigurationError(
        f"{what} belongs to DAG {owner!r}, and this task to DAG {dag_id!r}; nothing of it was read. If that "
        f"is meant, let the task that submits it say recovery=Recovery(shared_with=[{dag_id!r}]), or let all "
        "DAGs deliver each other's jobs with [claude_batch] share_jobs_between_dags = True."
    )
