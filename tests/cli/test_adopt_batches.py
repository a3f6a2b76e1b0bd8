"""``adopt BATCH --dag --run --task``: a lost ledger, or a batch that a person has submitted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import anthropic
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import LedgerError
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.claims import find_claim
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.delivering import deliver, delivery_to, read_both
from tests.batches.helpers import IDENTITY, creates, records, started, submit
from tests.cli.conftest import Run

OF_TASK = ("--dag", IDENTITY.dag_id, "--run", IDENTITY.run_id, "--task", IDENTITY.task_id)


def by_hand(emulator: Emulator, rows: list[dict[str, Any]]) -> str:
    """The same requests as the task's, sent by a script, and ended."""
    client = anthropic.Anthropic(api_key="any", base_url=emulator.url)
    requests: Any = [
        {
            "custom_id": row["custom_id"],
            "params": {
                "model": "claude-haiku-4-5",
                "max_tokens": 100,
                "messages": [{"role": "user", "content": row["prompt"]}],
            },
        }
        for row in rows
    ]
    batch_id = client.messages.batches.create(requests=requests).id
    emulator.end(batch_id)
    return batch_id


CONNECTION = "anthropic_default"


def ended(root: Folder, api: BatchesApi, emulator: Emulator, **options: Any) -> list[str]:
    batch_ids, _ = submit(root, api, records(5), conn_id=CONNECTION, **options)
    for batch_id in batch_ids:
        emulator.end(batch_id)
    return batch_ids


@pytest.mark.parametrize("per_part", [100, 2])
def test_batches_of_a_lost_ledger_become_the_tasks_job_and_nothing_is_sent_again(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, per_part: int
) -> None:
    batch_ids = ended(root, api, emulator, per_part=per_part)
    root.remove()
    Path(root.path).mkdir()
    done = run("adopt", *reversed(batch_ids), *OF_TASK)
    assert done.code == 0, done
    assert run("list", "-o", "json").data[0]["state"] == "waiting"
    assert submit(root, api, records(5), per_part=per_part, conn_id=CONNECTION) == (batch_ids, None)
    assert creates(emulator) == len(batch_ids)
    url = f"{IDENTITY.folder(root).url}/job-1"
    deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    succeeded, _ = read_both(tmp_path / "out")
    assert [succeeded[f"r-{number}"]["input"]["n"] for number in range(5)] == [0, 1, 2, 3, 4]


