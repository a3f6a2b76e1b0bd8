"""One writer a job: the lease that a worker holds while it changes a job.

Airflow may start a second worker on a task instance while the first still lives: it only believes
the first to be dead. Both would then submit. So whoever works on a job owns its newest lease file.
Lease files are numbered, and each number can be created by one worker only (see
:meth:`Folder.create`); to take a job over is to create the next number. The older owner finds that
out before its next POST, and stops.

A live owner renews its lease from a thread. That tells a newcomer whether a POST may still be
under way: as long as the lease is fresh, it is; once stale, the owner is dead, frozen or cut off.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator

import msgspec

from airflow_claude_batch.batches.errors import LostOwnershipError
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

RENEW_SECONDS = 5.0
"""A live owner renews this often."""
STALE_SECONDS = 30.0
"""A lease not renewed for so long has no live owner. Allows for clocks that differ by some seconds."""
KEPT = 20
"""Older leases than so many are deleted."""


class LeaseRecord(msgspec.Struct, kw_only=True):
    """Content of a lease file."""

    host: str
    pid: int
    renewed_at: datetime.datetime
    released: bool = False


class Lease:
    """The right to change one job; obtained through :func:`hold`."""

    def __init__(self, folder: Folder, number: int, record: LeaseRecord) -> None:
        self._folder = folder
        self.number = number
        self._record = record
        self._stop = threading.Event()
        self._write_lock = threading.Lock()
        self._renewed = time.monotonic()

    def check(self) -> None:
        """Return if this worker still owns the job.

        :raises LostOwnershipError: if another has taken it over, or the lease could not be renewed
            for so long that another might have
        """
        if newest(self._folder) > self.number:
            raise LostOwnershipError(
                f"Another worker has taken over the job in {self._folder.url}; "
                "this one stops without sending anything more."
            )
        if time.monotonic() - self._renewed > STALE_SECONDS:
            raise LostOwnershipError(
                f"The lease on the job in {self._folder.url} could not be renewed for {STALE_SECONDS:.0f} s "
                "(is the storage reachable?); this worker stops without sending anything more."
            )

    def renew_until_stopped(self) -> None:
        """Body of the renewing thread."""
        while not self._stop.wait(RENEW_SECONDS):
            try:
                self._write(released=False)
            except Exception as error:  # noqa: BLE001  # check() acts when it goes on
                log.warning("Could not renew the lease on %s: %s", self._folder.url, error)

    def release(self) -> None:
        """Give the job back."""
        self._stop.set()
        with contextlib.suppress(Exception):
            self._write(released=True)

    def _write(self, *, released: bool) -> None:
        with self._write_lock:
            if self._record.released:
                return
            self._record.renewed_at = _now()
            self._record.released = released
            # Not durable: no owner outlives a power failure, nor does its lease need to.
            self._folder.write(_name(self.number), msgspec.json.encode(self._record), durable=False)
            self._renewed = time.monotonic()


@contextlib.contextmanager
def hold(folder: Folder) -> Iterator[Lease]:
    """Own the job in ``folder`` for the time of the block, whoever owned it before."""
    leases = folder.child("leases")
    record = LeaseRecord(host=socket.gethostname(), pid=os.getpid(), renewed_at=_now())
    number = newest(leases) + 1
    while not leases.create(_name(number), msgspec.json.encode(record)):
        number += 1
    leases.remove_file(_name(number - KEPT))
    lease = Lease(leases, number, record)
    thread = threading.Thread(target=lease.renew_until_stopped, name="claude-batch-lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        lease.release()


def newest(leases: Folder) -> int:
    """Number of the newest lease; 0 where nobody ever owned the job."""
    return max((int(name.partition(".")[0]) for name in leases.names() if name.endswith(".json")), default=0)


def alive(folder: Folder, number: int) -> bool:
    """Whether the owner of lease ``number`` may still be at work, for example in the middle of a POST."""
    record = _read(folder, number)
    if record is None or record.released:
        return False
    if record.host == socket.gethostname() and not _process_exists(record.pid):
        return False
    return (_now() - record.renewed_at).total_seconds() < STALE_SECONDS


def last_renewal(folder: Folder, number: int) -> datetime.datetime | None:
    """Last sign of life of the owner of lease ``number``; None where it is no longer known."""
    record = _read(folder, number)
    return record.renewed_at if record else None


def _read(folder: Folder, number: int) -> LeaseRecord | None:
    try:
        return msgspec.json.decode(folder.child("leases").read(_name(number)), type=LeaseRecord)
    except (FileNotFoundError, msgspec.DecodeError):  # the latter: being created, or cut by a power failure
        return None


def _name(number: int) -> str:
    return f"{number:06d}.json"


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
