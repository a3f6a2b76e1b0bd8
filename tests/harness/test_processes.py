"""The harness keeps its promise to leave no process behind."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.harness import processes
from tests.harness.processes import ManagedProcess, ProcessFailed, stop_all, wait_until

if TYPE_CHECKING:
    from pathlib import Path

STUBBORN_GRANDCHILD = """
import os, signal, sys, time
if os.fork() == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
    time.sleep(600)
{parent}
"""


@pytest.mark.parametrize("parent", ["time.sleep(600)", "sys.exit()"], ids=["parent_lives", "parent_is_gone"])
def test_a_grandchild_that_ignores_the_request_and_has_its_own_group_is_ended_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parent: str
) -> None:
    monkeypatch.setattr(processes, "TERM_SECONDS", 1)
    process = run(tmp_path, STUBBORN_GRANDCHILD.format(parent=parent))
    grandchild = int(wait_until(process.log_tail, 10, "the grandchild's pid"))
    assert psutil.pid_exists(grandchild)

    stop_all([process])

    assert not process.is_running()
    wait_until(lambda: not alive(grandchild), 5, "the grandchild to be gone")


def test_the_end_of_a_process_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    process = run(tmp_path, "print('no port left'); raise SystemExit(3)")
    wait_until(lambda: not process.is_running(), 10, "the process to end")
    with pytest.raises(ProcessFailed, match=r"(?s)exit code 3.*no port left"):
        process.check()


def run(folder: Path, code: str) -> ManagedProcess:
    return ManagedProcess("child", [sys.executable, "-c", code], env=os.environ, log_file=folder / "log")


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
