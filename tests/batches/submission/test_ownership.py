"""Whose job, whose batch: workers that are frozen at any instant, late writes, strangers in the workspace."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import anthropic
import msgspec
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import ConfigurationError, LedgerError, LostOwnershipError
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.claims import Claim, claim, find_claim
from airflow_claude_batch.batches.job.identity import Identity, root_relative
from airflow_claude_batch.batches.job.job import open_job, start_job
from airflow_claude_batch.batches.job.lease import newest
from airflow_claude_batch.batches.job.marks import LONGEST_ID, marked_id
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.policy import Policy
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.batches.submission.supersede import supersede
from airflow_claude_batch.emulator.testing import CREATE, RESULTS, Emulator
from tests.batches.crashing import freeze_at, start_child, trapped, wake
from tests.batches.helpers import (
    DEFAULTS,
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


def live(emulator: Emulator) -> list[str]:
    """Batches that nobody has cancelled."""
    return sorted(batch["id"] for batch in emulator.batches() if batch["processing_status"] != "canceling")


def strangers_batch(emulator: Emulator, ids: list[str], prompt: str = "theirs") -> str:
    """A batch of another deployment in the same workspace."""
    client = anthropic.Anthropic(api_key="test-key", base_url=emulator.url)
    params: Any = {**DEFAULTS, "messages": [{"role": "user", "content": prompt}]}
    requests: Any = [{"custom_id": custom_id, "params": params} for custom_id in ids]
    return client.messages.batches.create(requests=requests).id


@pytest.mark.timeout(300)
def test_a_worker_frozen_at_any_instant_changes_nothing_when_it_wakes_after_its_successor(
    root: Folder, emulator: Emulator
) -> None:
    rows, instant, frozen = records(20), 0, True
    while frozen:
        emulator.reset()
        root.remove()
        slow = trapped(root, freeze_at(instant))
        pid = start_child(lambda slow=slow: submit(slow, api_at(emulator.url), rows, per_part=10))
        _, status = os.waitpid(pid, os.WUNTRACED)
        frozen = os.WIFSTOPPED(status)
        if not frozen:
            break
        if newest(IDENTITY.folder(root)):
            age_the_lease(root)
        ids = submit_to_the_end(root, api_at(emulator.url), emulator, rows, per_part=10)
        wake(pid)
        final = submit_to_the_end(root, api_at(emulator.url), emulator, rows, per_part=10)
        assert final == ids, f"frozen at instant {instant}"
        paid = emulator.ledger()
        assert paid["live_more_than_once"] == paid["billed_more_than_once"] == [], f"instant {instant}"
        instant += 1
    assert instant > 20


def test_a_worker_whose_post_ends_while_its_successor_waits_hands_its_batch_over(
    root: Folder, emulator: Emulator
) -> None:
    emulator.fault("delay", method="POST", path=CREATE, seconds=1.5, when="before")
    pid = start_child(lambda: submit(root, api_at(emulator.url), records(10)))
    emulator.wait_for("POST", CREATE, waiting=True)
    age_the_lease(root)
    patient = Policy(grace_seconds=1000.0, in_place_seconds=0.1)
    ids, later = submit(root, api_at(emulator.url), records(10), policy=patient)
    assert (ids, later is not None) == ([], True)
    os.waitpid(pid, 0)
    ids, later = submit(root, api_at(emulator.url), records(10), policy=patient)
    assert (ids, later) == (live(emulator), None)
    assert creates(emulator) == 1


def test_a_post_under_way_ends_before_its_last_byte_when_the_job_is_taken_over(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    with started(root, records(10)) as job:
        with open_job(root, job.ledger.job):
            pass
        with pytest.raises(LostOwnershipError, match="taken over"):
            Submission(job=job, api=api, policy=QUICK).run()
    assert emulator.batches() == []


def test_a_ledgers_number_that_was_taken_and_deleted_again_is_no_way_in(root: Folder) -> None:
    with started(root, records(3)) as old:
        with open_job(root, old.ledger.job) as job:
            for _ in range(ledgers.KEPT + 3):
                with job.change():
                    pass
        with pytest.raises(LostOwnershipError), old.change():
            pass
        assert ledgers.load(old.folder) == job.ledger


def test_two_workers_that_spool_at_the_same_time_agree_on_one_job(root: Folder) -> None:
    def rows() -> Any:
        with start_job(root, IDENTITY, source(records(5)), generation=1):
            pass
        return records(7)

    with pytest.raises(LostOwnershipError, match="started a job"), started(root, rows):
        pass
    with started(root, rows) as job:
        assert job.ledger.request_count == 5


def test_another_deployments_batch_with_the_same_custom_ids_is_not_taken(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.fault("drop_before", method="POST", path=CREATE)
    theirs: list[str] = []

    class Busy(BatchesApi):
        """Another deployment submits while this one's answer is awaited."""

        def create(self, *arguments: Any) -> Any:
            try:
                return super().create(*arguments)
            finally:
                if not theirs:
                    theirs.append(strangers_batch(emulator, [f"r-{n}" for n in range(10)]))

    busy = Busy(anthropic.Anthropic(api_key="test-key", base_url=emulator.url))
    ids = submit_to_the_end(root, busy, emulator, records(10))
    assert ids != theirs
    assert sent_ids(emulator, ids[0]) == {f"r-{n}" for n in range(10)}
    assert find_claim(root, theirs[0]) is None
    assert {batch["processing_status"] for batch in emulator.batches()} <= {"ended", "in_progress"}


