"""Results of one batch to files: the official hook's iterator and this package, side by side in one run.

A loopback server serves the same 100,000 lines (100 MB) to each way in turn. The official way is
``AnthropicHook(...).conn.messages.batches.results`` with a JSON dump of each typed line; ours writes
succeeded and errored records with the user's own columns and the cost of each request. Every way runs in a
process of its own, best of ``--repeat``; memory is the peak of the resident set above what it was before
the download.

    python -m benchmarks.results                     # time and memory on local disk
    python -m benchmarks.results --parts 10          # a million lines, ten parts
    .venvs/cluster/bin/python -m benchmarks.results --s3   # and to a moto server on loopback
"""

from __future__ import annotations

import argparse
import contextlib
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
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

MODEL = "claude-haiku-4-5-20251001"
WORDS = (
    "usage grew steadily over the period with the strongest days in the middle of the week – “as planned”\n"
)
FAILED_EVERY = 50
WAYS = ["official", "records", "pass-through", "parquet"]
CREATED_AT = "2026-11-20T00:00:00Z"


def result_line(number: int, part: int) -> bytes:
    """A line of about 1,000 bytes, as the API writes it."""
    custom_id = f"report-{part:02d}-{number:06d}"
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


def prepare(folder: Path, parts: int, lines: int) -> None:
    """Results files, and a job's folder with its stored inputs and ledger."""
    from airflow_claude_batch.batches import ledger as ledgers
    from airflow_claude_batch.batches.spool import Limits, spool
    from airflow_claude_batch.batches.storage import Folder

    for part in range(parts):
        order = list(range(lines))
        random.Random(part).shuffle(order)
        with (folder / f"results-{part}.jsonl").open("wb") as file:
            file.writelines(result_line(number, part) for number in order)
    records = (
        {"custom_id": f"report-{part:02d}-{number:06d}", "prompt": "-", "account": number, "plan": "team"}
        for part in range(parts)
        for number in range(lines)
    )
    root = Folder.at((folder / "storage").as_uri())
    home = root.child("jobs", "dag", "run", "task", "job-1")
    spooled = spool(
        records, home, defaults={"model": MODEL, "max_tokens": 512}, limits=Limits(requests=lines)
    )
    for number, part_ in enumerate(spooled.parts):
        part_.batch_id = f"msgbatch_{number}"
    ledger = ledgers.Ledger(
        version=ledgers.VERSION,
        job=home.url,
        created_at=ledgers.msgspec.convert(CREATED_AT, ledgers.datetime.datetime),
        spooled=True,
        request_count=spooled.request_count,
        parts=spooled.parts,
    )
    ledgers.save(home, ledger)


