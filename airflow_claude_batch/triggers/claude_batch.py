"""Waiting for batches in the triggerer, where it costs no worker slot.

All waits on a connection share one poller (`waiting.poller`); a trigger only listens, tells people how far
the wait has come, and fires once.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from airflow_claude_batch.batches.api.foreign_text import foreign_text
from airflow_claude_batch.common.xcoms import PROGRESS, xcom_place
from airflow_claude_batch.triggers.connection import poller_of
from airflow_claude_batch.triggers.killing import cancel_if_unwanted

if TYPE_CHECKING:
    from airflow_claude_batch.batches.waiting.wait import Wait

log = logging.getLogger(__name__)
"""One for all: a logger for each of ten thousand triggers is a hundred thousand objects to collect."""

QUIET_HEARTBEATS = 2.0
"""No event before so many heartbeats of a worker: Airflow may fail a task that defers for less."""


class ClaudeBatchTrigger(BaseTrigger):
    """Fires when all batches of a job have ended, or when waiting has become pointless.

    The event is ``{"status", "batch_ids", "open_batch_ids", "counts", "progress", "message"}``. With status
    ``ended``, ``some`` (of its batches), ``due`` (the job goes on without its batches) or ``vanished`` (what
    only may have been the job's is deleted), the task goes on; with ``timeout``, ``overdue``, ``gone``,
    ``unknown`` or ``refused`` the wait has failed. Arguments are stored in plain text in Airflow's database:
    ids, times, flags, a connection's name.

    Args:
        batch_ids: What to wait for.
        conn_id: Connection of type ``anthropic``.
        started_at: When waiting began, ISO 8601.
        known: Whether a ledger knows the batches; then a 404 is taken for a passing fault.
        timeout_at: When to give up, ISO 8601; None for the batches' own deadline.
        poll_interval: Fixed seconds between two looks; None for 15 s growing to 5 min.
        cancel_on_kill: Cancel the batches when a person ends the task (Airflow 3.3 and later; before,
            triggers are not told, and the batches go on).
        unproved: Batches that may be somebody else's; they are not cancelled.
        also_unwanted: Further batches to cancel with them; they are not waited for.
        uncertain: Whether the batches only may be the job's; one that is deleted is not waited for any more.
        due_at: When the job goes on without batches that have not ended, ISO 8601.
        some_at: From when on it is enough that some batches have ended, ISO 8601.
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
        unproved: list[str] | None = None,
        also_unwanted: list[str] | None = None,
        uncertain: bool = False,
        due_at: str | None = None,
        some_at: str | None = None,
    ) -> None:
        super().__init__()
        self.batch_ids = batch_ids
        self.conn_id = conn_id
        self.started_at = started_at
        self.known = known
        self.timeout_at = timeout_at
        self.poll_interval = poll_interval
        self.cancel_on_kill = cancel_on_kill
        self.unproved = unproved or []
        self.also_unwanted = also_unwanted or []
        self.uncertain = uncertain
        self.due_at = due_at
        self.some_at = some_at
        self._wait: Wait | None = None

    @classmethod
    def of(
        cls,
        wait: Wait,
        conn_id: str,
        *,
        cancel_on_kill: bool,
        unproved: list[str] | None = None,
        also_unwanted: list[str] | None = None,
    ) -> ClaudeBatchTrigger:
        """The trigger that goes on with a wait that a worker has begun."""
        return cls(
            batch_ids=wait.batch_ids,
            conn_id=conn_id,
            started_at=wait.started_at.isoformat(),
            known=wait.known,
            timeout_at=wait.timeout_at.isoformat() if wait.timeout_at else None,
            poll_interval=wait.poll_interval,
            cancel_on_kill=cancel_on_kill,
            unproved=unproved,
            also_unwanted=also_unwanted,
            uncertain=wait.uncertain,
            due_at=wait.due_at.isoformat() if wait.due_at else None,
            some_at=wait.some_at.isoformat() if wait.some_at else None,
        )

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
            "unproved": self.unproved,
            "also_unwanted": self.also_unwanted,
            "uncertain": self.uncertain,
            "due_at": self.due_at,
            "some_at": self.some_at,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Listen to the poller until it says that the wait is over."""
        poller = await poller_of(self.conn_id)
        wait = self._wait = self._begin()
        shown = _steps(wait)
        with poller.subscribe(wait, quiet_seconds=self._quiet_seconds()) as subscription:
            while (verdict := await subscription.notification()) is None:
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
        wait = self._wait
        if not self.cancel_on_kill or (wait is not None and wait.verdict(_now()) is not None):
            return  # A wait that is over has failed or succeeded by itself, perhaps in another triggerer.
        open_ids = self.batch_ids if wait is None else wait.open_ids
        unwanted = [batch_id for batch_id in open_ids if batch_id not in self.unproved]
        unwanted += self.also_unwanted
        await cancel_if_unwanted(self, self.conn_id, unwanted)

    def _begin(self) -> Wait:
        from airflow_claude_batch.batches.waiting.wait import Wait

        return Wait(
            batch_ids=self.batch_ids,
            started_at=datetime.datetime.fromisoformat(self.started_at),
            known=self.known,
            uncertain=self.uncertain,
            due_at=_moment(self.due_at),
            some_at=_moment(self.some_at),
            timeout_at=_moment(self.timeout_at),
            poll_interval=self.poll_interval,
        )

    def _quiet_seconds(self) -> float:
        from airflow.providers.common.compat.sdk import conf

        heartbeat = conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0)
        quiet = QUIET_HEARTBEATS * heartbeat
        waited = (_now() - datetime.datetime.fromisoformat(self.started_at)).total_seconds()
        # The worker's clock said when it began; one that is ahead must not make the wait longer.
        return min(max(quiet - waited, 0.0), quiet)

    async def _publish(self, progress: dict[str, Any]) -> None:
        """Write the ``progress`` XCom; a wait never fails for that."""
        if self.task_instance is None:
            return
        try:
            await asyncio.to_thread(_write_progress, self.task_instance, progress)
        except Exception as error:  # noqa: BLE001  # it is for people's eyes only
            log.warning("Could not write the progress XCom: %s", foreign_text(error))


def _moment(text: str | None) -> datetime.datetime | None:
    return datetime.datetime.fromisoformat(text) if text else None


def _steps(wait: Wait) -> tuple[int, int]:
    """What must have changed to be worth a new XCom: most waits need none, a restart of thousands few."""
    progress = wait.progress
    return progress["ended"], progress["canceling"]


def _write_progress(ti: Any, progress: dict[str, Any]) -> None:
    # Imported here, in a thread: the first time takes seconds.
    from airflow.sdk.execution_time.xcom import XCom

    XCom.set(key=PROGRESS, value=progress, **xcom_place(ti))


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
