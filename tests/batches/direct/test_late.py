"""The moment when a job is needed: what has ended stays, the rest is asked directly, nothing both ways."""

from __future__ import annotations

import datetime
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import time_machine

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import DeadlineMissedError
from airflow_claude_batch.batches.job.job import Job, Later, open_job
from airflow_claude_batch.batches.job.on_time import OnTime
from airflow_claude_batch.batches.job.part import PartState
from airflow_claude_batch.batches.results.delivery import Delivery
from airflow_claude_batch.batches.results.late import go_on_without_batches
from airflow_claude_batch.batches.results.resubmission import resubmit_cancelled, spool_next
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.emulator.testing import CANCEL, CREATE, RETRIEVE, Emulator
from tests.batches.crashing import in_child, kill_at, start_child, trapped
from tests.batches.delivering import delivery_to, read_both, submit_all
from tests.batches.direct.calling import calls
from tests.batches.helpers import QUICK, creates, records, started

ESTIMATE = {"total_usd": 1.0, "standard_usd": 2.0, "unpriced_requests": 0}


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def needed(job: Job, **options: Any) -> None:
    """Give the job a deadline that is near."""
    with job.change() as ledger:
        ledger.on_time = OnTime(at=now() + datetime.timedelta(minutes=5), **{"minutes": 10, **options})
        ledger.estimate = ESTIMATE


def make_needed(root: Folder, url: str, **options: Any) -> None:
    with open_job(root, url) as job:
        needed(job, **options)


def work(job: Job, api: BatchesApi, emulator: Emulator, delivery: Delivery, **options: Any) -> Later | None:
    """What the results step does, as far as it gets; cancelled batches end at once."""
    later = go_on_without_batches(job, api, now()) or Submission(job=job, api=api, policy=QUICK).run()
    later = later or calls(job, emulator.url, **options).run()
    if later is not None:
        return later
    for batch in emulator.batches():
        if batch["processing_status"] == "canceling":
            emulator.end(batch["id"])
    delivery.deliver_ended(job)
    spool_next(job)
    return None


def deliver(root: Folder, url: str, api: BatchesApi, emulator: Emulator, out: Path, **options: Any) -> Any:
    """The whole step, each pass as if on another worker."""
    delivery = delivery_to(out, api, resubmit_rounds=1)
    for _ in range(8):
        with open_job(root, url) as job:
            delivery.begin(job, 1)
            spool_next(job)
            assert work(job, api, emulator, delivery, **options) is None
            if not delivery.pending(job):
                return delivery.finish(job)
    raise AssertionError("the delivery does not end")


def check_sums(emulator: Emulator, requests: int, twice: int = 0) -> None:
    """Batch answers and direct answers are the requests; at most so many were paid twice."""
    ledger = emulator.ledger()
    assert ledger["billed"] + ledger["direct"] - ledger["both_ways_count"] == requests
    assert ledger["both_ways_count"] == ledger["billed_more_than_once_count"] == 0
    assert ledger["direct_answers"] - ledger["direct"] <= twice


@pytest.mark.parametrize("finished", [0.0, 0.5, 1.0])
def test_what_a_cancelled_batch_has_finished_is_kept_and_only_the_rest_is_asked_directly(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, finished: float
) -> None:
    emulator.settings(duration="manual", cancel_finished_share=finished)
    url = submit_all(root, api, records(40), per_part=20)
    emulator.end(emulator.batches()[0]["id"])
    make_needed(root, url)
    summary = deliver(root, url, api, emulator, tmp_path / "out")
    check_sums(emulator, 40)
    assert summary["counts"]["succeeded"] == 40
    direct = emulator.ledger()["direct"]
    assert {way: told["requests"] for way, told in summary["ways"].items() if told["requests"]} == {
        way: count for way, count in {"batch": 40 - direct, "direct": direct}.items() if count
    }
    assert (summary["on_time"], summary["without_batches"]) == (True, "direct")
    assert (summary["direct_extra_usd"] > 0) == (direct > 0)
    assert summary["cost"]["total_usd"] == pytest.approx(
        sum(told["cost_usd"] for told in summary["ways"].values())
    )
    assert len(read_both(tmp_path / "out")[0]) == 40
    assert creates(emulator) == 2


