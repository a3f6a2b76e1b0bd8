"""Reuse in numbers: a night of 1,000,000 requests, of which 900,000 were answered before.

The store holds 10,000,000 answers: those of last night's requests, in the order in which batches of 100,000
were delivered, and many others. Each figure is of a process of its own.

    python -m benchmarks.reuse                       # everything, about a quarter of an hour
    python -m benchmarks.reuse --requests 100000 --answers 1000000
    python -m benchmarks.reuse --only store          # storing: without reuse, first night, later night
    python -m benchmarks.reuse --only night          # whole nights against the emulator
    python -m benchmarks.reuse --only s3             # calls of the look-up on moto's server
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import functools
import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.job import Input, open_job, start_job
from airflow_claude_batch.batches.requests.request import RequestEncoder
from airflow_claude_batch.batches.results.delivery import Delivery
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.resubmission import spool_next
from airflow_claude_batch.batches.reuse.compaction import LARGEST
from airflow_claude_batch.batches.reuse.fingerprint import Fingerprints
from airflow_claude_batch.batches.reuse.job_answers import JobAnswers
from airflow_claude_batch.batches.reuse.pair_writer import PairWriter
from airflow_claude_batch.batches.reuse.router import LookUp
from airflow_claude_batch.batches.reuse.store import ROW_GROUP, Store, answers_schema
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.emulator.testing import Emulator, start_emulator
from benchmarks import s3_calls
from benchmarks.submit import moto, requests

SIZE = 1000
"""Bytes of a prompt."""
PART = 100_000
MONTH = datetime.timedelta(days=30)
KNOWN_SHARE = 0.9
ANSWER_BYTES = 600


def stored(folder: Folder) -> Store:
    return Store(folder.child("answers", "dag", "benchmark"))


# A store of answers


def fill(url: str, count: int, answers: int) -> None:
    """Keep answers: to the known requests among ``count``, and to others, as many as are asked for."""
    store = stored(Folder.at(url))
    known = int(count * KNOWN_SHARE)
    keep(store, known_answers(count))
    for start in range(known, answers, LARGEST):
        keep(store, other_answers(min(LARGEST, answers - start)))


def keep(store: Store, tables: Iterator[Any]) -> None:
    writer = PairWriter(store)
    for table in tables:
        writer.add(table)
    writer.finish()


def known_fingerprints(count: int) -> Iterator[bytes]:
    """Of the requests that were answered, part by part, each part in the order in which answers come: any."""
    encode, take = RequestEncoder({}), Fingerprints([])
    part: list[bytes] = []
    for number, record in enumerate(requests(count, SIZE)):
        if number % 10 < 10 * KNOWN_SHARE:
            request = encode(record, number)
            part.append(take(request.line, request.params))
        if len(part) == PART or number == count - 1:
            random.Random(number).shuffle(part)
            yield from part
            part = []


def known_answers(count: int) -> Iterator[Any]:
    fingerprints = known_fingerprints(count)
    while some := list(itertools.islice(fingerprints, ROW_GROUP)):
        yield table_of(b"".join(one[:32] for one in some), b"".join(one[32:] for one in some))


def other_answers(count: int) -> Iterator[Any]:
    for start in range(0, count, ROW_GROUP):
        rows = min(ROW_GROUP, count - start)
        yield table_of(os.urandom(32 * rows), os.urandom(16 * rows))


def table_of(digests: bytes, checks: bytes) -> Any:
    import pyarrow as pa

    rows, schema = len(digests) // 32, answers_schema()
    columns = {name: array.slice(0, rows) for name, array in repeated_columns().items()}
    columns["digest"] = pa.Array.from_buffers(pa.binary(32), rows, [None, pa.py_buffer(digests)])
    columns["check"] = pa.Array.from_buffers(pa.binary(16), rows, [None, pa.py_buffer(checks)])
    return pa.table([columns[one.name] for one in schema], schema=schema)


@functools.cache
def repeated_columns() -> dict[str, Any]:
    import pyarrow as pa

    texts, schema = messages(), answers_schema()
    values = {
        "answered_at": [int(time.time() * 1000) - 86_400_000] * ROW_GROUP,
        "batch_id": ["msgbatch_before"] * ROW_GROUP,
        "custom_id": [f"request-{number}" for number in range(ROW_GROUP)],
        "model": ["claude-haiku-4-5"] * ROW_GROUP,
        "message": [texts[number % len(texts)] for number in range(ROW_GROUP)],
    }
    return {name: pa.array(some, schema.field(name).type) for name, some in values.items()}


def messages() -> list[bytes]:
    """Some messages as the API writes them, of about a kilobyte."""
    draw = random.Random(1)
    words = [
        "usage",
        "grew",
        "steadily",
        "with",
        "strong",
        "days",
        "in",
        "the",
        "middle",
        "of",
        "each",
        "week",
    ]
    found = []
    for number in range(1000):
        text = " ".join(draw.choices(words, k=ANSWER_BYTES // 5))[:ANSWER_BYTES]
        usage = {"input_tokens": 250, "output_tokens": 150, "service_tier": "batch"}
        message = {
            "id": f"msg_{number:022d}",
            "type": "message",
            "role": "assistant",
            "model": "claude-haiku-4-5",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": usage,
        }
        found.append(msgspec.json.encode(message))
    return found


# What is measured


def look_up(root: Folder) -> LookUp:
    return LookUp(store=stored(root), max_age=MONTH, betas=(), version=None, part_requests=PART)


def source(root: Folder, count: int, *, reuse: bool) -> Input:
    return Input(records=lambda: requests(count, SIZE), defaults={}, reuse=look_up(root) if reuse else None)


def identity(run_id: str) -> Identity:
    return Identity(dag_id="benchmark", run_id=run_id, task_id="ask")


def store(url: str, count: int, reuse: bool) -> dict[str, Any]:
    """Store the input of a night, and send nothing."""
    root = Folder.at(url)
    for run_id, number, reused in (("warm-up", 10, False), ("night", count, reuse)):
        before, start, cpu = peak_mb(), time.perf_counter(), time.process_time()
        with start_job(root, identity(run_id), source(root, number, reuse=reused), generation=1) as (job, _):
            ways = Counter[str]()
            for part in job.ledger.parts:
                ways[part.way] += part.request_count
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    return {"wall": wall, "cpu": cpu, "added_mb": peak_mb() - before, **ways}


def night(url: str, count: int, reuse: bool, api_url: str) -> dict[str, Any]:
    """A whole night: store, send what is new, wait for it, deliver all."""
    import anthropic

    from airflow_claude_batch.batches.api.client import BatchesApi

    emulator = Emulator(api_url)
    api = BatchesApi(anthropic.Anthropic(api_key="k", base_url=api_url), "anthropic_default")
    root, steps, before = Folder.at(url), {}, peak_mb()
    begun, cpu = time.perf_counter(), time.process_time()
    with start_job(root, identity("night"), source(root, count, reuse=reuse), generation=1) as (job, _):
        steps["store"] = time.perf_counter() - begun
        assert Submission(job=job, api=api).run() is None
        job_url = job.folder.url
    steps["send"] = time.perf_counter() - begun - steps["store"]
    for batch in emulator.batches():
        emulator.end(batch["id"])
    sent = time.perf_counter()
    answers = JobAnswers(store=stored(root), max_age=MONTH) if reuse else None
    delivery = Delivery(api=api, output=open_directory(root.child("out")), reuse=answers)
    with open_job(root, job_url) as job:
        delivery.begin(job, 1)
        while delivery.pending(job):
            delivery.deliver_ended(job)
            spool_next(job)
        summary = delivery.finish(job)
    assert summary["counts"]["succeeded"] == count, summary["counts"]
    steps["deliver"] = time.perf_counter() - sent
    asked = summary.get("asked", count)
    wall, cpu = time.perf_counter() - begun, time.process_time() - cpu
    return {"wall": wall, "cpu": cpu, "added_mb": peak_mb() - before, "asked": asked, **steps}


def calls(url: str, count: int, environment: dict[str, str]) -> dict[str, Any]:
    """Count the calls to S3 that a look-up makes, and those that bring the answers into the job's folder."""
    counted = s3_calls.count_calls()
    before, start = peak_mb(), time.perf_counter()
    root = Folder.at(url, key="any", secret="any", endpoint_url=environment["S3_ENDPOINT"])
    reusing = look_up(root)()
    known = reusing.router._known  # type: ignore[attr-defined]
    wall, looked_up, added = time.perf_counter() - start, counted.total(), peak_mb() - before
    with start_job(root, identity("night"), source(root, count, reuse=True), generation=1) as (job, _):
        parts = {number: part for number, part in enumerate(job.ledger.parts) if part.answered}
        counted.clear()
        JobAnswers(store=stored(root), max_age=MONTH).gather(job, parts)
    requests = sum(part.request_count for part in parts.values())
    gathered = {"gathered": requests, **{f"gathering {method}": number for method, number in counted.items()}}
    return {"wall": wall, "calls": looked_up, "known": len(known), "added_mb": added, **gathered}


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


