"""The handle: the small JSON value in XCom that names a job, and what else may stand in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


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

        :param value: a handle (mapping), one batch id, or a list of ids (a mapped task's output, too)
        :raises InputError: for anything else. Several handles are several jobs, and need a task each
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, str) and value.strip():
            return cls(batch_ids=[value.strip()])
        if isinstance(value, dict) and isinstance(value.get("batch_ids"), list) and value["batch_ids"]:
            return cls(
                batch_ids=[str(batch_id) for batch_id in value["batch_ids"]],
                job=value.get("job"),
                request_count=value.get("request_count"),
            )
        items = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
        if items and all(isinstance(item, str) and item.strip() for item in items):
            return cls(batch_ids=[item.strip() for item in items])
        from airflow_claude_batch.batches.errors import Fault, InputError
        from airflow_claude_batch.batches.requests import shorten

        rule = "the output of a submit task, a batch id, or a list of batch ids is wanted"
        if items and all(isinstance(item, dict) for item in items):
            rule = "these are several jobs; map the task over them: .partial(…).expand(batch=submit.output)"
        raise InputError([Fault(index=0, where="batch", value=shorten(value), rule=rule)])

    def as_dict(self) -> dict[str, Any]:
        """For XCom."""
        return {"job": self.job, "batch_ids": self.batch_ids, "request_count": self.request_count}
