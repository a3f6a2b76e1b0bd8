"""Jobs with an estimate, as far as the book is concerned."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import Any

from airflow_claude_batch.batches.accounts.book import Book
from airflow_claude_batch.batches.accounts.budgets import Use, WindowBudget, use_of, window_at
from airflow_claude_batch.batches.accounts.reservation import Calendar, Ruling, reserve
from airflow_claude_batch.batches.cost.spending import PICO, Spending
from airflow_claude_batch.batches.job.counts import Tally
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.part import DeliveryNote
from airflow_claude_batch.batches.storage import Folder
from tests.batches.helpers import records, started

NOON = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.UTC)
DAILY = WindowBudget(max_usd=150, per="day", scope="dag:reports")


def calendar(now: datetime.datetime = NOON, *, zone: str = "UTC", hours: float = 24) -> Calendar:
    return Calendar(now=now, zone=zone, expiry=datetime.timedelta(hours=hours))


def identity(number: int = 0, dag_id: str = "reports") -> Identity:
    return Identity(dag_id=dag_id, run_id="r", task_id="t", map_index=number)


@contextlib.contextmanager
def job_of(root: Folder, number: int = 0, *, usd: float | None = 1.0, **about: Any) -> Iterator[Job]:
    """The job of one of many task instances; ``about`` goes into its ledger."""
    with started(root, records(1), identity=identity(number, about.pop("dag_id", "reports"))) as job:
        if not job.ledger.estimate or usd is not None:
            unpriced = 0 if usd is not None else 1
            job.ledger.estimate = {
                "requests": 1,
                "total_usd": usd,
                "standard_usd": 2 * (usd or 0),
                "unpriced_requests": unpriced,
            }
        for name, value in about.items():
            setattr(job.ledger, name, value)
        yield job


def ask(
    root: Folder, number: int, *budgets: WindowBudget, now: datetime.datetime = NOON, **about: Any
) -> bool:
    """Reserve for one job; whether it may be sent."""
    with job_of(root, number, **about) as job:
        return passed(reserve(job, budgets, calendar(now)))


def passed(rulings: list[Ruling]) -> bool:
    return all(ruling.passed for ruling in rulings)


def mark_sent(job: Job) -> None:
    with job.change() as ledger:
        ledger.parts[0].batch_id = "msgbatch_1"


def deliver(job: Job, usd: float, *, model: str = "claude-haiku-4-5", requests: int = 1) -> None:
    """Note what the job's only part has cost."""
    pico = round(usd * PICO)
    spending = Spending(
        model=model, requests=requests, paid_pico=pico, standard_pico=2 * pico, uncached_pico=pico
    )
    with job.change() as ledger:
        tally = Tally(counts={"succeeded": requests}, spending=[spending])
        ledger.parts[0].delivery = DeliveryNote(key="k", tally=tally)


def use(root: Folder, budget: WindowBudget = DAILY, now: datetime.datetime = NOON, zone: str = "UTC") -> Use:
    window = window_at(budget.per, now, zone)
    return use_of(budget, Book(root).days(window.first, window.last).values())


def usd(pico: int) -> float:
    return pico / PICO
