"""Parts that are answered by single calls: each request once, whatever happens in between."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.result_lines import read_custom_ids
from airflow_claude_batch.batches.direct import answer, answer_log, call
from airflow_claude_batch.batches.direct.answer import StoppedError
from airflow_claude_batch.batches.errors import AccessError, BillingError, LostOwnershipError
from airflow_claude_batch.batches.job.answers import answer_files
from airflow_claude_batch.batches.job.job import open_job
from airflow_claude_batch.batches.storage import Folder, iter_blocks
from airflow_claude_batch.emulator.testing import MESSAGES, Emulator
from tests.batches.crashing import in_child, start_child
from tests.batches.delivering import deliver, delivery_to, read_both
from tests.batches.direct.calling import calls, start_direct
from tests.batches.helpers import creates, records


def answered(emulator: Emulator) -> tuple[int, int]:
    """Requests that single calls have answered, and answers given."""
    ledger = emulator.ledger()
    return ledger["direct"], ledger["direct_answers"]


def test_direct_parts_are_answered_priced_at_the_standard_tier_and_delivered_like_a_batch(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = start_direct(root, records(30), per_part=12)
    with open_job(root, url) as job:
        assert calls(job, emulator.url).run() is None
        assert [part.answered for part in job.ledger.parts] == [True] * 3
        assert calls(job, emulator.url).run() is None
    assert answered(emulator) == (30, 30)
    assert emulator.ledger()["most_direct_at_once"] <= 8
    summary = deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert creates(emulator) == 0
    succeeded, errored = read_both(tmp_path / "out")
    assert (len(succeeded), errored) == (30, {})
    for custom_id, record in succeeded.items():
        number = int(custom_id.removeprefix("r-"))
        assert record["input"] == {"n": number}
        assert f"Summarise {number}" in record["text"]
        assert record["usage"]["service_tier"] == "standard"
    assert summary["cost"]["total_usd"] == pytest.approx(summary["cost"]["standard_usd"])
    assert sum(record["cost_usd"] for record in succeeded.values()) == pytest.approx(
        summary["cost"]["total_usd"]
    )


def test_what_the_api_refuses_becomes_an_errored_record_and_what_passes_is_asked_again(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.fault("status", path=MESSAGES, times=1, status=400, message="max_tokens: too high")
    emulator.fault("status", path=MESSAGES, times=2, status=500)
    emulator.fault("drop_before", path=MESSAGES, times=1)
    emulator.fault("status", path=MESSAGES, times=1, status=429, headers={"retry-after": "0"})
    url = start_direct(root, records(20))
    with open_job(root, url) as job:
        assert calls(job, emulator.url).run() is None
    assert answered(emulator) == (19, 19)
    summary = deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert (summary["counts"]["succeeded"], summary["counts"]["errored"]) == (19, 1)
    [record] = read_both(tmp_path / "out")[1].values()
    assert (record["error_type"], record["retryable"]) == ("invalid_request_error", False)
    assert record["request_id"].startswith("req_")


@pytest.mark.parametrize(
    ("status", "fault", "expected"),
    [
        (401, {}, AccessError),
        (402, {"type": "billing_error"}, BillingError),
        (400, {"message": "Your credit balance is too low"}, BillingError),
        (429, {"details": {"error_code": "enforced_spend_limit_reached"}}, BillingError),
    ],
)
def test_what_is_wrong_with_the_account_ends_the_work_and_answers_stay(
    root: Folder, emulator: Emulator, status: int, fault: dict[str, Any], expected: type[Exception]
) -> None:
    number = emulator.fault("status", path=MESSAGES, skip=10, times=None, status=status, **fault)
    url = start_direct(root, records(40))
    began = time.monotonic()
    with open_job(root, url) as job, pytest.raises(expected):
        calls(job, emulator.url).run()
    assert time.monotonic() - began < 15, "nobody waits for a spend limit to pass"
    assert answered(emulator) == (10, 10)
    asked = len(emulator.journal(method="POST", path=MESSAGES))
    assert asked <= 10 + 8  # nothing is asked again in vain: as many as are under way at one time
    emulator.clear_faults(number)
    with open_job(root, url) as job:
        assert calls(job, emulator.url).run() is None
    assert answered(emulator) == (40, 40)


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 529}, {"kind": "drop_before"}])
def test_an_outage_makes_the_task_come_back_later_and_costs_nothing_twice(
    root: Folder, emulator: Emulator, fault: dict[str, Any]
) -> None:
    number = emulator.fault(path=MESSAGES, skip=5, times=None, **fault)
    url = start_direct(root, records(20))
    with open_job(root, url) as job:
        later = calls(job, emulator.url, patience_seconds=0.3).run()
    assert later is not None
    assert "does not answer single calls" in later.reason
    emulator.clear_faults(number)
    with open_job(root, url) as job:
        assert calls(job, emulator.url).run() is None
    assert answered(emulator) == (20, 20)


def test_requests_that_nobody_gets_answered_do_not_keep_the_others_waiting_for_ever(
    root: Folder, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = start_direct(root, records(40))
    number = emulator.fault("status", path=MESSAGES, times=None, status=500)
    with open_job(root, url) as job:
        assert calls(job, emulator.url, concurrency=2, patience_seconds=0.2).run() is not None
        assert job.ledger.direct_outages == 1
    emulator.clear_faults(number)
    with open_job(root, url) as job:
        assert calls(job, emulator.url, concurrency=2).run() is None
        assert job.ledger.direct_outages == 0
        with job.folder.open_read(answer_files(job.folder, 0)[0]) as file:
            first = next(read_custom_ids(iter_blocks(file)))
    assert first in ("r-10", "r-11"), "the trouble may lie in the first ones"
    assert answered(emulator) == (40, 40)


def test_a_long_retry_after_is_kept_without_a_worker_slot(root: Folder, emulator: Emulator) -> None:
    emulator.fault("status", path=MESSAGES, times=None, status=429, headers={"retry-after": "300"})
    with open_job(root, start_direct(root, records(20))) as job:
        began = time.time()
        later = calls(job, emulator.url).run()
    assert later is not None
    assert 295 < later.at.timestamp() - began < 310
    assert len(emulator.journal(path=MESSAGES)) <= 8


def test_one_request_that_always_fails_does_not_keep_the_others_from_ending(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call, "TRIES", 2)
    emulator.fault("status", path=MESSAGES, times=None, probability=0.5, status=503)
    url = start_direct(root, records(12))
    with open_job(root, url) as job:
        assert calls(job, emulator.url).run() is None
    summary = deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert summary["counts"]["total"] == 12
    for record in read_both(tmp_path / "out")[1].values():
        assert (record["error_type"], record["retryable"]) == ("api_error", True)


def test_kill_9_costs_at_most_the_calls_under_way(root: Folder, emulator: Emulator) -> None:
    emulator.settings(message_seconds=0.05)
    url = start_direct(root, records(60))

    def work() -> None:
        with open_job(root, url) as job:
            calls(job, emulator.url, concurrency=4).run()

    for after in (15, 35):
        child = start_child(work)
        while answered(emulator)[1] < after:
            time.sleep(0.01)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert in_child(work) == 0
    requests, answers = answered(emulator)
    assert requests == 60
    assert answers <= 60 + 2 * 4


def test_a_stop_ends_the_calls_and_keeps_their_answers(root: Folder, emulator: Emulator) -> None:
    emulator.settings(message_seconds=0.1)
    url = start_direct(root, records(100))
    with open_job(root, url) as job:
        work = calls(job, emulator.url)
        threading.Timer(0.5, work.stop).start()
        began = time.monotonic()
        with pytest.raises(StoppedError):
            work.run()
        assert time.monotonic() - began < 2
    stopped_at = answered(emulator)[1]
    assert stopped_at < 100
    with open_job(root, url) as job:
        assert calls(job, emulator.url, concurrency=50).run() is None
    assert answered(emulator) == (100, 100)


def test_a_worker_that_has_lost_the_job_asks_nothing_more(root: Folder, emulator: Emulator) -> None:
    emulator.settings(message_seconds=0.05)
    url = start_direct(root, records(100))
    with open_job(root, url) as job:
        done: list[BaseException] = []

        def old() -> None:
            try:
                calls(job, emulator.url, concurrency=4).run()
            except BaseException as error:
                done.append(error)

        thread = threading.Thread(target=old)
        thread.start()
        while answered(emulator)[1] < 20:
            time.sleep(0.01)
        with open_job(root, url) as newer:
            assert calls(newer, emulator.url, concurrency=4).run() is None
        thread.join()
    assert isinstance(done[0], LostOwnershipError)
    requests, answers = answered(emulator)
    assert requests == 100
    assert answers <= 100 + 4, "what was under way"


def test_single_calls_have_no_line_each_in_the_log(
    root: Folder, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with open_job(root, start_direct(root, records(5))) as job:
        assert calls(job, emulator.url).run() is None
    assert answered(emulator) == (5, 5)
    assert "Asking 5 requests directly" in caplog.text
    assert "HTTP Request" not in caplog.text


def test_it_is_told_how_far_the_calls_are(
    root: Folder, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer, "REPORT_SECONDS", 0.0)
    told: list[tuple[int, int]] = []
    with open_job(root, start_direct(root, records(10), per_part=4)) as job:
        work = calls(job, emulator.url, concurrency=1, tell=lambda *counts: told.append(counts))
        assert work.run() is None
    assert told == [(0, 10), *((n, 10) for n in (1, 2, 3, 4, 4, 5, 6, 7, 8, 8, 9, 10))]


def test_small_files_are_merged_and_nothing_is_lost(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_log, "MERGED_AT", 4)
    url = start_direct(root, records(60))
    with open_job(root, url) as job:
        assert calls(job, emulator.url, concurrency=2).run() is None
        assert len(answer_files(job.folder, 0)) < 16
    summary = deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert summary["counts"]["succeeded"] == 60
    assert answered(emulator) == (60, 60)


def test_in_a_thread_that_has_an_event_loop_calls_have_one_of_their_own(
    root: Folder, emulator: Emulator
) -> None:
    import asyncio

    url = start_direct(root, records(3))

    async def notebook() -> None:
        with open_job(root, url) as job:
            assert calls(job, emulator.url).run() is None

    asyncio.run(notebook())
    assert answered(emulator) == (3, 3)
