"""Submitting, waiting and delivering as one task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_claude_batch.common.final_errors import no_retry_when_final
from airflow_claude_batch.common.handle import is_plan
from airflow_claude_batch.common.map_index import names_to_come, require_names, variables_of
from airflow_claude_batch.common.xcoms import note_try
from airflow_claude_batch.links.claude_batch import ClaudeConsoleLink, OutputFolderLink
from airflow_claude_batch.operators.arguments import (
    BatchArguments,
    DeliveryArguments,
    declared,
    own_arguments,
    split,
)
from airflow_claude_batch.operators.deferral import finish, require_end
from airflow_claude_batch.operators.results import RESULTS_TEMPLATE_FIELDS, folder_per_map_index, is_expanded
from airflow_claude_batch.operators.source import HiddenInput
from airflow_claude_batch.operators.submit import SUBMIT_TEMPLATE_FIELDS

if TYPE_CHECKING:
    from typing import Unpack

    from airflow.sdk import Context

    from airflow_claude_batch.options import Recovery
    from airflow_claude_batch.runtime.deliver import ResultsStep
    from airflow_claude_batch.runtime.submit import SubmitStep


DELIVERY = own_arguments(DeliveryArguments)


class ClaudeBatchOperator(HiddenInput, BaseOperator):
    """Send requests as message batches, wait without a worker slot, deliver, and return the summary.

    It takes the steps of ``ClaudeBatchSubmitOperator`` and ``ClaudeBatchResultsOperator`` one after the
    other, with the arguments of both except ``batch``. A retry goes on where the last try stopped: it neither
    asks the source again nor pays again.

    Args:
        arguments: See ``airflow_claude_batch.operators.arguments.BatchArguments``.

    Returns:
        The summary, see ``ClaudeBatchResultsOperator``.
    """

    template_fields: Sequence[str] = (*SUBMIT_TEMPLATE_FIELDS, *RESULTS_TEMPLATE_FIELDS)
    ui_color = "#f5e8df"
    operator_extra_links: tuple[Any, ...] = (ClaudeConsoleLink(), OutputFolderLink())
    conn_id: str
    recovery: Recovery
    output_path: Any
    batch: Any = None
    """The handle, once all is submitted."""
    _is_named_later: bool = False
    """Whether ``output_path`` waits for what the function will set."""
    _submit: SubmitStep | None = None
    _results: ResultsStep | None = None
    _summary: dict[str, Any] | None = None

    @declared(BatchArguments)
    def __init__(self, **arguments: Unpack[BatchArguments]) -> None:
        own, airflows = split(BatchArguments, arguments)
        super().__init__(**airflows)
        for name, value in own.items():
            setattr(self, name, value)
        self.folder_per_map_index = folder_per_map_index(own["output_path"])

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit what is not submitted yet, then wait for it and deliver it.

        After each wait it starts again from here, perhaps on another worker: the ledger knows the rest.
        """
        from airflow_claude_batch.runtime.deliver import ResultsInput, ResultsStep
        from airflow_claude_batch.runtime.submit import SubmitStep
        from airflow_claude_batch.runtime.submit_input import SubmitInput

        note_try(context)
        self.folder_per_map_index = self.folder_per_map_index and not is_expanded(context, "output_path")
        with no_retry_when_final():
            given = SubmitInput.of(self, requests=self.shown_requests, system=self.shown_system)
            if not self._is_named_later:
                self._check_output(context)
            self._submit = SubmitStep(
                given, context, when_stored=self._name_output if self._is_named_later else None
            )
            submitted = self._submit.run()
        self.batch = finish(self, self.conn_id, submitted, context)
        if is_plan(self.batch):
            plan: dict[str, Any] = self.batch
            return plan
        with no_retry_when_final():
            cancel = bool(self.recovery.cancel_on_kill)
            wanted = ResultsInput.of(self, batch=self.batch, cancel_on_kill=cancel)
            self._results = ResultsStep(wanted, context)
            delivered = self._results.run()
        self._summary = finish(self, self.conn_id, delivered, context)
        return self._summary

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """After a wait or a pause."""
        require_end(self, context, event)
        return self.execute(context)

    def render_template(
        self, content: Any, context: Context, jinja_env: Any = None, seen_oids: Any = None
    ) -> Any:
        """As any operator; but a path is left for later that waits for what the function will set."""
        if content is self.output_path and variables_of(content) & names_to_come(context):
            self._is_named_later = True
            return content
        return super().render_template(content, context, jinja_env, seen_oids)

    def _name_output(self, context: Context) -> None:
        """Render the path that has waited for the function."""
        require_names(self.output_path, context)
        self.output_path = self.render_template(self.output_path, context)
        self._check_output(context)

    def _check_output(self, context: Context) -> None:
        from airflow_claude_batch.runtime.output_place import check_output

        check_output(self, DELIVERY, context)

    def on_kill(self) -> None:
        """Cancel what this attempt has submitted, so that nobody pays for what nobody wants."""
        if self._results is not None:
            self._results.stop()
        if self._submit is not None:
            self._submit.cancel_created()

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """What was read and written, where the OpenLineage provider is installed."""
        from airflow_claude_batch.runtime.lineage import lineage

        return lineage(self._summary)
