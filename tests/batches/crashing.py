"""Processes that are killed at a chosen instant, for real."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fsspec.implementations.local import LocalFileSystem

from airflow_claude_batch.batches.storage import Folder


class Trap(LocalFileSystem):  # type: ignore[misc]
    """A store on local disk that kills its process before or after the n-th change, or fails it.

    To the engine it is an object store: a write shows as a whole or not at all.
    """

    protocol = "trap"
    cachable = False

    def __init__(self, snap: Callable[[int], None]) -> None:
        super().__init__(auto_mkdir=True)
        self.instants = 0
        self._snap = snap

    def _instant(self) -> None:
        self._snap(self.instants)
        self.instants += 1

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        self._instant()
        target = Path(path)
        if mode == "create" and target.exists():
            raise FileExistsError(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{target.name}.{threading.get_ident()}")
        temporary.write_bytes(value)
        temporary.replace(target)
        self._instant()

    def rm_file(self, path: str) -> None:
        self._instant()
        super().rm_file(path)

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        if "r" not in mode:
            self._instant()
        return super()._open(path, mode=mode, **kwargs)


def trapped(folder: Folder, snap: Callable[[int], None]) -> Folder:
    """The same folder, behind a trap."""
    return Folder(fs=Trap(snap), path=folder.path, url=folder.url)


def kill_at(instant: int) -> Callable[[int], None]:
    """kill -9 of the own process at that instant."""

    def snap(now: int) -> None:
        if now == instant:
            os.kill(os.getpid(), signal.SIGKILL)

    return snap


def in_child(work: Callable[[], object]) -> int:
    """Run in a forked process; its exit status (negative: the signal that ended it)."""
    pid = start_child(work)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def start_child(work: Callable[[], object]) -> int:
    """Start a forked process and return its pid."""
    pid = os.fork()
    if pid:
        return pid
    try:
        work()
    except BaseException:
        os._exit(1)
    os._exit(0)


def freeze_at(instant: int) -> Callable[[int], None]:
    """SIGSTOP of the own process at that instant: a frozen machine, or a write that is late."""

    def snap(now: int) -> None:
        if now == instant:
            os.kill(os.getpid(), signal.SIGSTOP)

    return snap


def wake(pid: int) -> None:
    """Let a frozen process go on to its end; two of its threads may have been at the same instant."""
    frozen = True
    while frozen:
        os.kill(pid, signal.SIGCONT)
        frozen = os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
