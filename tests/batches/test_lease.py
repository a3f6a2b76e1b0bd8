from __future__ import annotations

import os
import signal

import pytest

from airflow_claude_batch.batches import lease as leases
from airflow_claude_batch.batches.errors import LostOwnershipError
from airflow_claude_batch.batches.storage import Folder
from tests.batches.crashing import start_child


def test_the_owner_keeps_the_job_until_another_takes_it(root: Folder) -> None:
    with leases.hold(root) as first:
        first.check()
        with leases.hold(root) as second:
            second.check()
            with pytest.raises(LostOwnershipError, match="taken over"):
                first.check()


def test_an_older_owner_stays_out_however_many_came_after(root: Folder) -> None:
    with leases.hold(root) as first:
        for _ in range(leases.KEPT + 5):
            with leases.hold(root):
                pass
        with pytest.raises(LostOwnershipError):
            first.check()
    assert len(root.child("leases").names()) <= leases.KEPT + 1


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
    assert leases.last_renewal(root, 1) is not None


def test_a_lease_cut_short_by_a_power_failure_is_nobodys(root: Folder) -> None:
    with leases.hold(root):
        pass
    root.child("leases").write("000002.json", b"")
    assert not leases.alive(root, 2)
    with leases.hold(root) as lease:
        assert lease.number == 3
