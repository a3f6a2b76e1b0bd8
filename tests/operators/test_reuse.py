"""Answers reused across runs, by the operators, as a DAG's owner sees it."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from pyarrow import parquet

from airflow_claude_batch import (
    Budget,
    ClaudeBatchOperator,
    ClaudeBatchResultsOperator,
    ClaudeBatchSensor,
    ClaudeBatchSubmitOperator,
    Reuse,
)
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from tests.batches.delivering import read_both
from tests.operators.conftest import Try

MODEL = {"model": "claude-haiku-4-5", "max_tokens": 1000}
ENDED = {"status": "ended", "batch_ids": []}


def rows(numbers: Any) -> list[dict[str, Any]]:
    return [{"custom_id": f"r-{n}", "prompt": f"Count to {n}", "n": n} for n in numbers]


class Nights:
    """Runs of one task, night after night."""

    def __init__(self, emulator: Emulator, path: Path) -> None:
        self.emulator = emulator
        self.path = path
        self.number = 0

    def out(self, night: int) -> Path:
        return self.path / f"out-{night}"

    def run(self, requests: Any, *, attempt: Try | None = None, **options: Any) -> dict[str, Any]:
        """One night, to its end; returns the summary."""
        self.number += 1
        out = {"output_path": self.out(self.number).as_uri()}
        storage = (self.path / "storage").as_uri()
        given: dict[str, Any] = {"reuse": True, "storage_path": storage, **MODEL, **out, **options}
        attempt = attempt or Try(task_id="ask", run_id=f"night-{self.number}")
        event = None
        for _ in range(10):
            ask = ClaudeBatchOperator(task_id="ask", requests=requests, **given)
            try:
                if event is None:
                    return ask.execute(attempt.context)
                return ask.execute_complete(attempt.context, event)
            except TaskDeferred:
                event = ENDED
                for batch in self.emulator.batches():
                    if batch["processing_status"] != "ended":
                        self.emulator.end(batch["id"])
        raise AssertionError("the task does not end")

    @property
    def sent(self) -> int:
        """Requests that the API has received in all."""
        return sum(len(self.emulator.custom_ids(batch["id"])) for batch in self.emulator.batches())


@pytest.fixture
def nights(emulator: Emulator, tmp_path: Path) -> Nights:
    return Nights(emulator, tmp_path)


def counts(summary: dict[str, Any]) -> tuple[int, int, int]:
    return summary["counts"]["succeeded"], summary["asked"], summary["reused"]


def test_three_nights_ask_each_request_once_and_deliver_every_record(nights: Nights) -> None:
    first = nights.run(rows(range(20)))
    second = nights.run(rows(range(2, 22)))
    third = nights.run(rows(range(4, 24)))

    assert [counts(night) for night in (first, second, third)] == [(20, 20, 0), (20, 2, 18), (20, 2, 18)]
    assert nights.sent == 24
    answers = {}
    for night, start in ((1, 0), (2, 2), (3, 4)):
        succeeded, errored = read_both(nights.out(night))
        assert (set(succeeded), errored) == ({f"r-{n}" for n in range(start, start + 20)}, {})
        for custom_id, record in succeeded.items():
            assert record["input"] == {"n": int(custom_id.removeprefix("r-"))}
            assert record["text"] == answers.setdefault(custom_id, record["text"])
    again, new = succeeded["r-4"], succeeded["r-23"]
    assert again["reused"]["batch_id"] == first["batch_ids"][0]
    assert again["cost_usd"] == 0
    assert "reused" not in new
    assert new["cost_usd"] > 0
    assert third["cost"]["total_usd"] == pytest.approx(sum(r["cost_usd"] for r in succeeded.values()))
    before = read_both(nights.out(1))[0]
    saved = sum(before[custom_id]["cost_usd"] for custom_id in before.keys() & read_both(nights.out(2))[0])
    assert second["saved_by_reuse_usd"] == pytest.approx(saved)


def test_a_night_with_nothing_new_sends_nothing_and_is_done_in_one_go(nights: Nights) -> None:
    nights.run(rows(range(5)))
    summary = nights.run(rows(range(5)))
    assert counts(summary) == (5, 0, 5)
    assert (summary["batch_ids"], summary["cost"]["total_usd"]) == ([], 0)
    assert len(nights.emulator.journal(method="POST", path=CREATE)) == 1
    assert json.loads((nights.out(2) / "summary.json").read_text())["reused"] == 5


def test_what_is_asked_twice_in_one_input_is_asked_once_and_answered_twice(nights: Nights) -> None:
    twice = [*rows(range(3)), {"custom_id": "again", "prompt": "Count to 1", "why": "a repetition"}]
    summary = nights.run(twice)
    assert counts(summary) == (4, 3, 1)
    assert nights.sent == 3
    succeeded, _ = read_both(nights.out(1))
    assert succeeded["again"]["text"] == succeeded["r-1"]["text"]
    assert succeeded["again"]["input"] == {"why": "a repetition"}
    assert (succeeded["again"]["cost_usd"], succeeded["again"]["reused"]["batch_id"]) == (
        0,
        summary["batch_ids"][0],
    )


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({}, 0),
        ({"cache": "1h", "system": "You count."}, 3),
        ({"max_tokens": 1001}, 3),
        ({"model": "claude-sonnet-4-6"}, 3),
        ({"prompt_version": "v7"}, 3),
        ({"message_params": {"betas": ["a-beta-2026"]}}, 3),
        ({"message_params": {"metadata": {"user_id": "u"}}}, 0),
        ({"reuse": Reuse(scope="task")}, 3),
        ({"reuse": Reuse(scope="counting")}, 3),
        ({"reuse": None}, 3),
    ],
)
def test_another_wording_is_another_request(nights: Nights, options: dict[str, Any], asked: int) -> None:
    nights.run(rows(range(3)))
    nights.run(rows(range(3)), **options)
    assert nights.sent == 3 + asked


def test_a_budget_counts_only_what_is_new(nights: Nights) -> None:
    nights.run(rows(range(20)))
    attempt = Try(task_id="ask", run_id="second")
    summary = nights.run(rows(range(21)), attempt=attempt, budget=0.004)
    assert summary["asked"] == 1
    assert attempt.pushed["estimate"]["requests"] == 1


def test_the_three_tasks_reuse_too_and_pass_through_where_nothing_is_new(
    nights: Nights, emulator: Emulator, tmp_path: Path
) -> None:
    nights.run(rows(range(4)), reuse=Reuse(scope="counting"))
    storage = (tmp_path / "storage").as_uri()
    submit = ClaudeBatchSubmitOperator(
        task_id="submit",
        requests=rows(range(4)),
        reuse=Reuse(scope="counting"),
        storage_path=storage,
        **MODEL,
    )
    handle = submit.execute(Try(dag_id="another").context)
    assert (handle["batch_ids"], handle["request_count"]) == ([], 4)
    waited = ClaudeBatchSensor(task_id="wait", batch=handle, storage_path=storage)
    assert waited.execute(Try(task_id="wait", dag_id="another").context) == handle
    results = ClaudeBatchResultsOperator(task_id="results", batch=handle, storage_path=storage)
    attempt = Try(task_id="results", dag_id="another")
    summary = results.execute(attempt.context)
    assert counts(summary) == (4, 0, 4)
    assert nights.sent == 4


def test_parquet_says_where_each_answer_comes_from(nights: Nights) -> None:
    first = nights.run(rows(range(3)), output_format="parquet")
    nights.run(rows(range(4)), output_format="parquet")
    files = sorted(nights.out(2).glob("succeeded/*.parquet"))
    records = {row["custom_id"]: row for file in files for row in parquet.read_table(file).to_pylist()}
    assert records["r-1"]["reused"]["batch_id"] == first["batch_ids"][0]
    assert (records["r-3"]["reused"], records["r-1"]["cost_usd"]) == (None, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_age": "soon"},
        {"max_age": "0d"},
        {"max_age": datetime.timedelta.max},
        {"scope": ""},
        {"store": "here"},
        {"on_store_error": "x"},
    ],
)
def test_a_typing_error_fails_the_dag_file(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"Reuse.{next(iter(wrong))} is "):
        Reuse(**wrong)
    with pytest.raises(TypeError, match="reuse: "):
        ClaudeBatchOperator(task_id="ask", requests=[], reuse="yes")


def test_a_night_with_nothing_new_fits_into_a_budget_that_is_used_up(nights: Nights) -> None:
    nights.run(rows(range(3)))
    used_up = Budget(max_usd=0.0001, per="month", scope="dag")
    with pytest.raises(AirflowFailException, match="Nothing was sent"):
        nights.run(rows(range(4)), budget=used_up)
    assert counts(nights.run(rows(range(3)), budget=used_up)) == (3, 0, 3)