def test_answers_of_a_lost_ledger_are_delivered_without_the_task(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    failure = {"custom_ids": ["r-1"], "outcome": "expired"}
    emulator.settings(outcomes={"failures": [failure]})
    [batch_id] = ended(root, api, emulator)
    root.remove()
    Path(root.path).mkdir()
    run("adopt", batch_id, *OF_TASK)
    delivery = delivery_to(tmp_path / "out", api, resubmit_rounds=2)
    deliver(root, f"{IDENTITY.folder(root).url}/job-1", delivery, emulator)
    succeeded, errored = read_both(tmp_path / "out")
    assert (sorted(succeeded), list(errored)) == (["r-0", "r-2", "r-3", "r-4"], ["r-1"])
    assert creates(emulator) == 1
    assert run("retry", batch_id, "--only", "expired", "--yes").code == 2


def test_a_batch_that_a_person_has_submitted_is_that_of_the_part_that_waits_for_it(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    with started(root, records(3)):
        pass
    batch_id = by_hand(emulator, records(3))
    done = run("adopt", batch_id, *OF_TASK)
    assert (done.code, "those that the task has stored" in done.err) == (0, True)
    assert submit(root, api, records(3), generation=2) == ([batch_id], None)
    assert creates(emulator) == 1


def test_other_custom_ids_are_refused_unless_a_person_insists(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    with started(root, records(3)):
        pass
    batch_id = by_hand(emulator, records(2))
    refused = run("adopt", batch_id, *OF_TASK)
    assert (refused.code, "--force" in refused.err, find_claim(root, batch_id)) == (2, True, None)
    assert run("adopt", batch_id, *OF_TASK, "--force").code == 0
    assert submit(root, api, records(2), generation=2, conn_id=CONNECTION) == ([batch_id], None)


def test_what_has_not_ended_or_is_not_there_or_is_anothers_is_not_adopted(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    (running,), _ = submit(root, api, records(3))
    elsewhere = ("--dag", "other", "--run", "r", "--task", "t")
    assert run("adopt", running, *elsewhere).code == 3
    emulator.end(running)
    for extra in ((), ("--force",)):
        theirs = run("adopt", running, *elsewhere, *extra)
        assert (theirs.code, "belongs to part 0" in theirs.err) == (2, True)
    assert run("adopt", "msgbatch_nobody", *elsewhere).code == 2
    assert run("adopt", "../x", *elsewhere).code == 2
    assert not root.child("jobs", "other").exists("")


def damage(root: Folder, *, versions: int) -> Folder:
    folder = IDENTITY.folder(root).child("job-1")
    for number in ledgers.versions(folder)[-versions:]:
        folder.write(ledgers.file_name(number), b"{")
    return folder


def told(error: LedgerError) -> list[str]:
    found = re.search(r"`claude-batch ([^`]+)`", str(error))
    assert found is not None
    return found[1].split()


def test_a_damaged_ledger_is_written_anew_by_the_command_that_its_error_names(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    batch_ids, _ = submit(root, api, records(5), per_part=2)
    damage(root, versions=2)
    with pytest.raises(LedgerError) as damaged:
        submit(root, api, records(5), per_part=2, generation=2)
    assert run(*told(damaged.value)).code == 0
    assert submit(root, api, records(5), per_part=2, generation=2) == (batch_ids, None)
    assert creates(emulator) == 3
    assert run(*told(damaged.value)).code == 2  # it can be read now


def test_a_ledger_without_a_readable_version_is_made_of_its_batches(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    batch_ids = ended(root, api, emulator, per_part=3)
    damage(root, versions=99)
    with pytest.raises(LedgerError) as damaged:
        submit(root, api, records(5), generation=2)
    second = run(*told(damaged.value))
    assert second.code == 2
    assert run("adopt", batch_ids[0], "--job", damaged.value.args[0].split()[2].rpartition("/")[0]).code == 2
    assert run(*told(LedgerError(second.err))).code == 0
    assert submit(root, api, records(5), per_part=3, generation=2, conn_id=CONNECTION) == (batch_ids, None)
    assert creates(emulator) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["msgbatch_1"],
        ["msgbatch_1", "--dag", "d"],
        ["--none"],
        ["msgbatch_1", "--part", "0"],
        ["--job", "x", "--dag", "d"],
        ["msgbatch_1", "msgbatch_2", "--job", "x", "--part", "0"],
    ],
)
def test_what_is_not_said_in_full_is_asked_for(run: Run, root: Folder, arguments: list[str]) -> None:
    Path(root.path).mkdir()
    done = run("adopt", *arguments)
    assert (done.code, "Say what is to be adopted" in done.err) == (2, True)


def test_further_batches_of_a_lost_job_have_to_be_named_too(
    run: Run, root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    batch_ids = ended(root, api, emulator, per_part=2)
    root.child("jobs").remove()
    refused = run("adopt", batch_ids[0], *OF_TASK)
    assert (refused.code, f"Claims give further batches to {IDENTITY.folder(root).url}: " in refused.err) == (
        2,
        True,
    )
    assert all(batch_id in refused.err for batch_id in batch_ids[1:])
    assert run("adopt", batch_ids[0], *OF_TASK, "--force").code == 0
    assert run("adopt", *batch_ids, *OF_TASK).code == 0  # after all
    assert submit(root, api, records(5), per_part=2, conn_id=CONNECTION) == (batch_ids, None)
    assert creates(emulator) == 3


def test_a_job_is_named_as_list_does(run: Run, root: Folder, api: BatchesApi, emulator: Emulator) -> None:
    batch_ids, _ = submit(root, api, records(5), per_part=2)
    damage(root, versions=2)
    name = f"{IDENTITY.folder(root).url.removeprefix(f'{root.url}/jobs/')}/job-1"
    assert run("adopt", "--job", name).code == 0
    assert submit(root, api, records(5), per_part=2, generation=2) == (batch_ids, None)
