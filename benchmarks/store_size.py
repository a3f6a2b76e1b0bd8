"""Commands over a ``storage_path`` of 10,000 jobs, on a local disk and on S3 (moto).

The jobs are copies of one that was submitted to the emulator and delivered: each of its own run of one of 20
DAGs, an hour apart, with its own batch and claim. On S3 they are put into moto's memory, in a process of its
own. Each command runs as ``claude-batch`` does, and is measured by time, calls to S3, and the memory that
it adds at its highest.

    python -m benchmarks.store_size [--jobs 10000] [--s3]     # two minutes; on S3 five
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import io
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import start_emulator
from benchmarks.s3_calls import count_calls
from tests.batches.many_jobs import DAGS, batch_of, dag_of, lay_down, name_of, one_job, put
from tests.batches.s3 import S3

BUCKET = "bucket"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--s3", action="store_true", help="on moto instead of a local disk")
    parser.add_argument("--serve", metavar="PATTERN", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        _serve(options.serve, options.jobs)
        return
    os.environ.setdefault("AIRFLOW_HOME", tempfile.mkdtemp())
    with tempfile.TemporaryDirectory() as folder, _store(Path(folder), options) as (url, emulator_url):
        os.environ["AIRFLOW_CONN_ANTHROPIC_DEFAULT"] = (
            f'{{"conn_type": "anthropic", "password": "any", "host": "{emulator_url}"}}'
        )
        _measure(url, options.jobs)


@contextlib.contextmanager
def _store(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """The URL of a ``storage_path`` with so many jobs, and that of the emulator."""
    pattern = Folder.at(f"file://{folder}/one")
    with start_emulator(duration=0) as emulator:
        one_job(pattern, emulator)
        if not options.s3:
            root = Folder.at(f"file://{folder}/many")
            lay_down(pattern, options.jobs, root)
            yield root.url, emulator.url
            return
        serve = [sys.executable, "-m", "benchmarks.store_size", "--jobs", str(options.jobs), "--serve"]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen([*serve, pattern.url], **pipes) as server:
            _attach(server.stdout.readline().strip())
            try:
                yield f"s3://{BUCKET}/claude_batch", emulator.url
            finally:
                server.terminate()


def _serve(pattern: str, jobs: int) -> None:
    """Be the S3 server until it is ended."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = S3()
    server.folder("claude_batch")
    put(Folder.at(pattern), jobs, f"s3://{BUCKET}/claude_batch")
    print(server.url, flush=True)
    sys.stdin.read()
    server.stop()


def _attach(endpoint: str) -> None:
    """Make Airflow's ``s3://`` that server."""
    import s3fs
    from airflow.sdk.io import attach

    fs = s3fs.S3FileSystem(
        endpoint_url=endpoint,
        key="k",
        secret="s",
        skip_instance_cache=True,
    )
    attach("s3", fs=fs)


def _measure(url: str, jobs: int) -> None:
    from airflow_claude_batch.cli import main as claude_batch

    with contextlib.redirect_stdout(io.StringIO()):
        claude_batch(["whose", "msgbatch_none", "--storage-path", url])  # loads what commands load
    calls = count_calls()
    since = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3)).isoformat()
    job, batch = name_of(jobs // 2), batch_of(jobs // 2)
    print(f"{jobs:,} jobs under {url.partition(':')[0]}, {DAGS} DAGs")
    print(f"{'command':42} {'code':>4} {'seconds':>8} {'calls':>7} {'MB more':>8}")
    for arguments in (
        ["whose", batch],
        ["show", job, "--offline"],
        ["list", "--since", since, "-o", "json"],
        ["list", "--dag", dag_of(0), "-o", "json"],
        ["list", "--state", "waiting"],
        ["list", "-o", "json"],
        ["list", "-o", "plain"],
        ["list"],
        ["costs", "--since", "2026-01-01"],
        ["purge", "--older-than", "100000", "--dry-run"],
        ["purge", "--older-than", "0", "--dry-run"],
        ["purge", "--older-than", "0", "--yes"],
        ["purge", "--older-than", "0", "--yes"],
        ["list"],
    ):
        calls.clear()
        memory, began = _memory(), time.perf_counter()
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            code = claude_batch([*arguments, "--storage-path", url])
        took, more = time.perf_counter() - began, _memory() - memory
        shown = " ".join("TIME" if word == since else "JOB" if word == job else word for word in arguments)
        print(f"{shown:42.42} {code:4} {took:8.2f} {sum(calls.values()):7,} {more:8.1f}", flush=True)
        if arguments[0] == "purge":
            print("  " + out.getvalue().strip().splitlines()[-1][:100].replace(url, "…"))


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
