from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

CONN_ID = "anthropic_default"


@dataclass
class Try:
    """One try of a task instance, for calling an operator's execute directly: Airflow's part in it."""

    task_id: str = "submit"
    run_id: str = "run-1"
    dag_id: str = "dag"
    map_index: int = -1
    try_number: int = 1
    max_tries: int = 0
    conf: dict[str, Any] = field(default_factory=dict)
    pushed: dict[str, Any] = field(default_factory=dict)

    @property
    def context(self) -> Any:
        ti = SimpleNamespace(
            dag_id=self.dag_id,
            task_id=self.task_id,
            run_id=self.run_id,
            map_index=self.map_index,
            try_number=self.try_number,
            max_tries=self.max_tries,
            xcom_push=lambda key, value: self.pushed.__setitem__(key, value),
            xcom_pull=lambda task_ids, key, map_indexes: self.pushed.get(key),
        )
        dag_run = SimpleNamespace(conf=self.conf)
        return {"ti": ti, "dag_run": dag_run, "params": {"n": 3}, "ds": "2026-11-22"}