STEPS = {"fill": fill, "store": store, "night": night, "calls": calls}


def in_process(step: str, *arguments: Any) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.reuse", "--measure", step, json.dumps(arguments)]
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return figures


# The comparisons


def compare_storing(folder: Path, count: int, repeat: int) -> None:
    print(f"\nStoring {count:,} requests of 1 KB (best of {repeat})")
    places = {
        "without reuse": ("plain", False),
        "first night": ("first", True),
        "later night": ("filled", True),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in places}
    for number in range(repeat):
        for name, (place, reuse) in places.items():
            where = folder / place
            runs[name].append(in_process("store", where.as_uri(), count, reuse))
            subprocess.run(["rm", "-rf", str(where / "jobs")], check=True)
            print(f"  {number + 1}. {name:14} {described(runs[name][-1])}", flush=True)
    best = {name: min(figures, key=lambda run: run["wall"]) for name, figures in runs.items()}
    plain = best["without reuse"]
    for name, most in (("first night", 1.15), ("later night", 1.5)):
        wall, cpu = best[name]["wall"] / plain["wall"], best[name]["cpu"] / plain["cpu"]
        more = best[name]["added_mb"] - plain["added_mb"]
        print(f"  {name}: {wall:.2f} of the wall clock (at most {most}), {cpu:.2f} of CPU, {more:+.0f} MB")


