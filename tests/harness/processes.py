"""Child processes that never outlive us.

Airflow moves its task processes into process groups of their own, and a killed scheduler leaves its
workers to init. What all descendants of a process keep is its session: each process here starts a session,
and stopping it ends everything in that session.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

POLL_SECONDS = 0.2
TERM_SECONDS = 8


class ProcessFailed(RuntimeError):
    """A process ended that should be running."""


class WaitTimeout(AssertionError):
    """What was waited for did not come in time."""


def wait_until(condition: Callable[[], T | None], timeout: float, what: str, poll: float = POLL_SECONDS) -> T:
    """Return the condition's first true value; ask every `poll` seconds until `timeout` have passed."""
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise WaitTimeout(f"waited {timeout:g} s in vain for {what}")
        time.sleep(poll)


class ManagedProcess:
    """One command in a session of its own, with its output in a log file."""

    def __init__(self, name: str, command: Sequence[str], env: Mapping[str, str], log_file: Path) -> None:
        self.name = name
        self.log_file = log_file
        with log_file.open("ab") as log:
            self._popen = subprocess.Popen(
                command,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    def is_running(self) -> bool:
        return self._popen.poll() is None

    def check(self) -> None:
        """Raise `ProcessFailed`, with the end of the log, unless the process runs."""
        if not self.is_running():
            raise ProcessFailed(
                f"{self.name} ended with exit code {self._popen.returncode}; the end of its log:\n"
                + self.log_tail()
            )

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-lines:])

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to this process alone, as a crash or an operator would."""
        self._popen.send_signal(number)
        if number == signal.SIGKILL:
            self._popen.wait()

    def members(self) -> list[psutil.Process]:
        """Every living process of the session, whoever is its parent by now."""
        return [process for process in psutil.process_iter() if _session_of(process) == self.pid]


def stop_all(processes: Iterable[ManagedProcess]) -> None:
    """End the processes and their descendants: first a request, and after `TERM_SECONDS` by force."""
    processes = list(processes)
    everyone = [member for process in processes for member in process.members()]
    for process in processes:
        if process.is_running():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGCONT)
                os.killpg(process.pid, signal.SIGTERM)
    psutil.wait_procs(everyone, timeout=TERM_SECONDS)
    leftovers = [member for process in processes for member in process.members()]
    for member in leftovers:
        with contextlib.suppress(psutil.NoSuchProcess):
            member.kill()
    psutil.wait_procs(leftovers, timeout=5)
    for process in processes:
        process._popen.wait(timeout=5)


def _session_of(process: psutil.Process) -> int | None:
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (psutil.Error, OSError):
        return None
