"""Money that a task instance's earlier jobs cost is said by the one that replaces them."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import pytest

from airflow_claude_batch.batches.cost.spending import Spending
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.counts import Tally
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import DeliveryNote, Part
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.runtime.earlier_jobs import paid_before

if TYPE_CHECKING:
    from pathlib import Path


def store(
    home: Folder, number: int, *, batch: str | None, delivered: bool = False, reused: int = 0
) -> Folder:
    folder = home.child(f"job-{number}")
    tally = Tally(counts={"succeeded": 10}, spending=[Spending(model="m", paid_pico=49_000_000_000)])
    note = DeliveryNote(key="k", tally=tally) if delivered else None
    part = Part(requests="r", inputs="i", request_count=10, bytes=1, batch_id=batch, delivery=note)
    ledger = Ledger(
        version=ledgers.VERSION, job=folder.url, created_at=datetime.datetime.now(datetime.UTC), spooled=True,
        request_count=10 + reused, estimate={"requests": 10, "total_usd": 0.02}, parts=[part],
    )  # fmt: skip
    ledgers.save(folder, ledger)
    return folder


def test_delivered_jobs_count_by_their_cost_and_others_by_their_estimate(tmp_path: Path) -> None:
    home = Folder.at(tmp_path.as_uri())
    store(home, 1, batch="msgbatch_1", delivered=True)
    store(home, 2, batch="msgbatch_2", reused=90)  # none of them is in the estimate
    store(home, 3, batch=None)
    newest = store(home, 4, batch="msgbatch_4")
    found = paid_before(newest)
    assert found is not None
    assert found["jobs"] == 2
    assert found["usd"] == pytest.approx(0.069)
    assert found["estimated_usd"] == pytest.approx(0.02)


def test_a_first_job_has_none_before_it(tmp_path: Path) -> None:
    assert paid_before(store(Folder.at(tmp_path.as_uri()), 1, batch="msgbatch_1")) is None
