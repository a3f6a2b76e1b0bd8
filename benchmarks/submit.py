"""Submission through ``execute`` of our operator and of the official ``AnthropicBatchOperator``, in one run.

    python -m benchmarks.submit [--requests 100000] [--repeat 3] [--s3] [--million]

The API is the emulator in another process. Each run is a process of its own, which first imports everything
and makes one small submission; that is the baseline of its memory. Ours does all that it does in a task:
validation, stored copy, digest, estimate, ledger, intent, claim. The official operator gets the same
requests as a list, as it wants. ``--s3`` (needs the Amazon provider, so ``.venvs/cluster/bin/python``) does
the same with the job on moto's server.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

from airflow_claude_batch.emulator.testing import Emulator, start_emulator

MODEL = "claude-haiku-4-5"
SIZE = 2000
"""Bytes of a prompt; 100,000 requests make a body of about 212 MB."""
SMALL_JOBS = 30

Figures = dict[str, float]


def requests(count: int, size: int) -> Iterator[dict[str, Any]]:
    """Full requests with a prompt of about ``size`` bytes."""
    text = "The quick brown fox jumps over the lazy dog. " * (size // 45 + 1)
    for number in range(count):
        prompt = f"{number} {text}"[:size]
        params = {"model": MODEL, "max_tokens": 256, "messages": [{"role": "user", "content": prompt}]}
        yield {"custom_id": f"request-{number}", "params": params}


class TaskInstance:
    """As much of one as ``execute`` looks at; its XComs go nowhere."""

    dag_id, task_id, map_index, try_number, max_tries = "benchmark", "submit", -1, 1, 0

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id

    def xcom_push(self, key: str, value: Any, **_: Any) -> None:
        json.dumps(value)

    def xcom_pull(self, **_: Any) -> None:
        return None


def ours(storage: str) -> Callable[[int, int, str], int]:
    from airflow_claude_batch import ClaudeBatchSubmitOperator

    def run(count: int, size: int, name: str) -> int:
        operator = ClaudeBatchSubmitOperator(
            task_id="submit", requests=lambda: requests(count, size), storage_path=storage
        )
        return len(operator.execute({"ti": TaskInstance(name)})["batch_ids"])

    return run


def official(_: str) -> Callable[[int, int, str], int]:
    from airflow.providers.anthropic.operators.batch import AnthropicBatchOperator

    def run(count: int, size: int, name: str) -> int:
        operator = AnthropicBatchOperator(
            task_id="submit", requests=list(requests(count, size)), wait_for_completion=False
        )
        operator.execute({"ti": TaskInstance(name)})
        return 1

    return run


SIDES = {"ours": ours, "official": official}


def measure(side: str, storage: str, count: int, size: int, repeat: int) -> None:
    """Body of the measuring process: prints wall clock, CPU and added memory."""
    run = SIDES[side](storage)
    run(1, size, "warm-up")
    before, start, cpu = peak_mb(), time.perf_counter(), time.process_time()
    batches = sum(run(count, size, f"run-{number}") for number in range(repeat))
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    figures = {"wall": wall, "cpu": cpu, "added_mb": peak_mb() - before, "peak_mb": peak_mb()}
    print(json.dumps({**figures, "batches": batches}))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_process(
    side: str, environment: dict[str, str], storage: str, count: int, size: int, repeat: int = 1
) -> Figures:
    with tempfile.TemporaryDirectory() as folder:
        place = storage or f"file://{folder}/store"
        arguments = ["--measure", side, place, str(count), str(size), str(repeat)]
        result = subprocess.run(
            [sys.executable, "-m", "benchmarks.submit", *arguments],
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment, "AIRFLOW_HOME": f"{folder}/airflow"},
        )
    figures: Figures = json.loads(result.stdout.splitlines()[-1])
    return figures


def airflow(url: str) -> dict[str, str]:
    """Environment in which operators run without a database."""
    connection = {"conn_type": "anthropic", "password": "k", "host": url}
    return {
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW_CONN_ANTHROPIC_DEFAULT": json.dumps(connection),
    }


@contextlib.contextmanager
def moto() -> Iterator[dict[str, str]]:
    """moto's server in a process of its own, with a bucket ``bench``; the connection to it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        bucket = urllib.request.Request(f"{endpoint}/bench", method="PUT")
        until = time.monotonic() + 60
        while True:
            try:
                direct.open(bucket, timeout=10).close()
                break
            except urllib.error.URLError:
                if time.monotonic() > until:
                    raise
                time.sleep(0.2)
        extra = {"endpoint_url": endpoint, "region_name": "us-east-1"}
        connection = {"conn_type": "aws", "login": "any", "password": "any", "extra": extra}
        yield {"AIRFLOW_CONN_AWS_BENCH": json.dumps(connection)}
    finally:
        server.terminate()
        server.wait()


