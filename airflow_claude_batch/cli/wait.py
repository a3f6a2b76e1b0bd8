"""Waiting in a terminal, by the same policy as in the triggerer."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING

from airflow_claude_batch.batches.errors import UnknownBatchError, WaitError
from airflow_claude_batch.batches.waiting.wait import Wait
from airflow_claude_batch.cli.printing import progress

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import BatchesApi


def wait_until_ended(
    api: BatchesApi, batch_ids: list[str], *, poll_interval: float | None = None, at_once: bool = False
) -> None:
    """Return when all batches have ended.

    Args:
        api: Where they are.
        batch_ids: Which.
        poll_interval: Seconds between two looks; None for an interval that grows.
        at_once: Look once, and do not wait.

    Raises:
        UnknownBatchError: Where the API does not know one.
        WaitError: Where one has not ended ``at_once``, or waiting leads nowhere.
    """
    now = datetime.datetime.now(datetime.UTC)
    wait = Wait(batch_ids=batch_ids, started_at=now, poll_interval=poll_interval)
    _look_first(wait, api)
    with progress("Batches ended", len(batch_ids)) as update:
        while True:
            update(len(batch_ids) - len(wait.open_ids))
            now = datetime.datetime.now(datetime.UTC)
            verdict = wait.verdict(now)
            if verdict == "ended":
                return
            if verdict is not None:
                raise WaitError(wait.explain(verdict, api.conn_id, now))
            if at_once:
                raise WaitError(
                    f"{', '.join(wait.open_ids)}: not ended yet. Come back later, or say --wait; the API "
                    "ends a batch within 24 hours."
                )
            time.sleep(wait.next_look(now))
            _look(wait, api)


def _look_first(wait: Wait, api: BatchesApi) -> None:
    """A typing error is not waited for."""
    import anthropic

    for batch_id in wait.open_ids:
        try:
            wait.saw(api.retrieve(batch_id))
        except anthropic.NotFoundError:
            raise UnknownBatchError(
                f"The API does not know {batch_id} (connection {api.conn_id!r})."
            ) from None


def _look(wait: Wait, api: BatchesApi) -> None:
    for batch_id in wait.open_ids:
        try:
            wait.saw(api.retrieve(batch_id))
        except Exception as error:  # noqa: BLE001  # the policy decides
            wait.failed(error, datetime.datetime.now(datetime.UTC), batch_id)
