"""The lease: a worker's sign that it is at work on a task instance's jobs. It is politeness, no lock.

Who may change a job is decided by the ledger's versions. The lease tells a newcomer whether another worker
is at it, so that the two do not stop each other, and when the last sign of life of a worker came whose POST
may have been under way.

A live worker renews its lease from a thread. Ages are differences between the store's own times of two files,
so that nothing depends on the clocks of two machines.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import socket
import threading
import time
from collections.abc import Iterator

import msgspec

from airflow_claude_batch.batches.api.foreign_text import foreign_text
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

RENEW_SECONDS = 5.0
"""A live worker renews this often."""
STALE_SECONDS = 30.0
"""A lease not renewed for so long has no live worker."""
KEPT = 20
"""Older leases than so many are deleted."""
FOLDER = "leases"
"""Where a task instance's lie, below its folder."""
CLOCK = "clock"
"""File that is written to learn the store's time."""

_NAME = re.compile(r"(\d{6,})\.json")


class LeaseRecord(msgspec.Struct, kw_only=True):
    """Content of a lease file."""

    host: str
    pid: int
    token: str = ""
    renewals: int = 0
    released: bool = False


_decode = msgspec.json.Decoder(LeaseRecord).decode


class Lease:
    """Obtained through :func:`hold`."""

    def __init__(self, folder: Folder, number: int, record: LeaseRecord) -> None:
        self._folder = folder
        self.number = number
        self.token = record.token
        self._record = record
        self._stop = threading.Event()
        self._write_lock = threading.Lock()

    def renew(self) -> None:
        """Give a sign of life now."""
        self._write(released=False)

    def renew_until_stopped(self) -> None:
        """Body of the renewing thread."""
        while not self._stop.wait(RENEW_SECONDS):
            try:
                self.renew()
            except Exception as error:  # noqa: BLE001  # others may take this worker for dead; no harm is done
                log.warning("Could not renew the lease on %s: %s", self._folder.url, foreign_text(error))

    def release(self) -> None:
        """Say that the work is over."""
        self._stop.set()
        with contextlib.suppress(Exception):
            self._write(released=True)

    def _write(self, *, released: bool) -> None:
        with self._write_lock:
            if self._record.released:
                return
            self._record.renewals += 1
            self._record.released = released
            # Not durable: no worker outlives a power failure, nor does its lease need to.
            self._folder.write(file_name(self.number), msgspec.json.encode(self._record), durable=False)


@contextlib.contextmanager
def hold(home: Folder) -> Iterator[Lease]:
    """Be at work on the jobs in ``home`` for the time of the block, whoever else is."""
    leases = home.child(FOLDER)
    record = LeaseRecord(host=socket.gethostname(), pid=os.getpid(), token=secrets.token_hex(8))
    number = newest(home) + 1
    while not leases.create(file_name(number), msgspec.json.encode(record)):
        number += 1
    leases.remove_file(file_name(number - KEPT))
    lease = Lease(leases, number, record)
    thread = threading.Thread(target=lease.renew_until_stopped, name="claude-batch-lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease.release()


def newest(home: Folder) -> int:
    """Number of the newest lease; 0 where nobody was ever at work."""
    names = (_NAME.fullmatch(name) for name in home.child(FOLDER).names())
    return max((int(name[1]) for name in names if name), default=0)


def number_of(name: str) -> int:
    """Of the lease whose file is called so below the task instance's folder; 0 for any other file."""
    folder, _, last = name.rpartition("/")
    match = _NAME.fullmatch(last) if folder == FOLDER else None
    return int(match[1]) if match else 0


def exists(home: Folder, number: int) -> bool:
    """Whether a process has begun to work there as number ``number``."""
    return home.child(FOLDER).exists(file_name(number))


def taken_over(home: Folder, number: int) -> bool:
    """Whether another process has begun to work there since lease ``number``; a signal handler may ask."""
    later = newest(home)
    record = _read(home, later) if later > number else None
    return record is not None and (record.host, record.pid) != (socket.gethostname(), os.getpid())


def alive(home: Folder, number: int) -> bool:
    """Whether the worker of lease ``number`` may still be at work, for example in the middle of a POST."""
    record = _read(home, number)
    if record is None or record.released:
        return False
    if record.host == socket.gethostname() and not _process_exists(record.pid):
        return False
    silent = silence(home, number)
    return silent is not None and silent < STALE_SECONDS


def silence(home: Folder, number: int) -> float | None:
    """Seconds since the last sign of life of the worker of lease ``number``; None for no such lease."""
    leases = home.child(FOLDER)
    leases.write(CLOCK, str(time.time_ns()).encode(), durable=False)
    try:
        return max((leases.modified(CLOCK) - leases.modified(file_name(number))).total_seconds(), 0.0)
    except FileNotFoundError:
        return None


def _read(home: Folder, number: int) -> LeaseRecord | None:
    try:
        return _decode(home.child(FOLDER).read(file_name(number)))
    except (FileNotFoundError, msgspec.DecodeError):  # the latter: cut by a power failure
        return None


def file_name(number: int) -> str:
    """Of one lease."""
    return f"{number:06d}.json"


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
