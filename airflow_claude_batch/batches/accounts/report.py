"""Tables of what was spent, from the book."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from airflow_claude_batch.batches.accounts.book import Book, Day
from airflow_claude_batch.batches.accounts.entries import Account, Line
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.storage import Folder

COLUMNS = (
    "requests",
    "batch_usd",
    "direct_usd",
    "total_usd",
    "saved_by_batch_usd",
    "saved_by_cache_usd",
    "saved_by_reuse_usd",
    "reserved_usd",
    "unpriced_requests",
)
"""Of a row, besides its name."""
NONE = "(none)"
"""The name of jobs without the tag."""


def costs(root: Folder, *, by: str, since: str, until: str = "9999-12-31") -> list[dict[str, Any]]:
    """What was spent, the dearest first; by day in the order of days.

    Args:
        root: ``storage_path``.
        by: ``dag``, ``connection``, ``model``, ``day``, or ``tag:`` and the name of a tag.
        since: ``yyyy-mm-dd``, the first day.
        until: Likewise, the last.

    Returns:
        A row each with the name, under ``by`` without ``tag:``, and ``COLUMNS``; dollars and numbers.

    Raises:
        ConfigurationError: For another ``by``.
    """
    return table(Book(root).days(since, until), by)


def table(
    days: Mapping[str, Day], by: str, keep: Callable[[Account], bool] = lambda account: True
) -> list[dict[str, Any]]:
    """The rows of some days.

    Args:
        days: Of the book.
        by: See :func:`costs`.
        keep: Whose money counts.

    Raises:
        ConfigurationError: For another ``by``.
    """
    column = column_of(by)
    rows: dict[str, dict[str, Any]] = {}
    for day, found in days.items():
        for name, numbers in _rows_of(by, day, found, keep):
            row = rows.setdefault(name, {column: name} | dict.fromkeys(COLUMNS, 0))
            for key, number in numbers.items():
                row[key] += number
    if by == "day":
        ordered = sorted(rows.values(), key=lambda row: str(row[column]))
    else:
        ordered = sorted(
            rows.values(), key=lambda row: (-row["total_usd"], -row["reserved_usd"], row[column])
        )
    return [{key: _dollars(key, value) for key, value in row.items()} for row in ordered]


def column_of(by: str) -> str:
    """The column that names a row.

    Raises:
        ConfigurationError: For what costs are not known by.
    """
    kind, _, tag = by.partition(":")
    if kind == "tag" and tag:
        return tag
    if by not in ("dag", "connection", "model", "day"):
        raise ConfigurationError(
            f"Costs are not known by {by!r}; by dag, connection, model, day or tag:NAME."
        )
    return by


def _rows_of(
    by: str, day: str, found: Day, keep: Callable[[Account], bool]
) -> Iterator[tuple[str, dict[str, int]]]:
    for account, line in found.settled():
        if keep(account):
            yield _name(by, day, account, line.model), _numbers(line)
    for reservation in found.open.values():
        account = found.accounts[reservation.label]
        if keep(account):
            yield _name(by, day, account, NONE), {"reserved_usd": reservation.pico or 0}


def _numbers(line: Line) -> dict[str, int]:
    """Money by what it was spent on, and what was not spent."""
    numbers = {"requests": line.requests, "unpriced_requests": line.unpriced}
    if line.way == "reused":
        return numbers | {"saved_by_reuse_usd": line.standard_pico}
    way = "direct_usd" if line.way == "direct" else "batch_usd"
    saved = 0 if line.way == "direct" else line.standard_pico - line.pico
    return numbers | {
        way: line.pico,
        "total_usd": line.pico,
        "saved_by_batch_usd": saved,
        "saved_by_cache_usd": line.uncached_pico - line.pico,
    }


def _name(by: str, day: str, account: Account, model: str) -> str:
    if by.startswith("tag:"):
        return account.tags.get(by.partition(":")[2]) or NONE
    return {"dag": account.dag_id, "connection": account.conn_id, "model": model, "day": day}[by] or NONE


def _dollars(key: str, value: Any) -> Any:
    return value / PICO if key.endswith("_usd") else value
