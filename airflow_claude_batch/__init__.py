"""Claude message batches in Apache Airflow: submit, wait without a worker slot, deliver, never pay twice.

The public names are importable from here; each module is loaded when its name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "ClaudeBatchHook": "hooks.claude_batch",
    "ClaudeBatchOperator": "operators.claude_batch",
    "ClaudeBatchResultsOperator": "operators.results",
    "ClaudeBatchSensor": "sensors.claude_batch",
    "ClaudeBatchSubmitOperator": "operators.submit",
    "ClaudeBatchTrigger": "triggers.claude_batch",
    "Documents": "sources",
    "Files": "sources",
}

__all__ = [
    "ClaudeBatchHook",
    "ClaudeBatchOperator",
    "ClaudeBatchResultsOperator",
    "ClaudeBatchSensor",
    "ClaudeBatchSubmitOperator",
    "ClaudeBatchTrigger",
    "Documents",
    "Files",
]

if TYPE_CHECKING:
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
    from airflow_claude_batch.operators.claude_batch import ClaudeBatchOperator
    from airflow_claude_batch.operators.results import ClaudeBatchResultsOperator
    from airflow_claude_batch.operators.submit import ClaudeBatchSubmitOperator
    from airflow_claude_batch.sensors.claude_batch import ClaudeBatchSensor
    from airflow_claude_batch.sources import Documents, Files
    from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
