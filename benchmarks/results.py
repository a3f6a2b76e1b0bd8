"""Results of one batch to files: the official operator and this package's, side by side in one run.

A loopback server serves the same 100,000 lines (100 MB) to each way in turn; both go through their
operator's ``execute``. The official way is ``AnthropicBatchOperator``, then its hook's
``stream_batch_results`` with a JSON dump of each typed line; ours is ``ClaudeBatchResultsOperator``, which
writes succeeded and errored records with the user's own columns and the cost of each request. Every way
runs in a process of its own, best of ``--repeat``; memory is the peak of the resident set above what it was
before ``execute``.

    python -m benchmarks.results                     # time and memory on local disk
    python -m benchmarks.results --parts 10          # a million lines, ten parts
    .venvs/cluster/bin/python -m benchmarks.results --s3   # and to a moto server on loopback
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

MODEL = "claude-haiku-4-5-20251001"
WORDS = (
    "usage grew steadily over the period with the strongest days in the middle of the week – “as planned”\n"
)
FAILED_EVERY = 50
WAYS = ["official", "records", "pass-through", "parquet"]
FORMATS = {"records": "jsonl", "pass-through": "raw", "parquet": "parquet"}
OFFICIAL_ID = "official-"
"""Of the one request that the official operator sends: the number of the batch that it gets follows."""
CREATED_AT = "2026-11-20T00:00:00Z"


def result_line(custom_id: str, number: int) -> bytes:
    """A line of about 1,000 bytes, as the API writes it."""
    if number % FAILED_EVERY == 0:
        error = {"type": "overloaded_error", "message": "Overloaded", "details": None}
        result: dict[str, Any] = {
            "type": "errored",
            "error": {"type": "error", "error": error, "request_id": f"req_{number:020d}"},
        }
    else:
        text = (WORDS * 8)[number % 90 :][: 440 + number % 61]
        result = {
            "type": "succeeded",
            "message": {
                "id": f"msg_{number:022d}",
                "type": "message",
                "role": "assistant",
                "model": MODEL,
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "stop_sequence": None,
                "usage": {
                    "input_tokens": 500 + number % 100,
                    "cache_creation_input_tokens": 0,
                    "cache_read_input_tokens": 0,
                    "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
                    "output_tokens": 300 + number % 50,
                    "service_tier": "batch",
                    "inference_geo": "not_available",
                },
            },
        }
    return json.dumps({"custom_id": custom_id, "result": result}, ensure_ascii=False).encode() + b"\n"


class Handler(BaseHTTPRequestHandler):
    """Just enough of the API: create a batch, which has ended at once; look at it, download its results."""

    protocol_version = "HTTP/1.1"
    folder = Path()
    lines: dict[str, int]
    numbers: Iterator[int]

    def do_POST(self) -> None:
        requests = json.loads(self.rfile.read(int(self.headers["content-length"])))["requests"]
        custom_ids = [request["custom_id"] for request in requests]
        if custom_ids[0].startswith(OFFICIAL_ID):
            return self._send_batch(f"msgbatch_{custom_ids[0].removeprefix(OFFICIAL_ID)}")
        batch_id = f"msgbatch_{next(self.numbers)}"
        lines = [result_line(custom_id, number) for number, custom_id in enumerate(custom_ids)]
        random.Random(batch_id).shuffle(lines)
        with (self.folder / f"{batch_id}.jsonl").open("wb") as file:
            file.writelines(lines)
        self.lines[batch_id] = len(lines)
        return self._send_batch(batch_id)

    def do_GET(self) -> None:
        _, _, rest = self.path.partition("/batches/")
        batch_id, _, results = rest.partition("/")
        if self.path.startswith("/v1/messages/batches?"):
            return self._send({"data": [], "has_more": False, "first_id": None, "last_id": None})
        if batch_id not in self.lines:
            error = {"type": "not_found_error", "message": "Not found"}
            return self._send({"type": "error", "error": error}, status=404)
        if not results:
            return self._send_batch(batch_id)
        path = self.folder / f"{batch_id}.jsonl"
        self.send_response(200)
        self.send_header("Content-Type", "application/x-jsonl")
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        self.wfile.flush()
        with path.open("rb") as file:
            self.connection.sendfile(file)
        return None

    def _send_batch(self, batch_id: str) -> None:
        lines = self.lines[batch_id]
        failed = -(-lines // FAILED_EVERY)
        counts = {"processing": 0, "succeeded": lines - failed, "errored": failed}
        batch = {
            "id": batch_id,
            "type": "message_batch",
            "processing_status": "ended",
            "request_counts": {**counts, "canceled": 0, "expired": 0},
            "created_at": CREATED_AT,
            "expires_at": "2026-11-21T00:00:00Z",
            "ended_at": CREATED_AT,
            "cancel_initiated_at": None,
            "archived_at": None,
            "results_url": f"http://{self.headers['host']}/v1/messages/batches/{batch_id}/results",
        }
        self._send(batch)

    def _send(self, value: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The server, in a process of its own; yields its URL."""
    command = [sys.executable, "-m", "benchmarks.results", "serve", str(folder)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdin
    try:
        yield process.stdout.readline().decode().strip()
    finally:
        process.stdin.close()
        process.terminate()
        process.wait(10)


def serve(folder: Path) -> None:
    Handler.folder, Handler.lines, Handler.numbers = folder, {}, itertools.count()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def context(task_id: str, pushed: dict[str, Any]) -> Any:
    """Airflow's part in a task's first try."""
    ti = SimpleNamespace(
        dag_id="bench",
        run_id="run",
        task_id=task_id,
        map_index=-1,
        try_number=1,
        max_tries=0,
        xcom_push=lambda key, value: pushed.__setitem__(key, value),
        xcom_pull=lambda **_: None,
    )
    return {"ti": ti, "dag_run": SimpleNamespace(conf={})}


def submit(storage: str, parts: int, lines: int) -> None:
    """Make the job whose results are delivered; prints its handle."""
    from airflow_claude_batch import Budget, ClaudeBatchSubmitOperator, Limits

    records = (
        {"custom_id": f"report-{number:07d}", "prompt": "-", "account": number, "plan": "team"}
        for number in range(parts * lines)
    )
    operator = ClaudeBatchSubmitOperator(
        task_id="submit",
        requests=lambda: records,
        model=MODEL,
        max_tokens=512,
        storage_path=storage,
        conn_id="anthropic_bench",
        limits=Limits(requests=lines),
        budget=Budget(probe=False),  # the server here answers no single call
    )
    print(json.dumps(operator.execute(context("submit", {}))))


def official(handle: dict[str, Any], _: str, output: str, way: str) -> None:
    from airflow.providers.anthropic.operators.batch import AnthropicBatchOperator
    from airflow.sdk import ObjectStoragePath

    path: Any = ObjectStoragePath(output) if "://" in output else Path(output)
    with path.open("w") as file:
        for batch_id in handle["batch_ids"]:
            params = {"model": MODEL, "max_tokens": 1, "messages": [{"role": "user", "content": "-"}]}
            custom_id = OFFICIAL_ID + batch_id.removeprefix("msgbatch_")
            operator = AnthropicBatchOperator(
                task_id="batch",
                requests=[{"custom_id": custom_id, "params": params}],
                conn_id="anthropic_bench",
            )
            done = operator.execute(context("batch", {}))
            assert done == batch_id
            for line in operator.hook.stream_batch_results(done):
                file.write(json.dumps(line.model_dump(mode="json")) + "\n")


def ours(handle: dict[str, Any], storage: str, output: str, way: str) -> None:
    from airflow_claude_batch import ClaudeBatchResultsOperator

    operator = ClaudeBatchResultsOperator(
        task_id="results",
        batch=handle,
        output_path=output,
        output_format=FORMATS[way],
        resubmission=0,
        storage_path=storage,
        conn_id="anthropic_bench",
    )
    summary = operator.execute(context("results", {}))
    assert summary["counts"]["total"] == handle["request_count"]
    assert summary["cost"]["total_usd"] > 0


def run_one(way: str, handle: dict[str, Any], storage: str, output: str) -> None:
    """One way, measured in this process; prints seconds, CPU seconds and added bytes."""
    warm_up(output)
    deliver = official if way == "official" else ours
    before = _resident()
    start, cpu = time.perf_counter(), time.process_time()
    deliver(handle, storage, output, way)
    figures = {
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu,
        "added": _peak() - before,
    }
    print(json.dumps(figures))


def warm_up(output: str) -> None:
    """Imports are paid before the clock starts, for both."""
    import importlib
    import pkgutil

    import airflow.sdk
    import anthropic.types.messages
    import genai_prices.data
    from airflow.providers.anthropic.hooks.anthropic import AnthropicHook

    import airflow_claude_batch

    assert anthropic.types.messages
    assert genai_prices.data.providers
    assert importlib.import_module("airflow.providers.anthropic.operators.batch")
    for package in ("batches", "common", "hooks", "operators", "runtime", "triggers"):
        path = [f"{airflow_claude_batch.__path__[0]}/{package}"]
        for module in pkgutil.walk_packages(path, f"airflow_claude_batch.{package}."):
            importlib.import_module(module.name)
    assert importlib.import_module("pyarrow.parquet")
    if "://" in output:
        path_ = airflow.sdk.ObjectStoragePath(output)
        assert not path_.fs.exists(f"{path_.path}/nothing")
    assert AnthropicHook("anthropic_bench").conn


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _peak() -> int:
    """Of this program. (What ``getrusage`` says includes the process that started it.)"""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def call(*arguments: str) -> Any:
    """Run this program; what it printed last."""
    command = [sys.executable, "-m", "benchmarks.results", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(way: str, handle: Any, storage: str, output: str, repeat: int) -> dict[str, float]:
    """Best time and highest memory of some runs, none of which finds files of an earlier one to replace."""
    results = []
    local = Path(output.removeprefix("file://"))
    for _ in range(repeat):
        shutil.rmtree(local) if local.is_dir() else local.unlink(missing_ok=True)
        results.append(call("run", way, json.dumps(handle), storage, output))
    return {
        "seconds": min(result["seconds"] for result in results),
        "cpu": min(result["cpu"] for result in results),
        "added": max(result["added"] for result in results),
    }


def compare(arguments: argparse.Namespace) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="claude-batch-benchmark-") as name,
        serving(Path(name)) as url,
    ):
        folder = Path(name)
        connection = {"conn_type": "anthropic", "password": "any", "host": url}
        os.environ["AIRFLOW_CONN_ANTHROPIC_BENCH"] = json.dumps(connection)
        os.environ["AIRFLOW_HOME"] = f"{name}/airflow"
        storage = f"file://{name}/storage"
        handle = call("submit", storage, str(arguments.parts), str(arguments.lines))
        size = sum(path.stat().st_size for path in folder.glob("msgbatch_*.jsonl"))
        total = handle["request_count"]
        print(f"{total:,} lines, {size / 1e6:.0f} MB, {arguments.parts} part(s)")
        columns = ("seconds", "ratio", "CPU s", "ratio", "us/line", "added MB")
        print(f"{'way':22} " + " ".join(f"{column:>8}" for column in columns))
        compare_at(folder.as_uri(), arguments, handle, storage)
        if arguments.s3:
            with s3_server():
                compare_at("s3://aws_bench@bench", arguments, handle, storage)


