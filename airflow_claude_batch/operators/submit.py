"""Submitting a batch from upstream data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator

from airflow_claude_batch.announcement import announce
from airflow_claude_batch.handles import Handle
from airflow_claude_batch.links.claude_batch import ClaudeConsoleLink
from airflow_claude_batch.operators.intake import build_input, prepare_for_results
from airflow_claude_batch.operators.source import HiddenRequests

if TYPE_CHECKING:
    from airflow.sdk import Context
    from airflow.triggers.base import BaseTrigger

    from airflow_claude_batch.batches.jobs import Job
    from airflow_claude_batch.batches.submission import Later, Submission


class ClaudeBatchSubmitOperator(BaseOperator):
    """Submit requests as message batches, each request paid once, and return the job's handle.

    The input is stored and validated as a whole before anything is sent. A retry goes on with the
    recorded job; after a clear the same requests mean the same batches. When the API asks for
    patience (full queue, rate limit), the task defers.

    :param requests: records as a list, the output of an upstream task (mapped ones too), a callable
        that returns or yields them, the URI of JSONL, CSV or Parquet files, or a source of
        ``airflow_claude_batch.sources``. A callable gets the context entries that it names as arguments
    :param prompt: Jinja template over a record's columns, for records that are no requests yet. All
        columns are data then; they come back beside the answer
    :param custom_id: column that names a record, a key of any form; None for the record's own
        ``custom_id``, or a hash of its content where it has none
    :param model: model of requests that do not name one; else the connection's ``model``
    :param max_tokens: output limit, in tokens, of requests that do not set one
    :param system: system prompt of requests that have none: text, blocks, or the URI of a text file
    :param cache: ``5m`` or ``1h``: cache the system prompt (or the tools) that all requests share
    :param warm_cache: submit one request first and the others when it has ended: more of them find
        the shared prefix cached, and all of them take longer
    :param message_params: any other Messages API parameters, as defaults for every request
    :param on_unreadable_document: what becomes of a record whose ``documents`` cannot be sent: it goes
        to ``errored``, or the task is to ``fail``. Nothing is paid for it either way
    :param probe: send the first request by itself before the batch, at the full price of one request,
        so that a wrong parameter shows in seconds
    :param conn_id: connection of type ``anthropic``
    :param storage_path: where the job is recorded, instead of ``[claude_batch] storage_path``
    :param max_requests_per_batch: close a part earlier than at the API's 100,000 requests
    :param max_bytes_per_batch: close a part earlier than at the API's 256 MB
    :param betas: beta features of the batches
    :param on_changed_requests: what to do with the batches of other requests that this task
        instance had before a clear: ``cancel`` them or ``leave`` them
    :param on_ambiguous: when several batches could be one whose answer was lost: ``wait`` for their
        end and compare, or ``fail``
    :param max_requests_in_queue: submit only while fewer requests of the workspace are in processing
    :param force_new: after a clear, submit anew even the same requests (they are paid again); the
        DAG-run conf key ``claude_batch_force_new`` does the same
    :param output_schema: pydantic model or JSON Schema of the answers: the API is asked for that shape, and
        the results task checks it, bounds included
    :param expected_output_tokens: how long answers will be on average, for the estimate; None for
        ``max_tokens``
    :param max_cost_usd: send nothing when the job is estimated to cost more, US dollars
    :param cancel_on_kill: cancel what this attempt has submitted when the task is killed; while it pauses,
        all that the job has submitted, when a person ends the task (Airflow 3.3 and later)
    :returns: ``{"job", "batch_ids", "request_count"}``
    """

    template_fields: Sequence[str] = ("requests", "model", "conn_id", "storage_path")
    ui_color = "#f5e8df"
    operator_extra_links: tuple[Any, ...] = (ClaudeConsoleLink(),)

    def __init__(
        self,
        *,
        requests: Iterable[Any] | Callable[..., Iterable[Any]] | Any,
        prompt: str | None = None,
        custom_id: str | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        system: str | list[dict[str, Any]] | None = None,
        message_params: Mapping[str, Any] | None = None,
        cache: Literal["5m", "1h"] | None = None,
        warm_cache: bool = False,
        on_unreadable_document: Literal["errored", "fail"] = "errored",
        probe: bool = False,
        conn_id: str = "anthropic_default",
        storage_path: str | None = None,
        max_requests_per_batch: int | None = None,
        max_bytes_per_batch: int | None = None,
        betas: list[str] | None = None,
        on_changed_requests: Literal["cancel", "leave"] = "cancel",
        on_ambiguous: Literal["wait", "fail"] = "wait",
        max_requests_in_queue: int | None = None,
        force_new: bool = False,
        output_schema: Any = None,
        expected_output_tokens: int | None = None,
        max_cost_usd: float | None = None,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.requests = requests
        self.prompt = prompt
        self.custom_id = custom_id
        self.model = model
        self.max_tokens = max_tokens
        self.system = system
        self.message_params = message_params
        self.cache = cache
        self.warm_cache = warm_cache
        self.on_unreadable_document = on_unreadable_document
        self.probe = probe
        self.conn_id = conn_id
        self.storage_path = storage_path
        self.max_requests_per_batch = max_requests_per_batch
        self.max_bytes_per_batch = max_bytes_per_batch
        self.betas = betas
        self.on_changed_requests = on_changed_requests
        self.on_ambiguous = on_ambiguous
        self.max_requests_in_queue = max_requests_in_queue
        self.force_new = force_new
        self.output_schema = output_schema
        self.expected_output_tokens = expected_output_tokens
        self.max_cost_usd = max_cost_usd
        self.cancel_on_kill: bool | None = cancel_on_kill
        self._submission: Submission | None = None

    @property
    def requests(self) -> Any:
        """The source; its content is never rendered, logged or stored in Airflow's database."""
        return self._requests

    @requests.setter
    def requests(self, value: Any) -> None:
        self._requests = HiddenRequests.wrap(value)

    def execute(self, context: Context) -> dict[str, Any]:
        """Spool, submit, and return the handle."""
        from airflow_claude_batch.failures import no_retry_when_final
        from airflow_claude_batch.waiting import note_try

        note_try(context)
        with no_retry_when_final():
            return self._submit(context)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after a pause, or when a batch that was waited for has ended; all state is in the ledger."""
        self._raise_unless_ended(event)
        return self.execute(context)

    def on_kill(self) -> None:
        """Cancel what this attempt has submitted, so that nobody pays for what nobody wants."""
        if self.cancel_on_kill and self._submission is not None:
            self._submission.cancel_created()

    def _submit(self, context: Context) -> dict[str, Any]:
        from airflow_claude_batch.batches.jobs import Identity, start_job
        from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
        from airflow_claude_batch.settings import storage_root

        ti = context["ti"]
        hook = ClaudeBatchHook(self.conn_id)
        identity = Identity(
            dag_id=ti.dag_id,
            run_id=ti.run_id,
            task_id=ti.task_id,
            map_index=-1 if ti.map_index is None else ti.map_index,
        )
        life = max((ti.max_tries or 0) - (self.retries or 0) + 1, 1)
        conf = getattr(context.get("dag_run"), "conf", None) or {}
        force_new = self.force_new or bool(conf.get("claude_batch_force_new"))
        announced = partial(
            announce, context, conn_id=self.conn_id, model=self.model or hook.connection_model
        )
        announced()
        with start_job(
            storage_root(self.storage_path),
            identity,
            build_input(self, context, hook),
            life=life,
            conn_id=self.conn_id,
            force_new=force_new,
        ) as (job, replaced):
            return self._run(context, job, replaced, hook, announced)

    def _run(
        self, context: Context, job: Job, replaced: Job | None, hook: Any, announced: Callable[..., None]
    ) -> dict[str, Any]:
        from airflow_claude_batch.batches.preflight import probe
        from airflow_claude_batch.batches.revival import revive
        from airflow_claude_batch.batches.submission import Policy, Submission, retire
        from airflow_claude_batch.settings import reconcile_grace_seconds

        announced(ledger=job.ledger)
        api = hook.batches
        policy = Policy(
            on_ambiguous=self.on_ambiguous,
            max_requests_in_queue=self.max_requests_in_queue,
            grace_seconds=reconcile_grace_seconds(),
        )
        prepare_for_results(self, context, job, api)
        if replaced is not None:
            retire(replaced, job.folder.url, api, cancel=self.on_changed_requests == "cancel")
        if self.probe:
            probe(job, api)
        self._submission = Submission(job=job, api=api, policy=policy)
        try:
            later = revive(job, api, context["ti"].try_number) or self._submission.run()
        finally:
            announced(ledger=job.ledger)
        if later is not None:
            self.log.info("%s; going on at %s, no worker slot held until then", later.reason, later.at)
            announced(ledger=job.ledger, pause={"reason": later.reason, "until": later.at.isoformat()})
            self.defer(trigger=self._trigger(later, job), method_name="resume")
        self.log.info("Submitted %s requests: %s", job.ledger.request_count, ", ".join(job.ledger.batch_ids))
        return job.ledger.handle

    def _trigger(self, later: Later, job: Job) -> BaseTrigger:
        """What ends a pause: a time, or the end of a batch."""
        from airflow_claude_batch.triggers.pause import PauseTrigger
        from airflow_claude_batch.waiting import begin_wait, trigger_for

        if later.batch_id is None:
            unwanted = job.ledger.batch_ids if self.cancel_on_kill else []
            return PauseTrigger(later.at.isoformat(), self.conn_id, unwanted)
        wait = begin_wait(Handle(batch_ids=[later.batch_id], job=job.folder.url), poll_interval=None)
        return trigger_for(wait, self.conn_id, cancel_on_kill=self.cancel_on_kill)

    def _raise_unless_ended(self, event: dict[str, Any]) -> None:
        from airflow_claude_batch.failures import no_retry_when_final
        from airflow_claude_batch.waiting import raise_unless_ended

        if "batch_ids" in event:
            with no_retry_when_final():
                raise_unless_ended(event.get("status"), event.get("message", ""))
