"""Which tasks a person has ended, asked once for all triggers that are told to stop at the same moment.

A thousand mapped waits of a run that is marked as failed have seconds to learn their states.
"""

from __future__ import annotations

import asyncio
from typing import Any
from weakref import WeakKeyDictionary

from airflow_claude_batch.common.task_state import ended_by_a_person, task_states, was_tried_again

GATHER_SECONDS = 0.5
"""How long a question waits for others about the same task."""

Key = tuple[str, str, str]
_asking: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Key, asyncio.Task[dict[str, str]]]] = (
    WeakKeyDictionary()
)


async def was_ended_by_a_person(ti: Any) -> bool:
    """Whether a person ended this very try, see `task_state.ended_by_a_person`.

    Raises:
        Exception: Whatever comes of asking Airflow.
    """
    questions = _asking.setdefault(asyncio.get_running_loop(), {})
    key = ti.dag_id, ti.run_id, ti.task_id
    if key not in questions:
        questions[key] = asyncio.create_task(_ask(key, questions))
    states = await asyncio.shield(questions[key])
    return ended_by_a_person(states, ti) and not await asyncio.to_thread(was_tried_again, ti)


async def _ask(key: Key, questions: dict[Key, asyncio.Task[dict[str, str]]]) -> dict[str, str]:
    await asyncio.sleep(GATHER_SECONDS)
    del questions[key]  # Who comes later asks again: the answer may not hold for its moment.
    return await asyncio.to_thread(task_states, *key)
