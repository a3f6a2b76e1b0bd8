"""A task waits for a batch that only may be its own: what a kill does then, and what its owner may do."""

from __future__ import annotations

import asyncio
import datetime
import re
from pathlib import Path
from typing import Any

import anthropic
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred

from airflow_claude_batch import ClaudeBatchOperator, ClaudeBatchSubmitOperator, Limits, Recovery
from airflow_claude_batch.batches.job.claims import Claim, claim
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.waiting import wait as waiting
from airflow_claude_batch.cli import main
from airflow_claude_batch.emulator.testing import CANCEL, CREATE, RETRIEVE, Emulator
from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger
from tests.batches.helpers import sent_ids
from tests.batches.waits import run
from tests.operators.conftest import Try
from tests.supervisor import Supervisor, TaskInstance

KINDS = [ClaudeBatchSubmitOperator, ClaudeBatchOperator]
IDS = [f"r-{n}" for n in range(6)]


def operator(kind: Any, tmp_path: Path, **options: Any) -> Any:
    return kind(
        task_id="ask",
        requests=[{"custom_id": custom_id, "prompt": "Hi"} for custom_id in IDS],
        model="claude-haiku-4-5",
        max_tokens=50,
        storage_path=(tmp_path / "storage").as_uri(),
        limits=Limits(requests=2),
        **options,
    )


def strangers_batch(emulator: Emulator) -> str:
    """A batch of another deployment, of a part's size."""
    client = anthropic.Anthropic(api_key="test-key", base_url=emulator.url)
    params: Any = {
        "model": "claude-haiku-4-5",
        "max_tokens": 5,
        "messages": [{"role": "user", "content": "x"}],
    }
    requests: Any = [{"custom_id": custom_id, "params": params} for custom_id in IDS[:2]]
    return client.messages.batches.create(requests=requests).id


def trigger_of(task: Any, attempt: Try) -> ClaudeBatchTrigger:
    """The trigger that a task defers with, as the triggerer makes it of what is stored."""
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(attempt.context)
    while not isinstance(deferred.value.trigger, ClaudeBatchTrigger):
        with pytest.raises(TaskDeferred) as deferred:
            task.execute_complete(attempt.context, {"status": "resume"})
    return ClaudeBatchTrigger(**deferred.value.trigger.serialize()[1])


def waits(
    emulator: Emulator, kind: Any, tmp_path: Path, attempt: Try, **options: Any
) -> tuple[ClaudeBatchTrigger, str, list[str]]:
    """The third of a task's POSTs has failed, and a stranger's batch could be its: the wait for that one.

    Returns:
        The trigger, the stranger's batch, and the two that are the task's own.
    """
    theirs = strangers_batch(emulator)
    emulator.fault("status", method="POST", path=CREATE, skip=2, status=500)
    trigger = trigger_of(operator(kind, tmp_path, **options), attempt)
    own = [batch["id"] for batch in emulator.batches() if batch["id"] != theirs]
    assert (trigger.batch_ids, len(own)) == ([theirs], 2)
    return trigger, theirs, own


def cancelled(emulator: Emulator) -> list[str]:
    return sorted(call["batch_id"] for call in emulator.journal(method="POST", path=CANCEL))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cancel_on_kill", [True, False])
def test_a_kill_cancels_what_is_certain_and_not_the_candidate(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: Any, cancel_on_kill: bool
) -> None:
    recovery = Recovery(cancel_on_kill=cancel_on_kill)
    trigger, _, own = waits(emulator, kind, tmp_path, Try("ask"), recovery=recovery)
    Supervisor("failed").install(monkeypatch)
    trigger.task_instance = TaskInstance()
    run(trigger.on_kill())
    assert cancelled(emulator) == (sorted(own) if cancel_on_kill else [])


def test_a_batch_that_a_claim_gives_to_another_dag_is_not_cancelled(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    theirs = strangers_batch(emulator)
    emulator.fault("status", method="POST", path=CREATE, skip=2, status=500)
    attempt = Try("ask")
    task = operator(ClaudeBatchSubmitOperator, tmp_path)
    trigger_of(task, attempt)
    first, second = [batch["id"] for batch in emulator.batches() if batch["id"] != theirs]
    root = Folder.at((tmp_path / "storage").as_uri())
    root.child("batches").remove_file(first)
    claim(root, first, Claim(job=f"{root.url}/jobs/other/r/t/job-1", part=0, dag_id="other"))
    trigger = trigger_of(task, attempt)
    Supervisor("failed").install(monkeypatch)
    trigger.task_instance = TaskInstance()
    run(trigger.on_kill())
    assert cancelled(emulator) == [second]


def test_a_person_who_names_the_batch_lets_a_cleared_task_deliver_it(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.fault("drop_after", method="POST", path=CREATE, skip=2)
    task = operator(ClaudeBatchOperator, tmp_path, recovery=Recovery(on_ambiguous="fail"))
    with pytest.raises(AirflowFailException, match="claude-batch adopt") as failed:
        task.execute(Try("ask").context)
    found = re.search(r"`claude-batch adopt BATCH_ID (--job \S+ --part \d+)`", str(failed.value))
    assert found is not None
    lost = emulator.batches()[-1]["id"]
    root = (tmp_path / "storage").as_uri()
    assert main(["adopt", lost, *found[1].split(), "--storage-path", root]) == 0
    for batch in emulator.batches():
        emulator.end(batch["id"])
    cleared = Try("ask", try_number=2, max_tries=1)
    summary = operator(ClaudeBatchOperator, tmp_path).execute(cleared.context)
    assert sorted(summary["batch_ids"]) == sorted(batch["id"] for batch in emulator.batches())
    assert sorted(record["custom_id"] for record in summary["succeeded"]) == IDS


@pytest.mark.parametrize("seen", [True, False])
def test_when_its_owner_deletes_the_candidate_the_wait_ends_and_the_part_is_sent(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, seen: bool
) -> None:
    attempt = Try("ask")
    trigger, theirs, own = waits(emulator, ClaudeBatchSubmitOperator, tmp_path, attempt)
    monkeypatch.setattr(waiting, "PATIENCE", datetime.timedelta(seconds=1))
    trigger.poll_interval = 0.2
    trigger.started_at = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(minutes=1)).isoformat()
    events: list[dict[str, Any]] = []

    async def listen() -> None:
        events.extend([event.payload async for event in trigger.run()])

    async def test() -> None:
        if not seen:
            emulator.delete(theirs)
        listening = asyncio.create_task(listen())
        if seen:
            since = emulator.state()["received"]
            await asyncio.to_thread(emulator.wait_for, "GET", RETRIEVE, since=since)
            emulator.delete(theirs)
        await listening

    run(test())
    [event] = events
    assert event["status"] == "vanished"
    assert "deleted it" in event["message"]
    task = operator(ClaudeBatchSubmitOperator, tmp_path)
    ids = task.execute_complete(attempt.context, event)["batch_ids"]
    assert set(own) < set(ids)
    assert sorted(n for batch_id in ids for n in sent_ids(emulator, batch_id)) == IDS
