"""Submission: this package and the official hook against one loopback server, in one run.

    python benchmarks/submit.py [--requests 100000] [--million]

Each side runs in a process of its own, which first imports everything and makes one small
submission; that is the baseline of its memory. Ours does all that it does in a task: validation, stored
copy, digest, ledger, intent, claim. The official hook gets the same requests as a list, as it wants.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from airflow_claude_batch.emulator.testing import start_emulator

MODEL = "claude-haiku-4-5"


def requests(count: int, size: int) -> Iterator[dict[str, Any]]:
    """Full requests with a prompt of about ``size`` bytes."""
    text = "The quick brown fox jumps over the lazy dog. " * (size // 45 + 1)
    for number in range(count):
        prompt = f"{number} {text}"[:size]
        params = {"model": MODEL, "max_tokens": 256, "messages": [{"role": "user", "content": prompt}]}
        yield {"custom_id": f"request-{number}", "params": params}


def ours(url: str, folder: str) -> Any:
    import anthropic

    from airflow_claude_batch.batches.api import BatchesApi
    from airflow_claude_batch.batches.jobs import Identity, Input, start_job
    from airflow_claude_batch.batches.storage import Folder
    from airflow_claude_batch.batches.submission import Submission

    api = BatchesApi(anthropic.Anthropic(api_key="k", base_url=url))
    root = Folder.at(f"file://{folder}")

    def run(count: int, size: int, name: str) -> int:
        identity = Identity(dag_id="benchmark", run_id=name, task_id="submit")
        source = Input(records=lambda: requests(count, size), defaults={})
        with start_job(root, identity, source, life=1) as (job, _):
            Submission(job=job, api=api).run()
            return len(job.ledger.batch_ids)

    return run


def official(url: str, _: str) -> Any:
    os.environ["AIRFLOW_CONN_ANTHROPIC_DEFAULT"] = json.dumps(
        {"conn_type": "anthropic", "password": "k", "host": url}
    )
    from airflow.providers.anthropic.hooks.anthropic import AnthropicHook

    hook = AnthropicHook()

    def run(count: int, size: int, name: str) -> int:
        hook.create_batch(list(requests(count, size)))
        return 1

    return run


SIDES = {"ours": ours, "official": official}


def measure(side: str, url: str, count: int, size: int, repeat: int) -> None:
    """Body of the measuring process: prints seconds and added memory."""
    with tempfile.TemporaryDirectory() as folder:
        run = SIDES[side](url, folder)
        run(1, size, "warm-up")
        before = peak_mb()
        start = time.perf_counter()
        batches = sum(run(count, size, f"run-{number}") for number in range(repeat))
        seconds = time.perf_counter() - start
        print(
            json.dumps(
                {"seconds": seconds, "added_mb": peak_mb() - before, "peak_mb": peak_mb(), "batches": batches}
            )
        )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_process(side: str, url: str, count: int, size: int, repeat: int = 1) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", side, url, str(count), str(size), str(repeat)]
    result = subprocess.run(command, check=True, capture_output=True, text=True)
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def show(title: str, mine: dict[str, float], theirs: dict[str, float] | None = None) -> None:
    print(f"\n{title}")
    for name, figures in (("ours", mine), ("official", theirs)):
        if figures:
            print(
                f"  {name:9} {figures['seconds']:6.2f} s {figures['added_mb']:8.1f} MB added to the baseline"
            )
    if theirs:
        time_ratio = mine["seconds"] / theirs["seconds"]
        memory_ratio = mine["added_mb"] / max(theirs["added_mb"], 0.1)
        print(f"  ratio     {time_ratio:6.2f} of the time, {memory_ratio:.3f} of the memory")


def show_small(jobs: int, sides: dict[str, dict[str, float]]) -> None:
    print(f"\n{jobs} small jobs of 10 requests")
    for name, figures in sides.items():
        each = figures["seconds"] / jobs
        print(f"  {name:9} {each * 1000:6.1f} ms each; 10 jobs a second take {each * 10:.0%} of a second")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument(
        "--million", action="store_true", help="also 1,000,000 requests of 1 KB in 10 batches"
    )
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        side, url, *numbers = options.measure
        measure(side, url, *map(int, numbers))
        return
    with start_emulator(duration="manual") as emulator:
        count = options.requests
        runs = {}
        for side in SIDES:
            tries = [in_process(side, emulator.url, count, 2000) for _ in range(3)]
            runs[side] = min(tries, key=lambda figures: figures["seconds"])
            emulator.reset()
        title = f"{count:,} requests of 2 KB, from a generator to the batch id (best of 3)"
        show(title, runs["ours"], runs["official"])
        show_small(50, {side: in_process(side, emulator.url, 10, 500, repeat=50) for side in SIDES})
        emulator.reset()
        if options.million:
            one = in_process("ours", emulator.url, 100_000, 1000)
            emulator.reset()
            ten = in_process("ours", emulator.url, 1_000_000, 1000)
            show("100,000 requests of 1 KB", one)
            show("1,000,000 requests of 1 KB in 10 batches", ten)
            print(f"  peak memory {ten['peak_mb'] / one['peak_mb']:.2f} of the 100,000 case")


if __name__ == "__main__":
    main()
