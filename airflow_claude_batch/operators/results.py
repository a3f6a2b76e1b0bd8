"""Fetching results and writing succeeded and errored records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_claude_batch.failures import no_retry_when_final
from airflow_claude_batch.handles import Handle
from airflow_claude_batch.links.claude_batch import ClaudeConsoleLink, OutputFolderLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.writers import Output


class ClaudeBatchResultsOperator(BaseOperator):
    """Deliver the results of a job as succeeded and errored records, and return the summary.

    Batches that have not ended yet are waited for, without a worker slot.

    :param batch: output of the submit task or of the sensor, a batch id, or a list of ids
    :param output_path: directory on object storage for ``succeeded/``, ``errored/`` and
        ``summary.json``; None puts the records into XCom, up to ``[claude_batch] max_inline_bytes``.
        A mapped task writes to a subdirectory named by its map index, unless the path has
        ``map_index`` in it
    :param max_failed_fraction: the task fails, after delivery, when a larger share of the requests
        has not succeeded; it always fails when nothing has
    :param conn_id: connection of type ``anthropic``
    :param storage_path: where the job is recorded, instead of ``[claude_batch] storage_path``
    :param poll_interval: seconds between two looks while waiting; None for 15 s growing to 5 min
    :returns: counts, error histogram, usage, paths; with ``succeeded`` and ``errored`` lists where
        there is no output_path
    """

    template_fields: Sequence[str] = ("batch", "output_path", "conn_id", "storage_path")
    ui_color = "#f5e8df"
    operator_extra_links = (ClaudeConsoleLink(), OutputFolderLink())

    def __init__(
        self,
        *,
        batch: Any,
        output_path: str | None = None,
        max_failed_fraction: float = 1.0,
        conn_id: str = "anthropic_default",
        storage_path: str | None = None,
        poll_interval: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch = batch
        self.output_path = output_path
        self.max_failed_fraction = max_failed_fraction
        self.conn_id = conn_id
        self.storage_path = storage_path
        self.poll_interval = poll_interval
        self._one_path_for_all = "map_index" not in str(output_path)

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait if need be, deliver, judge."""
        from airflow_claude_batch.batches.delivery import judge
        from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
        from airflow_claude_batch.waiting import begin_wait, look, trigger_for

        with no_retry_when_final():
            handle = Handle.parse(self.batch)
            api = ClaudeBatchHook(self.conn_id).batches
            wait = begin_wait(handle, poll_interval=self.poll_interval)
            if not look(wait, api, self.log):
                self.defer(trigger=trigger_for(wait, self.conn_id), method_name="execute_complete")
            summary = self._deliver(handle, api, self._output(context))
            context["ti"].xcom_push(
                key="summary", value={k: v for k, v in summary.items() if k not in ("succeeded", "errored")}
            )
            judge(summary, self.max_failed_fraction)
            return summary

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """After the wait."""
        from airflow_claude_batch.waiting import raise_unless_ended

        with no_retry_when_final():
            raise_unless_ended(event.get("status"), event.get("message", ""))
        return self.execute(context)

    def _deliver(self, handle: Handle, api: Any, output: Output) -> dict[str, Any]:
        from airflow_claude_batch.batches.delivery import deliver_batches, deliver_job
        from airflow_claude_batch.batches.jobs import read_ledger, root_relative
        from airflow_claude_batch.settings import storage_root

        if handle.job is None:
            return deliver_batches(api, handle.batch_ids, output)
        folder = root_relative(storage_root(self.storage_path), handle.job)
        return deliver_job(api, folder, read_ledger(folder), output)

    def _output(self, context: Context) -> Output:
        from airflow_claude_batch.batches.writers import Inline, JsonlDirectory
        from airflow_claude_batch.settings import max_inline_bytes, open_folder

        if not self.output_path:
            return Inline(max_inline_bytes())
        folder = open_folder(self.output_path)
        map_index = context["ti"].map_index
        if self._one_path_for_all and map_index is not None and map_index >= 0:
            folder = folder.child(str(map_index))
        return JsonlDirectory(folder)
