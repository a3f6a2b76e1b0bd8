"""Both command lines, as processes, and the page of the documentation that is made of them."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import subprocess
import sys
from pathlib import Path

import botocore.exceptions
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.cli import jobs, printing
from airflow_claude_batch.cli.printing import say
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.helpers import records, submit
from tests.cli import reference
from tests.cli.conftest import Run

REPOSITORY = Path(__file__).parents[2]
AIRFLOW = tuple(map(int, importlib.metadata.version("apache-airflow").split(".")[:2]))


def start(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, "-m", *command], env=environment, capture_output=True, text=True, timeout=60
    )


@pytest.mark.skipif(AIRFLOW < (3, 2), reason="Airflow 3.2 and later take commands from providers")
def test_both_command_lines_are_the_same_commands(root: Folder, api: BatchesApi) -> None:
    submit(root, api, records(3))
    ours = start("airflow_claude_batch.cli", "list", "-o", "json")
    airflows = start("airflow", "claude-batch", "list", "-o", "json")
    assert (ours.returncode, airflows.returncode) == (0, 0), airflows.stderr
    assert json.loads(ours.stdout)[0]["state"] == "waiting"
    assert json.loads(airflows.stdout) == json.loads(ours.stdout)
    failed = start("airflow", "claude-batch", "whose", "msgbatch_nobody")
    assert (failed.returncode, "No job" in failed.stderr) == (1, True)


def test_what_airflow_and_libraries_log_is_not_in_the_output(
    root: Folder, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path(root.path).mkdir()
    connection = {"conn_type": "anthropic", "host": emulator.url, "password": "any"}
    monkeypatch.setenv("AIRFLOW_CONN_ANTHROPIC_DEFAULT", json.dumps(connection))
    done = start("airflow_claude_batch.cli", "list", "--strangers", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)) == (0, []), done


def test_what_structlog_writes_to_the_output_by_itself_is_not_in_it(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def noisy(options: argparse.Namespace) -> int:
        import structlog

        structlog.PrintLogger().info("No connection ID provided.")  # as the Amazon provider does
        print("Hello from a library")
        say("[]")
        return 0

    monkeypatch.setattr(jobs, "list_jobs", noisy)
    done = run("list", "-o", "json")
    assert (done.code, done.data, "connection ID" in done.err, "Hello" in done.err) == (0, [], True, True)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (botocore.exceptions.EndpointConnectionError(endpoint_url="http://127.0.0.1:9"), 3),
        (botocore.exceptions.NoCredentialsError(), 2),
    ],
    ids=["passing", "final"],
)
def test_what_a_stores_library_raises_is_said_in_one_line(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    def fails(options: argparse.Namespace) -> int:
        raise error

    monkeypatch.setattr(jobs, "list_jobs", fails)
    done = run("list")
    assert (done.code, done.err.startswith(f"The store: {type(error).__name__}: ")) == (code, True), done.err
    assert done.err.count("\n") == 1


def test_it_says_its_version(run: Run) -> None:
    assert run("--version") == (0, f"claude-batch {importlib.metadata.version('airflow-claude-batch')}\n", "")


def test_reading_the_command_line_loads_neither_airflow_nor_the_engine() -> None:
    code = (
        "import sys; from airflow_claude_batch.cli.parser import build_parser; build_parser();"
        "print([m for m in sys.modules if m.split('.')[0] in ('airflow', 'anthropic', 'rich', 'msgspec')"
        " or m.startswith('airflow_claude_batch.batches')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_emulator_is_one_of_the_commands() -> None:
    done = start("airflow_claude_batch.cli", "emulator", "--port", "0", "--max-seconds", "0.1")
    assert (done.returncode, "listening on http://127.0.0.1:" in done.stdout) == (0, True), done


def test_the_page_of_the_documentation_is_what_the_parser_says() -> None:
    assert reference.PAGE.read_text() == reference.page(), "run: python -m tests.cli.reference"


def test_plain_rows_and_a_long_table_are_in_the_output(
    run: Run, root: Folder, api: BatchesApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit(root, api, records(1))
    plain = run("list", "-o", "plain")
    assert ("reports/scheduled__" in plain.out, plain.err) == (True, "")
    monkeypatch.setattr(printing, "PLAIN_FROM", 1)
    assert run("list") == plain


@pytest.mark.parametrize("output", ["table", "plain", "json", "yaml"])
def test_a_reader_that_has_enough_is_no_error(root: Folder, api: BatchesApi, output: str) -> None:
    submit(root, api, records(1))
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "airflow_claude_batch.cli", "list", "-o", output]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, env=environment, stdout=write, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    os.close(write)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stderr
