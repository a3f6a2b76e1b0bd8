from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import pytest

from airflow_claude_batch.batches.api import BatchesApi
from airflow_claude_batch.batches.jobs import Identity, Input, Job, start_job
from airflow_claude_batch.batches.spool import Limits
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission import Later, Policy, Submission
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.s3 import S3

DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 100}
IDENTITY = Identity(dag_id="reports", run_id="scheduled__2026-11-22T00:00:00+00:00", task_id="submit")


@pytest.fixture
def emulator(claude_batch_emulator: Emulator) -> Emulator:
    return claude_batch_emulator


@pytest.fixture
def api(emulator: Emulator) -> BatchesApi:
    return api_at(emulator.url)


def api_at(url: str, **options: Any) -> BatchesApi:
    return BatchesApi(anthropic.Anthropic(api_key="test-key", base_url=url, **options), "anthropic_default")


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3]:
    server = S3()
    yield server
    server.stop()


@pytest.fixture
def s3(s3_server: S3) -> Iterator[S3]:
    """An S3-compatible server; a failure that a test asks for ends with the test."""
    healthy = s3_server.fails
    yield s3_server
    s3_server.fails = healthy


@pytest.fixture
def root(tmp_path: Path) -> Folder:
    return Folder.at(f"file://{tmp_path}/storage")


def records(count: int, prompt: str = "Summarise") -> list[dict[str, Any]]:
    return [
        {"custom_id": f"r-{number}", "prompt": f"{prompt} {number}", "n": number} for number in range(count)
    ]


def source(
    rows: Iterable[Any] | Callable[[], Iterable[Any]], per_part: int = 100_000, **options: Any
) -> Input:
    asked = rows if callable(rows) else lambda: rows
    return Input(records=asked, defaults=DEFAULTS, limits=Limits(requests=per_part), **options)


@contextlib.contextmanager
def started(
    root: Folder, rows: Any, *, life: int = 1, per_part: int = 100_000, **options: Any
) -> Iterator[Job]:
    """The job of one task instance, without what it replaces."""
    about_input = {name: options.pop(name) for name in ("recipe", "check") if name in options}
    asked = source(rows, per_part, **about_input)
    with start_job(root, options.pop("identity", IDENTITY), asked, life=life, **options) as (job, _):
        yield job


QUICK = Policy(grace_seconds=0.4, in_place_seconds=2.0)


def submit(
    root: Folder, api: BatchesApi, rows: Any, *, policy: Policy = QUICK, **options: Any
) -> tuple[list[str], Later | None]:
    """One attempt of the task: ids of the batches that it ends with, and whether it has to come back."""
    with started(root, rows, **options) as job:
        later = Submission(job=job, api=api, policy=policy).run()
        return job.ledger.batch_ids, later


def creates(emulator: Emulator) -> int:
    """How many POSTs of a batch the server has received."""
    return len(emulator.journal(method="POST", path="/v1/messages/batches$"))
