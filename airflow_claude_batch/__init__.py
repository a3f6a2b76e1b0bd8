"""Claude message batches in Apache Airflow: submit, wait without a worker slot, deliver, never pay twice.

The public names are importable from here; each module is loaded when its name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "AnswerPolicy": "options",
    "Answers": "table_sources",
    "BadRecords": "options",
    "Budget": "options",
    "ClaudeBatchBudgetTrigger": "triggers.budget_alert",
    "ClaudeBatchEndedTrigger": "triggers.batch_ended",
    "ClaudeBatchHook": "hooks.claude_batch",
    "ClaudeBatchOperator": "operators.claude_batch",
    "ClaudeBatchResultsOperator": "operators.results",
    "ClaudeBatchSensor": "sensors.claude_batch",
    "ClaudeBatchSubmitOperator": "operators.submit",
    "ClaudeBatchTrigger": "triggers.claude_batch",
    "Documents": "sources",
    "Files": "sources",
    "Limits": "options",
    "PromptCache": "options",
    "Recovery": "options",
    "Resubmission": "options",
    "Reuse": "options",
    "Schema": "batches.requests.output_schema",
    "Sql": "table_sources",
    "Trial": "options",
    "claude_batch_task": "decorators.claude_batch",
    "format_costs": "costs",
    "read_costs": "costs",
    "read_errored": "results",
    "read_succeeded": "results",
    "to_arrow": "results",
    "to_pandas": "results",
}

__all__ = [
    "AnswerPolicy",
    "Answers",
    "BadRecords",
    "Budget",
    "ClaudeBatchBudgetTrigger",
    "ClaudeBatchEndedTrigger",
    "ClaudeBatchHook",
    "ClaudeBatchOperator",
    "ClaudeBatchResultsOperator",
    "ClaudeBatchSensor",
    "ClaudeBatchSubmitOperator",
    "ClaudeBatchTrigger",
    "Documents",
    "Files",
    "Limits",
    "PromptCache",
    "Recovery",
    "Resubmission",
    "Reuse",
    "Schema",
    "Sql",
    "Trial",
    "claude_batch_task",
    "format_costs",
    "read_costs",
    "read_errored",
    "read_succeeded",
    "to_arrow",
    "to_pandas",
]

if TYPE_CHECKING:
    from airflow_claude_batch.batches.requests.output_schema import Schema
    from airflow_claude_batch.costs import format_costs, read_costs
    from airflow_claude_batch.decorators.claude_batch import claude_batch_task
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
    from airflow_claude_batch.operators.claude_batch import ClaudeBatchOperator
    from airflow_claude_batch.operators.results import ClaudeBatchResultsOperator
    from airflow_claude_batch.operators.submit import ClaudeBatchSubmitOperator
    from airflow_claude_batch.options import (
        AnswerPolicy,
        BadRecords,
        Budget,
        Limits,
        PromptCache,
        Recovery,
        Resubmission,
        Reuse,
        Trial,
    )
    from airflow_claude_batch.results import read_errored, read_succeeded, to_arrow, to_pandas
    from airflow_claude_batch.sensors.claude_batch import ClaudeBatchSensor
    from airflow_claude_batch.sources import Documents, Files
    from airflow_claude_batch.table_sources import Answers, Sql
    from airflow_claude_batch.triggers.batch_ended import ClaudeBatchEndedTrigger
    from airflow_claude_batch.triggers.budget_alert import ClaudeBatchBudgetTrigger
    from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
