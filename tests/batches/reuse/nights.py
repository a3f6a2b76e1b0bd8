"""Jobs of one task on several nights, without Airflow: each is stored, sent, answered and delivered."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.reuse.job_answers import JobAnswers
from airflow_claude_batch.batches.reuse.router import LookUp
from airflow_claude_batch.batches.reuse.store import Scope, Store
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.delivering import deliver, delivery_to, read_both, submit_all

MONTH = datetime.timedelta(days=30)
DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 1000}


def rows(numbers: Any, prompt: str = "Count to") -> list[dict[str, Any]]:
    return [{"custom_id": f"r-{n}", "prompt": f"{prompt} {n}.", "n": n, **DEFAULTS} for n in numbers]


def store_of(root: Folder, name: str = "dag", task_id: str = "ask") -> Store:
    return Store.of(Scope(name=name, dag_id="reports", task_id=task_id, conn_id="anthropic_default"), root)


class Nights:
    def __init__(self, root: Folder, api: BatchesApi, emulator: Emulator, path: Path) -> None:
        self.root, self.api, self.emulator, self.path = root, api, emulator, path
        self.max_age: datetime.timedelta | None = MONTH

    def store(self, root: Folder | None = None) -> Store:
        return store_of(root or self.root)

    def identity(self, night: int | str) -> Identity:
        return Identity(dag_id="reports", run_id=f"night-{night}", task_id="ask")

    def submit(self, night: int | str, requests: Any, *, root: Folder | None = None, **options: Any) -> str:
        """Store and send; returns the job's URL."""
        reuse = LookUp(
            store=self.store(root),
            max_age=self.max_age,
            betas=(),
            version=options.pop("version", None),
            part_requests=100_000,
            go_on=options.pop("go_on", False),
            ask_all=options.pop("ask_all", False),
        )
        identity = self.identity(night)
        return submit_all(root or self.root, self.api, requests, identity=identity, reuse=reuse, **options)

    def deliver(
        self, night: int | str, url: str, *, root: Folder | None = None, generation: int = 1, **options: Any
    ) -> dict[str, Any]:
        store = self.store(root)
        reuse = JobAnswers(store=store, max_age=self.max_age)
        delivery = delivery_to(self.out(night), self.api, reuse=reuse, **options)
        return deliver(root or self.root, url, delivery, self.emulator, generation=generation)

    def run(self, night: int | str, requests: Any, **options: Any) -> dict[str, Any]:
        return self.deliver(night, self.submit(night, requests), **options)

    def out(self, night: int | str) -> Path:
        return self.path / f"out-{night}"

    def records(self, night: int | str) -> tuple[dict[str, Any], dict[str, Any]]:
        return read_both(self.out(night))

    def check(self, night: int | str, numbers: Any, prompt: str = "Count to") -> dict[str, Any]:
        """Every row is there once, with the answer to its own prompt and its own columns."""
        succeeded, errored = self.records(night)
        assert set(succeeded) == {f"r-{n}" for n in numbers}
        assert errored == {}
        for n in numbers:
            assert f"“{prompt} {n}.”" in succeeded[f"r-{n}"]["text"]
            assert succeeded[f"r-{n}"]["input"] == {"n": n}
        return succeeded

    @property
    def asked(self) -> list[str]:
        """Custom_ids that the API has received, marks taken off, one entry for each time."""
        ids = [one for batch in self.emulator.batches() for one in self.emulator.custom_ids(batch["id"])]
        return ["-".join(one.split("_")[0].split("-")[:2]) for one in ids]

    @property
    def sent(self) -> int:
        return len(self.asked)