def test_superseding_a_job_leaves_a_batch_alone_that_may_be_somebody_elses(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.fault("status", method="POST", path=CREATE, status=500)
    impatient = Policy(grace_seconds=30.0, in_place_seconds=0.1)
    submit(root, api, records(10), policy=impatient)
    theirs = strangers_batch(emulator, [f"r-{n}" for n in range(10)])
    with start_job(root, IDENTITY, source(records(4)), generation=2) as (job, replaced):
        (old,) = replaced
        supersede(old, job.folder.url, api, cancel=True)
    assert [batch["processing_status"] for batch in emulator.batches() if batch["id"] == theirs] == [
        "in_progress"
    ]


def test_a_candidate_that_its_owner_deletes_blocks_nothing(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.fault("status", method="POST", path=CREATE, status=500)
    impatient = Policy(grace_seconds=0.2, in_place_seconds=0.1)
    with started(root, records(10)) as job:
        Submission(job=job, api=api, policy=impatient).run()
    theirs = strangers_batch(emulator, [f"r-{n}" for n in range(10)])
    time.sleep(0.3)  # the grace
    _, later = submit(root, api, records(10), policy=impatient)
    assert later is not None
    assert (later.batch_id, later.certain) == (theirs, False)
    emulator.end(theirs)
    anthropic.Anthropic(api_key="test-key", base_url=emulator.url).messages.batches.delete(theirs)
    ids, later = submit(root, api, records(10))
    assert (len(ids), later) == (1, None)


def test_a_cut_download_of_one_candidate_does_not_undo_what_others_have_shown(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.fault("status_after", method="POST", path=CREATE, status=500)
    [], later = submit(root, api, records(5), policy=Policy(grace_seconds=0.0, in_place_seconds=0.0))
    assert later is not None
    theirs = [strangers_batch(emulator, [f"r-{number}" for number in range(5)]) for _ in range(4)]
    for batch in emulator.batches():
        emulator.end(batch["id"])
    for batch_id in (theirs[2], emulator.batches()[0]["id"]):
        emulator.fault("cut_results", path=batch_id, mid_line=True, fraction=0.0)  # before any line can show
    [], later = submit(root, api, records(5), policy=Policy(grace_seconds=0.0, in_place_seconds=0.0))
    assert later is not None
    [batch_id], later = submit(root, api, records(5))
    assert later is None
    assert batch_id not in theirs
    looks = [entry["path"].split("/")[-2] for entry in emulator.journal(path=RESULTS)]
    assert {one: looks.count(one) for one in theirs} == dict(zip(theirs, [1, 1, 2, 1], strict=True))
    assert creates(emulator) == 5


def test_other_parts_go_on_while_one_waits_for_a_candidate(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.fault("drop_after", method="POST", path=CREATE)
    ids, later = submit(root, api, records(40), per_part=10)
    assert later is not None
    assert not later.certain
    assert len(ids) == 3
    assert len(submit_to_the_end(root, api, emulator, records(40), per_part=10)) == 4
    assert creates(emulator) == 4


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_that_is_ten_minutes_off_costs_nothing(
    root: Folder, api: BatchesApi, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    import datetime

    from airflow_claude_batch.batches.submission import policy as module

    real = module.now
    monkeypatch.setattr(module, "now", lambda: real() + datetime.timedelta(minutes=minutes))
    emulator.fault("drop_after", method="POST", path=CREATE)
    ids = submit_to_the_end(root, api, emulator, records(10))
    assert (live(emulator), creates(emulator)) == (ids, 1)


def test_a_left_over_temporary_file_is_no_record(root: Folder, api: BatchesApi, emulator: Emulator) -> None:
    root.child("intents").write("10-0123.json", b"{}")
    path = Path(root.child("intents").locate("10-0123.json"))
    path.rename(f"{path}.tmp-0a")
    assert root.child("intents").names() == []
    assert root.child("intents").unfinished() == ["10-0123.json.tmp-0a"]
    emulator.fault("drop_after", method="POST", path=CREATE)
    assert len(submit_to_the_end(root, api, emulator, records(10))) == 1


def test_a_claim_that_names_another_is_never_overwritten(root: Folder) -> None:
    claim(root, "msgbatch_1", Claim(job="theirs", part=0, dag_id="a"))
    claim(root, "msgbatch_1", Claim(job="ours", part=0, dag_id="b"))
    found = find_claim(root, "msgbatch_1")
    assert found is not None
    assert found.job == "theirs"


@pytest.mark.parametrize("batch_id", ["../../../x", "a/b", "", "x" * 200, "msgbatch_1\n"])
def test_what_has_not_the_form_of_a_batch_id_names_no_file(root: Folder, batch_id: str) -> None:
    assert find_claim(root, batch_id) is None
    with pytest.raises(LedgerError, match="form"):
        claim(root, batch_id, Claim(job="x", part=0))


@pytest.mark.parametrize(
    "tail", ["../elsewhere/jobs/d/r/t/job-1", "jobs/../../x", "jobs//x", "jobs/./x", "batches/x", ""]
)
def test_a_job_outside_of_storage_path_is_refused(root: Folder, tail: str) -> None:
    with pytest.raises(ConfigurationError, match="does not lie under storage_path"):
        root_relative(root, f"{root.url}/{tail}")


def test_a_store_that_cannot_create_exclusively_is_refused_before_anything_is_sent(
    root: Folder, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwriting(folder: Folder, name: str, data: bytes) -> bool:
        folder.write(name, data)
        return True

    monkeypatch.setattr(Folder, "create", overwriting)
    with pytest.raises(ConfigurationError, match="conditional writes"), started(root, records(3)):
        pass
    assert emulator.batches() == []


def test_a_queue_limit_below_one_batch_says_so_at_once(root: Folder, api: BatchesApi) -> None:
    with pytest.raises(ConfigurationError, match="limit of requests in the queue is 5, and one batch has 10"):
        submit(root, api, records(20), per_part=10, policy=Policy(max_requests_in_queue=5))


def test_names_too_long_for_a_path_are_cut_and_told_apart(root: Folder, api: BatchesApi) -> None:
    names = ["報" * 100 + end for end in ("告", "表")]
    homes = []
    for name in names:
        identity = Identity(dag_id=name, run_id="r", task_id="t" * 250)
        ids, _ = submit(root, api, records(2), identity=identity)
        assert len(ids) == 1
        homes.append(identity.folder(root).url)
    assert homes[0] != homes[1]


@pytest.mark.parametrize("custom_id", ["a", "x" * 53, "x" * 54, "x" * LONGEST_ID])
def test_a_mark_leaves_a_legal_custom_id_of_any_length(
    root: Folder, api: BatchesApi, emulator: Emulator, custom_id: str
) -> None:
    assert len(marked_id(custom_id)) <= LONGEST_ID
    assert marked_id(custom_id) != marked_id(custom_id)
    ids, _ = submit(root, api, [{"custom_id": custom_id, "prompt": "x"}])
    (sent,) = emulator.custom_ids(ids[0])
    assert sent.startswith(custom_id[:53])
    assert sent != custom_id


def test_a_ledger_of_version_1_is_read_and_goes_on(root: Folder, api: BatchesApi, emulator: Emulator) -> None:
    (batch_id,), _ = submit(root, api, records(3))
    folder = IDENTITY.folder(root).child("job-1")
    ledger = ledgers.load(folder)
    assert ledger is not None
    old = msgspec.to_builtins(ledger)
    for name in ("number", "owner", "generation"):
        old.pop(name, None)
    old |= {"version": 1, "life": 1}
    for part in old["parts"]:
        for name in ("marked", "stored_id", "sent_id", "newest_before"):
            part.pop(name, None)
        part |= {"ids_digest": "00"}
    for name in folder.names():
        if ledgers.is_ledger(name):
            folder.remove_file(name)
    folder.write(ledgers.VERSION_1_FILE, msgspec.json.encode(old))
    IDENTITY.folder(root).remove_file("current-000001.json")
    assert submit(root, api, records(3)) == ([batch_id], None)
    assert submit(root, api, records(3), generation=2) == ([batch_id], None)
    assert not folder.exists(ledgers.VERSION_1_FILE)
    assert creates(emulator) == 1
