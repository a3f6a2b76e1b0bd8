"""Waiting for batches as a task of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_claude_batch.announcement import HANDLE_KEY
from airflow_claude_batch.handles import Handle
from airflow_claude_batch.links.claude_batch import ClaudeConsoleLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow.sdk import Context

    from airflow_claude_batch.batches.polling import Wait

KILL_SECONDS = 4.0
"""How long ``on_kill`` may ask why: a worker is killed five seconds after it was told to stop."""


class ClaudeBatchSensor(BaseSensorOperator):
    """Wait until all batches have ended, and pass the handle on.

    Deferrable by default: no worker slot is held. Batches that have ended already are not waited
    for. ``mode="poke"`` and ``mode="reschedule"`` need ``deferrable=False``. The log and the XCom
    ``progress`` say how far the wait has come.

    :param batch: output of the submit task, a batch id, or a list of ids
    :param conn_id: connection of type ``anthropic``
    :param poll_interval: seconds between two looks; None for 15 s growing to 5 min
    :param deferrable: wait in the triggerer
    :param timeout: seconds after which to give up. Without it the batches' own deadline ends the wait:
        the API ends them after 24 hours
    :param cancel_on_timeout: cancel the batches when giving up, instead of leaving them alone
    :param cancel_on_kill: cancel the batches when a person ends the task (mark as failed, success or
        skipped). None: those of a job, not those that were given by id and something else submitted.
        While deferred this needs Airflow 3.3; before, the batches go on. With ``mode="reschedule"`` they
        go on, too, unless a look is under way: between two looks there is no process to be told
    :returns: the handle: ``{"job", "batch_ids", "request_count"}``
    """

    template_fields: Sequence[str] = ("batch", "conn_id")
    ui_color = "#f5e8df"
    operator_extra_links = (ClaudeConsoleLink(),)

    def __init__(
        self,
        *,
        batch: Any,
        conn_id: str = "anthropic_default",
        poll_interval: float | None = None,
        deferrable: bool = True,
        cancel_on_timeout: bool = False,
        cancel_on_kill: bool | None = None,
        **kwargs: Any,
    ) -> None:
        if poll_interval is not None:
            kwargs.setdefault("poke_interval", poll_interval)
        super().__init__(**kwargs)
        self.batch = batch
        self.conn_id = conn_id
        self.poll_interval = poll_interval
        self.deferrable = deferrable
        self.cancel_on_timeout = cancel_on_timeout
        self.cancel_on_kill = cancel_on_kill
        self._started_at: datetime | None = None
        self._wait: Wait | None = None
        self._ti: Any = None

    def execute(self, context: Context) -> Any:
        """Look once; defer if there is something to wait for."""
        if not self.deferrable:
            self._started_at = datetime.now(UTC)
            return super().execute(context)
        from airflow_claude_batch.waiting import note_try, push_progress, trigger_for

        note_try(context)
        result = self.poke(context)
        if not result:
            wait = self._begun
            self.log.info("%s", wait.describe(datetime.now(UTC)))
            context["ti"].xcom_push(key=HANDLE_KEY, value=Handle.parse(self.batch).as_dict())
            push_progress(context, wait.progress)
            trigger = trigger_for(wait, self.conn_id, cancel_on_kill=self.cancel_on_kill)
            self.defer(trigger=trigger, method_name="execute_complete")
        return result.xcom_value

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The trigger has fired."""
        from airflow_claude_batch.waiting import push_progress

        push_progress(context, event.get("progress"))
        self._conclude(event.get("status"), event.get("message", ""), event.get("open_batch_ids", []))
        return Handle.parse(self.batch).as_dict()

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at every open batch once."""
        from airflow_claude_batch.failures import no_retry_when_final

        with no_retry_when_final():
            handle = Handle.parse(self.batch)
            if self._wait is None:
                self._wait = self._begin(handle, context)
            self._look()
        wait, now = self._wait, datetime.now(UTC)
        verdict = wait.verdict(now)
        if verdict is not None:
            self._conclude(verdict, wait.explain(verdict, self.conn_id, now), wait.open_ids)
        return PokeReturnValue(is_done=verdict == "ended", xcom_value=handle.as_dict())

    def on_kill(self) -> None:
        """Cancel what nobody wants any more; not when the worker is only shut down."""
        from threading import Thread

        wait = self._wait
        if wait is None or not (wait.known if self.cancel_on_kill is None else self.cancel_on_kill):
            return
        # A thread, because this runs in a signal handler, perhaps amidst a call to the supervisor.
        thread = Thread(target=self._cancel_if_unwanted, args=(wait.open_ids,), daemon=True)
        thread.start()
        thread.join(KILL_SECONDS)

    def _begin(self, handle: Handle, context: Context) -> Wait:
        from airflow_claude_batch.waiting import begin_wait

        self._ti = context["ti"]
        started_at, seen_before = self._started_at, False
        if not self.deferrable and self.reschedule:
            first = self._ti.get_first_reschedule_date(context)
            started_at, seen_before = first or started_at, first is not None
        wait = begin_wait(
            handle, poll_interval=self.poll_interval, timeout=self.timeout, started_at=started_at
        )
        if seen_before:
            wait.known = True  # The first process stayed until it had seen them, see _look.
        return wait

    def _look(self) -> None:
        """Look once; with ``mode="reschedule"`` as often as it takes to be sure of key and ids.

        Each reschedule is a new process that remembers nothing, so doubt must not outlive one.
        """
        import time

        from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
        from airflow_claude_batch.waiting import look

        wait, api = self._begun, ClaudeBatchHook(self.conn_id).batches
        look(wait, api, self.log)
        while (
            self.reschedule
            and not self.deferrable
            and wait.in_doubt
            and wait.verdict(datetime.now(UTC)) is None
        ):
            time.sleep(wait.next_look(datetime.now(UTC)))
            look(wait, api, self.log)

    @property
    def _begun(self) -> Wait:
        assert self._wait is not None
        return self._wait

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """In poke and reschedule mode: the same growing interval as in the triggerer."""
        now = datetime.now(UTC)
        self.log.info("%s", self._begun.describe(now))
        return self._begun.next_look(now)

    def _conclude(self, status: str | None, message: str, open_ids: list[str]) -> None:
        """Raise what the end of the wait means, unless all batches have ended."""
        from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException

        from airflow_claude_batch.failures import no_retry_when_final
        from airflow_claude_batch.waiting import raise_unless_ended

        if status == "ended":
            return
        if status == "timeout":
            message = f"{message} {self._give_up(open_ids)}"
        if self.soft_fail:
            raise AirflowSkipException(message)
        if status == "timeout":
            raise AirflowSensorTimeout(message)
        with no_retry_when_final():
            raise_unless_ended(status, message)

    def _give_up(self, open_ids: list[str]) -> str:
        """Do what the user wants done on a timeout; returns it in words."""
        if not self.cancel_on_timeout:
            return "The batches go on and were left alone."
        going_on = self._cancel(open_ids)
        return f"Not cancelled: {', '.join(going_on)}." if going_on else "The batches were cancelled."

    def _cancel_if_unwanted(self, open_ids: list[str]) -> None:
        from airflow_claude_batch.waiting import ended_by_a_person, task_states

        ti = self._ti
        if ended_by_a_person(task_states(ti.dag_id, ti.run_id, ti.task_id), ti):
            self._cancel(open_ids)
        else:
            self.log.info("This worker stops, but nobody ended the task; its batches go on")

    def _cancel(self, batch_ids: list[str]) -> list[str]:
        from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
        from airflow_claude_batch.waiting import cancel_batches

        return cancel_batches(ClaudeBatchHook(self.conn_id).batches, batch_ids, self.log)
