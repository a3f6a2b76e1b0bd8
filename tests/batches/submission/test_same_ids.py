"""Tasks of one DAG that ask with the same custom_ids, while answers to creates are lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anthropic

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.job.claims import find_claim
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from tests.batches.delivering import deliver, delivery_to, read_both
from tests.batches.helpers import creates, records, submit, submit_to_the_end


def variant(number: int) -> Identity:
    return Identity(dag_id="prompt_evaluation", run_id="r", task_id="ask", map_index=number)


def test_a_batch_that_is_claimed_while_the_list_is_read_is_not_taken(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    """Intents are read before the list, claims after it: whoever records in between is seen."""
    theirs: list[str] = []

    class Slow(BatchesApi):
        """Another task submits while this one waits for the list."""

        def list_since(self, *arguments: Any) -> Any:
            if not theirs:
                assert root.child("intents").names(), "its own POST has failed before"
                theirs.extend(submit(root, api, records(10, "B"), identity=variant(1))[0])
            return super().list_since(*arguments)

    slow = Slow(anthropic.Anthropic(api_key="test-key", base_url=emulator.url))
    emulator.fault("status", method="POST", path=CREATE, status=500)
    ours = submit_to_the_end(root, slow, emulator, records(10, "A"), identity=variant(0))
    assert (len(theirs), set(ours) & set(theirs)) == (1, set())
    claim = find_claim(root, theirs[0])
    assert claim is not None
    assert claim.job == f"{variant(1).folder(root).url}/job-1"


def test_five_tasks_with_the_same_ids_in_a_bad_minute_all_deliver_their_own_answers(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    """Of five creates three answers are lost, and two are refused with 500."""
    emulator.fault("drop_after", method="POST", path=CREATE, times=3)
    emulator.fault("status", method="POST", path=CREATE, status=500, times=2)
    rows = [records(10, f"variant {number} of") for number in range(5)]
    waiting = [number for number in range(5) if submit(root, api, rows[number], identity=variant(number))[1]]
    assert waiting
    for number in range(5):
        submit_to_the_end(root, api, emulator, rows[number], identity=variant(number))
        url, out = f"{variant(number).folder(root).url}/job-1", tmp_path / f"{number}"
        deliver(root, url, delivery_to(out, api), emulator)
        answers = read_both(out)[0]
        assert len(answers) == 10
        assert all(f"variant {number} of" in answer["text"] for answer in answers.values())
    assert (creates(emulator), len(emulator.batches())) == (7, 5)
