"""Whose a job is, and where it lies below ``storage_path``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.job.ledger import short_hash
from airflow_claude_batch.batches.storage import Folder

LONGEST_NAME = 200
"""Bytes of a name in a path; local file systems take 255."""


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whose job it is. The try number is not part of it."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    def folder(self, root: Folder) -> Folder:
        """The task instance's home under ``storage_path``."""
        names = [folder_name(name) for name in (self.dag_id, self.run_id, self.task_id)]
        return root.child("jobs", *names, *([str(self.map_index)] if self.map_index >= 0 else []))


def folder_name(name: str) -> str:
    """A name as part of a job's path; one that is too long is cut, and told apart by a hash."""
    quoted = quote(name, safe="+:=@,~ ")
    if quoted in (".", ".."):  # `quote` leaves dots alone
        return quoted.replace(".", "%2E")
    if len(quoted) <= LONGEST_NAME:
        return quoted
    digest = short_hash(name)
    cut = re.sub(r"%.?$", "", quoted[: LONGEST_NAME - len(digest) - 1])
    return f"{cut}-{digest}"


def root_relative(root: Folder, url: str) -> Folder:
    """The job's folder, reached through ``storage_path`` and so with its credentials.

    Raises:
        ConfigurationError: For a place that is not below ``storage_path``'s jobs.
    """
    prefix = f"{root.url.rstrip('/')}/jobs/"
    names = url.removeprefix(prefix).rstrip("/").split("/")
    if not url.startswith(prefix) or not {"", ".", ".."}.isdisjoint(names):
        raise ConfigurationError(
            f"The job {url} does not lie under storage_path {root.url}. "
            "Give the same storage_path to all tasks that share a job."
        )
    return root.child("jobs", *names)
