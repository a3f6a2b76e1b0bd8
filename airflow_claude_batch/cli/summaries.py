"""A summary of a delivery, as a person reads it."""

from __future__ import annotations

from typing import Any

from airflow_claude_batch.cli.printing import note, print_facts


def print_summary(summary: dict[str, Any], output: str) -> None:
    """Print what a delivery came to; in a table only what is of use there."""
    facts = summary
    if output in ("table", "plain"):
        counts = {name: number for name, number in summary["counts"].items() if number}
        facts = {
            "counts": counts,
            "errors": summary["errors"],
            "cost_usd": summary["cost"]["total_usd"],
            "saved_usd": summary["cost"]["saved_usd"],
            "succeeded": summary["succeeded_path"],
            "errored": summary["errored_path"],
            "summary": summary["summary_path"],
        }
        for warning in summary["warnings"]:
            note(warning)
    print_facts(facts, {}, output)
