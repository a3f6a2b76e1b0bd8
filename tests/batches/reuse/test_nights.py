"""Answers reused over several nights, and all that can come between."""

from __future__ import annotations

import datetime
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import time_machine

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import StoreError
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.reuse import compaction
from airflow_claude_batch.batches.reuse.build import build
from airflow_claude_batch.batches.reuse.compaction import drop
from airflow_claude_batch.batches.reuse.purge import purge_answers
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.crashing import in_child, kill_at, trapped
from tests.batches.delivering import deliver, delivery_to, submit_all
from tests.batches.helpers import IDENTITY
from tests.batches.reuse.nights import Nights, rows
from tests.batches.s3 import S3

LATER = 2_000_000_000_000
"""In milliseconds since 1970: after all that is answered here."""


def failures(*custom_ids: str, **how: Any) -> dict[str, Any]:
    return {"outcomes": {"failures": [{"custom_ids": list(custom_ids), **how}]}}


def test_only_complete_answers_are_kept(nights: Nights) -> None:
    nights.emulator.settings(
        outcomes={
            "failures": [
                {"custom_ids": ["r-0"], "error_type": "invalid_request_error", "message": "too long"},
                {"custom_ids": ["r-1"], "outcome": "expired"},
            ]
        }
    )

    def check(record: dict[str, Any]) -> str | None:
        return "wrong" if record["custom_id"] == "r-2" else None

    requests = rows(range(5))
    requests[3]["max_tokens"] = 5  # is cut off
    nights.run(1, requests, reading=Reading(user_check=check))
    [pair] = nights.store().pairs()
    assert pair.rows == 1
    nights.emulator.settings(outcomes={})
    summary = nights.run(2, requests)
    assert (summary["asked"], summary["reused"]) == (4, 1)


def test_an_answer_that_fails_todays_check_is_asked_anew_and_the_new_one_counts(nights: Nights) -> None:
    nights.run(1, rows(range(3)))

    def check(record: dict[str, Any]) -> str | None:
        return "old" if "reused" in record and record["custom_id"] == "r-1" else None

    summary = nights.run(2, rows(range(3)), reading=Reading(user_check=check))
    assert (summary["asked"], summary["reused"], summary["counts"]["succeeded"]) == (1, 2, 3)
    assert nights.sent == 4
    nights.check(2, range(3))
    third = nights.run(3, rows(range(3)))
    assert third["asked"] == 0
    assert nights.check(3, range(3))["r-1"]["reused"]["batch_id"] == summary["batch_ids"][0]


