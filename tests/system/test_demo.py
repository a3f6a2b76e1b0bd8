"""`make demo`, as a newcomer runs it, and as an impatient one does."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.harness.processes import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).parents[2]


class Demo:
    """A running demo and the sessions of the processes it started."""

    def __init__(self, folder: Path) -> None:
        self._output_file = folder / "output"
        command = [sys.executable, "-m", "tests.harness.demo", "--folder", str(folder / "demo")]
        with self._output_file.open("w") as output:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self.sessions: set[int] = set()

    @property
    def output(self) -> str:
        return self._output_file.read_text()

    def wait_for(self, text: str) -> None:
        def said() -> bool:
            assert self.process.poll() is None, self.output
            self.sessions |= {child.pid for child in psutil.Process(self.process.pid).children()}
            return text in self.output

        wait_until(said, 150, f"the demo to say {text!r}")

    def left_behind(self) -> list[psutil.Process]:
        """Its processes that have not ended; one that only awaits being reaped has."""
        processes = psutil.process_iter(["status"])
        found = [process for process in processes if session_of(process) in self.sessions]
        return [process for process in found if process.info["status"] != psutil.STATUS_ZOMBIE]


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    demo = Demo(tmp_path)
    yield demo
    if demo.process.poll() is None:
        demo.process.terminate()
        demo.process.wait(30)


def test_it_succeeds_shows_where_the_answers_are_and_leaves_no_process(demo: Demo) -> None:
    demo.wait_for("no worker slot held (0 of")
    at_work = [session for session in demo.sessions if psutil.pid_exists(session)]
    assert len(at_work) == 5  # the emulator and Airflow's four components; the first demo migrates a database
    assert demo.process.wait(120) == 0, demo.output
    assert "Requests  200 in 2 batch(es): 196 succeeded, 2 errored, 2 expired" in demo.output
    assert "succeeded/part-00000.jsonl" in demo.output
    assert demo.left_behind() == []


@pytest.mark.parametrize("moment", ["starting API server", "no worker slot held (0 of"])
def test_interrupted_twice_it_still_leaves_no_process(demo: Demo, moment: str) -> None:
    demo.wait_for(moment)
    demo.process.send_signal(signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        demo.process.wait(0.5)
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(60) == 130, demo.output
    assert demo.left_behind() == []


def session_of(process: psutil.Process) -> int | None:
    try:
        return os.getsid(process.pid)
    except OSError:
        return None
