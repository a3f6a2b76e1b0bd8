"""What waiting costs: this package's trigger and the official one, in one run against one local API.

    python benchmarks/wait.py                # 1,000 waits with both, then 10,000 with ours; about 5 minutes
    python benchmarks/wait.py --seconds 20   # shorter, coarser
    python benchmarks/wait.py --only ours-1000

Each contender runs its triggers on the event loop of a process of its own, as a triggerer would, against
the emulator, whose batches end by themselves after the measured time. "Added memory" is what the process
grew by from the moment when everything is imported; "noticed" is the time from a batch's end to its event.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import gc
import http.client
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psutil

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.testing import Emulator

CONTENDERS = {"official-1000": 1_000, "ours-1000": 1_000, "ours-10000": 10_000}
LAG_SAMPLE_SECONDS = 0.005
START_SECONDS = 20
"""Imports of a contender, before its clock starts."""
CREATES_A_SECOND = 300
PARAMS = {
    "model": "claude-haiku-4-5",
    "max_tokens": 16,
    "messages": [{"role": "user", "content": "Say something."}],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=60, help="measured time of each contender")
    parser.add_argument("--interval", type=float, default=10, help="seconds between two looks")
    parser.add_argument("--only", choices=CONTENDERS, action="append", help="leave the others out")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--batch-ids", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(asyncio.run(contend(arguments))))
        return

    from airflow_claude_batch.emulator.testing import start_emulator

    results: dict[str, dict[str, Any]] = {}
    for name in arguments.only or CONTENDERS:
        with start_emulator() as emulator:
            results[name] = measure(name, emulator, arguments)
        show(name, results[name], arguments)
    if {"official-1000", "ours-1000"} <= set(results):
        compare(results["official-1000"], results["ours-1000"])


def measure(name: str, emulator: Emulator, arguments: argparse.Namespace) -> dict[str, Any]:
    count = CONTENDERS[name]
    duration = count / CREATES_A_SECOND + START_SECONDS + arguments.seconds
    emulator.settings(duration=duration)
    with tempfile.TemporaryDirectory() as folder:
        ids = Path(folder) / "ids.json"
        ids.write_text(json.dumps(create(emulator.url, count)))
        before = emulator.state()["received"]
        command = [sys.executable, __file__, "--child", name.split("-")[0], "--batch-ids", str(ids)]
        command += ["--seconds", str(arguments.seconds), "--interval", str(arguments.interval)]
        connection = {"conn_type": "anthropic", "password": "any-key", "host": emulator.url}
        output = subprocess.check_output(
            command,
            env=os.environ
            | {
                "AIRFLOW_HOME": folder,
                "AIRFLOW_CONN_ANTHROPIC_DEFAULT": json.dumps(connection),
                "NO_PROXY": "127.0.0.1",
            },
            timeout=600 + arguments.seconds,
        )
        journal = emulator.journal(since=before, method="GET")
    result: dict[str, Any] = json.loads(output.decode().splitlines()[-1])
    calls = [
        call for call in journal if result["began"] <= call["time"] < result["began"] + arguments.seconds
    ]
    result["calls_a_tick"] = len(calls) * arguments.interval / arguments.seconds
    ends = {batch["id"]: batch["created_at"] + duration for batch in emulator.batches()}
    late = sorted(at - ends[batch_id] for batch_id, at in result.pop("fired").items())
    result["fired"] = len(late)
    result["noticed"] = late[-1] if late else float("nan")
    result["waits"] = count
    return result


def create(url: str, count: int) -> list[str]:
    server = http.client.HTTPConnection(urlsplit(url).netloc)
    body = json.dumps({"requests": [{"custom_id": "only", "params": PARAMS}]})
    ids = []
    for _ in range(count):
        server.request("POST", "/v1/messages/batches", body, {"x-api-key": "any-key"})
        ids.append(json.loads(server.getresponse().read())["id"])
    return ids


# In the contender's process


async def contend(arguments: argparse.Namespace) -> dict[str, Any]:
    import airflow.providers.anthropic.hooks.anthropic  # both need it; its cost is the SDK's

    del airflow
    batch_ids = json.loads(arguments.batch_ids.read_text())
    make = {"ours": our_trigger, "official": official_trigger}[arguments.child]
    process = psutil.Process()
    triggers = [make(batch_id, arguments.interval) for batch_id in batch_ids]
    gc.collect()  # a triggerer has been up for a while
    collections = watch_collections()
    memory, cpu, began = process.memory_info().rss, cpu_seconds(), time.time()
    lags: list[tuple[float, float]] = []
    watch = asyncio.create_task(watch_lag(lags))
    fired: dict[str, float] = {}
    running = []
    for trigger, batch_id in zip(triggers, batch_ids, strict=True):
        running.append(asyncio.create_task(run(trigger, batch_id, fired)))
        await asyncio.sleep(0)  # as Airflow's triggerer does
    await asyncio.sleep(arguments.seconds)
    figures = {
        "began": began,
        "cpu": cpu_seconds() - cpu,
        "memory": process.memory_info().rss - memory,
        "threads": process.num_threads(),
    }
    await asyncio.wait(running, timeout=120 + START_SECONDS)
    watch.cancel()
    late, busy = sorted(lag for lag, _ in lags), sorted(own for _, own in lags)
    return {
        **figures,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - memory,
        "lag_p99": late[int(len(late) * 0.99)],
        "lag_max": late[-1],
        "busy_max": busy[-1],
        "gc_max": max(collections, default=0.0),
        "fired": fired,
    }


def our_trigger(batch_id: str, interval: float) -> Any:
    from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger

    now = datetime.datetime.now(datetime.UTC).isoformat()
    return ClaudeBatchTrigger([batch_id], "anthropic_default", now, poll_interval=interval)


def official_trigger(batch_id: str, interval: float) -> Any:
    from airflow.providers.anthropic.triggers.batch import AnthropicBatchTrigger

    return AnthropicBatchTrigger("anthropic_default", batch_id, interval, time.time() + 86_400)


async def run(trigger: Any, batch_id: str, fired: dict[str, float]) -> None:
    async for event in trigger.run():
        if event.payload["status"] in ("ended", "success"):
            fired[batch_id] = time.time()


async def watch_lag(lags: list[tuple[float, float]]) -> None:
    """How late the loop is each time, and how much of that it was computing (not waiting for a CPU)."""
    while True:
        before, own = time.perf_counter(), time.thread_time()
        await asyncio.sleep(LAG_SAMPLE_SECONDS)
        lags.append((time.perf_counter() - before - LAG_SAMPLE_SECONDS, time.thread_time() - own))


def watch_collections() -> list[float]:
    """Seconds of each run of the garbage collector from now on; a full one walks the heap of all imports."""
    seconds: list[float] = []
    started = 0.0

    def note(phase: str, _: dict[str, int]) -> None:
        nonlocal started
        if phase == "start":
            started = time.thread_time()
        else:
            seconds.append(time.thread_time() - started)

    gc.callbacks.append(note)
    return seconds


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# Telling


def show(name: str, figures: dict[str, Any], arguments: argparse.Namespace) -> None:
    waits = figures["waits"]
    rows: list[tuple[str, str]] = [
        ("calls to the API a tick", f"{figures['calls_a_tick']:.1f}"),
        (f"CPU over {arguments.seconds:.0f} s", f"{figures['cpu']:.2f} s"),
        ("added memory", f"{megabytes(figures['memory'])}, {figures['memory'] / waits / 1000:.1f} KB a wait"),
        ("added memory at its peak", megabytes(figures["peak"])),
        ("threads", str(figures["threads"])),
        ("event loop late, p99 and most", f"{ms(figures['lag_p99'])}, {ms(figures['lag_max'])}"),
        (
            "  of it computing, most at once",
            f"{ms(figures['busy_max'])} (one garbage collection: {ms(figures['gc_max'])})",
        ),
        ("ends noticed", f"{figures['fired']:,} of {waits:,}, the last after {figures['noticed']:.1f} s"),
    ]
    print(f"\n{name}: {waits:,} waits, one look every {arguments.interval:.0f} s")
    for label, value in rows:
        print(f"  {label:<32}{value}", flush=True)


def compare(official: dict[str, Any], ours: dict[str, Any]) -> None:
    ratio: Callable[[str], str] = lambda key: f"1/{official[key] / max(ours[key], 1e-9):.0f}"  # noqa: E731
    print(
        f"\nours / official: calls {ratio('calls_a_tick')}, CPU {ratio('cpu')}, memory {ratio('memory')}, "
        f"memory at its peak {ratio('peak')}"
    )


def ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


def megabytes(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


if __name__ == "__main__":
    main()
