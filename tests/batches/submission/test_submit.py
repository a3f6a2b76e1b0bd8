"""Submission, with the server's answers going wrong; what the server received is counted."""

from __future__ import annotations

import contextlib
import datetime
import os
import random
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import (
    AccessError,
    AmbiguousSubmissionError,
    BillingError,
    LedgerError,
    LostOwnershipError,
    RejectedError,
    SubmissionError,
)
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.claims import find_claim
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.job import start_job
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.policy import Policy
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.batches.submission.supersede import supersede
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from tests.batches.crashing import in_child, kill_at, start_child, trapped
from tests.batches.helpers import (
    IDENTITY,
    QUICK,
    age_the_lease,
    api_at,
    creates,
    records,
    sent_ids,
    source,
    started,
    submit,
    submit_to_the_end,
)
from tests.harness.processes import wait_until


def exactly_once(emulator: Emulator, count: int) -> None:
    ledger = emulator.ledger()
    assert ledger["custom_ids"] == count
    assert ledger["live_more_than_once"] == []
    assert ledger["billed_more_than_once"] == []


def test_each_part_becomes_one_batch_with_its_requests(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    ids, later = submit(root, api, records(25), per_part=10)
    assert later is None
    assert len(ids) == creates(emulator) == 3
    sent = [custom_id for batch_id in ids for custom_id in sent_ids(emulator, batch_id)]
    assert sorted(sent) == sorted(record["custom_id"] for record in records(25))


def test_a_retry_resumes_without_asking_the_source_again(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    asked = []

    def clock() -> list[dict[str, str]]:
        asked.append(1)
        return [{"custom_id": "a", "prompt": f"It is {datetime.datetime.now(datetime.UTC)}"}]

    first = submit(root, api, clock)
    assert submit(root, api, clock) == first
    assert asked == [1]
    assert creates(emulator) == 1


def test_after_a_clear_the_same_requests_in_another_order_attach(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    first = submit(root, api, records(10))
    assert submit(root, api, records(10)[::-1], generation=2) == first
    assert creates(emulator) == 1


@pytest.mark.parametrize("cancel", [True, False])
def test_after_a_clear_changed_requests_are_a_new_job_and_the_old_one_is_cancelled_or_left(
    root: Folder, api: BatchesApi, emulator: Emulator, cancel: bool
) -> None:
    (old,), _ = submit(root, api, records(10))
    with start_job(root, IDENTITY, source(records(11)), generation=2) as (job, replaced):
        (old_job,) = replaced
        supersede(old_job, job.folder.url, api, cancel=cancel)
        Submission(job=job, api=api).run()
        new = job.ledger.batch_ids
    assert new != [old]
    status = {batch["id"]: batch["processing_status"] for batch in emulator.batches()}
    assert status[old] == ("canceling" if cancel else "in_progress")
    assert submit(root, api, records(99), generation=2)[0] == new


def test_a_kill_between_the_new_job_and_the_end_of_the_old_one_leaves_no_old_batch_running(
    root: Folder, api: BatchesApi
) -> None:
    submit(root, api, records(10))
    with start_job(root, IDENTITY, source(records(11)), generation=2) as (job, _):
        new = job.ledger.job
    with start_job(root, IDENTITY, source(records(11)), generation=2) as (job, replaced):
        assert job.ledger.job == new
        (old_job,) = replaced
        supersede(old_job, new, api, cancel=True)
    with start_job(root, IDENTITY, source(records(11)), generation=2) as (_, replaced):
        assert replaced == []


def test_what_was_never_sent_hides_nothing_that_was_paid_for(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    first = submit(root, api, records(10))
    with started(root, records(20), generation=2):
        pass  # a dry run, or what a budget refused
    assert submit(root, api, records(10), generation=3) == first
    assert creates(emulator) == 1
    with started(root, records(30), generation=4):
        pass
    with started(root, records(40), generation=5):
        pass
    with start_job(root, IDENTITY, source(records(50)), generation=6) as (job, replaced):
        assert {one.ledger.request_count for one in replaced} == {10, 20, 30, 40}
        for old in replaced:
            supersede(old, job.folder.url, api, cancel=True)
    assert [batch["processing_status"] for batch in emulator.batches()] == ["canceling"]
    with start_job(root, IDENTITY, source(records(50)), generation=6) as (_, replaced):
        assert replaced == []


def test_what_was_never_sent_is_stored_anew_by_a_clear(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    with started(root, records(10)) as job:
        before = job.folder.url
    with started(root, records(10), generation=2) as job:
        assert job.folder.url != before
    with started(root, records(10), generation=2) as again:
        assert again.folder.url == job.folder.url


def test_force_new_after_a_clear_starts_over_once(root: Folder, api: BatchesApi, emulator: Emulator) -> None:
    first, _ = submit(root, api, records(10))
    second, _ = submit(root, api, records(10), generation=2, force_new=True)
    third, _ = submit(root, api, records(10), generation=2, force_new=True)
    assert first != second == third
    assert creates(emulator) == 2


def test_faulty_input_after_a_clear_leaves_the_old_job_as_it_was(root: Folder, api: BatchesApi) -> None:
    first = submit(root, api, records(10))
    with pytest.raises(ValueError, match="custom_id"):
        submit(root, api, [{"custom_id": "b a d", "prompt": "x"}], generation=2)
    assert submit(root, api, records(10), generation=2) == first


def test_mapped_tasks_have_jobs_of_their_own(root: Folder, api: BatchesApi) -> None:
    jobs = [
        submit(
            root, api, records(5), identity=Identity(dag_id="d", run_id="r", task_id="t", map_index=index)
        )[0]
        for index in (-1, 0, 1)
    ]
    assert len({tuple(ids) for ids in jobs}) == 3


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_after"},
        {"kind": "status_after", "status": 500},
        {"kind": "status_after", "status": 503},
        {"kind": "status_after", "status": 504},
        {"kind": "hang", "seconds": 0.2, "when": "after"},
    ],
)
def test_a_batch_whose_answer_was_lost_is_adopted(
    root: Folder, api: BatchesApi, emulator: Emulator, fault: dict[str, Any]
) -> None:
    emulator.fault(method="POST", path=CREATE, **fault)
    ids, later = submit(root, api, records(10))
    assert ids == []  # it has not ended, so nothing proves that it is this job's
    assert later is not None
    (batch,) = emulator.batches()
    assert (later.batch_id, later.certain) == (batch["id"], False)
    assert submit_to_the_end(root, api, emulator, records(10)) == [batch["id"]]
    assert creates(emulator) == 1
    exactly_once(emulator, 10)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "drop_before"},
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 529, "headers": {"retry-after": "1"}},
        {"kind": "status", "status": 429, "headers": {"retry-after": "1"}},
    ],
)
def test_a_create_that_did_not_happen_is_sent_again(
    root: Folder, api: BatchesApi, emulator: Emulator, fault: dict[str, Any]
) -> None:
    emulator.fault(method="POST", path=CREATE, **fault)
    ids, later = submit(root, api, records(10))
    assert (len(ids), later) == (1, None)
    assert creates(emulator) == 2
    exactly_once(emulator, 10)


