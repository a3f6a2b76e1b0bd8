"""Fetching results, sending again what is worth it, and writing succeeded and errored records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator

from airflow_claude_batch.announcement import HANDLE_KEY
from airflow_claude_batch.failures import no_retry_when_final
from airflow_claude_batch.handles import Handle
from airflow_claude_batch.links.claude_batch import ClaudeConsoleLink, OutputFolderLink

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.delivery import Delivery
    from airflow_claude_batch.batches.jobs import Job
    from airflow_claude_batch.batches.output_schema import OutputSchema
    from airflow_claude_batch.batches.storage import Folder
    from airflow_claude_batch.batches.writers import Output

OWNED_BY_ANOTHER_SECONDS = 15.0


class ClaudeBatchResultsOperator(BaseOperator):
    """Deliver the results of a job as succeeded and errored records, and return the summary.

    Batches that have not ended yet are waited for, without a worker slot. Requests that failed for a
    passing reason are sent again, alone, and waited for in the same way; in the end each request is in
    exactly one of the two sets. For batches that something else submitted there are no columns to join and
    nothing to send again; all else is the same.

    A retry goes on where the last try stopped. A clear delivers anew.

    :param batch: output of the submit task or of the sensor, a batch id, or a list of ids
    :param output_path: directory on object storage for ``succeeded/``, ``errored/`` and
        ``summary.json``; None puts the records into XCom, up to ``[claude_batch] max_inline_bytes``.
        A mapped task writes to a subdirectory named by its map index, unless the path has
        ``map_index`` in it
    :param output_format: ``jsonl``; ``parquet`` (extra ``parquet``); or ``raw``, the API's own lines
    :param compression: None, ``gzip`` or ``zstd``; ``zstd`` needs the extra ``parquet``
    :param resubmit_rounds: how often requests that failed for a passing reason are sent again
    :param resubmit_invalid: send invalid answers again, too; they are paid for each time
    :param count_as_failed: stop reasons that make an answer invalid: ``refusal``, ``max_tokens``, …
    :param output_schema: pydantic model or JSON Schema that answers must keep to; None for the one that
        the submit task was given
    :param include_message: add the API's whole message to succeeded records
    :param max_failed_fraction: the task fails, after delivery, when a larger share of the requests
        has not succeeded; it always fails when nothing has
    :param conn_id: connection of type ``anthropic``
    :param storage_path: where the job is recorded, instead of ``[claude_batch] storage_path``
    :param poll_interval: seconds between two looks while waiting; None for 15 s growing to 5 min
    :returns: counts, error histogram, usage, cost, paths; with ``succeeded`` and ``errored`` lists
        where there is no output_path
    """

    template_fields: Sequence[str] = ("batch", "output_path", "conn_id", "storage_path")
    ui_color = "#f5e8df"
    operator_extra_links = (ClaudeConsoleLink(), OutputFolderLink())
    _summary: dict[str, Any] | None = None
    cancel_on_kill: bool | None = None
    """While waiting: cancel the batches when a person ends the task; None for those of a job."""

    def __init__(
        self,
        *,
        batch: Any,
        output_path: str | None = None,
        output_format: Literal["jsonl", "parquet", "raw"] = "jsonl",
        compression: Literal["gzip", "zstd"] | None = None,
        resubmit_rounds: int = 1,
        resubmit_invalid: bool = False,
        count_as_failed: Sequence[str] = (),
        output_schema: Any = None,
        include_message: bool = False,
        max_failed_fraction: float = 1.0,
        conn_id: str = "anthropic_default",
        storage_path: str | None = None,
        poll_interval: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.batch = batch
        self.output_path = output_path
        self.output_format = output_format
        self.compression = compression
        self.resubmit_rounds = resubmit_rounds
        self.resubmit_invalid = resubmit_invalid
        self.count_as_failed = count_as_failed
        self.output_schema = output_schema
        self.include_message = include_message
        self.max_failed_fraction = max_failed_fraction
        self.conn_id = conn_id
        self.storage_path = storage_path
        self.poll_interval = poll_interval
        self._one_path_for_all = "map_index" not in str(output_path)

    def execute(self, context: Context) -> dict[str, Any]:
        """Wait if need be, deliver, judge.

        After each wait it starts again from here, perhaps on another worker: the ledger knows the rest.
        """
        from airflow_claude_batch.batches.verdict import judge
        from airflow_claude_batch.reporting import report
        from airflow_claude_batch.waiting import note_try

        note_try(context)
        with no_retry_when_final():
            handle = Handle.parse(self.batch)
            if handle.job is None:
                summary = self._deliver_batches(context, handle)
            else:
                summary = self._deliver_job(context, handle.job)
            self._summary = summary
            report(summary, self, context)
            judge(summary, self.max_failed_fraction)
            return summary

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """After the wait."""
        from airflow_claude_batch.waiting import raise_unless_ended

        with no_retry_when_final():
            raise_unless_ended(event.get("status"), event.get("message", ""))
        return self.execute(context)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """After a pause."""
        return self.execute(context)

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> Any:
        """What was read and written, where the OpenLineage provider is installed."""
        from airflow_claude_batch.reporting import lineage

        # Not from XCom: the listener asks in a fork of the task's process, where a pull hangs.
        return lineage(self._summary)

    def _deliver_batches(self, context: Context, handle: Handle) -> dict[str, Any]:
        delivery = self._delivery(context, self._schema(None))
        self._wait_for(context, delivery, handle)
        return delivery.deliver_batches(handle.batch_ids)

    def _deliver_job(self, context: Context, url: str) -> dict[str, Any]:
        from airflow_claude_batch.batches.jobs import open_job, read_ledger, root_relative
        from airflow_claude_batch.batches.rounds import spool_next
        from airflow_claude_batch.settings import storage_root

        root = storage_root(self.storage_path)
        folder = root_relative(root, url)
        delivery = self._delivery(context, self._schema(read_ledger(folder).output_schema))
        self._give_way(folder)
        ti = context["ti"]
        life = max((ti.max_tries or 0) - (self.retries or 0) + 1, 1)
        with open_job(root, url) as job:
            delivery.begin(job, life)
            spool_next(job)
            while pending := delivery.pending(job):
                self._submit_rest(delivery, job)
                batch_ids = [part.batch_id for _, part in pending if part.batch_id]
                if batch_ids:
                    ti.xcom_push(key=HANDLE_KEY, value=job.ledger.handle)
                    self._wait_for(context, delivery, Handle(batch_ids=batch_ids, job=url))
                delivery.harvest(job)
                spool_next(job)
            return delivery.finish(job)

    def _give_way(self, folder: Folder) -> None:
        """Wait while another worker works on the job; both would only stop each other."""
        from datetime import UTC, datetime, timedelta

        from airflow_claude_batch.batches import lease
        from airflow_claude_batch.triggers.pause import PauseTrigger

        if lease.alive(folder.parent, lease.newest(folder.parent.child("leases"))):
            self.log.info("Another worker is at work on %s; coming back when it is done", folder.url)
            at = datetime.now(UTC) + timedelta(seconds=OWNED_BY_ANOTHER_SECONDS)
            self.defer(trigger=PauseTrigger(at.isoformat()), method_name="resume")

    def _submit_rest(self, delivery: Delivery, job: Job) -> None:
        """Submit the parts of a new round, or what was left; defers when the API asks for patience."""
        from airflow_claude_batch.batches.submission import Policy, Submission
        from airflow_claude_batch.settings import reconcile_grace_seconds
        from airflow_claude_batch.triggers.pause import PauseTrigger

        policy = Policy(grace_seconds=reconcile_grace_seconds())
        later = Submission(job=job, api=delivery.api, policy=policy).run()
        if later is not None:
            self.log.info("%s; going on at %s, no worker slot held until then", later.reason, later.at)
            open_ids = [part.batch_id for _, part in delivery.pending(job) if part.batch_id]
            unwanted = [] if self.cancel_on_kill is False else open_ids
            trigger = PauseTrigger(later.at.isoformat(), self.conn_id, unwanted)
            self.defer(trigger=trigger, method_name="resume")

    def _wait_for(self, context: Context, delivery: Delivery, handle: Handle) -> None:
        """Return when the batches have ended; defer until then."""
        from airflow_claude_batch.waiting import begin_wait, look, push_progress, trigger_for

        wait = begin_wait(handle, poll_interval=self.poll_interval)
        if not look(wait, delivery.api, self.log):
            push_progress(context, wait.progress)
            trigger = trigger_for(wait, self.conn_id, cancel_on_kill=self.cancel_on_kill)
            self.defer(trigger=trigger, method_name="execute_complete")

    def _schema(self, recorded: dict[str, Any] | None) -> OutputSchema | None:
        from airflow_claude_batch.batches.output_schema import OutputSchema

        wanted = self.output_schema if self.output_schema is not None else recorded
        return None if wanted is None else OutputSchema.of(wanted)

    def _delivery(self, context: Context, schema: OutputSchema | None) -> Delivery:
        from airflow_claude_batch.batches.delivery import Delivery
        from airflow_claude_batch.batches.reading import Reading
        from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
        from airflow_claude_batch.settings import price_factor

        reading = Reading(
            count_as_failed=tuple(self.count_as_failed),
            output_schema=schema,
            resubmit_invalid=self.resubmit_invalid,
            include_message=self.include_message,
        )
        return Delivery(
            api=ClaudeBatchHook(self.conn_id).batches,
            output=self._output(context, schema),
            reading=reading,
            resubmit_rounds=self.resubmit_rounds,
            price_factor=price_factor(),
        )

    def _output(self, context: Context, schema: OutputSchema | None) -> Output:
        from airflow_claude_batch.batches.writers import Inline, open_directory
        from airflow_claude_batch.settings import max_inline_bytes, open_folder

        if not self.output_path:
            return Inline(max_inline_bytes())
        folder = open_folder(self.output_path)
        map_index = context["ti"].map_index
        if self._one_path_for_all and map_index is not None and map_index >= 0:
            folder = folder.child(str(map_index))
        return open_directory(
            folder,
            format=self.output_format,
            compression=self.compression,
            output_schema=schema.json_schema if schema else None,
            include_message=self.include_message,
        )
