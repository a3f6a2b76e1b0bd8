"""Submitting a batch from upstream data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from airflow.sdk import BaseOperator

from airflow_claude_batch.announcement import announce
from airflow_claude_batch.operators.source import HiddenRequests, read_records

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.jobs import Job
    from airflow_claude_batch.batches.submission import Submission


class ClaudeBatchSubmitOperator(BaseOperator):
    """Submit requests as message batches, each request paid once, and return the job's handle.

    The input is stored and validated as a whole before anything is sent. A retry goes on with the
    recorded job; after a clear the same requests mean the same batches. When the API asks for
    patience (full queue, rate limit), the task defers.

    :param requests: records as a list, the output of an upstream task (mapped ones too), or a callable
        that returns or yields them; a callable gets the context entries that it names as arguments
    :param model: model of requests that do not name one; else the connection's ``model``
    :param max_tokens: output limit, in tokens, of requests that do not set one
    :param system: system prompt (text or blocks) of requests that have none
    :param message_params: any other Messages API parameters, as defaults for every request
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
    :param cancel_on_kill: cancel what this attempt has submitted when the task is killed
    :returns: ``{"job", "batch_ids", "request_count"}``
    """

    template_fields: Sequence[str] = ("requests", "model", "conn_id", "storage_path")
    ui_color = "#f5e8df"

    def __init__(
        self,
        *,
        requests: Iterable[Any] | Callable[..., Iterable[Any]] | Any,
        model: str | None = None,
        max_tokens: int | None = None,
        system: str | list[dict[str, Any]] | None = None,
        message_params: Mapping[str, Any] | None = None,
        conn_id: str = "anthropic_default",
        storage_path: str | None = None,
        max_requests_per_batch: int | None = None,
        max_bytes_per_batch: int | None = None,
        betas: list[str] | None = None,
        on_changed_requests: Literal["cancel", "leave"] = "cancel",
        on_ambiguous: Literal["wait", "fail"] = "wait",
        max_requests_in_queue: int | None = None,
        force_new: bool = False,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.requests = requests
        self.model = model
        self.max_tokens = max_tokens
        self.system = system
        self.message_params = message_params
        self.conn_id = conn_id
        self.storage_path = storage_path
        self.max_requests_per_batch = max_requests_per_batch
        self.max_bytes_per_batch = max_bytes_per_batch
        self.betas = betas
        self.on_changed_requests = on_changed_requests
        self.on_ambiguous = on_ambiguous
        self.max_requests_in_queue = max_requests_in_queue
        self.force_new = force_new
        self.cancel_on_kill = cancel_on_kill
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

        with no_retry_when_final():
            return self._submit(context)

    def resume(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after a pause; all state is in the ledger."""
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
            self._input(context, hook),
            life=life,
            conn_id=self.conn_id,
            force_new=force_new,
        ) as (job, replaced):
            return self._run(job, replaced, hook, announced)

    def _input(self, context: Context, hook: Any) -> Any:
        from airflow_claude_batch.batches.jobs import Input
        from airflow_claude_batch.batches.spool import MAX_BYTES, MAX_REQUESTS, Limits
        from airflow_claude_batch.settings import compress_spool

        return Input(
            records=partial(read_records, self.requests, context),
            defaults={
                **(self.message_params or {}),
                "model": self.model or hook.connection_model,
                "max_tokens": self.max_tokens,
                "system": self.system,
            },
            limits=Limits(
                requests=self.max_requests_per_batch or MAX_REQUESTS,
                bytes=self.max_bytes_per_batch or MAX_BYTES,
            ),
            compress=compress_spool(),
            betas=self.betas or [],
        )

    def _run(
        self, job: Job, replaced: Job | None, hook: Any, announced: Callable[..., None]
    ) -> dict[str, Any]:
        from airflow_claude_batch.batches.submission import Policy, Submission, retire
        from airflow_claude_batch.settings import reconcile_grace_seconds
        from airflow_claude_batch.triggers.pause import PauseTrigger

        api = hook.batches
        policy = Policy(
            on_ambiguous=self.on_ambiguous,
            max_requests_in_queue=self.max_requests_in_queue,
            grace_seconds=reconcile_grace_seconds(),
        )
        if replaced is not None:
            retire(replaced, job.folder.url, api, cancel=self.on_changed_requests == "cancel")
        self._submission = Submission(job=job, api=api, policy=policy)
        later = self._submission.run()
        if later is not None:
            self.log.info("%s; going on at %s, no worker slot held until then", later.reason, later.at)
            announced(ledger=job.ledger, pause={"reason": later.reason, "until": later.at.isoformat()})
            self.defer(trigger=PauseTrigger(later.at.isoformat()), method_name="resume")
        announced(ledger=job.ledger)
        self.log.info("Submitted %s requests: %s", job.ledger.request_count, ", ".join(job.ledger.batch_ids))
        return job.ledger.handle