def test_nothing_happens_before_it_is_time_or_where_all_has_ended(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration="manual")
    url = submit_all(root, api, records(4))
    with open_job(root, url) as job:
        needed(job, minutes=1)
        assert go_on_without_batches(job, api, now()) is None
        assert job.ledger.without_batches is None
        assert job.ledger.due_at is not None
        needed(job)
        emulator.end(emulator.batches()[0]["id"])
        assert go_on_without_batches(job, api, now()) is None
        assert job.ledger.without_batches is None
    assert deliver(root, url, api, emulator, tmp_path / "out")["on_time"] is True
    assert not emulator.journal(path=CANCEL)
    check_sums(emulator, 4)


def test_deliver_tells_what_is_late_and_a_clear_asks_for_it(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration="manual", cancel_finished_share=0.5)
    url = submit_all(root, api, records(20))
    make_needed(root, url, then="deliver")
    summary = deliver(root, url, api, emulator, tmp_path / "out")
    counts = summary["counts"]
    assert (counts["total"], counts["canceled"]) == (20, 0)
    assert summary["errors"] == {"late": counts["errored"]}
    assert counts["errored"] > 0
    assert emulator.ledger()["direct"] == 0
    assert {r["error_type"] for r in read_both(tmp_path / "out")[1].values()} == {"late"}

    delivery = delivery_to(tmp_path / "out", api, resubmit_rounds=1)
    for _ in range(4):
        with open_job(root, url) as job:
            delivery.begin(job, 2)
            spool_next(job)
            assert Submission(job=job, api=api, policy=QUICK).run() is None
            for batch in emulator.batches():
                emulator.end(batch["id"])
            delivery.deliver_ended(job)
            spool_next(job)
            if not delivery.pending(job):
                assert delivery.finish(job)["counts"]["succeeded"] == 20
                break
    check_sums(emulator, 20)


@pytest.mark.parametrize("limits", [{"max_usd": 1.5}, {"direct_max_usd": 0.5}])
def test_a_budget_that_single_calls_would_break_delivers_without_them(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, limits: dict[str, float]
) -> None:
    emulator.settings(duration="manual", cancel_finished_share=0.0)
    url = submit_all(root, api, records(6))
    make_needed(root, url, **limits)
    summary = deliver(root, url, api, emulator, tmp_path / "out")
    assert (summary["without_batches"], summary["errors"]) == ("deliver", {"late": 6})
    assert next(iter(limits)) in summary["without_batches_reason"]
    assert emulator.ledger()["direct"] == 0


def test_fail_leaves_the_batches_alone(root: Folder, api: BatchesApi, emulator: Emulator) -> None:
    emulator.settings(duration="manual")
    url = submit_all(root, api, records(6))
    with open_job(root, url) as job:
        needed(job, then="fail")
        assert go_on_without_batches(job, api, now()) is None
        with pytest.raises(DeadlineMissedError, match="6 of 6 requests are not answered"):
            go_on_without_batches(job, api, now() + datetime.timedelta(minutes=6))
    assert not emulator.journal(path=CANCEL)


@pytest.mark.parametrize(("then", "way"), [("direct", "direct"), ("deliver", "batch")])
def test_parts_that_a_full_queue_kept_back_are_never_sent_as_a_batch(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, then: str, way: str
) -> None:
    emulator.settings(duration="manual", queue_limit=10, cancel_finished_share=0.0)
    with started(root, records(30), per_part=10) as job:
        assert Submission(job=job, api=api, policy=QUICK).run() is not None
        url = job.folder.url
        needed(job, then=then)
        assert go_on_without_batches(job, api, now()) is None
        assert {part.way for part in job.ledger.parts if part.batch_id is None} == {way}
    emulator.settings(queue_limit=None)
    summary = deliver(root, url, api, emulator, tmp_path / "out")
    assert len(emulator.batches()) == 1
    if then == "direct":
        assert summary["counts"]["succeeded"] == 30
        check_sums(emulator, 30)
    else:
        assert summary["errors"] == {"late": 30}


