"""Waiting for batches as a task of its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_claude_batch.handles import Handle

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from airflow.sdk import Context

    from airflow_claude_batch.batches.polling import Wait


class ClaudeBatchSensor(BaseSensorOperator):
    """Wait until all batches have ended, and pass the handle on.

    Deferrable by default: no worker slot is held. Batches that have ended already are not waited
    for. ``mode="poke"`` and ``mode="reschedule"`` need ``deferrable=False``.

    :param batch: output of the submit task, a batch id, or a list of ids
    :param conn_id: connection of type ``anthropic``
    :param poll_interval: seconds between two looks; None for 15 s growing to 5 min
    :param deferrable: wait in the triggerer
    :param timeout: seconds after which to give up; the batches go on. They end by themselves after
        24 hours at the latest
    :returns: the handle: ``{"job", "batch_ids", "request_count"}``
    """

    template_fields: Sequence[str] = ("batch", "conn_id")
    ui_color = "#f5e8df"

    def __init__(
        self,
        *,
        batch: Any,
        conn_id: str = "anthropic_default",
        poll_interval: float | None = None,
        deferrable: bool = True,
        **kwargs: Any,
    ) -> None:
        if poll_interval is not None:
            kwargs.setdefault("poke_interval", poll_interval)
        super().__init__(**kwargs)
        self.batch = batch
        self.conn_id = conn_id
        self.poll_interval = poll_interval
        self.deferrable = deferrable
        self._wait: Wait | None = None

    def execute(self, context: Context) -> Any:
        """Look once; defer if there is something to wait for."""
        if not self.deferrable:
            return super().execute(context)
        from airflow_claude_batch.waiting import trigger_for

        result = self.poke(context)
        if not result:
            assert self._wait is not None
            self.log.info("%s", self._wait.describe(self._wait.started_at))
            self.defer(trigger=trigger_for(self._wait, self.conn_id), method_name="execute_complete")
        return result.xcom_value

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The trigger has fired."""
        self._raise_unless_ended(event.get("status"), event.get("message", ""))
        return Handle.parse(self.batch).as_dict()

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at every open batch once."""
        from datetime import datetime

        from airflow_claude_batch.failures import no_retry_when_final
        from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
        from airflow_claude_batch.waiting import begin_wait, look

        with no_retry_when_final():
            handle = Handle.parse(self.batch)
            if self._wait is None:
                self._wait = begin_wait(handle, poll_interval=self.poll_interval, timeout=self.timeout)
            done = look(self._wait, ClaudeBatchHook(self.conn_id).batches, self.log)
        now = datetime.now(UTC)
        verdict = self._wait.verdict(now)
        if verdict is not None:
            self._raise_unless_ended(verdict, self._wait.explain(verdict, self.conn_id, now))
        return PokeReturnValue(is_done=done, xcom_value=handle.as_dict())

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """In poke and reschedule mode: the same growing interval as in the triggerer."""
        if self._wait is None or self.poll_interval is not None:
            return super()._get_next_poke_interval(started_at, run_duration, poke_count)
        from datetime import datetime

        return self._wait.next_look(datetime.now(UTC))

    def _raise_unless_ended(self, status: str | None, message: str) -> None:
        from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException

        from airflow_claude_batch.failures import no_retry_when_final
        from airflow_claude_batch.waiting import raise_unless_ended

        if status == "ended":
            return
        if self.soft_fail:
            raise AirflowSkipException(message)
        if status == "timeout":
            raise AirflowSensorTimeout(message)
        with no_retry_when_final():
            raise_unless_ended(status, message)
