"""The example DAGs, run to their end against the emulator; `nightly_report` has system tests of its own."""

from __future__ import annotations

import csv
import importlib.util
import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
from pyarrow import parquet

from airflow_claude_batch.emulator.testing import CREATE, Emulator
from airflow_claude_batch.testing.dag_runs import Run, run_dag

REPOSITORY = Path(__file__).parents[2]
DAGS = REPOSITORY / "dags"
PAGE = REPOSITORY / "airflow_claude_batch" / "plugins" / "ui" / "src" / "empty.tsx"
pytestmark = pytest.mark.usefixtures("airflow_database")


@pytest.fixture(autouse=True)
def quick(emulator: Emulator) -> None:
    """Most batches have ended at the first look, just after they were sent: the next is 15 seconds later."""
    emulator.settings(duration=0.01)


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, DAGS / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run(name: str, **conf: Any) -> Run:
    return run_dag(load(name).dag, conf)


def only(folder: Path, pattern: str) -> Path:
    [found] = folder.glob(pattern)
    return found


def table(folder: Path) -> list[dict[str, Any]]:
    return [row for part in sorted(folder.glob("*.parquet")) for row in parquet.read_table(part).to_pylist()]


@pytest.mark.parametrize("file", sorted(DAGS.glob("*.py")), ids=lambda file: file.stem)
def test_every_example_explains_itself_and_its_parameters(file: Path) -> None:
    dag = load(file.stem).dag
    assert dag.dag_id == file.stem
    assert len(dag.doc_md or "") > 300
    assert all(dag.params.get_param(name).description for name in dag.params)


def test_documents_become_a_typed_table_and_the_locked_one_goes_to_people(
    emulator: Emulator, tmp_path: Path
) -> None:
    done = run("document_processing", invoices=5, locked=2, folder=tmp_path.as_uri())
    assert done.state == "success"

    invoices = only(tmp_path, "*/invoices")
    answers = table(invoices / "succeeded")
    assert len(answers) == 4
    assert all(isinstance(row["output"]["total"], float) for row in answers)
    assert {row["output"]["currency"] for row in answers} <= {"EUR", "USD", "GBP"}

    with (invoices / "review.csv").open() as file:
        [locked] = csv.DictReader(file)
    assert (locked["document"], locked["reason"]) == ("invoice-0002.pdf", "unreadable_document")
    assert "encrypted" in locked["details"]

    [batch] = emulator.batches()
    assert len(emulator.custom_ids(batch["id"])) == 4, "nothing is paid for the locked one"


def test_tickets_are_routed_and_those_without_an_answer_are_left_to_a_person(emulator: Emulator) -> None:
    failing = {
        "custom_ids": ["T-00003"],
        "outcome": "errored",
        "error_type": "invalid_request_error",
        "message": "prompt is too long",
    }
    emulator.settings(outcomes={"failures": [failing]})
    done = run("ticket_classification", tickets=8)
    assert done.state == "success"
    routed = done.xcom("route")
    assert sum(routed["queues"].values()) == 7
    assert routed["for_a_person"] == ["T-00003"]


def test_every_prompt_variant_has_its_own_batch_and_one_line_in_the_table(
    emulator: Emulator, tmp_path: Path
) -> None:
    done = run("prompt_evaluation", reviews=6, folder=tmp_path.as_uri())
    assert done.state == "success"

    lines = only(tmp_path, "*/comparison.md").read_text().splitlines()[2:]
    names = {line.split("|")[1].strip() for line in lines}
    assert names == set(load("prompt_evaluation").VARIANTS)
    shares = [float(line.split("|")[2].strip().rstrip("%")) for line in lines]
    assert shares == sorted(shares, reverse=True)
    assert all("6 of 6" in line for line in lines)
    assert len(emulator.journal(method="POST", path=CREATE)) == 3


def test_several_batches_become_one_file_with_the_users_own_keys(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(duration=0.5)
    done = run("data_transformation", products=90, folder=tmp_path.as_uri())
    assert done.state == "success"
    assert sorted(batch["request_counts"]["succeeded"] for batch in emulator.batches()) == [10, 40, 40]

    merged = only(tmp_path, "*/clean/products.jsonl").read_text().splitlines()
    rows = {row["product"]: row for row in map(json.loads, merged)}
    assert len(rows) == len(merged) == 90
    assert all(key.startswith("NL/") for key in rows)
    assert {row["category"] for row in rows.values()} <= {"kitchen", "office", "garden", "other"}


def test_the_dag_that_the_page_without_jobs_proposes_runs(emulator: Emulator, tmp_path: Path) -> None:
    file = tmp_path / "first_batch.py"
    file.write_text(PAGE.read_text().partition("const EXAMPLE = `")[2].partition("`;")[0])
    done = run_dag(runpy.run_path(str(file))["first_batch"](), {})
    assert done.state == "success"
    assert done.xcom("ask")["counts"]["succeeded"] == 3


def test_a_second_model_judges_the_answers_of_the_first(emulator: Emulator, tmp_path: Path) -> None:
    done = run("answer_judging", tickets=6, folder=tmp_path.as_uri())
    assert done.state == "success"
    figures = done.xcom("agreement")
    assert figures["judged"] == 6
    assert 0 <= figures["agreement"] <= 1
    assert len(emulator.batches()) == 2


def test_three_nights_of_a_table_ask_all_of_it_and_then_a_tenth(emulator: Emulator, tmp_path: Path) -> None:
    bills = []
    for night in (1, 2, 3):
        done = run("incremental_summaries", products=40, night=night, folder=tmp_path.as_uri())
        assert done.state == "success"
        bills.append(done.xcom("bill"))
    assert [(bill["asked"], bill["reused"]) for bill in bills] == [(40, 0), (4, 36), (4, 36)]
    assert all(bill["saved_by_reuse_usd"] > 0 for bill in bills[1:])
    assert len(list(tmp_path.glob("*/summary.json"))) == 3


def test_the_costs_of_the_day_are_posted(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", tmp_path.as_uri())
    assert run("ticket_classification", tickets=3).state == "success"
    done = run("cost_watch", by="model")
    assert done.state == "success"
    header, first, *_, total = done.xcom("table").splitlines()
    assert header.split()[:2] == ["model", "requests"]
    assert first.split()[:2] == ["claude-haiku-4-5-20251001", "3"]
    assert total.startswith("all")
