from __future__ import annotations

import os
import signal
import time

import pytest

from airflow_claude_batch.batches.job import lease as leases
from airflow_claude_batch.batches.storage import Folder
from tests.batches.crashing import start_child


def test_old_leases_are_deleted_and_numbers_go_on(root: Folder) -> None:
    for _ in range(leases.KEPT + 5):
        with leases.hold(root):
            pass
    assert leases.newest(root) == leases.KEPT + 5
    assert len(root.child("leases").names()) <= leases.KEPT + 2


def test_the_age_of_a_lease_is_told_by_the_store_whatever_this_machines_clock_says(
    root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    with leases.hold(root) as lease:
        pass
    name = root.child("leases").locate(f"{lease.number:06d}.json")
    minutes_ago = time.time() - 120
    os.utime(name, (minutes_ago, minutes_ago))
    monkeypatch.setattr(time, "time", lambda: minutes_ago)
    silent = leases.silence(root, lease.number)
    assert silent is not None
    assert 119 < silent < 130


def test_a_working_owner_is_alive_and_one_that_let_go_is_not(root: Folder) -> None:
    with leases.hold(root) as lease:
        assert leases.alive(root, lease.number)
    assert not leases.alive(root, lease.number)
    assert not leases.alive(root, 99)


def test_a_killed_owner_is_not_alive(root: Folder) -> None:
    read, write = os.pipe()

    def own_and_wait() -> None:
        with leases.hold(root):
            os.write(write, b"owned")
            signal.pause()

    pid = start_child(own_and_wait)
    assert os.read(read, 5) == b"owned"
    assert leases.alive(root, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert not leases.alive(root, 1)
    assert leases.silence(root, 1) is not None
    assert leases.silence(root, 2) is None


def test_a_lease_cut_short_by_a_power_failure_is_nobodys(root: Folder) -> None:
    with leases.hold(root):
        pass
    root.child("leases").write("000002.json", b"")
    assert not leases.alive(root, 2)
    with leases.hold(root) as lease:
        assert lease.number == 3