def compare(title: str, runs: dict[str, list[Figures]], jobs: int = 1) -> None:
    """Print the best of the runs a side, and the ratios of ours to the official one."""
    print(f"\n{title}")
    best: dict[str, Figures] = {}
    for name, figures in runs.items():
        best[name] = {key: min(run[key] for run in figures) for key in ("wall", "cpu", "added_mb")}
        wall, cpu, added = best[name]["wall"] / jobs, best[name]["cpu"] / jobs, best[name]["added_mb"]
        print(f"  {name:9} {wall * 1000:8.0f} ms wall {cpu * 1000:8.0f} ms CPU   +{added:.1f} MB")
    if "official" in best:
        mine, theirs = best["ours"], best["official"]
        wall, cpu = mine["wall"] / theirs["wall"], mine["cpu"] / theirs["cpu"]
        memory = mine["added_mb"] / max(theirs["added_mb"], 0.1)
        print(f"  ratio     {wall:8.2f} of wall    {cpu:8.2f} of CPU   {memory:.3f} of memory")


def both(
    emulator: Emulator,
    environment: dict[str, str],
    storage: str,
    count: int,
    size: int,
    repeat: int,
    jobs: int = 1,
) -> dict[str, list[Figures]]:
    """Runs of both sides by turns, so that a slow moment of the machine meets both."""
    runs: dict[str, list[Figures]] = {side: [] for side in SIDES}
    for number in range(repeat):
        for side in SIDES:
            place = f"{storage}/{number}-{count}" if storage else ""
            runs[side].append(in_process(side, environment, place, count, size, jobs))
            emulator.reset()
    return runs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--s3", action="store_true", help="also with the job on moto's server")
    parser.add_argument(
        "--million", action="store_true", help="also 1,000,000 requests of 1 KB in 10 batches"
    )
    parser.add_argument("--measure", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        side, storage, *numbers = options.measure
        measure(side, storage, *map(int, numbers))
        return
    with contextlib.ExitStack() as stack:
        emulator = stack.enter_context(start_emulator(duration="manual"))
        environment = airflow(emulator.url)
        places = {"local disk": ""}
        if options.s3:
            environment |= stack.enter_context(moto())
            places["S3"] = "s3://aws_bench@bench/store"
        count, best = options.requests, f"best of {options.repeat}"
        for name, storage in places.items():
            runs = both(emulator, environment, storage, count, SIZE, options.repeat)
            compare(f"{count:,} requests of 2 KB, from a generator to the batch id, {name} ({best})", runs)
            runs = both(emulator, environment, storage, 10, 500, options.repeat, SMALL_JOBS)
            compare(f"a job of 10 requests, {name} (mean of {SMALL_JOBS}, {best})", runs, SMALL_JOBS)
        if options.million:
            one = in_process("ours", environment, "", 100_000, 1000)
            emulator.reset()
            ten = in_process("ours", environment, "", 1_000_000, 1000)
            compare("100,000 requests of 1 KB", {"ours": [one]})
            compare("1,000,000 requests of 1 KB in 10 batches", {"ours": [ten]})
            print(f"  peak memory {ten['peak_mb'] / one['peak_mb']:.2f} of the 100,000 case")


if __name__ == "__main__":
    main()
