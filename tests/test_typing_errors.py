"""A typing error in a DAG file fails the file, or at the latest the task before anything is sent."""

from __future__ import annotations

from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_claude_batch import (
    AnswerPolicy,
    ClaudeBatchOperator,
    ClaudeBatchResultsOperator,
    ClaudeBatchSensor,
    ClaudeBatchSubmitOperator,
)
from airflow_claude_batch.batches.errors import ResultsError
from airflow_claude_batch.batches.requests.parameters import check_defaults
from airflow_claude_batch.batches.results.answer_policy import KINDS
from airflow_claude_batch.emulator.testing import Emulator
from airflow_claude_batch.options import ANSWER_KINDS
from tests.operators.conftest import Try

WRONG: list[tuple[str, Any]] = [
    ("output_format", "csv"),
    ("output_format", ["jsonl"]),
    ("compression", "bz2"),
    ("resubmission", "two"),
    ("resubmission", -1),
    ("resubmission", 1.5),
    ("poll_interval", 0),
    ("poll_interval", "soon"),
    ("max_tokens", 0),
    ("max_tokens", "many"),
    ("model", 5),
    ("budget", "cheap"),
    ("cache", "2h"),
    ("on_empty", "ignore"),
    ("bad_records", "skip"),
    ("bad_records", 5),
    ("on_timeout", "stop"),
    ("timeout", -5),
    ("output_path", "no/uri"),
    ("output_path", "reports"),
    ("storage_path", "jobs"),
    ("check", "no function"),
    ("overwrite", "perhaps"),
    ("message_params", ["temperature"]),
    ("message_params", {"system": "overruled by the argument"}),
    ("message_params", {"betas": "output-300k-2026-03-24"}),
    (r"message_params\['temperature'\]: not accepted", {"temperature": 0.5}),
    (r"message_params\['stream'\]", {"stream": False}),
    (r"message_params\['messages'\]: each record has its own", {"messages": []}),
    (r"message_params\['prompt'\]: it would be overruled", {"prompt": "Hi"}),
    (r"message_params\['params'\]: write what is in it", {"params": {"thinking": {}}}),
    ("system", 5),
    ("system", ["no block"]),
    ("output_schema", int),
    ("output_schema", "Invoice"),
    ("documents_from", ["inbox"]),
    ("resubmission", float("inf")),
    ("requests", None),
    ("requests", "no/uri.csv"),
    ("requests", {"prompt": "one record"}),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_value_that_is_of_no_use_fails_the_dag_file_and_is_named(name: str, value: Any) -> None:
    with pytest.raises(Exception, match=name):
        ClaudeBatchOperator(task_id="ask", **{"requests": ["Hi"], name.partition("\\")[0]: value})


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"tempreature": 0.5}, r"message_params\['tempreature'\]: no parameter of the Messages API"),
        ({"stop_sequence": ["x"]}, r"message_params\['stop_sequence'\].* Is stop_sequences meant\?"),
        ({"output_config": "high"}, r"message_params\['output_config'\]: it is a mapping"),
        ({"tools": {"name": "x"}}, r"message_params\['tools'\]: it is a list"),
    ],
)
def test_parameters_that_would_spoil_every_request_fail_before_the_source_is_read(
    emulator: Emulator, tmp_path: Path, params: dict[str, Any], words: str
) -> None:
    task = one_task(tmp_path, requests=lambda: pytest.fail("the source was read"), message_params=params)
    with pytest.raises(AirflowFailException, match=words):
        task.execute(Try(task_id="ask").context)
    assert emulator.journal() == []


def test_parameters_that_only_the_sdk_or_a_beta_knows_are_sent() -> None:
    check_defaults({"user_profile_id": "u", "thinking": None, "metadata": MappingProxyType({})})
    check_defaults({"of_tomorrow": 1}, ["tomorrow-2027-01-01"])


@pytest.mark.parametrize("value", [["refusl"], ["end_turn"], "refusal", [None]])
def test_answers_that_count_as_failed_are_words_that_exist(value: Any) -> None:
    with pytest.raises(ValueError, match="count_as_failed"):
        AnswerPolicy(count_as_failed=value)
    assert set(ANSWER_KINDS) == set(KINDS)


def test_the_other_operators_check_theirs_too() -> None:
    with pytest.raises(Exception, match="max_tokens"):
        ClaudeBatchSubmitOperator(task_id="submit", requests=["Hi"], max_tokens=-1)
    with pytest.raises(Exception, match="output_format"):
        ClaudeBatchResultsOperator(task_id="results", batch="msgbatch_1", output_format="xml")  # type: ignore[arg-type]
    with pytest.raises(Exception, match="on_timeout"):
        ClaudeBatchSensor(task_id="wait", batch="msgbatch_1", on_timeout="kill")  # type: ignore[arg-type]


def test_templates_are_left_for_the_night() -> None:
    task = ClaudeBatchOperator(
        task_id="ask",
        requests=["Hi"],
        max_tokens="{{ params.n }}",
        output_path="{{ var.value.out }}",
        documents_from=["{{ var.value.inbox }}"],
    )
    assert task.max_tokens == "{{ params.n }}"


def one_task(tmp_path: Path, **arguments: Any) -> ClaudeBatchOperator:
    return ClaudeBatchOperator(
        task_id="ask",
        model="claude-haiku-4-5",
        max_tokens=16,
        storage_path=(tmp_path / "jobs").as_uri(),
        **{"requests": ["Hi"], **arguments},
    )


@pytest.mark.parametrize(
    ("name", "value"), [("output_format", "csv"), ("compression", "bz2"), ("overwrite", "so")]
)
def test_what_a_template_makes_is_checked_before_anything_is_sent(
    emulator: Emulator, tmp_path: Path, name: str, value: str
) -> None:
    task = one_task(tmp_path, output_path=(tmp_path / "out").as_uri())
    setattr(task, name, value)  # as Airflow does when it renders
    with pytest.raises(AirflowFailException, match=name):
        task.execute(Try(task_id="ask").context)
    assert emulator.journal() == []


def test_a_place_that_cannot_be_written_costs_nothing(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    task = one_task(tmp_path, output_path=(tmp_path / "file" / "out").as_uri())
    with pytest.raises(ResultsError, match="cannot be written"):
        task.execute(Try(task_id="ask").context)
    assert emulator.batches() == []


def test_a_place_that_holds_another_runs_results_costs_nothing(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration=0)
    place = (tmp_path / "out").as_uri()
    one_task(tmp_path, output_path=place).execute(Try(task_id="ask").context)
    with pytest.raises(AirflowFailException, match=r"holds the results of the job .* Give each job"):
        one_task(tmp_path, output_path=place).execute(Try(task_id="ask", run_id="another").context)
    assert len(emulator.batches()) == 1
    again = one_task(tmp_path, output_path=place, overwrite=True)
    again.execute(Try(task_id="ask", run_id="another").context)
    one_task(tmp_path, output_path=place).execute(Try(task_id="ask", run_id="another").context)
    assert len(emulator.batches()) == 2


def test_the_proof_that_a_place_can_be_written_leaves_nothing_behind(
    emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(duration=0)
    task = one_task(tmp_path, output_path=(tmp_path / "out").as_uri())
    task.execute(Try(task_id="ask").context)
    assert [name for name in (tmp_path / "out").iterdir() if name.name.startswith("_writable")] == []
