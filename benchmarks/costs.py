"""The book of costs: a day of 10,000 jobs on S3 (moto), reserved and settled by the engine's own functions.

They write the book to memory, from where it is copied as it is: moto takes some 10 ms a call, and a job makes
a dozen. A few jobs are booked on S3 itself, for the number of calls. Measured is the sum of the day, by team,
and the calls that it takes: as the writers leave the day (the look rolls it up where 200 entries or more are
pending), and after that.

    python -m benchmarks.costs [--jobs 10000]        # about a minute
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import logging
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from airflow_claude_batch.batches.accounts.report import costs
from airflow_claude_batch.batches.accounts.reservation import Calendar, reserve, settle
from airflow_claude_batch.batches.cost.spending import PICO, Spending
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.counts import Tally
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.lease import Lease, LeaseRecord
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import DeliveryNote, Part
from airflow_claude_batch.batches.storage import Folder
from benchmarks.s3_calls import count_calls

NOON = datetime.datetime(2026, 11, 28, 12, tzinfo=datetime.UTC)
TODAY = Calendar(now=NOON, zone="UTC", expiry=datetime.timedelta(days=1))
TEAMS, DAGS = 20, 50
ACCOUNT = "123456789012"
"""moto's."""
ON_S3 = 20
"""Jobs that are booked there for the number of calls."""
DELIVERED = DeliveryNote(
    key="k",
    tally=Tally(
        counts={"succeeded": 10},
        spending=[
            Spending(
                model="claude-haiku-4-5",
                requests=10,
                paid_pico=PICO // 100,
                batch_pico=PICO // 100,
                standard_pico=PICO // 50,
                uncached_pico=PICO // 100,
            )
        ],
    ),
)


def book_job(root: Folder, place: Folder, number: int) -> None:
    """Reserve for a job and settle it."""
    folder = place.child(str(number))
    ledger = Ledger(
        version=ledgers.VERSION,
        job=f"{root.url}/jobs/{number}",
        dag_id=f"dag-{number % DAGS}",
        task_id="ask",
        conn_id="anthropic_default",
        tags={"team": f"team-{number % TEAMS}"},
        created_at=NOON,
        estimate={"requests": 10, "total_usd": 0.02, "standard_usd": 0.04, "unpriced_requests": 0},
        parts=[Part(requests="r", inputs="i", request_count=10, bytes=1)],
    )
    job = Job(root=root, folder=folder, ledger=ledger, lease=Lease(folder, 1, LeaseRecord(host="", pid=0)))
    reserve(job, [], TODAY)
    ledger.parts[0].batch_id, ledger.parts[0].delivery = f"msgbatch_{number}", DELIVERED
    settle(job, TODAY)


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """moto's server in this process, so that many files can be put there at once; its address."""
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    s3_backends[ACCOUNT]["aws"].create_bucket("bench", "us-east-1")
    try:
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def copy(source: Path, prefix: str) -> None:
    """Put the files of a directory into the bucket."""
    from moto.s3.models import s3_backends

    for file in source.rglob("*"):
        if file.is_file():
            key = f"{prefix}/{file.relative_to(source).as_posix()}"
            s3_backends[ACCOUNT]["aws"].put_object("bench", key, file.read_bytes())


def look(root: Folder, counted: Counter[str], jobs: int, said: str) -> None:
    counted.clear()
    began = time.perf_counter()
    rows = costs(root, by="tag:team", since="2026-11-28", until="2026-11-28")
    seconds = time.perf_counter() - began
    assert round(sum(row["total_usd"] for row in rows), 6) == round(jobs / 100, 6)
    assert sum(row["requests"] for row in rows) == 10 * jobs
    calls = ", ".join(f"{number} {method}" for method, number in sorted(counted.items()))
    print(f"  {said:42} {seconds:.2f} s, {counted.total()} calls ({calls}); bound: 2 s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    jobs = parser.parse_args().jobs
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with s3() as endpoint, tempfile.TemporaryDirectory(dir=memory) as place:
        written = Folder.at(f"file://{place}/storage")
        began = time.perf_counter()
        for number in range(jobs):
            book_job(written, Folder.at(f"file://{place}/ledgers"), number)
        print(
            f"  {jobs} jobs reserved and settled in memory: {time.perf_counter() - began:.0f} s", flush=True
        )
        copy(Path(place) / "storage", "storage")
        counted = count_calls()
        options: dict[str, Any] = {"key": "any", "secret": "any", "endpoint_url": endpoint}
        root = Folder.at("s3://bench/storage", **options)
        for number in range(ON_S3):
            other = Folder.at("s3://bench/other", **options)
            book_job(other, Folder.at(f"file://{place}/ledgers"), jobs + number)
        print(f"  on S3 a job takes {counted.total() / ON_S3:.1f} calls")
        day = root.child("costs", "2026-11-28")
        look(root, counted, jobs, f"as they leave it ({len(day.child('pending').names())} pending)")
        look(root, counted, jobs, f"rolled up ({len(day.child('pending').names())} pending)")


if __name__ == "__main__":
    main()
