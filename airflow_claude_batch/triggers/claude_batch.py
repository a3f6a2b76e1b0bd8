"""Waiting for batches in the triggerer, where it costs no worker slot.

All waits on a connection share one poller (`batches.poller`); a trigger only listens, tells people how far
the wait has come, and fires once.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from airflow_claude_batch.batches.polling import Wait

log = logging.getLogger(__name__)
"""One for all: a logger for each of ten thousand triggers is a hundred thousand objects to collect."""

QUIET_HEARTBEATS = 2.0
"""No event before so many heartbeats of a worker: Airflow may fail a task that defers for less."""


class ClaudeBatchTrigger(BaseTrigger):
    """Fires when all batches of a job have ended, or when waiting has become pointless.

    The event is ``{"status", "batch_ids", "open_batch_ids", "counts", "progress", "message"}``; ``status`` is
    one of ``ended``, ``timeout``, ``overdue``, ``gone``, ``unknown``, ``refused``, and nothing but ``ended``
    means success. Arguments are stored in plain text in Airflow's database: ids, times, a connection's name.

    :param batch_ids: what to wait for
    :param conn_id: connection of type ``anthropic``
    :param started_at: when waiting began, ISO 8601
    :param known: whether a ledger knows the batches; then a 404 is taken for a passing fault
    :param timeout_at: when to give up, ISO 8601; None for the batches' own deadline
    :param poll_interval: fixed seconds between two looks; None for 15 s growing to 5 min
    :param cancel_on_kill: cancel the batches when a person ends the task (Airflow 3.3 and later; before,
        triggers are not told, and the batches go on)
    """

    def __init__(
        self,
        batch_ids: list[str],
        conn_id: str,
        started_at: str,
        known: bool = True,
        timeout_at: str | None = None,
        poll_interval: float | None = None,
        cancel_on_kill: bool = False,
    ) -> None:
        super().__init__()
        self.batch_ids = batch_ids
        self.conn_id = conn_id
        self.started_at = started_at
        self.known = known
        self.timeout_at = timeout_at
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self._wait: Wait | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return "airflow_claude_batch.triggers.claude_batch.ClaudeBatchTrigger", {
            "batch_ids": self.batch_ids,
            "conn_id": self.conn_id,
            "started_at": self.started_at,
            "known": self.known,
            "timeout_at": self.timeout_at,
            "poll_interval": self.poll_interval,
            "cancel_on_kill": self.cancel_on_kill,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Listen to the poller until it says that the wait is over."""
        from airflow_claude_batch.triggers.connection import poller_of

        poller = await poller_of(self.conn_id)
        wait = self._wait = self._begin()
        shown = _steps(wait)
        with poller.join(wait, quiet_seconds=self._quiet_seconds()) as seat:
            while (verdict := await seat.news()) is None:
                log.info("%s", wait.describe(_now()))
                if shown != _steps(wait):
                    shown = _steps(wait)
                    await self._publish(wait.progress)
        yield TriggerEvent(
            {
                "status": verdict,
                "batch_ids": self.batch_ids,
                "open_batch_ids": wait.open_ids,
                "counts": wait.counts,
                "progress": wait.progress,
                "message": wait.explain(verdict, self.conn_id, _now()),
            }
        )

    async def on_kill(self) -> None:
        """Cancel what nobody wants any more, if it was a person who ended the task."""
        from airflow_claude_batch.triggers.killing import cancel_if_unwanted

        wait = self._wait
        if not self.cancel_on_kill or (wait is not None and wait.verdict(_now()) is not None):
            return  # A wait that is over has failed or succeeded by itself, perhaps in another triggerer.
        await cancel_if_unwanted(self, self.conn_id, self.batch_ids if wait is None else wait.open_ids)

    def _begin(self) -> Wait:
        from airflow_claude_batch.batches.polling import Wait

        return Wait(
            batch_ids=self.batch_ids,
            started_at=datetime.datetime.fromisoformat(self.started_at),
            known=self.known,
            timeout_at=datetime.datetime.fromisoformat(self.timeout_at) if self.timeout_at else None,
            poll_interval=self.poll_interval,
        )

    def _quiet_seconds(self) -> float:
        from airflow.providers.common.compat.sdk import conf

        heartbeat = conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)
        waited = (_now() - datetime.datetime.fromisoformat(self.started_at)).total_seconds()
        return max(QUIET_HEARTBEATS * heartbeat - waited, 0.0)

    async def _publish(self, progress: dict[str, Any]) -> None:
        """Write the ``progress`` XCom; a wait never fails for that."""
        if self.task_instance is None:
            return
        try:
            await asyncio.to_thread(_write_progress, self.task_instance, progress)
        except Exception as error:  # noqa: BLE001  # it is for people's eyes only
            log.warning("Could not write the progress XCom: %s", error)


def _steps(wait: Wait) -> tuple[int, int]:
    """What must have changed to be worth a new XCom: most waits need none, a restart of thousands few."""
    progress = wait.progress
    return progress["ended"], progress["canceling"]


def _write_progress(ti: Any, progress: dict[str, Any]) -> None:
    # Imported here, in a thread: the first time takes seconds.
    from airflow.sdk.execution_time.xcom import XCom

    from airflow_claude_batch.waiting import PROGRESS, xcom_place

    XCom.set(key=PROGRESS, value=progress, **xcom_place(ti))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
