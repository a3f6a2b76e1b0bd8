"""The handle: the small JSON value in XCom that names a job, and what else may stand in its place."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from airflow_claude_batch.batches.errors import Fault, InputError

_BATCH_ID = re.compile(r"(?!(?i:none|null|nan|undefined|true|false)$|.*://)[A-Za-z0-9][A-Za-z0-9_.:/-]*")
"""No address, such as a job's, and no word that a template makes of nothing."""


def read_back(text: str) -> Any:
    """A mapping or a list that a template has made text; any other text as it is."""
    if not text.startswith(("{", "[", "(", "'", '"')):
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        pass
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _ids(value: Any) -> list[str]:
    """Batch ids: one, or a list of them, each once, since records would be delivered twice; else none."""
    items = [value] if isinstance(value, str) else list(value) if isinstance(value, Sequence) else []
    if not all(isinstance(item, str) and _BATCH_ID.fullmatch(item.strip()) for item in items):
        return []
    return list(dict.fromkeys(item.strip() for item in items))


def is_plan(value: Any) -> bool:
    """Whether a submission has returned the plan of a dry run."""
    return isinstance(value, dict) and value.get("dry_run") is True


@dataclass(frozen=True, kw_only=True)
class Handle:
    """Batches to wait for or to fetch, and the job that they belong to, if it is ours."""

    batch_ids: list[str]
    job: str | None = None
    """URL of the job's folder; None for batches that something else submitted."""
    request_count: int | None = None

    @classmethod
    def parse(cls, value: Any) -> Handle:
        """Read what an operator's ``batch`` was given.

        Args:
            value: A handle (mapping), one batch id, or a list of ids (a mapped task's output, too).

        Raises:
            AirflowSkipException: For the plan of a dry run.
            InputError: For anything else. Several handles are several jobs, and need a task each.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            value = read_back(value.strip())
        if is_plan(value):
            from airflow.providers.common.compat.sdk import AirflowSkipException

            raise AirflowSkipException("Upstream was a dry run: nothing was sent, so there is nothing to do.")
        if isinstance(value, dict):
            job, batch_ids = value.get("job"), _ids(value.get("batch_ids"))
            if batch_ids or (job and value.get("batch_ids") == []):
                return cls(batch_ids=batch_ids, job=job, request_count=value.get("request_count"))
        elif batch_ids := _ids(value):
            return cls(batch_ids=batch_ids)
        raise _no_handle(value)

    def as_dict(self) -> dict[str, Any]:
        """For XCom."""
        return {"job": self.job, "batch_ids": self.batch_ids, "request_count": self.request_count}


def _no_handle(value: Any) -> InputError:
    # Not at the top, for links and sensors load this file with a DAG file, and this takes some milliseconds.
    from airflow_claude_batch.batches.requests.descriptions import describe

    items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    rule = "the output of a submit task, a batch id, or a list of batch ids is wanted"
    if value is None or value in ("", "None", "null") or items == [None]:
        rule += "; nothing came from upstream: has the submit task run, and does batch name it?"
    elif items and all(isinstance(item, dict) for item in items):
        rule = "these are several jobs; map the task over them: .partial(…).expand(batch=submit.output)"
    return InputError([Fault(index=0, where="batch", value=describe(value), rule=rule)])
