"""Jobs of the engine in tests: records, one attempt at submitting them, and what the server then knows."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import anthropic
import httpx2
import msgspec

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.job import Input, Job, Later, start_job
from airflow_claude_batch.batches.job.lease import LeaseRecord, newest
from airflow_claude_batch.batches.job.spool import Limits
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.policy import Policy
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.emulator.testing import Emulator

MARK = re.compile(r"_[a-z2-7]{10}$")
DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 100}
IDENTITY = Identity(dag_id="reports", run_id="scheduled__2026-11-22T00:00:00+00:00", task_id="submit")
ABOUT_INPUT = ("recipe", "reuse", "check", "bad_fraction", "may_be_empty", "left_out")
QUICK = Policy(grace_seconds=0.4, in_place_seconds=2.0)


def api_at(url: str, **options: Any) -> BatchesApi:
    # Each call has a connection of its own: on one that it shares, a forked child that is killed amid a POST
    # leaves half a request behind, and the API answers 400 to what its parent asks next.
    http = anthropic.DefaultHttpxClient(limits=httpx2.Limits(max_keepalive_connections=0))
    client = anthropic.Anthropic(api_key="test-key", base_url=url, **{"http_client": http, **options})
    return BatchesApi(client, "anthropic_default")


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
    root: Folder, rows: Any, *, generation: int = 1, per_part: int = 100_000, **options: Any
) -> Iterator[Job]:
    """The job of one task instance, without what it replaces."""
    about_input = {name: options.pop(name) for name in ABOUT_INPUT if name in options}
    asked = source(rows, per_part, **about_input)
    with start_job(root, options.pop("identity", IDENTITY), asked, generation=generation, **options) as (
        job,
        _,
    ):
        yield job


def submit(
    root: Folder, api: BatchesApi, rows: Any, *, policy: Policy = QUICK, **options: Any
) -> tuple[list[str], Later | None]:
    """One attempt of the task: ids of the batches that it ends with, and whether it has to come back."""
    with started(root, rows, **options) as job:
        later = Submission(job=job, api=api, policy=policy).run()
        return job.ledger.batch_ids, later


def submit_to_the_end(
    root: Folder, api: BatchesApi, emulator: Emulator, rows: Any, **options: Any
) -> list[str]:
    """Attempts until all parts have their batch; meanwhile the batches end, so that they show their marks."""
    for _ in range(20):
        ids, later = submit(root, api, rows, **options)
        if later is None:
            return ids
        for batch in emulator.batches():
            emulator.end(batch["id"])
    raise AssertionError(later)


def sent_ids(emulator: Emulator, batch_id: str) -> set[str]:
    """The custom_ids of a batch as the user wrote them: without the mark of one of them."""
    custom_ids = emulator.custom_ids(batch_id)
    unmarked = {MARK.sub("", custom_id) for custom_id in custom_ids}
    assert sum(MARK.search(custom_id) is not None for custom_id in custom_ids) == 1
    return unmarked


def creates(emulator: Emulator) -> int:
    """How many POSTs of a batch the server has received."""
    return len(emulator.journal(method="POST", path="/v1/messages/batches$"))


def age_the_lease(root: Folder, identity: Identity = IDENTITY) -> None:
    """Make the newest lease look as if its worker had not renewed it for long, and ran elsewhere."""
    home = identity.folder(root)
    leases, name = home.child("leases"), f"{newest(home):06d}.json"
    record = msgspec.json.decode(leases.read(name), type=LeaseRecord)
    record.host = "elsewhere"
    leases.write(name, msgspec.json.encode(record))
    long_ago = time.time() - 300
    os.utime(leases.locate(name), (long_ago, long_ago))
