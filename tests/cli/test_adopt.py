"""The command ``claude-batch``."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import AmbiguousSubmissionError
from airflow_claude_batch.batches.job import lease
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.claims import find_claim
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.policy import Policy
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from tests.batches.helpers import IDENTITY, creates, records, submit
from tests.cli.conftest import Run

AT_ONCE = Policy(on_ambiguous="fail", grace_seconds=0.3, in_place_seconds=2.0)


@pytest.fixture
def command(root: Folder, api: BatchesApi, emulator: Emulator) -> list[str]:
    """What the error tells to run, up to the answer, after a submission whose answer was lost."""
    emulator.fault("drop_after", method="POST", path=CREATE)
    with pytest.raises(AmbiguousSubmissionError) as ambiguous:
        submit(root, api, records(3), policy=AT_ONCE)
    found = re.search(r"`claude-batch (adopt) BATCH_ID (--job \S+ --part \d+)`", str(ambiguous.value))
    assert found is not None
    return ["adopt", *found[2].split()]


def part(root: Folder, identity: Identity = IDENTITY) -> Part:
    ledger = ledgers.load(identity.folder(root).child("job-1"))
    assert ledger is not None
    return ledger.parts[0]


def test_an_adopted_batch_is_gone_on_with_and_nothing_is_sent_again(
    root: Folder,
    api: BatchesApi,
    emulator: Emulator,
    command: list[str],
    run: Run,
) -> None:
    [batch] = emulator.batches()
    assert (done := run(*command, batch["id"])).code == 0
    assert f"has batch {batch['id']} now" in done.out
    assert (part(root).batch_id, part(root).adopted) == (batch["id"], True)
    claim = find_claim(root, batch["id"])
    assert claim is not None
    assert (claim.job, claim.dag_id) == (f"{IDENTITY.folder(root).url}/job-1", IDENTITY.dag_id)
    assert root.child("intents").names() == []
    assert submit(root, api, records(3), generation=2) == ([batch["id"]], None)
    assert creates(emulator) == 1


def test_when_it_is_none_of_them_the_next_try_sends_the_part(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator, command: list[str]
) -> None:
    [other] = emulator.batches()
    assert run(*command, "--none").code == 0
    assert root.child("intents").names() == []
    ids, later = submit(root, api, records(3), generation=2)
    assert later is None
    assert other["id"] not in ids
    assert creates(emulator) == 2


def test_a_batch_of_another_job_is_not_adopted(
    root: Folder,
    api: BatchesApi,
    command: list[str],
    run: Run,
) -> None:
    other = Identity(dag_id="other", run_id="r", task_id="t")
    (theirs,), _ = submit(root, api, records(4), identity=other)
    assert (done := run(*command, theirs)).code == 2
    assert f"belongs to part 0 of {other.folder(root).url}/job-1" in done.err
    assert part(root).batch_id is None


@pytest.mark.parametrize("batch_id", ["../../../x", "msgbatch_1/cancel", ""])
def test_what_is_no_batch_id_is_refused_and_written_nowhere(
    root: Folder, tmp_path: Path, command: list[str], run: Run, batch_id: str
) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert (done := run(*command, batch_id)).code == 2
    assert "is no batch id" in done.err
    assert part(root).batch_id is None
    written = {path.name for path in {*tmp_path.rglob("*")} - {*before}}
    assert all(re.fullmatch(r"ledger-\d+\.json|\d+\.json", name) for name in written), written


def test_a_batch_that_was_seen_to_be_somebody_elses_is_not_adopted(
    root: Folder, command: list[str], emulator: Emulator, run: Run
) -> None:
    folder = IDENTITY.folder(root).child("job-1")
    ledger = ledgers.load(folder)
    assert ledger is not None
    ledger.parts[0].foreign = ["msgbatch_foreign"]
    ledgers.save(folder, ledger)
    assert (done := run(*command, "msgbatch_foreign")).code == 2
    assert "not part 0's" in done.err


def test_a_part_without_doubt_is_left_as_it_is(root: Folder, api: BatchesApi, run: Run) -> None:
    (batch_id,), _ = submit(root, api, records(3))
    job = f"{IDENTITY.folder(root).url}/job-1"
    before = Path(root.path).joinpath("batches").iterdir()
    for answer in (["msgbatch_other"], ["--none"]):
        assert (done := run("adopt", *answer, "--job", job, "--part", "0")).code == 2
        assert f"no doubt about part 0 of {job}: it has its batch ({batch_id})" in done.err
    assert (done := run("adopt", "--none", "--job", job, "--part", "7")).code == 2
    assert "has no part 7; its parts are 0 to 0" in done.err
    assert part(root).batch_id == batch_id
    assert [path.name for path in before] == [batch_id]


def test_a_worker_that_is_at_work_on_the_job_is_not_disturbed(
    root: Folder, command: list[str], run: Run
) -> None:
    with lease.hold(IDENTITY.folder(root)):
        assert (done := run(*command, "--none")).code == 2
    assert "A worker is at work" in done.err
    assert run(*command, "--none").code == 0


def test_a_job_that_does_not_exist_is_named_and_nothing_is_written(
    root: Folder, tmp_path: Path, run: Run
) -> None:
    Path(root.path).mkdir()
    for job in (f"{root.url}/jobs/d/r/t/job-1", f"{tmp_path.as_uri()}/elsewhere/jobs/d/r/t/job-1"):
        assert (done := run("adopt", "--none", "--job", job, "--part", "0")).code == 2
        assert job in done.err
    assert [path.name for path in tmp_path.rglob("*")] == ["storage"]


@pytest.mark.parametrize("answer", [[], ["msgbatch_1", "--none"]])
def test_one_answer_is_wanted(run: Run, command: list[str], answer: list[str]) -> None:
    assert run(*command, *answer).code == 2
