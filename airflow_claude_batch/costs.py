"""What was spent, for tasks and people: tables from the book under ``storage_path``.

@task
def table() -> str:
return format_costs(read_costs(by="tag:team", since="2026-11-01"))
"""

from __future__ import annotations

import csv
import datetime
import io
from collections.abc import Iterable, Sequence
from typing import Any

from airflow_claude_batch.batches.errors import ConfigurationError

NAMES = {
    "requests": "requests",
    "total_usd": "cost $",
    "direct_usd": "of it direct $",
    "saved_by_batch_usd": "saved by batch $",
    "saved_by_cache_usd": "by cache $",
    "saved_by_reuse_usd": "by reuse $",
    "reserved_usd": "reserved $",
    "unpriced_requests": "without a price",
}
"""Columns of the table for people, and how they are called there."""


def read_costs(
    by: str = "dag",
    since: str | None = None,
    until: str | None = None,
    storage_path: str | None = None,
) -> list[dict[str, Any]]:
    """What was spent, in US dollars; the days are those of ``[claude_batch] budget_timezone``.

    Args:
        by: ``dag``, ``connection``, ``model``, ``day``, or ``tag:`` and the name of a tag.
        since: The first day, ``yyyy-mm-dd``; None for today.
        until: The last day, likewise; None for no end.
        storage_path: Instead of ``[claude_batch] storage_path``.

    Returns:
        A row each, the dearest first: its name, ``requests``, ``batch_usd``, ``direct_usd``, ``total_usd``,
        ``saved_by_batch_usd``, ``saved_by_cache_usd``, ``saved_by_reuse_usd``, ``reserved_usd`` (estimates of
        what is under way) and ``unpriced_requests``. A job counts on the day that it was sent.

    Raises:
        ConfigurationError: For another ``by``, or a day that is none.
    """
    from airflow_claude_batch.batches.accounts.budgets import window_at
    from airflow_claude_batch.batches.accounts.report import costs
    from airflow_claude_batch.common.settings import budget_timezone, storage_root

    today = window_at("day", datetime.datetime.now(datetime.UTC), budget_timezone()).name
    root = storage_root(storage_path)
    return costs(root, by=by, since=_day(since or today), until=_day(until or "9999-12-31"))


def _day(text: str) -> str:
    try:
        return datetime.date.fromisoformat(text).isoformat()
    except ValueError:
        raise ConfigurationError(f"{text[:40]!r} is no day; days are written 2026-11-28.") from None


def format_costs(rows: Sequence[dict[str, Any]]) -> str:
    """A table for people, with a sum below it.

    Args:
        rows: Of ``read_costs``.
    """
    if not rows:
        return "Nothing was spent."
    first = next(iter(rows[0]))
    always = ("requests", "total_usd")
    shown = [first, *(name for name in NAMES if name in always or any(row[name] for row in rows))]
    total = {first: "all"} | {name: sum(row[name] for row in rows) for name in shown[1:]}
    table = [[NAMES.get(name, name) for name in shown]]
    table += [[_text(name, row[name]) for name in shown] for row in [*rows, total]]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = [_aligned(row, widths) for row in table]
    return "\n".join([lines[0], *lines[1:-1], "-" * len(lines[0]), lines[-1]])


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *numbers = zip(cells, widths, strict=True)
    return "  ".join([first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in numbers)]).rstrip()


def _text(name: str, value: Any) -> str:
    if name.endswith("_usd"):
        return f"{value:,.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _plain(value: Any) -> Any:
    """A number of dollars without an exponent, which not every spreadsheet reads."""
    return f"{value:.12f}".rstrip("0").rstrip(".") if isinstance(value, float) else value


def costs_as_csv(rows: Iterable[dict[str, Any]]) -> str:
    """The rows as CSV with a header; dollars with all their digits.

    Args:
        rows: Of ``read_costs``.
    """
    rows = list(rows)
    file = io.StringIO()
    if rows:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return file.getvalue()
