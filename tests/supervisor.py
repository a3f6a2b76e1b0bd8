"""Airflow's side of the questions that code under `on_kill` asks: for task states, and for an XCom."""

from __future__ import annotations

import time
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import GetXCom, TaskStatesResult, XComResult


class TaskInstance:
    """The one that is told to stop."""

    dag_id, run_id, task_id, map_index, try_number = "d", "r", "t", -1, 1


class Supervisor:
    """Answers that the task instance is in this state; in a fresh triggerer that takes seconds.

    Args:
        latest_try: the last one that has begun; None where an operator of others' does not say so.
    """

    def __init__(self, state: str, seconds: float = 0.0, latest_try: int | None = 1) -> None:
        self.state = state
        self.seconds = seconds
        self.latest_try = latest_try

    def send(self, question: Any) -> TaskStatesResult | XComResult:
        time.sleep(self.seconds)
        if isinstance(question, GetXCom):
            return XComResult(key=question.key, value=self.latest_try)
        return TaskStatesResult(task_states={TaskInstance.run_id: {TaskInstance.task_id: self.state}})

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where Airflow has its own."""
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", self, raising=False)
