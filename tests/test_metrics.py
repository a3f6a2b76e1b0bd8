from __future__ import annotations

import asyncio
import datetime
import json
from typing import Any

import pytest

from airflow_claude_batch.common.metrics import AirflowMetrics
from airflow_claude_batch.emulator.testing import RETRIEVE, Emulator
from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger
from tests.batches.waits import answered, create, run


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any, Any]]:
    """What reaches Airflow's own metrics."""
    from airflow.providers.common.compat.sdk import Stats

    sent: list[tuple[str, Any, Any]] = []
    for kind in ("incr", "gauge", "timing"):
        monkeypatch.setattr(
            Stats, kind, lambda name, value=1, *, tags=None: sent.append((name, value, tags)), raising=False
        )
    return sent


def test_a_wait_is_counted_in_airflows_own_metrics(
    claude_batch_emulator: Emulator, monkeypatch: pytest.MonkeyPatch, sent: list[tuple[str, Any, Any]]
) -> None:
    emulator = claude_batch_emulator
    connection = {"conn_type": "anthropic", "password": "test-key", "host": emulator.url}
    monkeypatch.setenv("AIRFLOW_CONN_COUNTED", json.dumps(connection))

    async def test() -> None:
        [batch_id] = create(emulator)
        emulator.fault("status", path=RETRIEVE, status=500)
        began = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)).isoformat()
        trigger = ClaudeBatchTrigger([batch_id], "counted", began, poll_interval=0.3)
        wait = asyncio.create_task(anext(aiter(trigger.run())))
        await answered(emulator, 2)
        emulator.end(batch_id)
        assert (await wait).payload["status"] == "ended"

    run(test())
    values = {name: value for name, value, _ in sent}
    assert set(values) == {
        f"claude_batch.{name}"
        for name in ("polls", "poll_errors", "waits", "oldest_wait_seconds", "batch_duration")
    }
    assert values["claude_batch.oldest_wait_seconds"] >= 60
    assert values["claude_batch.batch_duration"] > datetime.timedelta(0)
    assert all(tags == {"conn_id": "counted"} for _, _, tags in sent)


def test_metrics_that_cannot_be_sent_fail_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.common.compat.sdk import Stats

    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no such host")

    monkeypatch.setattr(Stats, "incr", refuse, raising=False)
    AirflowMetrics("any").incr("polls")