def compare_at(place: str, arguments: argparse.Namespace, handle: Any, storage: str) -> None:
    """All ways, to one place."""
    base: dict[str, float] = {}
    for way in arguments.ways:
        local = place.startswith("file://")
        output = f"{place.removeprefix('file://') if local and way == 'official' else place}/{way}"
        repeat = 1 if way == "official" and arguments.parts > 1 else arguments.repeat
        figures = measure(way, handle, storage, output, repeat)
        base = figures if way == "official" else base
        report(way if local else f"{way} to S3", figures, handle["request_count"], base)


def report(way: str, figures: dict[str, float], total: int, base: dict[str, float]) -> None:
    """One row. On a busy machine compare the CPU times: both ways are bound by them."""
    ratios = [f"{base[key] / figures[key]:8.1f}" if base else f"{'-':>8}" for key in ("seconds", "cpu")]
    print(
        f"{way:22} {figures['seconds']:8.2f} {ratios[0]} {figures['cpu']:8.2f} {ratios[1]} "
        f"{figures['cpu'] / total * 1e6:8.1f} {figures['added'] / 1e6:8.0f}",
        flush=True,
    )


@contextlib.contextmanager
def s3_server() -> Iterator[None]:
    """An S3-compatible server, in a process of its own, and the connection to it."""
    import boto3

    command = [sys.executable, "-m", "benchmarks.results", "s3"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin
    assert process.stdout
    endpoint = process.stdout.readline().decode().strip()
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=endpoint, **keys).create_bucket(Bucket="bench")
    extra = {"endpoint_url": endpoint, "region_name": "us-east-1"}
    connection = {"conn_type": "aws", "login": "any", "password": "any", "extra": extra}
    os.environ["AIRFLOW_CONN_AWS_BENCH"] = json.dumps(connection)
    try:
        yield
    finally:
        process.stdin.close()
        process.terminate()
        process.wait(10)


def serve_s3() -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()
    server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000, help="lines of a part")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--s3", action="store_true", help="also to an S3-compatible server (moto)")
    match sys.argv[1:]:
        case ["serve", folder]:
            serve(Path(folder))
        case ["s3"]:
            serve_s3()
        case ["submit", storage, parts, lines]:
            submit(storage, int(parts), int(lines))
        case ["run", way, handle, storage, output]:
            run_one(way, json.loads(handle), storage, output)
        case _:
            compare(parser.parse_args())


if __name__ == "__main__":
    main()
