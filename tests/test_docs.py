"""The documentation says what is so: its code runs, what it names exists, and its examples are today's."""

from __future__ import annotations

import ast
import json
import re
import runpy
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.sdk import DAG

from airflow_claude_batch.testing.dag_runs import Run, store_dag
from tests import docs_examples
from tests.pdfs import pdf

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.testing import Emulator

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
TUTORIALS = ["start", *(f"tutorials/{page.stem}" for page in PAGES if page.parent.name == "tutorials")]
WITH_CODE = [page for page in PAGES if BLOCK.search(page.read_text())]


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def code_of(page: str, folder: Path) -> Path:
    """All Python of a page as one module: later blocks may use what earlier ones define."""
    file = folder / "page.py"
    file.write_text("\n\n".join(BLOCK.findall((REPOSITORY / page).read_text())))
    return file


@pytest.fixture
def summary(tmp_path: Path) -> dict[str, Any]:
    """What the examples of the reference come from, its files included."""
    made = json.loads(docs_examples.FILE.read_text().replace("/data", str(tmp_path)))
    for set_ in ("succeeded", "errored"):
        folder = tmp_path / "tickets" / set_
        folder.mkdir(parents=True)
        (folder / "part-00000.jsonl").write_text(json.dumps(made[set_]) + "\n")
    found: dict[str, Any] = made["summary"]
    (tmp_path / "tickets" / "summary.json").write_text(json.dumps(found))
    return found


@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_the_python_of_a_page_runs(
    page: Path, summary: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with DAG("page", schedule=None):  # pages show tasks without the DAG that they are in
        runpy.run_path(str(code_of(name_of(page), tmp_path)), {"summary": summary})


@pytest.mark.parametrize("page", TUTORIALS)
def test_the_dag_of_a_tutorial_runs_to_its_end(
    page: str, emulator: Emulator, airflow_database: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    emulator.settings(duration=0)  # or each waits for the triggerer's first look, 10 s later
    (tmp_path / "inbox").mkdir()
    for number in (1, 2):
        (tmp_path / "inbox" / f"{number}.pdf").write_bytes(pdf())
    _warehouse(tmp_path / "warehouse.db", monkeypatch)
    found = runpy.run_path(str(code_of(f"docs/{page}.md", tmp_path)))
    dag = found["dag"] if "DAG" in found else found[page.replace("start", "first_batch")]()
    places = {"output": (tmp_path / "output").as_uri(), "inbox": (tmp_path / "inbox").as_uri()}
    store_dag(dag)
    conf = {name: value for name, value in places.items() if name in dag.params}
    ended = dag.test(run_conf=conf, mark_success_pattern="^approve$")  # what a person does
    run = Run(dag.dag_id, ended.run_id, str(ended.state))
    assert run.state == "success"
    for task in dag.tasks:
        for limit in ("execution_timeout", "response_timeout"):
            # Airflow 3.3 cannot tell its supervisor of a pendulum.duration, and fails the task that waits.
            assert type(getattr(task, limit, None)) in (type(None), timedelta), (task.task_id, limit)
    for task in dag.leaves:
        assert run.xcom(task.task_id) is not None


def _warehouse(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sqlite3
    from datetime import UTC, datetime

    today = datetime.now(UTC).date().isoformat()
    with sqlite3.connect(file) as database:
        database.execute("create table tickets (id text primary key, subject text, body text, day text)")
        database.execute("create table sorted_tickets (id text primary key, team text, urgent boolean)")
        database.execute("insert into tickets values ('T/1', 'Invoice', 'Two of them', ?)", [today])
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE", json.dumps({"conn_type": "sqlite", "host": str(file)}))


def test_every_test_that_is_named_exists() -> None:
    named = {
        name for page in PAGES for name in re.findall(r"`(tests/[\w/]+\.py::test_\w+)`", page.read_text())
    }
    assert named
    known = set()
    for file in {name.partition("::")[0] for name in named}:
        tree = ast.parse((REPOSITORY / file).read_text())
        known |= {f"{file}::{node.name}" for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert named - known == set()


def test_the_examples_of_the_reference_are_what_a_job_gives_today(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    from airflow_claude_batch.batches.results import summary

    shown = json.loads(docs_examples.FILE.read_text())
    made = docs_examples.make(emulator, tmp_path)
    assert shape(shown) == shape(made), "python -m tests.docs_examples writes them anew"
    described = set(summary.Summary.__annotations__)
    elsewhere = {"succeeded", "errored", *(f"without_batches{end}" for end in ("", "_since", "_reason"))}
    elsewhere |= {"reused", "asked", "saved_by_reuse_usd"}
    assert described - elsewhere == set(made["summary"])
    assert set(summary.Way.__annotations__) == set(made["summary"]["ways"]["batch"])
    assert set(summary.Cost.__annotations__) == set(made["summary"]["cost"])
    assert set(summary.Usage.__annotations__) == set(made["summary"]["usage"])
    assert set(summary.BatchRow.__annotations__) == set(made["summary"]["batches"][0])


def test_every_field_of_a_record_is_described() -> None:
    from airflow_claude_batch.batches.results import output_records

    for number, record in enumerate((output_records.SucceededRecord, output_records.ErroredRecord)):
        table = (output_records.__doc__ or "").split("field  ")[1 + number].partition("\n\n")[0]
        described = re.findall(r"^([a-z_]+)  +", table, re.MULTILINE)
        assert described == list(record.__struct_fields__)


def test_the_readme_is_short() -> None:
    assert len((REPOSITORY / "README.md").read_text().splitlines()) <= 150


def shape(value: Any) -> Any:
    """A value's keys and types, without what differs from run to run."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def test_the_places_that_the_guide_for_contributors_names_hold_what_it_says() -> None:
    guide = (REPOSITORY / "CONTRIBUTING.md").read_text()
    table = guide.partition("## Which files?")[2].partition("\n\nTests")[0]
    package = REPOSITORY / "airflow_claude_batch"
    files = [*package.rglob("*.py"), *(REPOSITORY / "docs").rglob("*.md")]
    for place in re.findall(r"`([\w./]+\.(?:py|md))`", table):
        assert any(f"/{file.relative_to(REPOSITORY)}".endswith(f"/{place}") for file in files), place
    held = [(file, name) for name, file in re.findall(r"`(\w+)` \(`([\w./]+\.py)`\)", table)]
    for file, names in re.findall(r"`([\w./]+\.py)`: ((?:`\w+`(?:, or |, )?)+)", table):
        held += [(file, name) for name in re.findall(r"\w+", names.replace("or ", ""))]
    assert len(held) > 6
    for place, name in held:
        [file] = [file for file in package.rglob("*.py") if str(file).endswith(f"/{place}")]
        assert re.search(rf"^(def |class )?{name}\b", file.read_text(), re.MULTILINE), (place, name)
