"""What was spent, from the book of costs: by DAG, tag, model and day; and how much of the budgets is used.

A user sees the costs of the DAGs that they may read, and of a budget no figure that holds other DAGs' costs.
"""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from airflow_claude_batch.batches.accounts.book import Book, Day
from airflow_claude_batch.batches.accounts.budgets import WindowBudget, scope_of, use_of, window_at
from airflow_claude_batch.batches.accounts.entries import Account
from airflow_claude_batch.batches.accounts.report import COLUMNS, table
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.common.settings import budget_timezone, storage_root
from airflow_claude_batch.options import Budget
from airflow_claude_batch.runtime.budgets import configured

FRESH = datetime.timedelta(minutes=1)
"""What was read of the book is good for so long: many open pages ask for it."""
MOST_ROWS = 200
"""Of one table; the dearest."""
MOST_TAGS = 20

_lock = threading.Lock()
_read: dict[tuple[str, str, str], tuple[datetime.datetime, Mapping[str, Day]]] = {}


def spending(
    dag_ids: Collection[str],
    now: datetime.datetime,
    *,
    period: str,
    dag_id: str | None = None,
    tag: str | None = None,
) -> dict[str, Any]:
    """Costs of today, the last seven days, or this month.

    Args:
        dag_ids: What the user may read.
        now: The moment.
        period: ``day``, ``week`` or ``month``.
        dag_id: Only this DAG.
        tag: Only jobs with it, ``team=growth``.
    """
    try:
        root, zone, budgets = storage_root(), budget_timezone(), configured()
        month = window_at("month", now, zone)
        today = window_at("day", now, zone).name
        week_ago = window_at("day", now - datetime.timedelta(days=6), zone).name
        days = _days(root, min(week_ago, month.first), today, now)
    except Exception as error:  # noqa: BLE001  # each store has its own; the rest of the page goes on
        return {"unavailable": type(error).__name__}
    name, _, value = (tag or "").partition("=")

    def keep(account: Account) -> bool:
        if account.dag_id not in dag_ids or (dag_id and account.dag_id != dag_id):
            return False
        return not tag or account.tags.get(name, "") == value

    first = {"day": today, "week": week_ago, "month": month.first}[period]
    chosen = {day: found for day, found in days.items() if day >= first}
    of_month = {day: found for day, found in days.items() if day >= month.first}
    return {
        "as_of": now.isoformat(),
        "zone": zone,
        "first": first,
        "last": today,
        "total": _total(table(chosen, "day", keep)),
        "by_dag": _named(chosen, "dag", keep),
        "by_model": _named(chosen, "model", keep),
        "by_day": _named(chosen, "day", keep),
        "by_tag": {name: _named(chosen, f"tag:{name}", keep) for name in _tags(days, dag_ids)},
        "month_usd": _total(table(of_month, "day", keep))["total_usd"],
        "projected_month_usd": _projected(of_month, keep, now, zone),
        "budgets": _budgets(budgets, days, dag_ids, now, zone),
    }


def _days(root: Folder, first: str, last: str, now: datetime.datetime) -> Mapping[str, Day]:
    place = root.url, first, last
    with _lock:
        known = _read.get(place)
        if known is not None and now - known[0] < FRESH:
            return known[1]
    found = Book(root).days(first, last)
    with _lock:
        _read.clear()
        _read[place] = now, found
    return found


def _accounts(days: Iterable[Day]) -> Iterable[Account]:
    for day in days:
        yield from day.accounts.values()


def _tags(days: Mapping[str, Day], dag_ids: Collection[str]) -> list[str]:
    """The names of tags of the DAGs that a user may read."""
    visible = (account for account in _accounts(days.values()) if account.dag_id in dag_ids)
    return sorted({name for account in visible for name in account.tags})[:MOST_TAGS]


def _named(days: Mapping[str, Day], by: str, keep: Callable[[Account], bool]) -> list[dict[str, Any]]:
    """Rows whose name is under ``name``, whatever they are by."""
    column = by.removeprefix("tag:")
    rows = table(days, by, keep)
    return [{"name": row[column], **{key: row[key] for key in COLUMNS}} for row in rows[:MOST_ROWS]]


def _total(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {key: sum(row[key] for row in rows) for key in COLUMNS}


def _projected(
    days: Mapping[str, Day], keep: Callable[[Account], bool], now: datetime.datetime, zone: str
) -> float:
    """This month at its pace so far, with what is under way; its first day counts as a whole one."""
    total = _total(table(days, "day", keep))
    month = window_at("month", now, zone)
    gone = max(now - month.begin, datetime.timedelta(days=1))
    return float((total["total_usd"] + total["reserved_usd"]) * ((month.end - month.begin) / gone))


def _budgets(
    budgets: list[Budget],
    days: Mapping[str, Day],
    dag_ids: Collection[str],
    now: datetime.datetime,
    zone: str,
) -> list[dict[str, Any]]:
    """The configured budgets over days and months, and what is used of them as far as the user may know."""
    found: dict[tuple[str, str, float], dict[str, Any]] = {}
    for budget in budgets:
        if budget.per == "job" or budget.max_usd is None:
            continue
        window = window_at(budget.per, now, zone)
        inside = [day for name, day in days.items() if window.first <= name <= window.last]
        for scope, accounts in _scopes(budget.scope, inside).items():
            readable = all(account.dag_id in dag_ids for account in accounts)
            if not readable and scope.startswith("dag:"):
                continue
            limit = WindowBudget(max_usd=float(budget.max_usd), per=budget.per, scope=scope)
            view: dict[str, Any] = {
                "scope": scope if readable else budget.scope,
                "per": budget.per,
                "window": window.name,
                "readable": readable,
            }
            if readable:
                use = use_of(limit, inside)
                view |= {
                    "max_usd": limit.max_usd,
                    "settled_usd": use.settled / PICO,
                    "reserved_usd": use.reserved / PICO,
                    "warn_at": float(budget.warn_at),
                }
            found[view["scope"], budget.per, limit.max_usd] = view
    return [found[key] for key in sorted(found)][:MOST_ROWS]


def _scopes(scope: str, days: Iterable[Day]) -> dict[str, list[Account]]:
    """The scopes that a budget has for the accounts of some days, each with these."""
    found: dict[str, list[Account]] = {}
    for account in _accounts(days):
        own = scope_of(scope, account)
        if own is not None:
            found.setdefault(own, []).append(account)
    return found
