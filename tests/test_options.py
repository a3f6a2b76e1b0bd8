"""Grouped settings: checked where they are made, templates of Airflow, readable in its UI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_claude_batch import (
    AnswerPolicy,
    Budget,
    ClaudeBatchOperator,
    Limits,
    PromptCache,
    Recovery,
    Resubmission,
)
from airflow_claude_batch.emulator.testing import Emulator
from airflow_claude_batch.testing.dag_runs import run_dag


@pytest.fixture
def emulator(emulator: Emulator) -> Emulator:
    """One whose batches end at once."""
    emulator.settings(duration=0)
    return emulator


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: PromptCache(ttl="2h"), r"PromptCache.ttl is '2h'; it is one of '5m', '1h'"),
        (lambda: PromptCache(warm="yes"), r"PromptCache.warm is 'yes'; it is True or False"),
        (lambda: Limits(requests=0), r"Limits.requests is 0; it is a whole number from 1 to 100000"),
        (lambda: Limits(requests=2.5), r"Limits.requests is 2.5; it is a whole number"),  # type: ignore[arg-type]
        (lambda: Limits(bytes=300_000_000), r"Limits.bytes is 300000000"),
        (lambda: Limits(in_queue=True), r"Limits.in_queue is True; it is a whole number of at least 1"),
        (lambda: Budget(max_usd=-1), r"Budget.max_usd is -1; it is a number of at least 0"),
        (lambda: Budget(max_usd="five"), r"Budget.max_usd is 'five'"),
        (lambda: Budget(max_usd=float("nan")), r"Budget.max_usd is nan"),
        (
            lambda: Recovery(on_ambiguous="guess"),
            r"Recovery.on_ambiguous is 'guess'; it is one of 'wait', 'fail'",
        ),
        (lambda: Resubmission(rounds=-1), r"Resubmission.rounds is -1"),
        (
            lambda: AnswerPolicy(max_failed_fraction=25),
            r"max_failed_fraction is 25; it is a number from 0 to 1",
        ),
        (
            lambda: AnswerPolicy(count_as_failed="refusal"),
            r"count_as_failed is 'refusal'; it is a list of refusal, max_tokens",
        ),  # type: ignore[arg-type]
    ],
)
def test_a_wrong_value_is_refused_where_it_is_written(make: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        make()


def test_a_plain_value_is_taken_where_it_is_plain_what_is_meant() -> None:
    ask = ClaudeBatchOperator(task_id="ask", requests=[], cache="1h", budget=5, resubmission=2)
    given: Any = ask
    assert given.cache == PromptCache(ttl="1h")
    assert given.budget == Budget(max_usd=5)
    assert given.resubmission == Resubmission(rounds=2)
    with pytest.raises(TypeError, match=r"Limits\(…\) is wanted, not 1000"):
        ClaudeBatchOperator(task_id="ask", requests=[], limits=1000)  # type: ignore[arg-type]


def test_a_group_says_what_is_set_in_it() -> None:
    assert repr(Recovery(force_new=True)) == "Recovery(force_new=True)"
    assert str(Limits()) == "Limits()"


def test_templates_and_outputs_of_other_tasks_are_filled_in_before_the_task_runs(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    with DAG("options_rendered", schedule=None, params={"cap": 7, "rounds": 2}) as dag:

        @task
        def size() -> int:
            return 2

        ask = ClaudeBatchOperator(
            task_id="ask",
            requests=[{"custom_id": f"r-{n}", "prompt": "Hi"} for n in range(4)],
            model="claude-haiku-4-5",
            max_tokens="{{ params.cap }}",
            limits=Limits(requests=size()),  # type: ignore[arg-type]
            budget="{{ params.cap }}",
            resubmission=Resubmission(rounds="{{ params.rounds }}"),
            answer_policy=AnswerPolicy(max_failed_fraction="{{ 0.5 }}"),
            storage_path=tmp_path.as_uri(),
        )

    assert ask.upstream_task_ids == {"size"}
    run = run_dag(dag)
    assert run.state == "success"
    assert len(run.xcom("ask")["batch_ids"]) == 2
    shown = run.rendered("ask")
    assert shown["limits"] == "Limits(requests=2)"
    assert shown["budget"] == "Budget(max_usd=7.0)"
    assert shown["resubmission"] == "Resubmission(rounds=2)"
    assert shown["answer_policy"] == "AnswerPolicy(max_failed_fraction=0.5)"
    assert ask.limits != Limits(requests=2), "the task as it was written does not change"  # type: ignore[attr-defined]


def test_a_template_that_renders_to_nonsense_fails_the_task_and_sends_nothing(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    with DAG("options_wrong", schedule=None) as dag:
        ClaudeBatchOperator(
            task_id="ask",
            requests=[{"prompt": "Hi"}],
            model="claude-haiku-4-5",
            max_tokens=5,
            budget="{{ dag.dag_id }}",
            storage_path=tmp_path.as_uri(),
        )
    assert run_dag(dag).state == "failed"
    assert emulator.batches() == []


def test_mapped_tasks_have_a_group_each(emulator: Emulator, airflow_database: None, tmp_path: Path) -> None:
    with DAG("options_mapped", schedule=None) as dag:
        ClaudeBatchOperator.partial(
            task_id="ask",
            requests=[{"custom_id": f"r-{n}", "prompt": "Hi"} for n in range(4)],
            model="claude-haiku-4-5",
            max_tokens=5,
            budget=Budget(max_usd="{{ 3 }}"),
            storage_path=tmp_path.as_uri(),
        ).expand(limits=[Limits(requests=2), Limits(requests=4)])
    run = run_dag(dag)
    assert run.state == "success"
    assert [len(run.xcom("ask", map_index=index)["batch_ids"]) for index in (0, 1)] == [2, 1]
    assert run.rendered("ask", map_index=0)["budget"] == "Budget(max_usd=3.0)"
