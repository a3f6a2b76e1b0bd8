"""Waiting for batches in the triggerer, where it costs no worker slot."""

from __future__ import annotations

import asyncio
import datetime
import random
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent


class ClaudeBatchTrigger(BaseTrigger):
    """Fires when all batches of a job have ended, or when waiting has become pointless.

    The event is ``{"status", "batch_ids", "counts", "message"}``; ``status`` is one of ``ended``,
    ``timeout``, ``overdue``, ``unknown``, ``refused``, and nothing but ``ended`` means success.
    Arguments are stored in plain text in Airflow's database: ids, times and the connection's name.

    :param batch_ids: what to wait for
    :param conn_id: connection of type ``anthropic``
    :param started_at: when waiting began, ISO 8601
    :param known: whether a ledger knows the batches; then a 404 is taken for a passing fault
    :param timeout_at: when to give up, ISO 8601; None for the batches' own deadline
    :param poll_interval: fixed seconds between two looks; None for 15 s growing to 5 min
    """

    def __init__(
        self,
        batch_ids: list[str],
        conn_id: str,
        started_at: str,
        known: bool = True,
        timeout_at: str | None = None,
        poll_interval: float | None = None,
    ) -> None:
        super().__init__()
        self.batch_ids = batch_ids
        self.conn_id = conn_id
        self.started_at = started_at
        self.known = known
        self.timeout_at = timeout_at
        self.poll_interval = poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class path and arguments."""
        return "airflow_claude_batch.triggers.claude_batch.ClaudeBatchTrigger", {
            "batch_ids": self.batch_ids,
            "conn_id": self.conn_id,
            "started_at": self.started_at,
            "known": self.known,
            "timeout_at": self.timeout_at,
            "poll_interval": self.poll_interval,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look now and then until the policy says that the wait is over."""
        from airflow_claude_batch.batches.polling import Wait
        from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook

        wait = Wait(
            batch_ids=self.batch_ids,
            started_at=datetime.datetime.fromisoformat(self.started_at),
            known=self.known,
            timeout_at=datetime.datetime.fromisoformat(self.timeout_at) if self.timeout_at else None,
            poll_interval=self.poll_interval,
        )
        api = await ClaudeBatchHook(self.conn_id).get_async_batches()
        try:
            while (verdict := wait.verdict(_now())) is None:
                await asyncio.sleep(wait.next_look(_now()) * random.uniform(0.9, 1.1))
                news = False
                for batch_id in wait.open_ids:
                    try:
                        news |= wait.saw(await api.retrieve(batch_id))
                    except Exception as error:  # noqa: BLE001  # the policy decides
                        wait.failed(batch_id, error, _now())
                        self.log.warning("Could not look at %s: %s", batch_id, error)
                if news:
                    self.log.info("%s", wait.describe(_now()))
        finally:
            await api.close()
        yield TriggerEvent(
            {
                "status": verdict,
                "batch_ids": self.batch_ids,
                "counts": wait.counts,
                "message": wait.explain(verdict, self.conn_id, _now()),
            }
        )


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
