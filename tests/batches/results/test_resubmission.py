from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch.batches.api import client
from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import IncompleteResultsError, ResultsGoneError
from airflow_claude_batch.batches.job.job import open_job
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.output_records import is_retryable
from airflow_claude_batch.batches.results.resubmission import resubmit_cancelled, scan, spool_next
from airflow_claude_batch.batches.results.summarise import judge
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.emulator.testing import CREATE, RETRIEVE, Emulator
from tests.batches.crashing import freeze_at, start_child, trapped, wake
from tests.batches.delivering import (
    advance,
    contents,
    deliver,
    delivery_to,
    read_both,
    submit_all,
)
from tests.batches.helpers import QUICK, age_the_lease, api_at, creates, records, sent_ids


def failing(*custom_ids: str, tries: int | None = None, **how: Any) -> dict[str, Any]:
    return {"custom_ids": list(custom_ids), "tries": tries, **how}


def sent(emulator: Emulator) -> int:
    """Requests over all batches."""
    return sum(len(emulator.custom_ids(batch["id"])) for batch in emulator.batches())


OVERLOADED = {"error_type": "overloaded_error"}


def test_only_what_is_retryable_is_sent_again_and_each_request_ends_in_one_place(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    failures = [
        failing("r-1", tries=1, **OVERLOADED),
        failing("r-2", tries=1, outcome="expired"),
        failing("r-3", error_type="invalid_request_error", message="prompt is too long"),
        failing("r-4", error_type="api_error"),
    ]
    emulator.settings(outcomes={"failures": failures})
    url = submit_all(root, api, records(10), per_part=4)
    summary = deliver(root, url, delivery_to(tmp_path / "out", api, resubmit_rounds=1), emulator)

    assert sent_ids(emulator, emulator.batches()[-1]["id"]) == {"r-1", "r-2", "r-4"}
    succeeded, errored = read_both(tmp_path / "out")
    assert set(errored) == {"r-3", "r-4"}
    assert len(succeeded) == 8
    assert succeeded["r-1"]["input"] == {"n": 1}
    assert (errored["r-3"]["rounds"], errored["r-3"]["retryable"]) == (1, False)
    assert (errored["r-4"]["rounds"], errored["r-4"]["retryable"]) == (2, True)
    assert summary["counts"]["total"] == 10
    assert (summary["rounds"], summary["resubmitted"]) == (2, 3)
    assert summary["errors"] == {"api_error": 1, "invalid_request_error": 1}


def test_a_low_credit_balance_is_retryable_although_it_comes_as_an_invalid_request(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    low = "Your credit balance is too low to access the Anthropic API."
    emulator.settings(
        outcomes={"failures": [failing("r-0", tries=1, error_type="invalid_request_error", message=low)]}
    )
    url = submit_all(root, api, records(3))
    summary = deliver(root, url, delivery_to(tmp_path / "out", api, resubmit_rounds=1), emulator)
    assert summary["counts"]["succeeded"] == 3


def test_a_field_that_is_called_billing_says_nothing_of_the_account() -> None:
    message = "tools.0.input_schema.properties.billing_address: Input should be an object"
    assert not is_retryable("errored", "invalid_request_error", message)
    assert is_retryable("errored", "invalid_request_error", "Please go to Plans & Billing to upgrade.")


def test_without_rounds_nothing_is_sent_again(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(outcomes={"failures": [failing("r-0", **OVERLOADED)]})
    url = submit_all(root, api, records(3))
    summary = deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert (summary["rounds"], creates(emulator), summary["counts"]["errored"]) == (1, 1, 1)


def test_a_round_may_follow_a_round(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(outcomes={"failures": [failing("r-0", "r-1", tries=2, **OVERLOADED)]})
    url = submit_all(root, api, records(5), per_part=2)
    summary = deliver(root, url, delivery_to(tmp_path / "out", api, resubmit_rounds=3), emulator)
    assert (summary["rounds"], summary["counts"]["succeeded"]) == (3, 5)
    assert sent(emulator) == 9


def test_a_clear_tries_the_retryable_rest_once_more_and_pays_for_nothing_else(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(outcomes={"failures": [failing("r-0", tries=2, **OVERLOADED)]})
    url = submit_all(root, api, records(5))
    delivery = delivery_to(tmp_path / "out", api, resubmit_rounds=1)
    first = deliver(root, url, delivery, emulator)
    again = deliver(root, url, delivery, emulator)
    assert first["counts"]["errored"] == again["counts"]["errored"] == 1
    assert creates(emulator) == 2, "a retry sends nothing"

    cleared = deliver(root, url, delivery, emulator, generation=2)
    assert cleared["counts"]["succeeded"] == 5
    assert creates(emulator) == 3
    read_both(tmp_path / "out")


def test_delivering_elsewhere_later_gives_the_same_records_and_sends_nothing(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(outcomes={"failures": [failing("r-1", "r-5", tries=1, **OVERLOADED)]})
    url = submit_all(root, api, records(8), per_part=3)
    deliver(root, url, delivery_to(tmp_path / "a", api, resubmit_rounds=1), emulator)
    deliver(root, url, delivery_to(tmp_path / "b", api, resubmit_rounds=1), emulator)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert sent(emulator) == 10


@pytest.mark.parametrize("stop_after", [1, 2, 3])
def test_a_kill_between_any_two_passes_changes_nothing(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, stop_after: int
) -> None:
    emulator.settings(outcomes={"failures": [failing("r-0", "r-7", tries=2, **OVERLOADED)]})
    url = submit_all(root, api, records(8), per_part=3)
    for _ in range(stop_after):
        with open_job(root, url) as job:
            delivery = delivery_to(tmp_path / "out", api, resubmit_rounds=2)
            delivery.begin(job, 1)
            advance(job, delivery, emulator, plan=stop_after != 2)
    summary = deliver(root, url, delivery_to(tmp_path / "out", api, resubmit_rounds=2), emulator)
    assert summary["counts"]["succeeded"] == 8
    assert sent(emulator) == 12


def test_a_worker_frozen_while_it_stores_a_round_changes_nothing_when_it_wakes_before_the_round_is_sent(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    """The round's requests bear a mark, and the ledger says which: another mark's batch is nobody's."""

    def store_a_round(root: Folder) -> None:
        with open_job(root, url) as job:
            delivery = delivery_to(tmp_path / "out", api_at(emulator.url), resubmit_rounds=1)
            delivery.begin(job, 1)
            delivery.deliver_ended(job)
            spool_next(job)

    instant, frozen = 0, True
    while frozen:
        emulator.reset()
        emulator.settings(outcomes={"failures": [failing("r-1", "r-2", tries=1, **OVERLOADED)]})
        root.remove()
        url = submit_all(root, api, records(4))
        emulator.end(emulator.batches()[0]["id"])
        slow = trapped(root, freeze_at(instant))
        pid = start_child(lambda slow=slow: store_a_round(slow))
        frozen = os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1])
        if frozen:
            age_the_lease(root)
            store_a_round(root)
            wake(pid)
        summary = deliver(root, url, delivery_to(tmp_path / "out", api, resubmit_rounds=1), emulator)
        assert summary["counts"]["succeeded"] == 4, f"frozen at instant {instant}"
        assert sent(emulator) == 6, f"frozen at instant {instant}"
        shutil.rmtree(tmp_path / "out")
        instant += 1
    assert instant > 8


def test_invalid_answers_are_sent_again_only_when_asked_and_all_of_them_are_paid(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    cut = failing("r-0", tries=1, outcome="max_tokens")
    emulator.settings(answer_bytes=40, outcomes={"failures": [cut]})
    url = submit_all(root, api, records(3))
    reading = Reading(count_as_failed=("max_tokens",))
    kept = deliver(root, url, delivery_to(tmp_path / "a", api, reading=reading, resubmit_rounds=1), emulator)
    assert kept["counts"]["invalid"] == 1
    assert creates(emulator) == 1

    asked = Reading(count_as_failed=("max_tokens",), resubmit_invalid=True)
    delivery = delivery_to(tmp_path / "b", api, reading=asked, resubmit_rounds=1)
    summary = deliver(root, url, delivery, emulator, generation=2)
    assert summary["counts"]["succeeded"] == 3
    assert summary["usage"]["output_tokens"] > kept["usage"]["output_tokens"]


def test_a_round_that_cannot_be_paid_is_given_up_and_the_output_is_complete(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(outcomes={"failures": [failing("r-0", tries=1, **OVERLOADED)]})
    url = submit_all(root, api, records(4))
    number = emulator.fault(
        "status", method="POST", path=CREATE, times=None, status=402, type="billing_error"
    )
    delivery = delivery_to(tmp_path / "out", api, resubmit_rounds=1)
    summary = deliver(root, url, delivery, emulator)
    assert summary["counts"]["total"] == 4
    _, errored = read_both(tmp_path / "out")
    assert errored["r-0"]["error_type"] == "overloaded_error"
    assert (errored["r-0"]["retryable"], errored["r-0"]["rounds"]) == (True, 1)
    assert errored["r-0"]["input"] == {"n": 0}

    emulator.clear_faults(number)
    assert deliver(root, url, delivery, emulator, generation=2)["counts"]["succeeded"] == 4


def test_a_batch_cancelled_on_purpose_gives_what_it_has(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(cancel_finished_share=0.5)
    url = submit_all(root, api, records(40))
    api.cancel(emulator.batches()[0]["id"])
    summary = deliver(root, url, delivery_to(tmp_path / "out", api, resubmit_rounds=2), emulator)
    counts = summary["counts"]
    assert counts["canceled"] > 0
    assert counts["succeeded"] + counts["canceled"] == 40
    assert creates(emulator) == 1
    judge(summary, max_failed_fraction=0.0)


def test_a_cancelled_batch_is_scanned_and_only_its_rest_is_sent(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(cancel_finished_share=0.5)
    url = submit_all(root, api, records(40))
    [batch] = emulator.batches()
    api.cancel(batch["id"])
    emulator.end(batch["id"])
    with open_job(root, url) as job:
        moved = scan(api, job, job.ledger.parts[0])
        assert spool_next(job) == moved
        assert scan(api, job, job.ledger.parts[0]) == 0, "what was moved once is not moved twice"
        assert Submission(job=job, api=api, policy=QUICK).run() is None
    assert sent(emulator) == 40 + moved
    summary = deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert summary["counts"]["succeeded"] == 40
    read_both(tmp_path / "out")


def test_a_short_download_of_a_cancelled_batch_sends_no_paid_answer_again(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(cancel_finished_share=0.5)
    url = submit_all(root, api, records(40))
    [batch] = emulator.batches()
    api.cancel(batch["id"])
    emulator.end(batch["id"])
    emulator.fault("cut_results", times=3, fraction=0.5, clean_end=True)
    with open_job(root, url) as job:
        resubmit_cancelled(job, api, 1)
        with pytest.raises(IncompleteResultsError):
            resubmit_cancelled(job, api, 2)
        assert job.ledger.parts[0].moved == 0
        assert resubmit_cancelled(job, api, 2) is None
        assert Submission(job=job, api=api, policy=QUICK).run() is None
    counts = api.retrieve(batch["id"]).request_counts
    assert 0 < counts.canceled < 40
    assert sent(emulator) == 40 + counts.canceled


@pytest.mark.parametrize("status", [404, 500])
def test_a_retry_of_the_submission_outlives_passing_trouble_with_batches_that_it_knows(
    root: Folder, api: BatchesApi, emulator: Emulator, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(client, "KNOWN_SHORTEST_SECONDS", 0.01)
    url = submit_all(root, api, records(20), per_part=2)
    emulator.fault("status", path=RETRIEVE, method="GET", times=None, probability=0.3, status=status)
    with open_job(root, url) as job:
        for try_number in range(1, 11):
            assert resubmit_cancelled(job, api, try_number) is None
    assert creates(emulator) == 10


def test_a_known_batch_that_stays_away_is_said_to_be_gone(
    root: Folder, api: BatchesApi, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "KNOWN_SHORTEST_SECONDS", 0.01)
    url = submit_all(root, api, records(2))
    emulator.delete(emulator.batches()[0]["id"])
    with open_job(root, url) as job:
        resubmit_cancelled(job, api, 1)
        with pytest.raises(ResultsGoneError, match="deleted"):
            resubmit_cancelled(job, api, 2)
