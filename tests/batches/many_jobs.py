"""Thousands of jobs as they lie on storage, without submitting thousands: copies of one that was."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator
from pathlib import Path

from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.delivering import deliver, delivery_to
from tests.batches.helpers import api_at, records, submit

DAGS = 20
FIRST = Identity(dag_id="many-00", run_id="run-00000", task_id="ask")
_CREATED = re.compile(rb'("created_at": ")[^"]+(")')
_BATCH = re.compile(rb"msgbatch_\w+")
_START = datetime.datetime.now(datetime.UTC).replace(microsecond=0)


def dag_of(number: int) -> str:
    return f"many-{number % DAGS:02d}"


def name_of(number: int) -> str:
    """The job as ``list`` names it."""
    return f"{dag_of(number)}/run-{number:05d}/ask/job-1"


def batch_of(number: int) -> str:
    return f"msgbatch_many{number:05d}"


def created_at(number: int) -> datetime.datetime:
    """An hour before the one before it."""
    return _START - datetime.timedelta(hours=number + 1)


def one_job(root: Folder, emulator: Emulator) -> None:
    """A job that is submitted and delivered: the pattern."""
    api = api_at(emulator.url)
    submit(root, api, records(3), identity=FIRST)
    url = f"{root.url}/jobs/{name_of(0)}"
    deliver(root, url, delivery_to(Path(root.path).parent / "records", api), emulator)


def copies(pattern: Folder, jobs: int, url: str) -> Iterator[tuple[str, bytes, datetime.datetime]]:
    """Name, content and age of each file of so many jobs.

    Args:
        pattern: ``storage_path`` of `one_job`.
        jobs: How many.
        url: ``storage_path`` of the copies.
    """
    home = Path(pattern.path) / "jobs"
    files = {path.relative_to(home).as_posix(): path.read_bytes() for path in home.rglob("*.json*")}
    (claim,) = [path.read_bytes() for path in (Path(pattern.path) / "batches").iterdir()]
    for number in range(jobs):
        at = created_at(number)
        for name, data in [*files.items(), (f"../batches/{batch_of(number)}", claim)]:
            yield (
                f"jobs/{_renamed(name.encode(), number).decode()}".replace("jobs/../", ""),
                _BATCH.sub(
                    batch_of(number).encode(),
                    _CREATED.sub(
                        rb"\g<1>" + at.isoformat().encode() + rb"\g<2>",
                        _renamed(data.replace(pattern.url.encode(), url.encode()), number),
                        count=1,
                    ),
                ),
                at,
            )


def _renamed(data: bytes, number: int) -> bytes:
    return data.replace(b"run-00000", f"run-{number:05d}".encode()).replace(
        b"many-00", dag_of(number).encode()
    )


def lay_down(pattern: Folder, jobs: int, root: Folder) -> None:
    """Write the copies to a disk, as old as they are said to be."""
    for name, data, at in copies(pattern, jobs, root.url):
        path = Path(root.path) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, (at.timestamp(), at.timestamp()))


def put(pattern: Folder, jobs: int, url: str) -> None:
    """Put the copies into the memory of the moto that runs in this process."""
    from moto.s3.models import s3_backends

    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    backend = s3_backends["123456789012"]["aws"]
    for name, data, at in copies(pattern, jobs, url):
        key = backend.put_object(bucket, f"{prefix}/{name}", data)
        key.last_modified = at.replace(tzinfo=None)
