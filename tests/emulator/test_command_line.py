"""The command, as a person starts it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_claude_batch.emulator.testing import Emulator

ROOT = Path(__file__).parents[2]


def run(*arguments, **options):
    command = [sys.executable, "-m", "airflow_claude_batch.emulator", "--port", "0", *arguments]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, **pipes, **options
    )


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_says_where_it_listens_and_stops_quietly(tmp_path, stop):
    ready = tmp_path / "url"
    process = run("--ready-file", str(ready), "--speed", "10", "--duration", "manual", "--api-key", "secret")
    line = process.stdout.readline()
    assert line == f"claude-batch-emulator listening on {ready.read_text()}\n"
    settings = Emulator(ready.read_text()).settings()
    assert (settings["speed"], settings["duration"], settings["api_key"]) == (10, "manual", "secret")
    process.send_signal(stop)
    rest, errors = process.communicate(timeout=10)
    assert (rest, errors) == ("", "")


def test_it_stops_by_itself(tmp_path):
    process = run("--max-seconds", "0.2")
    process.communicate(timeout=10)
    assert process.returncode == 0


def test_it_stops_with_its_parent():
    process = run("--stop-with-stdin", stdin=subprocess.PIPE)
    assert "listening" in process.stdout.readline()
    process.communicate("", timeout=10)
    assert process.returncode == 0


def test_settings_come_from_a_file_and_wrong_ones_are_named(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(json.dumps({"answer_bites": 7}))
    process = run("--settings", str(file))
    _, errors = process.communicate(timeout=10)
    assert process.returncode == 2
    assert "answer_bites" in errors


def test_a_taken_port_is_reported():
    first = run("--stop-with-stdin", stdin=subprocess.PIPE)
    port = first.stdout.readline().strip().rpartition(":")[2]
    second = run("--port", port)
    _, errors = second.communicate(timeout=10)
    first.communicate("", timeout=10)
    assert second.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in errors


USERS_TEST = """
import urllib.request

def test_a_fresh_emulator(claude_batch_emulator):
    claude_batch_emulator.fault("status", path="nowhere")
    assert claude_batch_emulator.batches() == []
    assert claude_batch_emulator.settings()["duration"] == "manual"

def test_again(claude_batch_emulator):
    assert claude_batch_emulator.faults() == []
"""


def test_the_pytest_plugin_gives_other_peoples_tests_an_empty_emulator(tmp_path):
    (tmp_path / "test_users.py").write_text(USERS_TEST)
    command = [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "-p", "no:cacheprovider"]
    command += ["-p", "airflow_claude_batch.emulator.pytest_plugin", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert "2 passed" in done.stdout, done.stdout


def test_it_imports_nothing_of_airflow_or_the_engine():
    code = (
        "import sys, airflow_claude_batch.emulator.cli, airflow_claude_batch.emulator.testing;"
        "print([m for m in sys.modules if m.split('.')[0] in ('airflow', 'anthropic', 'pytest')"
        " or m.startswith('airflow_claude_batch.batches')])"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"
