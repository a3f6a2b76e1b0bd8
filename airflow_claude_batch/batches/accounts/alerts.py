"""Alerts about budgets: each is raised once a window, by whoever creates its file.

``costs/alerts/2026-11.{budget}.warning.json``; triggers and people look there.
"""

from __future__ import annotations

import datetime
import secrets
from typing import Any

import msgspec

from airflow_claude_batch.batches.accounts.budgets import Use, Window, WindowBudget
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.storage import Folder

WARNING, EXCEEDED = "warning", "exceeded"


class Alert(msgspec.Struct, kw_only=True):
    """That a budget is nearly or fully used."""

    kind: str
    """``warning``, or ``exceeded``: a job was refused, or more was paid than the budget allows."""
    window: str
    budget: WindowBudget
    settled_usd: float
    reserved_usd: float
    job: str
    """URL of the job that brought it there."""
    at: datetime.datetime
    token: str = msgspec.field(default_factory=lambda: secrets.token_hex(8))
    """Tells the writers apart."""

    def __str__(self) -> str:
        what = f"is used to {self.share:.0%}"
        if self.kind == EXCEEDED:
            what = "is exceeded" if self.share > 1 else "has no room for a job"
        return (
            f"{self.budget} {what} in {self.window}: ${self.settled_usd:.4f} paid, "
            f"${self.reserved_usd:.4f} reserved"
        )

    @property
    def share(self) -> float:
        """How much of the budget is used."""
        used = self.settled_usd + self.reserved_usd
        return used / self.budget.max_usd if self.budget.max_usd else 1.0


_decode = msgspec.json.Decoder(Alert).decode


def alert_of(budget: WindowBudget, window: Window, use: Use, *, refused: bool, job: str) -> Alert | None:
    """What there is to say about a budget; None for nothing."""
    if refused or use.pico > budget.pico:
        kind = EXCEEDED
    elif use.pico >= budget.warn_at * budget.pico:
        kind = WARNING
    else:
        return None
    return Alert(
        kind=kind,
        window=window.name,
        budget=budget,
        settled_usd=use.settled / PICO,
        reserved_usd=use.reserved / PICO,
        job=job,
        at=datetime.datetime.now(datetime.UTC),
    )


def raise_once(root: Folder, alert: Alert) -> bool:
    """Write an alert down; whether it is the first of its kind in its window."""
    name = f"{alert.window}.{alert.budget.id}.{alert.kind}.json"
    folder = alerts_folder(root)
    return not folder.exists(name) and folder.create(name, msgspec.json.encode(alert))


def alerts_folder(root: Folder) -> Folder:
    """Where they lie."""
    return root.child("costs", "alerts")


def as_event(alert: Alert) -> dict[str, Any]:
    """For people's own code: plain values, and a sentence."""
    event: dict[str, Any] = msgspec.to_builtins(alert) | {"message": str(alert)}
    del event["token"]
    return event


def read_alert(root: Folder, name: str) -> Alert:
    """One that was written down."""
    return _decode(alerts_folder(root).read(name))
