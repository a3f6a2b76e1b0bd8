"""Submitting a batch from upstream data."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_claude_batch.common.final_errors import no_retry_when_final
from airflow_claude_batch.common.xcoms import note_try
from airflow_claude_batch.links.claude_batch import ClaudeConsoleLink
from airflow_claude_batch.operators.arguments import SubmitArguments, declared, split
from airflow_claude_batch.operators.deferral import finish, require_end
from airflow_claude_batch.operators.results import results_tasks_of
from airflow_claude_batch.operators.source import HiddenInput

if TYPE_CHECKING:
    from typing import Unpack

    from airflow.sdk import Context

    from airflow_claude_batch.runtime.submit import SubmitStep

SUBMIT_TEMPLATE_FIELDS = (
    "requests",
    "custom_id",
    "model",
    "max_tokens",
    "system",
    "prompt_version",
    "cache",
    "limits",
    "budget",
    "tags",
    "recovery",
    "trial",
    "dry_run",
    "direct_below",
    "deadline",
    "on_deadline",
    "direct_minutes",
    "reuse",
    "bad_records",
    "on_empty",
    "documents",
    "documents_from",
    "conn_id",
    "storage_path",
)


class ClaudeBatchSubmitOperator(HiddenInput, BaseOperator):
    """Submit requests as message batches, each request paid once, and return the job's handle.

    The input is stored and validated as a whole before anything is sent. A retry goes on with the
    recorded job; after a clear the same requests mean the same batches. When the API asks for
    patience (full queue, rate limit), the task defers. Before that, the place is looked at where a
    results task of the same DAG will write: one that cannot be written, or holds another job's results,
    costs nothing.

    Args:
        arguments: See ``airflow_claude_batch.operators.arguments.SubmitArguments``.

    Returns:
        ``{"job", "batch_ids", "request_count"}``
    """

    template_fields: Sequence[str] = SUBMIT_TEMPLATE_FIELDS
    ui_color = "#f5e8df"
    operator_extra_links: tuple[Any, ...] = (ClaudeConsoleLink(),)
    conn_id: str
    _step: SubmitStep | None = None

    @declared(SubmitArguments)
    def __init__(self, **arguments: Unpack[SubmitArguments]) -> None:
        own, airflows = split(SubmitArguments, arguments)
        super().__init__(**airflows)
        for name, value in own.items():
            setattr(self, name, value)

    def execute(self, context: Context) -> dict[str, Any]:
        """Store the input, send it, and return the handle."""
        from airflow_claude_batch.runtime.output_place import check_later_outputs
        from airflow_claude_batch.runtime.submit import SubmitStep
        from airflow_claude_batch.runtime.submit_input import SubmitInput

        note_try(context)
        with no_retry_when_final():
            given = SubmitInput.of(self, requests=self.shown_requests, system=self.shown_system)
            check = partial(check_later_outputs, self, results_tasks_of(self), context)
            self._step = SubmitStep(given, context, before_sending=check)
            step = self._step.run()
        return finish(self, self.conn_id, step, context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after a pause, or when a batch that was waited for has ended; the ledger knows the rest."""
        require_end(self, context, event)
        return self.execute(context)

    def on_kill(self) -> None:
        """Cancel what this attempt has submitted, so that nobody pays for what nobody wants."""
        if self._step is not None:
            self._step.cancel_created()