def test_a_batch_that_ended_a_moment_before_its_cancellation_is_used_as_it_is(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration="manual")
    url = submit_all(root, api, records(10))
    [batch] = emulator.batches()
    # It shows as running once more, as where it ends between the look and the cancellation.
    emulator.fault("delay", method="POST", path=CANCEL, seconds=0.5)
    make_needed(root, url)
    thread = threading.Timer(0.25, emulator.end, [batch["id"]])
    with open_job(root, url) as job:
        thread.start()
        assert go_on_without_batches(job, api, now()) is None
        thread.join()
        assert job.ledger.parts[0].late
    assert [entry["status"] for entry in emulator.journal(path=CANCEL)] == [400]
    summary = deliver(root, url, api, emulator, tmp_path / "out")
    assert summary["ways"] == {"batch": {"requests": 10, "cost_usd": summary["cost"]["total_usd"]}}
    check_sums(emulator, 10)


@pytest.mark.parametrize(
    "fault",
    [
        *({"kind": "status", "status": status} for status in (403, 404, 409, 429, 500)),
        {"kind": "drop_before"},
        {"kind": "drop_after"},
        {"kind": "hang", "seconds": 30.0},
    ],
    ids=lambda fault: str(fault.get("status", fault["kind"])),
)
def test_a_cancellation_that_goes_wrong_once_delays_nothing_and_pays_nothing_twice(
    root: Folder,
    api: BatchesApi,
    emulator: Emulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: dict[str, Any],
) -> None:
    monkeypatch.setattr("airflow_claude_batch.batches.api.client.LOOK_SECONDS", 0.3)
    emulator.settings(duration="manual", cancel_finished_share=0.5)
    url = submit_all(root, api, records(8), per_part=4)
    make_needed(root, url)
    emulator.fault(method="POST", path=CANCEL, **fault)
    began = time.monotonic()
    with open_job(root, url) as job:
        assert go_on_without_batches(job, api, now()) is None
    summary = deliver(root, url, api, emulator, tmp_path / "out")
    assert time.monotonic() - began < 10
    assert (summary["counts"]["succeeded"], summary["on_time"]) == (8, True)
    check_sums(emulator, 8)


