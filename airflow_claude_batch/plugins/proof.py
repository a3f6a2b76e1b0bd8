"""Whose a job is, as its ledger says; what an XCom says of it is no proof."""

from __future__ import annotations

import logging

from airflow_claude_batch.batches.api.foreign_text import foreign_text
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.common.settings import storage_root
from airflow_claude_batch.plugins.queries.rows import TaskKey

log = logging.getLogger(__name__)


def readable_root(path: str | None = None) -> Folder | None:
    """``storage_path``, if this process can read it and jobs are there.

    A folder that every worker mounts need not be mounted here; it looks empty then.

    Args:
        path: One that a task has of its own, as the DAG's code says.
    """
    try:
        root = storage_root(path)
        return root if root.names() else None
    except Exception as error:  # noqa: BLE001  # not set, no provider of that store, no access: all the same
        log.info("Cannot read storage_path: %s: %s", type(error).__name__, foreign_text(error))
        return None


def is_of(ledger: Ledger, folder: Folder, root: Folder, key: TaskKey) -> bool:
    """Whether a job is the task instance's; in ledgers that name none, the path tells."""
    if ledger.dag_id:
        return (ledger.dag_id, ledger.run_id, ledger.task_id, ledger.map_index) == tuple(key)
    return folder.parent.url == Identity(**key._asdict()).folder(root).url
