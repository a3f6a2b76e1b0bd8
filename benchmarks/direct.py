"""Single calls against the emulator: speed and memory, rate limits, and a deadline.

python -m benchmarks.direct [speed] [limit] [deadline]
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.messages import MessagesApi
from airflow_claude_batch.batches.direct.answer import DirectCalls
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.job import Input, Job, start_job
from airflow_claude_batch.batches.job.on_time import OnTime
from airflow_claude_batch.batches.results.delivery import Delivery
from airflow_claude_batch.batches.results.late import go_on_without_batches
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.resubmission import spool_next
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.emulator.testing import MESSAGES, Emulator, start_emulator

DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 100}
SETTLED_SECONDS = 10.0


@contextlib.contextmanager
def job_of(requests: int, folder: Path, *, direct: bool = True) -> Iterator[Job]:
    rows = [{"custom_id": f"r-{n}", "prompt": f"Count to {n} {folder.name}"} for n in range(requests)]
    source = Input(records=lambda: rows, defaults=DEFAULTS)
    identity = Identity(dag_id="benchmark", run_id="run", task_id="direct")
    with start_job(Folder.at(folder.as_uri()), identity, source, generation=1) as (job, _):
        if direct:
            with job.change() as ledger:
                for part in ledger.parts:
                    part.way = "direct"
        yield job


def run(job: Job, url: str, concurrency: int) -> float:
    def connect() -> MessagesApi:
        return MessagesApi(anthropic.AsyncAnthropic(api_key="key", base_url=url))

    began = time.perf_counter()
    assert DirectCalls(job=job, connect=connect, concurrency=concurrency).run() is None
    return time.perf_counter() - began


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def speed(emulator: Emulator, folder: Path) -> None:
    """1,000 requests of 50 ms, 50 at a time: 1.0 s would be ideal."""
    emulator.settings(message_seconds=0.05, answer_bytes=200)
    with job_of(10, folder / "warm") as job:
        run(job, emulator.url, 10)
    before = megabytes()
    with job_of(1_000, folder / "speed") as job:
        seconds = run(job, emulator.url, 50)
    told = emulator.ledger()
    assert (told["direct_more_than_once_count"], told["direct"]) == (0, 1_010)
    print(f"speed: {seconds:.2f} s (bound 1.3 s), {megabytes() - before:.0f} MB added (bound 60)")


def limit(emulator: Emulator, folder: Path, a_minute: int = 600, minutes: float = 1.5) -> None:
    """A limit of 600 a minute: after ten seconds hardly a refusal, and 95 % of what is allowed."""
    emulator.settings(message_seconds=0.05, answer_bytes=200, messages_per_minute=a_minute)
    requests = int(a_minute + a_minute * minutes)  # the first minute's worth is there at the start
    with job_of(requests, folder / "limit") as job:
        began = time.time()
        seconds = run(job, emulator.url, 50)
    entries = [entry for entry in emulator.journal(path=MESSAGES) if entry["time"] >= began + SETTLED_SECONDS]
    refused = sum(entry["status"] == 429 for entry in entries)
    answered = sum(entry["status"] == 200 for entry in entries)
    allowed = (began + seconds - entries[0]["time"]) * a_minute / 60
    print(
        f"limit: {refused / len(entries):.2%} refused after 10 s (bound 2 %), "
        f"{answered / allowed:.1%} of the limit used (bound 95 %), {requests} requests in {seconds:.0f} s"
    )


def deadline(emulator: Emulator, folder: Path, requests: int = 10_000, seconds: float = 120) -> None:
    """A batch that never ends, needed in two minutes; the API takes 0.1 s a call and 100 calls a second."""
    emulator.settings(
        duration="manual",
        message_seconds=0.1,
        answer_bytes=200,
        messages_per_minute=6_000,
        cancel_finished_share=0.0,
    )
    api = BatchesApi(anthropic.Anthropic(api_key="key", base_url=emulator.url))
    with job_of(requests, folder / "deadline", direct=False) as job:
        assert Submission(job=job, api=api).run() is None
        at = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
        with job.change() as ledger:
            ledger.on_time = OnTime(at=at, minutes=seconds / 60)
        assert go_on_without_batches(job, api, datetime.datetime.now(datetime.UTC)) is None
        for batch in emulator.batches():
            emulator.end(batch["id"])
        delivery = Delivery(api=api, output=open_directory(Folder.at((folder / "out").as_uri())))
        delivery.begin(job, 1)
        while delivery.pending(job):
            run(job, emulator.url, 50)
            delivery.deliver_ended(job)
            spool_next(job)
        summary: dict[str, Any] = delivery.finish(job)
    left = (at - datetime.datetime.now(datetime.UTC)).total_seconds()
    assert summary["counts"]["succeeded"] == requests
    print(f"deadline: {summary['ways']}, on time: {summary['on_time']}, {left:.0f} s left of {seconds:.0f}")


def main() -> None:
    logging.basicConfig(level=logging.WARNING)
    known = {"speed": speed, "limit": limit, "deadline": deadline}
    for name in sys.argv[1:] or known:
        with start_emulator() as emulator, tempfile.TemporaryDirectory(prefix="benchmark-direct-") as folder:
            known[name](emulator, Path(folder))


if __name__ == "__main__":
    main()
