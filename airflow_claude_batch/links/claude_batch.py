"""Buttons on a task instance: its batch in the Claude Console, its output in the cloud's console."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import XCom
from airflow.sdk import BaseOperatorLink

from airflow_claude_batch.common.handle import Handle, is_plan
from airflow_claude_batch.common.xcoms import XCOM_KEY
from airflow_claude_batch.links.urls import console_url, folder_url

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import TaskInstanceKey


class ClaudeConsoleLink(BaseOperatorLink):
    """The job's first batch in the Claude Console; the Claude Batches page names them all."""

    name = "Claude Console"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Called in the task, each time it ends or defers."""
        batch_ids = _batch_ids(operator, ti_key)
        return (console_url(batch_ids[0]) if batch_ids else None) or ""


class OutputFolderLink(BaseOperatorLink):
    """The folder of the delivered records, where its store has a web console."""

    name = "Output folder"

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Called in the task, each time it ends or defers."""
        return folder_url(getattr(operator, "output_path", None)) or ""


def _batch_ids(operator: Any, ti_key: TaskInstanceKey) -> list[str]:
    batch = getattr(operator, "batch", None)
    if is_plan(batch):
        return []
    if batch is not None:
        return Handle.parse(batch).batch_ids
    announced = XCom.get_value(key=XCOM_KEY, ti_key=ti_key)
    return list((announced or {}).get("batch_ids") or [])