@pytest.mark.parametrize("damage", ["purged", "cut", "flipped", "gone"])
def test_what_is_purged_or_damaged_between_look_up_and_delivery_is_asked(
    nights: Nights, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    nights.run(1, rows(range(10)))
    url = nights.submit(2, rows(range(12)))
    [pair] = nights.store().pairs()
    file = Path(nights.store().folder.locate(pair.answers))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    match damage:
        case "purged":
            assert drop(nights.store(), LATER) == 10
        case "gone":
            file.unlink()
        case "cut":
            file.write_bytes(data[: len(data) // 2])
        case "flipped":
            file.write_bytes(data)
    with caplog.at_level(logging.WARNING):
        summary = nights.deliver(2, url)
    assert (summary["asked"], summary["reused"], summary["resubmitted"]) == (12, 0, 0)
    nights.check(2, range(12))
    assert nights.sent == 10 + 12
    assert ("is damaged" in caplog.text) == (damage in ("cut", "flipped"))


def test_answers_that_move_to_another_file_are_found_there(nights: Nights) -> None:
    for night in range(compaction.FANOUT - 1):
        nights.run(night, rows(range(night * 3, night * 3 + 3)))
    everything = range(3 * compaction.FANOUT - 3)
    url = nights.submit("last", rows(everything))
    compaction.merge(nights.store(), nights.store().pairs(), None)
    summary = nights.deliver("last", url)
    assert (summary["asked"], summary["reused"]) == (0, len(everything))
    nights.check("last", everything)


def test_a_clear_after_delivery_is_the_same_job_and_asks_nothing_even_after_a_purge(nights: Nights) -> None:
    nights.run(1, rows(range(6)))
    url = nights.submit(2, rows(range(8)))
    nights.deliver(2, url)
    drop(nights.store(), LATER)
    assert nights.submit(2, rows(range(8)), generation=2) == url
    summary = nights.deliver(2, url, generation=2)
    assert (summary["asked"], summary["reused"]) == (2, 6)
    nights.check(2, range(8))
    assert nights.sent == 8


def test_two_runs_that_ask_the_same_at_the_same_time_both_have_their_answers(nights: Nights) -> None:
    urls = {name: nights.submit(name, rows(range(5))) for name in ("one", "other")}
    for name, url in urls.items():
        nights.deliver(name, url)
        nights.check(name, range(5))
    assert nights.sent == 10
    assert nights.run("next", rows(range(5)))["asked"] == 0


@pytest.mark.parametrize("outcome", ["answered", "failed", "retried", "refused"])
def test_repeated_requests_share_what_the_first_is_answered(nights: Nights, outcome: str) -> None:
    how: dict[str, dict[str, Any]] = {
        "answered": {},
        "failed": failures("r-1", error_type="invalid_request_error", message="too long"),
        "retried": failures("r-1", tries=1, error_type="overloaded_error"),
        "refused": failures("r-1", outcome="refusal"),
    }
    nights.emulator.settings(**how[outcome])
    repeated = [{**rows([1])[0], "custom_id": f"again-{number}", "n": number} for number in range(3)]
    summary = nights.run(1, [*rows(range(3)), *repeated], resubmit_rounds=1)
    assert Counter(nights.asked)["r-1"] == (2 if outcome == "retried" else 1)
    assert not [one for one in nights.asked if one.startswith("again")]
    assert (summary["asked"], summary["reused"], summary["counts"]["total"]) == (3, 3, 6)
    assert (summary["saved_by_reuse_usd"] == 0) == (outcome == "failed"), "what failed costs nothing"
    succeeded, errored = nights.records(1)
    for number in range(3):
        records = errored if outcome == "failed" else succeeded
        first, again = records["r-1"], records[f"again-{number}"]
        assert again["input"] == {"n": number}
        if outcome == "failed":
            assert again["error_type"] == first["error_type"]
        else:
            assert (again["text"], again["stop_reason"]) == (first["text"], first["stop_reason"])
            assert (again["cost_usd"], "reused" in first) == (0, False)


def test_repetitions_of_a_known_request_are_answered_too(nights: Nights) -> None:
    nights.run(1, rows(range(3)))
    summary = nights.run(2, [*rows(range(3)), {**rows([1])[0], "custom_id": "again"}])
    assert (summary["asked"], summary["reused"]) == (0, 4)


def test_too_old_an_answer_is_asked_again(nights: Nights) -> None:
    nights.run(1, rows(range(3)))
    with time_machine.travel(datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=31)):
        url = nights.submit(2, rows(range(3)))
    assert nights.deliver(2, url)["asked"] == 3
    assert nights.run(3, rows(range(3)))["asked"] == 0


def test_a_job_made_anew_on_purpose_asks_everything(nights: Nights) -> None:
    nights.run(1, rows(range(3)))
    nights.deliver(2, nights.submit(2, rows(range(3)), ask_all=True))
    assert nights.sent == 6


@pytest.mark.parametrize("go_on", [False, True])
def test_a_store_that_cannot_be_reached_fails_before_anything_is_paid_or_is_done_without(
    nights: Nights, s3: S3, go_on: bool, caplog: pytest.LogCaptureFixture
) -> None:
    nights.run(1, rows(range(3)))
    unreachable = s3.folder("storage")
    nights.store = lambda root=None: type(Nights.store(nights))(unreachable.child("answers"))  # type: ignore[method-assign]
    s3.fails = lambda environ: True
    if not go_on:
        with pytest.raises(StoreError, match="nothing was sent"):
            nights.submit(2, rows(range(3)))
        assert nights.sent == 3
        return
    url = nights.submit(2, rows(range(3)), go_on=True)
    assert "cannot be reached (OSError); everything is asked" in caplog.text
    nights.deliver(2, url)
    nights.check(2, range(3))
    assert nights.sent == 6


def test_a_store_that_cannot_be_reached_at_delivery_fails_it_and_a_retry_goes_on(
    nights: Nights, s3: S3
) -> None:
    answers = s3.folder("answers-on-s3")
    nights.store = lambda root=None: type(Nights.store(nights))(answers)  # type: ignore[method-assign]
    nights.run(1, rows(range(3)))
    url = nights.submit(2, rows(range(6)))
    s3.fails = lambda environ: True
    with pytest.raises(StoreError, match="a retry goes on"):
        nights.deliver(2, url)  # while what is new is downloaded
    s3.fails = lambda environ: False
    assert nights.deliver(2, url)["reused"] == 3
    nights.check(2, range(6))
    assert nights.sent == 6


def test_a_store_on_s3_is_looked_up_and_kept(nights: Nights, s3: S3) -> None:
    nights.root = s3.folder("reuse-on-s3")
    nights.run(1, rows(range(20)))
    assert nights.run(2, rows(range(22)))["asked"] == 2
    nights.check(2, range(22))


def test_a_store_is_made_of_jobs_of_before(
    nights: Nights, root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(**failures("r-3", error_type="invalid_request_error", message="too long"))
    url = submit_all(root, api, rows(range(5)))
    deliver(root, url, delivery_to(tmp_path / "before", api), emulator)
    built = build(root, IDENTITY.dag_id, api_of=lambda conn_id: api)
    assert (built.jobs, built.answers, built.failed) == (1, 4, 0)
    again = build(root, IDENTITY.dag_id, api_of=lambda conn_id: api)
    assert (again.answers, again.kept_before) == (0, 1)
    emulator.settings(outcomes={})
    assert nights.run(1, rows(range(5)))["asked"] == 1
    nights.check(1, range(5))


def test_a_purge_deletes_the_answers_of_all_scopes(nights: Nights, root: Folder) -> None:
    nights.run(1, rows(range(3)))
    assert purge_answers(root, older_than=None) == 0
    assert purge_answers(root, older_than=datetime.timedelta(days=1)) == 0
    assert purge_answers(root, older_than=datetime.timedelta(0), dry_run=True) == 3
    assert purge_answers(root, older_than=datetime.timedelta(0)) == 3
    assert nights.run(2, rows(range(3)))["asked"] == 3


NIGHT = range(4, 16)


def second_night(nights: Nights, root: Folder) -> None:
    """A night with known, new and repeated requests, whose answers are kept and then merged."""
    requests = [*rows(NIGHT), {**rows([15])[0], "custom_id": "again"}, {**rows([5])[0], "custom_id": "known"}]
    nights.deliver(2, nights.submit(2, requests, root=root, per_part=2), root=root)


@pytest.mark.parametrize("instant", range(0, 120, 6))
def test_a_kill_at_any_instant_of_a_night_changes_nothing(
    nights: Nights, instant: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "FANOUT", 3)
    for night, start in (("a", 0), ("b", 6)):
        nights.run(night, rows(range(start, start + 6)))

    in_child(lambda: second_night(nights, trapped(nights.root, kill_at(instant))))
    for batch in nights.emulator.batches():
        nights.emulator.end(batch["id"])
    second_night(nights, nights.root)

    succeeded, errored = nights.records(2)
    assert (set(succeeded), errored) == ({f"r-{n}" for n in NIGHT} | {"again", "known"}, {})
    for n in NIGHT:
        assert f"“Count to {n}.”" in succeeded[f"r-{n}"]["text"]
    assert succeeded["again"]["text"] == succeeded["r-15"]["text"]
    assert "“Count to 5.”" in succeeded["known"]["text"]
    assert Counter(nights.asked) == {f"r-{n}": 1 for n in range(16)}
    assert nights.run(3, rows(NIGHT))["asked"] == 0
    nights.check(3, NIGHT)


@pytest.mark.parametrize("new", [0, 2])
def test_repeated_requests_whose_answers_are_gone_are_asked_once_and_answered_all(
    nights: Nights, new: int
) -> None:
    nights.run(1, rows(range(3)))
    repeated = [
        {**row, "custom_id": f"{row['custom_id']}-again-{n}"} for n in (1, 2) for row in rows(range(3))
    ]
    url = nights.submit(2, [*rows(range(3 + new)), *repeated])
    for pair in nights.store().pairs():
        nights.store().remove(pair)
    summary = nights.deliver(2, url)
    assert (summary["asked"], summary["reused"], nights.sent) == (3 + new, 6, 6 + new)
    succeeded, errored = nights.records(2)
    assert (len(succeeded), errored) == (9 + new, {})
    for row in repeated:
        first = succeeded[row["custom_id"].split("-again")[0]]
        assert succeeded[row["custom_id"]]["text"] == first["text"]
        assert (succeeded[row["custom_id"]]["cost_usd"], first["cost_usd"] > 0) == (0, True)