class Handler(BaseHTTPRequestHandler):
    """Just enough of the API: look a batch up, download its results."""

    protocol_version = "HTTP/1.1"
    folder = Path()
    lines = 0

    def do_GET(self) -> None:
        name = self.path.split("/batches/")[1]
        batch_id, _, results = name.partition("/")
        if not results:
            failed = -(-self.lines // FAILED_EVERY)
            counts = {"processing": 0, "succeeded": self.lines - failed, "errored": failed}
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
                "results_url": f"http://{self.headers['host']}{self.path}/results",
            }
            return self._send(json.dumps(batch).encode())
        path = self.folder / f"results-{batch_id.rpartition('_')[2]}.jsonl"
        self.send_response(200)
        self.send_header("Content-Type", "application/x-jsonl")
        self.send_header("Content-Length", str(path.stat().st_size))
        self.end_headers()
        self.wfile.flush()
        with path.open("rb") as file:
            self.connection.sendfile(file)
        return None

    def _send(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@contextlib.contextmanager
def serving(folder: Path, lines: int) -> Any:
    """The server, in a process of its own; yields its URL."""
    command = [sys.executable, "-m", "benchmarks.results", "serve", str(folder), str(lines)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout
    assert process.stdin
    try:
        yield process.stdout.readline().decode().strip()
    finally:
        process.stdin.close()
        process.terminate()
        process.wait(10)


def serve(folder: Path, lines: int) -> None:
    Handler.folder, Handler.lines = folder, lines
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=lambda: (sys.stdin.read(), server.shutdown()), daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def official(url: str, folder: Path, output: str, parts: int) -> None:
    from airflow.providers.anthropic.hooks.anthropic import AnthropicHook

    client = AnthropicHook("anthropic_bench").conn
    with Path(output).open("w") as file:
        for part in range(parts):
            for line in client.messages.batches.results(f"msgbatch_{part}"):
                file.write(json.dumps(line.model_dump(mode="json")) + "\n")


def ours(url: str, folder: Path, output: str, parts: int, way: str) -> None:
    from airflow_claude_batch.batches.delivery import Delivery
    from airflow_claude_batch.batches.jobs import open_job
    from airflow_claude_batch.batches.storage import Folder
    from airflow_claude_batch.batches.writers import open_directory
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
    from airflow_claude_batch.settings import open_folder

    root = Folder.at((folder / "storage").as_uri())
    home = root.child("jobs", "dag", "run", "task", "job-1")
    format = {"records": "jsonl", "pass-through": "raw"}.get(way, way)
    with open_job(root, home.url) as job:
        for part in job.ledger.parts:
            part.delivery = None
        directory = open_directory(open_folder(output), format=format)
        delivery = Delivery(api=ClaudeBatchHook("anthropic_bench").batches, output=directory)
        delivery.harvest(job)
        summary = delivery.finish(job)
    assert summary["counts"]["total"] == job.ledger.request_count
    assert summary["cost"]["total_usd"] > 0


def run_one(way: str, url: str, folder: Path, output: str, parts: int) -> None:
    """One way, measured in this process; prints seconds and added bytes."""
    host = json.dumps({"conn_type": "anthropic", "password": "any", "host": url})
    os.environ["AIRFLOW_CONN_ANTHROPIC_BENCH"] = host
    warm_up(way, output)
    before = _resident()
    start, cpu = time.perf_counter(), time.process_time()
    if way == "official":
        official(url, folder, output, parts)
    else:
        ours(url, folder, output, parts, way)
    seconds = time.perf_counter() - start
    cpu = time.process_time() - cpu
    print(json.dumps({"seconds": seconds, "cpu": cpu, "added": _peak() - before}))


def warm_up(way: str, output: str) -> None:
    """Imports are paid before the clock starts, for both."""
    import importlib

    import airflow.sdk
    import anthropic.types.messages
    import genai_prices
    from airflow.providers.anthropic.hooks.anthropic import AnthropicHook

    assert airflow.sdk.ObjectStoragePath
    assert anthropic.types.messages
    assert genai_prices.calc_price
    for module in ("batches.delivery", "batches.writers", "hooks.claude_batch", "settings"):
        importlib.import_module(f"airflow_claude_batch.{module}")
    assert importlib.import_module("genai_prices.data").providers
    if "://" in output:
        path = airflow.sdk.ObjectStoragePath(output)
        assert not path.fs.exists(f"{path.path}/nothing")
    if way == "parquet":
        import pyarrow.parquet

        assert pyarrow.parquet
    assert AnthropicHook("anthropic_bench").conn


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def _peak() -> int:
    """Of this program. (What ``getrusage`` says includes the process that started it.)"""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


def measure(way: str, url: str, folder: Path, output: str, parts: int, repeat: int) -> dict[str, float]:
    """Best time and highest memory of some runs, none of which finds files of an earlier one to replace."""
    results = []
    local = Path(output.removeprefix("file://"))
    for _ in range(repeat):
        shutil.rmtree(local) if local.is_dir() else local.unlink(missing_ok=True)
        command = [
            sys.executable,
            "-m",
            "benchmarks.results",
            "run",
            way,
            url,
            str(folder),
            output,
            str(parts),
        ]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        results.append(json.loads(done.stdout.strip().splitlines()[-1]))
    return {
        "seconds": min(result["seconds"] for result in results),
        "cpu": min(result["cpu"] for result in results),
        "added": max(result["added"] for result in results),
    }


def compare(arguments: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="claude-batch-benchmark-") as name:
        folder = Path(name)
        prepare(folder, arguments.parts, arguments.lines)
        size = sum(path.stat().st_size for path in folder.glob("results-*.jsonl"))
        total = arguments.parts * arguments.lines
        print(f"{total:,} lines, {size / 1e6:.0f} MB, {arguments.parts} part(s)")
        print(
            f"{'way':14} {'seconds':>8} {'ratio':>6} {'CPU s':>8} {'ratio':>6} {'us/line':>8} {'added MB':>9}"
        )
        with serving(folder, arguments.lines) as url:
            base: dict[str, float] = {}
            for way in arguments.ways:
                output = str(folder / way) if way == "official" else (folder / way).as_uri()
                repeat = 1 if way == "official" and arguments.parts > 1 else arguments.repeat
                figures = measure(way, url, folder, output, arguments.parts, repeat)
                base = figures if way == "official" else base
                report(way, figures, total, base)
            if arguments.s3:
                to_s3(folder, url, arguments, total)


def report(way: str, figures: dict[str, float], total: int, base: dict[str, float]) -> None:
    """One row. On a busy machine compare the CPU times: both ways are bound by them."""
    ratios = [f"{base[key] / figures[key]:6.1f}" if base else f"{'-':>6}" for key in ("seconds", "cpu")]
    print(
        f"{way:14} {figures['seconds']:8.2f} {ratios[0]} {figures['cpu']:8.2f} {ratios[1]} "
        f"{figures['cpu'] / total * 1e6:8.1f} {figures['added'] / 1e6:9.0f}",
        flush=True,
    )


def to_s3(folder: Path, url: str, arguments: argparse.Namespace, total: int) -> None:
    """Our records to an S3-compatible server, beside the bare upload of the same files."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    keys = {"aws_access_key_id": "any", "aws_secret_access_key": "any", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=endpoint, **keys)
    client.create_bucket(Bucket="bench")
    os.environ["AIRFLOW_CONN_AWS_BENCH"] = json.dumps(
        {
            "conn_type": "aws",
            "login": "any",
            "password": "any",
            "extra": {"endpoint_url": endpoint, "region_name": "us-east-1"},
        }
    )
    uploads = []
    for _ in range(arguments.repeat):
        start = time.perf_counter()
        for path in sorted((folder / "records").rglob("part-*.jsonl")):
            client.upload_file(str(path), "bench", f"upload/{path.parent.name}/{path.name}")
        uploads.append(time.perf_counter() - start)
    report("bare upload", {"seconds": min(uploads), "cpu": 0, "added": 0}, total, {})
    figures = measure("records", url, folder, "s3://aws_bench@bench/out", arguments.parts, arguments.repeat)
    report("records to S3", figures, total, {})
    server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--lines", type=int, default=100_000, help="lines of a part")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=WAYS, choices=WAYS)
    parser.add_argument("--s3", action="store_true", help="also to an S3-compatible server (moto)")
    if sys.argv[1:2] == ["serve"]:
        serve(Path(sys.argv[2]), int(sys.argv[3]))
    elif sys.argv[1:2] == ["run"]:
        way, url, folder, output, parts = sys.argv[2:]
        run_one(way, url, Path(folder), output, int(parts))
    else:
        compare(parser.parse_args())


if __name__ == "__main__":
    main()