def test_the_answer_may_be_lost_for_every_part(root: Folder, api: BatchesApi, emulator: Emulator) -> None:
    emulator.fault("drop_after", method="POST", path=CREATE, times=2)
    submit_to_the_end(root, api, emulator, records(20), per_part=10)
    with started(root, records(20), per_part=10) as job:
        for part in job.ledger.parts:
            assert part.batch_id is not None
            sent = {name for name, _ in ledgers_inputs(job.folder, part)}
            assert sent_ids(emulator, part.batch_id) == sent
    assert creates(emulator) == 2
    exactly_once(emulator, 20)


def ledgers_inputs(folder: Folder, part: ledgers.Part) -> list[tuple[str, bytes]]:
    from airflow_claude_batch.batches.job.part_reader import read_inputs

    return list(read_inputs(folder, part.inputs))


def test_while_the_list_cannot_be_read_nothing_is_sent(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.fault("drop_after", method="POST", path=CREATE)
    emulator.fault("status", method="GET", path=CREATE, times=None, status=503)
    ids, later = submit(root, api, records(10))
    assert ids == []
    assert later is not None
    assert "cannot be asked about its batches" in later.reason
    emulator.clear_faults()
    ids = submit_to_the_end(root, api, emulator, records(10))
    assert [batch["id"] for batch in emulator.batches()] == ids
    assert creates(emulator) == 1


def test_a_key_that_is_revoked_while_an_answer_is_sought_fails_and_sends_nothing(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.fault("drop_after", method="POST", path=CREATE)
    emulator.fault("status", method="GET", path=CREATE, times=None, status=401, type="authentication_error")
    with pytest.raises(AccessError, match="anthropic_default"):
        submit(root, api, records(10))
    assert creates(emulator) == 1


@pytest.mark.parametrize("clean_end", [True, False])
def test_a_short_download_does_not_make_our_own_batch_look_like_anothers(
    root: Folder, api: BatchesApi, emulator: Emulator, clean_end: bool
) -> None:
    emulator.fault("drop_after", method="POST", path=CREATE, times=2)
    submit(root, api, records(20), per_part=10)
    for batch in emulator.batches():
        emulator.end(batch["id"])
    emulator.fault("cut_results", method="GET", path="/results$", times=2, fraction=0.5, clean_end=clean_end)
    ids, later = submit(root, api, records(20), per_part=10)
    while later is not None:
        ids, later = submit(root, api, records(20), per_part=10)
    assert sorted(ids) == sorted(batch["id"] for batch in emulator.batches())
    assert creates(emulator) == 2


def test_the_batch_of_another_job_is_not_taken(root: Folder, api: BatchesApi, emulator: Emulator) -> None:
    other = Identity(dag_id="other", run_id="r", task_id="t")
    theirs, _ = submit(root, api, records(10, "Theirs"), identity=other)
    emulator.fault("drop_before", method="POST", path=CREATE)
    ours, _ = submit(root, api, records(10))
    assert ours != theirs
    assert creates(emulator) == 3


def test_two_jobs_that_lose_their_answers_at_once_do_not_take_each_others_batch(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    # Same size, other custom_ids. The first one's batch was made, the second one's was not.
    rows = {
        "first": [{"custom_id": f"first-{n}", "prompt": "x"} for n in range(10)],
        "second": [{"custom_id": f"second-{n}", "prompt": "x"} for n in range(10)],
    }
    identities = {name: Identity(dag_id=name, run_id="r", task_id="t") for name in rows}
    for number, (name, when) in enumerate((("first", "after"), ("second", "before"))):
        emulator.fault("hang", method="POST", path=CREATE, seconds=2, when=when)
        pid = start_child(
            lambda name=name: submit(root, api_at(emulator.url), rows[name], identity=identities[name])
        )
        emulator.wait_for("POST", CREATE, count=number + 1, waiting=True)
        wait_until(emulator.batches, 10, "a batch", poll=0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    ids, later = submit(root, api, rows["second"], identity=identities["second"])
    assert (ids, later is not None) == ([], True)
    second = submit_to_the_end(root, api, emulator, rows["second"], identity=identities["second"])
    first = submit_to_the_end(root, api, emulator, rows["first"], identity=identities["first"])
    assert sent_ids(emulator, first[0]) == {row["custom_id"] for row in rows["first"]}
    assert sent_ids(emulator, second[0]) == {row["custom_id"] for row in rows["second"]}
    exactly_once(emulator, 20)


def test_with_on_ambiguous_fail_the_task_says_which_batches_it_could_be(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.fault("drop_after", method="POST", path=CREATE, times=2)
    with pytest.raises(
        AmbiguousSubmissionError, match=r"each of these batches could be it: msgbatch_.*claude-batch adopt"
    ):
        submit(root, api, records(20), per_part=10, policy=Policy(on_ambiguous="fail", grace_seconds=0.4))
    assert creates(emulator) == 2


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (
            {"status": 401, "type": "authentication_error"},
            AccessError,
            "Check connection 'anthropic_default'",
        ),
        ({"status": 403, "type": "permission_error"}, AccessError, "permission_error"),
        ({"status": 402, "type": "billing_error"}, BillingError, "billing_error"),
        (
            {
                "status": 429,
                "type": "rate_limit_error",
                "message": "limit reached",
                "details": {"error_code": "enforced_spend_limit_reached"},
            },
            BillingError,
            "limit reached",
        ),
        (
            {"status": 400, "type": "invalid_request_error", "message": "no such thing"},
            RejectedError,
            "no such thing",
        ),
        (
            {
                "status": 400,
                "type": "invalid_request_error",
                "message": "reviews by people are off",
                "details": {"error_code": "workspace_human_review_disabled"},
            },
            RejectedError,
            "reviews by people are off",
        ),
        ({"status": 404, "type": "not_found_error"}, RejectedError, "not_found_error"),
    ],
)
def test_what_is_final_fails_at_once_with_the_reason(
    root: Folder,
    api: BatchesApi,
    emulator: Emulator,
    fault: dict[str, Any],
    error: type[Exception],
    words: str,
) -> None:
    emulator.fault("status", method="POST", path=CREATE, times=None, **fault)
    with pytest.raises(error, match=words):
        submit(root, api, records(3))
    assert creates(emulator) == 1


def test_a_final_error_in_a_later_part_keeps_what_was_submitted(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.fault("status", method="POST", path=CREATE, skip=2, times=1, status=402, type="billing_error")
    with pytest.raises(BillingError, match=r"Batches already submitted stay.*msgbatch_"):
        submit(root, api, records(40), per_part=10)
    ids, later = submit(root, api, records(40), per_part=10)
    assert (len(ids), later) == (4, None)
    exactly_once(emulator, 40)


def test_a_full_queue_hands_the_slot_back_and_the_job_goes_on_later(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.settings(queue_limit=20)
    ids, later = submit(root, api, records(40), per_part=10)
    assert len(ids) == 2
    assert later is not None
    assert "queue" in later.reason
    for batch_id in ids:
        emulator.end(batch_id)
    ids, later = submit(root, api, records(40), per_part=10)
    assert (len(ids), later) == (4, None)
    exactly_once(emulator, 40)


def test_max_requests_in_queue_leaves_room_for_others(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    policy = Policy(max_requests_in_queue=15)
    ids, later = submit(root, api, records(40), per_part=10, policy=policy)
    assert later is not None
    assert "the limit of requests in the queue is 15" in later.reason
    assert creates(emulator) == len(ids) <= 2


def test_a_part_that_is_too_large_for_the_edge_is_halved_until_it_fits(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.fault("status", method="POST", path=CREATE, times=3, status=413, type="request_too_large")
    ids, later = submit(root, api, records(100))
    assert later is None
    assert sum(len(emulator.custom_ids(batch_id)) for batch_id in ids) == 100
    assert len(ids) >= 3
    exactly_once(emulator, 100)
    assert submit(root, api, records(100)) == (ids, None)


def test_a_single_request_that_is_too_large_is_refused_with_its_size(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.fault("status", method="POST", path=CREATE, times=None, status=413, type="request_too_large")
    with pytest.raises(RejectedError, match=r"one request of \d+ bytes is too large"):
        submit(root, api, records(1))


def test_an_api_that_cannot_be_reached_hands_the_slot_back(root: Folder) -> None:
    ids, later = submit(root, api_at("http://127.0.0.1:9"), records(3))
    assert ids == []
    assert later is not None
    assert "cannot be reached" in later.reason


def test_killed_at_any_instant_each_request_is_in_one_live_batch(root: Folder, emulator: Emulator) -> None:
    """kill -9 before and after every single change to the storage, then one retry."""
    rows, instant, status = records(20), 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        emulator.reset()
        root.remove()
        killed = trapped(root, kill_at(instant))
        status = in_child(lambda killed=killed: submit(killed, api_at(emulator.url), rows, per_part=10))
        ids, later = submit(root, api_at(emulator.url), rows, per_part=10)
        if later is not None:  # an answer was lost: the batch shows whose it is when it has ended
            ids = submit_to_the_end(root, api_at(emulator.url), emulator, rows, per_part=10)
        assert len(ids) == 2, f"killed at instant {instant}"
        exactly_once(emulator, 20)
        assert sorted(batch["id"] for batch in emulator.batches()) == sorted(ids)
        instant += 1
    assert status == 0
    assert instant > 20


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_while_the_post_is_under_way(
    root: Folder, api: BatchesApi, emulator: Emulator, when: str
) -> None:
    emulator.fault("hang", method="POST", path=CREATE, seconds=2, when=when)
    pid = start_child(lambda: submit(root, api_at(emulator.url), records(10)))
    emulator.wait_for("POST", CREATE, waiting=True)
    if when == "after":
        wait_until(emulator.batches, 10, "a batch", poll=0.01)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    ids = submit_to_the_end(root, api, emulator, records(10))
    assert [batch["id"] for batch in emulator.batches()] == ids
    exactly_once(emulator, 10)


def test_storage_that_fails_at_any_instant_costs_nothing_twice(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    rows, instant, failed = records(10), 0, True
    while failed:
        emulator.reset()
        root.remove()
        failed = down_for(root, api, rows, instant, failures=2)
        ids = submit_to_the_end(root, api, emulator, rows)
        assert len(ids) == 1
        assert [batch["id"] for batch in emulator.batches()] == ids, f"store down from instant {instant}"
        exactly_once(emulator, 10)
        instant += 1
    assert instant > 10


def down_for(root: Folder, api: BatchesApi, rows: list[dict[str, Any]], instant: int, failures: int) -> bool:
    """One attempt while the store fails some calls in a row; whether that came to pass."""
    reached = []

    def snap(now: int) -> None:
        if now >= instant and len(reached) < failures:
            reached.append(now)
            raise OSError("the store is down")

    with contextlib.suppress(OSError, SubmissionError):
        submit(trapped(root, snap), api, rows)
    return bool(reached)


def test_a_store_that_stays_down_after_the_post_leaves_what_finding_the_batch_needs(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    down = []

    def snap(_: int) -> None:
        if emulator.batches() and not down:
            down.append(True)
        if down:
            raise OSError("the store is down")

    with pytest.raises(SubmissionError, match=r"Batch msgbatch_\w+ was created, but .* cannot be written"):
        submit(trapped(root, snap), api, records(10))
    ids = submit_to_the_end(root, api, emulator, records(10))
    assert [batch["id"] for batch in emulator.batches()] == ids


class HttpError(Exception):
    """As gcsfs and Azure's library raise it: no OSError."""


@pytest.mark.parametrize("kind", [OSError, HttpError])
def test_a_store_that_fails_for_a_moment_after_the_post_is_asked_again_whatever_it_raises(
    root: Folder, api: BatchesApi, emulator: Emulator, kind: type[Exception]
) -> None:
    down = []

    def snap(_: int) -> None:
        if emulator.batches() and len(down) < 2:
            down.append(True)
            raise kind("the store is busy")

    submit(trapped(root, snap), api, records(10))
    assert (len(down), creates(emulator)) == (2, 1)
    exactly_once(emulator, 10)


def test_two_workers_on_one_task_instance_end_at_the_same_batches(root: Folder, emulator: Emulator) -> None:
    def work(_: int) -> list[str]:
        api = api_at(emulator.url)
        for attempt in range(20):
            try:
                ids, later = submit(root, api, records(40), per_part=10)
            except LostOwnershipError:
                # Airflow's retry delay; two workers that came back at once would oust each other for ever.
                time.sleep(random.uniform(0, 0.05 * 2 ** min(attempt, 6)))
                continue
            if later is None:
                return ids
        raise AssertionError("never done")

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(work, range(2))
    assert first == second
    assert sorted(
        batch["id"] for batch in emulator.batches() if batch["processing_status"] == "in_progress"
    ) == sorted(first)
    exactly_once(emulator, 40)


def test_a_worker_that_was_frozen_during_its_post_undoes_it_when_the_part_was_sent_again(
    root: Folder, emulator: Emulator
) -> None:
    """The first worker's POST reaches the server only after another has sent the part."""
    emulator.fault("delay", method="POST", path=CREATE, seconds=3, when="before")
    pid = start_child(lambda: submit(root, api_at(emulator.url), records(10)))
    emulator.wait_for("POST", CREATE, waiting=True)
    age_the_lease(root)
    ids, later = submit(root, api_at(emulator.url), records(10))
    assert (len(ids), later) == (1, None)
    os.waitpid(pid, 0)
    in_progress = [batch["id"] for batch in emulator.batches() if batch["processing_status"] == "in_progress"]
    assert in_progress == ids


@pytest.mark.parametrize(
    "damage",
    [b"", b'{"version": 1', b"[]", b'{"version": 99, "job": "x", "created_at": "2026-01-01T00:00:00Z"}'],
)
def test_a_damaged_ledger_is_an_error_and_nothing_is_sent(
    root: Folder, api: BatchesApi, emulator: Emulator, damage: bytes
) -> None:
    submit(root, api, records(10))
    folder = IDENTITY.folder(root).child("job-1")
    folder.write(ledgers.file_name(ledgers.versions(folder)[-1]), damage)
    with pytest.raises(LedgerError, match="ledger"):
        submit(root, api, records(10))
    assert creates(emulator) == 1


def test_a_kill_cancels_what_this_attempt_created_and_nothing_else(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.settings(queue_limit=10)
    (earlier,), _ = submit(root, api, records(20), per_part=10)
    emulator.settings(queue_limit=None)
    with started(root, records(20), per_part=10) as job:
        submission = Submission(job=job, api=api, policy=QUICK)
        submission.run()
        submission.cancel_created()
        (created,) = submission.created
    status = {batch["id"]: batch["processing_status"] for batch in emulator.batches()}
    assert status == {earlier: "in_progress", created: "canceling"}


def test_a_worker_that_is_killed_when_another_has_the_job_cancels_nothing(
    root: Folder, api: BatchesApi, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with started(root, records(20), per_part=10) as job:
        submission = Submission(job=job, api=api, policy=QUICK)
        submission.run()
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr("socket.gethostname", lambda: "another-machine")
            ids, later = submit(root, api, records(20), per_part=10)
        submission.cancel_created()
    assert later is None
    assert sorted(ids) == sorted(submission.created)
    assert {batch["processing_status"] for batch in emulator.batches()} == {"in_progress"}


def test_anyone_can_ask_whose_batch_it_is(root: Folder, api: BatchesApi) -> None:
    ids, _ = submit(root, api, records(20), per_part=10)
    claims = [find_claim(root, batch_id) for batch_id in ids]
    assert [(claim.job, claim.part) for claim in claims if claim] == [
        (IDENTITY.folder(root).child("job-1").url, 0),
        (IDENTITY.folder(root).child("job-1").url, 1),
    ]
    assert find_claim(root, "msgbatch_unknown") is None
