from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
import time_machine
from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_claude_batch import ClaudeBatchOperator
from airflow_claude_batch.common.steps import ComeBack
from airflow_claude_batch.operators.deferral import finish
from airflow_claude_batch.triggers.pause import PauseTrigger
from tests.operators.conftest import Try


@pytest.mark.parametrize("minutes", [-10, 0, 10])
def test_a_pause_is_as_long_as_the_worker_asks_whatever_its_clock_says(minutes: int) -> None:
    operator: Any = ClaudeBatchOperator(task_id="job", requests=["x"])
    real = datetime.datetime.now(datetime.UTC)
    with time_machine.travel(real + datetime.timedelta(minutes=minutes), tick=True):
        at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=0.3)
        with pytest.raises(TaskDeferred) as deferred:
            finish(operator, "anthropic_default", ComeBack(at=at), Try().context)
    trigger = deferred.value.trigger
    assert isinstance(trigger, PauseTrigger)

    async def seconds() -> float:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await asyncio.wait_for(anext(trigger.run()), 5)
        return loop.time() - begun

    assert 0.2 < asyncio.run(seconds()) < 3
