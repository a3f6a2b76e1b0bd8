"""Airflow's side of the question for task states, which code under `on_kill` asks."""

from __future__ import annotations

import time
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import TaskStatesResult


class TaskInstance:
    """The one that is told to stop."""

    dag_id, run_id, task_id, map_index = "d", "r", "t", -1


class Supervisor:
    """Answers that the task instance is in this state; in a fresh triggerer that takes seconds."""

    def __init__(self, state: str, seconds: float = 0.0) -> None:
        self.state = state
        self.seconds = seconds

    def send(self, question: Any) -> TaskStatesResult:
        time.sleep(self.seconds)
        return TaskStatesResult(task_states={TaskInstance.run_id: {TaskInstance.task_id: self.state}})

    def install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where Airflow has its own."""
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", self, raising=False)
