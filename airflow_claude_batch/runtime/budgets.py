"""Budgets, as tasks meet them: what a job may not exceed, and who is to be told."""

from __future__ import annotations

import datetime
import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.batches.accounts.alerts import EXCEEDED, Alert, as_event
from airflow_claude_batch.batches.accounts.budgets import WindowBudget, scope_of
from airflow_claude_batch.batches.accounts.entries import Account, account_of
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.common.settings import configured_budgets
from airflow_claude_batch.options import Budget

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.job.ledger import Ledger

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Budgets:
    """All that a job may not exceed."""

    of_job: list[float] = field(default_factory=list)
    """US dollars that it may cost itself."""
    of_window: list[WindowBudget] = field(default_factory=list)
    callbacks: dict[str, list[Any]] = field(default_factory=dict)
    """By a budget's id: whom to call when a job does not fit."""

    @classmethod
    def of(cls, own: Budget | None, ledger: Ledger) -> Budgets:
        """The task's own budget and the configured ones, as far as they are about a job.

        Args:
            own: The task's.
            ledger: The job's.

        Raises:
            ConfigurationError: For a configured one that is none.
        """
        found, account = cls(), account_of(ledger)
        for budget in [*([own] if own is not None else []), *configured()]:
            if budget.max_usd is None:
                continue
            if budget.per == "job":
                found.of_job.append(float(budget.max_usd))
                found._call_for(one_job(float(budget.max_usd), account), budget)
                continue
            scope = scope_of(budget.scope, account)
            if scope is None:
                continue
            window_budget = WindowBudget(
                max_usd=float(budget.max_usd),
                per=budget.per,
                scope=scope,
                on_exceeded=budget.on_exceeded,
                warn_at=float(budget.warn_at),
                configured=budget is not own,
            )
            if all(known.id != window_budget.id for known in found.of_window):
                found.of_window.append(window_budget)
            found._call_for(window_budget, budget)
        return found

    def _call_for(self, known: WindowBudget, budget: Budget | None) -> None:
        if budget is not None and budget.on_budget_exceeded is not None:
            self.callbacks.setdefault(known.id, []).append(budget.on_budget_exceeded)

    @classmethod
    def booked(cls, ledger: Ledger, declared: Budget | None = None) -> Budgets:
        """The task's own that a job was submitted under, and those that are configured now.

        Args:
            ledger: The job's.
            declared: The task's own as its DAG declares it, for whom to call: no ledger can hold a function.
        """
        found = cls.of(None, ledger)
        if ledger.booking is not None:
            booked = msgspec.convert(ledger.booking.budgets, list[WindowBudget])
            own = [budget for budget in booked if not budget.configured]
            known = {budget.id for budget in own}
            of_window = [*own, *(one for one in found.of_window if one.id not in known)]
            found = replace(found, of_window=of_window)
            for budget in own:
                found._call_for(budget, declared)
        if ledger.max_usd is not None:
            found.of_job.append(ledger.max_usd)
            if declared is not None and declared.per == "job":
                found._call_for(one_job(ledger.max_usd, account_of(ledger)), declared)
        return found

    def tell_too_dear(self, ledger: Ledger, limit: float, why: str) -> None:
        """Call who wants to know that a job would cost more than one may.

        Args:
            ledger: The job's.
            limit: Which of `of_job` it is beyond.
            why: In words.
        """
        budget = one_job(limit, account_of(ledger))
        alert = Alert(
            kind=EXCEEDED,
            window=ledger.run_id,
            budget=budget,
            settled_usd=0.0,
            reserved_usd=0.0,
            job=ledger.job,
            at=datetime.datetime.now(datetime.UTC),
        )
        for callback in self.callbacks.get(budget.id, ()):
            call(callback, as_event(alert) | {"message": why})

    @property
    def exist(self) -> bool:
        """Whether the estimate has to be a good one."""
        return bool(self.of_job or self.of_window)


def one_job(max_usd: float, account: Account) -> WindowBudget:
    """A bound for a single job, as alerts name it."""
    return WindowBudget(max_usd=max_usd, per="job", scope=f"dag:{account.dag_id}")


def configured() -> list[Budget]:
    """The budgets of ``[claude_batch] budgets``.

    Raises:
        ConfigurationError: For one that is none.
    """
    known = {field.name for field in fields(Budget)} - {"direct_max_usd", "expected_output_tokens", "probe"}
    budgets = []
    for number, one in enumerate(configured_budgets(), 1):
        try:
            if unknown := sorted(one.keys() - known):
                raise ValueError(f"{', '.join(unknown)} is unknown; it has {', '.join(sorted(known))}")
            budgets.append(Budget(**one))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"[claude_batch] budgets, item {number}: {error}. Nothing was sent."
            ) from None
    return budgets


def declared_budget(context: Context, ledger: Ledger) -> Budget | None:
    """The budget of the task that submitted a job, as the DAG that delivers it declares it; None elsewhere.

    Args:
        context: Airflow's, of the task that delivers.
        ledger: The job's.
    """
    dag: Any = context.get("dag")
    if dag is None or dag.dag_id != ledger.dag_id:
        return None
    submitting = dag.task_dict.get(ledger.task_id)
    budget = getattr(submitting, "budget", None) or getattr(submitting, "partial_kwargs", {}).get("budget")
    return budget if isinstance(budget, Budget) else None


def call(callback: Callable[[dict[str, Any]], None] | str, alert: dict[str, Any]) -> None:
    """Tell who wants to know; what that comes to decides nothing.

    Args:
        callback: A function, or its name with its module's.
        alert: What is known.
    """
    try:
        if isinstance(callback, str):
            module, _, name = callback.rpartition(".")
            getattr(importlib.import_module(module), name)(alert)
        else:
            callback(alert)
    except Exception as error:  # noqa: BLE001  # whoever is told must not decide about the job
        log.error("on_budget_exceeded has failed: %s", type(error).__name__)
