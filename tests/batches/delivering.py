"""A results step without Airflow: what the operator does between its waits."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.job.job import Job, open_job
from airflow_claude_batch.batches.results.delivery import Delivery
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.resubmission import spool_next
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.helpers import QUICK, started


def submit_all(root: Folder, api: BatchesApi, rows: Any, **options: Any) -> str:
    """Submit a job; returns its URL."""
    with started(root, rows, **options) as job:
        assert Submission(job=job, api=api, policy=QUICK).run() is None
        return job.folder.url


def delivery_to(path: Path, api: BatchesApi, **options: Any) -> Delivery:
    output = options.pop("output", None) or open_directory(Folder.at(path.as_uri()))
    return Delivery(api=api, output=output, **options)


def advance(job: Job, delivery: Delivery, emulator: Emulator, *, plan: bool = True) -> bool:
    """One pass: submit what is left, let batches end, deliver, plan. Returns whether all is delivered."""
    spool_next(job)
    assert Submission(job=job, api=delivery.api, policy=QUICK).run() is None
    for batch in emulator.batches():
        if batch["processing_status"] != "ended":
            emulator.end(batch["id"])
    delivery.deliver_ended(job)
    if plan:
        spool_next(job)
    return not delivery.pending(job)


def deliver(
    root: Folder, url: str, delivery: Delivery, emulator: Emulator, *, generation: int = 1
) -> dict[str, Any]:
    """The whole step, each pass as if on another worker."""
    for _ in range(8):
        with open_job(root, url) as job:
            delivery.begin(job, generation)
            spool_next(job)
            if advance(job, delivery, emulator):
                return delivery.finish(job)
    raise AssertionError("the delivery does not end")


def read_set(path: Path, set_: str) -> list[dict[str, Any]]:
    parts = sorted((path / set_).glob("part-*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]


def read_both(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Succeeded and errored records by custom_id; each id is in one set, once."""
    succeeded, errored = read_set(path, "succeeded"), read_set(path, "errored")
    ids = Counter(record["custom_id"] for record in succeeded + errored)
    assert not [custom_id for custom_id, number in ids.items() if number > 1]
    return {r["custom_id"]: r for r in succeeded}, {r["custom_id"]: r for r in errored}


def contents(path: Path) -> dict[str, bytes]:
    """All files of a directory of records; the job's own URL differs between storages, so it is left out."""
    return {
        str(file.relative_to(path)): file.read_bytes()
        for file in sorted(path.rglob("*"))
        if file.is_file() and file.name != "summary.json"
    }


def message_line(custom_id: str, content: list[dict[str, Any]], stop_reason: str) -> dict[str, Any]:
    """A result line with an answer, as the fault `raw_lines` takes it."""
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"content": content, "stop_reason": stop_reason, "model": "claude-haiku-4-5", "usage": usage}
    result = {"type": "succeeded", "message": message}
    return {"text": json.dumps({"custom_id": custom_id, "result": result})}