def compare_nights(folder: Path, count: int, repeat: int) -> None:
    print(f"\nA whole night of {count:,} requests against the emulator (best of {repeat})")
    places = {
        "all asked": ("plain", False),
        "first night": ("first", True),
        "one tenth asked": ("filled", True),
    }
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in places}
    for number in range(repeat):
        for name, (place, reuse) in places.items():
            runs[name].append(one_night(folder / place, count, reuse))
            print(f"  {number + 1}. {name:16} {described(runs[name][-1])}", flush=True)
    wall, cpu = (
        {name: min(run[of] for run in figures) for name, figures in runs.items()} for of in ("wall", "cpu")
    )
    for name, most in (("first night", 1.15), ("one tenth asked", 0.33)):
        shares = [best[name] / best["all asked"] for best in (wall, cpu)]
        print(f"  {name}: {shares[0]:.2f} of the wall clock (at most {most}), {shares[1]:.2f} of CPU")


def one_night(where: Path, count: int, reuse: bool) -> dict[str, Any]:
    before = set(where.rglob("answers/**/*"))
    with start_emulator(duration="manual", answer_bytes=ANSWER_BYTES) as emulator:
        figures = in_process("night", where.as_uri(), count, reuse, emulator.url)
    for rest in ("jobs", "out", "batches", "intents"):
        subprocess.run(["rm", "-rf", str(where / rest)], check=True)
    for new in {file for file in where.rglob("answers/**/*") if file.is_file()} - before:
        new.unlink()  # the next night finds what this one found
    return figures


def count_calls(folder: Path, count: int) -> None:
    print("\nThe look-up on S3 (moto)")
    with moto() as connection:
        extra = json.loads(connection["AIRFLOW_CONN_AWS_BENCH"])["extra"]
        endpoint = extra["endpoint_url"]
        target = Folder.at("s3://bench/filled", key="any", secret="any", endpoint_url=endpoint)
        answers = folder / "filled" / "answers" / "dag" / "benchmark"
        for file in sorted(answers.glob("*.parquet")):
            with (
                target.child("answers", "dag", "benchmark").open_write(file.name) as copy,
                file.open("rb") as own,
            ):
                shutil.copyfileobj(own, copy)
        figures = in_process("calls", target.url, count, {"S3_ENDPOINT": endpoint})
    print(f"  {described(figures)} (at most 200 calls for the look-up)")


def described(figures: dict[str, Any]) -> str:
    units = {"added_mb": "MB added", "calls": "calls"}
    parts = []
    for name, value in figures.items():
        number = f"{value:.1f} s" if name in ("wall", "cpu", "store", "send", "deliver") else f"{value:,.0f}"
        parts.append(f"{number} {units[name]}" if name in units else f"{name} {number}")
    return ", ".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--answers", type=int, default=10_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument(
        "--only", nargs="+", choices=["store", "night", "s3"], default=["store", "night", "s3"]
    )
    parser.add_argument("--folder", type=Path, help="keeps the store of answers for the next run")
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        step, arguments = options.measure
        print(json.dumps(STEPS[step](*json.loads(arguments))))
        return
    with contextlib.ExitStack() as stack:
        folder = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if not (folder / "filled").exists():
            started = time.perf_counter()
            in_process("fill", (folder / "filled").as_uri(), options.requests, options.answers)
            print(f"A store of {options.answers:,} answers, made in {time.perf_counter() - started:.0f} s")
        if "store" in options.only:
            compare_storing(folder, options.requests, options.repeat)
        if "night" in options.only:
            compare_nights(folder, options.requests, options.repeat)
        if "s3" in options.only:
            count_calls(folder, options.requests)


if __name__ == "__main__":
    main()