def test_a_kill_at_any_instant_between_deadline_and_delivery_costs_at_most_the_calls_under_way(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    for instant in range(3, 200, 13):
        emulator.reset()
        emulator.settings(duration="manual", cancel_finished_share=0.5)
        here, out = root.child(str(instant)), tmp_path / "out" / str(instant)
        url = submit_all(here, api, records(8), per_part=4)
        make_needed(here, url)

        def child(where: Folder, url: str = url, out: Path = out) -> None:
            deliver(where, url, api, emulator, out, concurrency=2)

        status = in_child(lambda child=child, here=here, at=instant: child(trapped(here, kill_at(at))))
        assert in_child(lambda child=child, here=here: child(here)) == 0, instant
        check_sums(emulator, 8, twice=2)
        assert len(read_both(out)[0]) == 8, instant
        if status == 0:
            break
        assert status == -signal.SIGKILL
    assert instant > 30


def test_an_answer_to_a_create_that_was_lost_is_found_before_anything_is_asked_directly(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration="manual")
    emulator.fault("drop_after", method="POST", path=CREATE)
    with started(root, records(8)) as job:
        assert Submission(job=job, api=api, policy=QUICK).run() is not None
        url = job.folder.url
        needed(job)
        assert go_on_without_batches(job, api, now()) is None
        assert job.ledger.parts[0].state is PartState.UNCERTAIN
    with open_job(root, url) as job:
        assert Submission(job=job, api=api, policy=QUICK).run() is not None
    emulator.end(emulator.batches()[0]["id"])
    summary = deliver(root, url, api, emulator, tmp_path / "out")
    assert summary["counts"]["succeeded"] == 8
    assert emulator.ledger()["direct"] == 0
    check_sums(emulator, 8)


def test_a_create_that_made_nothing_is_answered_directly(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.fault("status", method="POST", path=CREATE, status=500)
    with started(root, records(8)) as job:
        url = job.folder.url
        needed(job)
        emulator.fault("status", method="GET", path=CREATE, times=None, status=503)
        assert Submission(job=job, api=api, policy=QUICK).run() is not None
        emulator.clear_faults()
    time.sleep(QUICK.grace_seconds)
    assert deliver(root, url, api, emulator, tmp_path / "out")["counts"]["succeeded"] == 8
    assert emulator.batches() == []
    check_sums(emulator, 8)


def test_while_the_api_is_down_the_job_waits_and_is_late_but_whole(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_claude_batch.batches.api import client

    monkeypatch.setattr(client, "KNOWN_SHORTEST_SECONDS", 0.01)
    emulator.settings(duration="manual", cancel_finished_share=0.0)
    url = submit_all(root, api, records(10))
    fault = emulator.fault("status", path=RETRIEVE, times=None, status=503)
    with open_job(root, url) as job:
        needed(job, minutes=10)
        job.ledger.on_time.at = now() - datetime.timedelta(minutes=1)  # type: ignore[union-attr]
        later = go_on_without_batches(job, api, now())
        assert later is not None
        assert "does not answer" in later.reason
        assert job.ledger.without_batches is None
    emulator.clear_faults(fault)
    with open_job(root, url) as job, job.change() as ledger:
        assert ledger.on_time is not None
        ledger.on_time.at = now() - datetime.timedelta(minutes=1)
    summary = deliver(root, url, api, emulator, tmp_path / "out")
    assert (summary["counts"]["succeeded"], summary["on_time"]) == (10, False)
    check_sums(emulator, 10)


def test_kill_9_in_the_direct_phase_twice_costs_at_most_the_calls_under_way(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration="manual", cancel_finished_share=0.3, message_seconds=0.03)
    url = submit_all(root, api, records(80), per_part=40)
    make_needed(root, url)

    def child() -> None:
        deliver(root, url, api, emulator, tmp_path / "out", concurrency=3)

    for after in (10, 25):
        pid = start_child(child)
        while emulator.ledger()["direct_answers"] < after:
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert in_child(child) == 0
    check_sums(emulator, 80, twice=2 * 3)
    assert len(read_both(tmp_path / "out")[0]) == 80


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_machine_whose_clock_is_ten_minutes_off_the_apis_is_on_time_by_its_own(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, minutes: int
) -> None:
    emulator.settings(duration="manual", cancel_finished_share=0.5)
    with time_machine.travel(now() + datetime.timedelta(minutes=minutes)):
        url = submit_all(root, api, records(20))
        with open_job(root, url) as job:
            needed(job, minutes=4)
            assert go_on_without_batches(job, api, now()) is None
            assert job.ledger.without_batches is None, "it is five minutes away by this machine's clock"
            needed(job)
        summary = deliver(root, url, api, emulator, tmp_path / "out")
    assert (summary["counts"]["succeeded"], summary["on_time"]) == (20, True)
    check_sums(emulator, 20)


def test_two_workers_at_once_pay_nothing_twice_but_what_is_under_way(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration="manual", cancel_finished_share=0.0, message_seconds=0.03)
    url = submit_all(root, api, records(60))
    make_needed(root, url)

    def child() -> None:
        deliver(root, url, api, emulator, tmp_path / "out", concurrency=3)

    first = start_child(child)
    while emulator.ledger()["direct_answers"] < 10:
        time.sleep(0.01)
    assert in_child(child) == 0
    assert os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) == 1
    check_sums(emulator, 60, twice=3)
    assert len(read_both(tmp_path / "out")[0]) == 60


def test_a_retry_of_the_submission_sends_nothing_that_the_deadline_has_cancelled(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration="manual", cancel_finished_share=0.5)
    url = submit_all(root, api, records(20))
    with open_job(root, url) as job:
        assert resubmit_cancelled(job, api, 1) is None
        needed(job)
        assert go_on_without_batches(job, api, now()) is None
    with open_job(root, url) as job:
        assert resubmit_cancelled(job, api, 2) is None
        assert Submission(job=job, api=api, policy=QUICK).run() is None
    assert deliver(root, url, api, emulator, tmp_path / "out")["counts"]["succeeded"] == 20
    assert creates(emulator) == 1
    check_sums(emulator, 20)
