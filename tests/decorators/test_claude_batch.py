from __future__ import annotations

import datetime
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG, get_current_context, task

from airflow_claude_batch import Files
from airflow_claude_batch.decorators.claude_batch import claude_batch_task
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from airflow_claude_batch.get_provider_info import get_provider_info
from airflow_claude_batch.testing.dag_runs import Run, run_dag

MODEL: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 50, "poll_interval": 0.3}
pytestmark = pytest.mark.usefixtures("airflow_database")


@pytest.fixture(autouse=True)
def quick(emulator: Emulator) -> None:
    emulator.settings(duration=0.5)


def run_alone(dag_id: str, function: Any, **options: Any) -> Run:
    """A DAG of one decorated task."""
    with DAG(dag_id, schedule=None) as dag:
        claude_batch_task(task_id="ask", **{**MODEL, **options})(function)()
    return run_dag(dag)


def creates(emulator: Emulator) -> int:
    return len(emulator.journal(method="POST", path=CREATE))


def test_airflow_finds_the_decorator_through_the_provider_info() -> None:
    [entry] = get_provider_info()["task-decorators"]
    module, _, name = entry["class-name"].rpartition(".")
    assert entry["name"] == "claude_batch"
    assert getattr(importlib.import_module(module), name) is claude_batch_task


def test_what_a_generator_yields_is_answered_and_the_summary_comes_back() -> None:
    def accounts() -> Iterator[dict[str, Any]]:
        for number in range(3):
            yield {"custom_id": f"a-{number}", "prompt": f"Account {number}", "number": number}

    run = run_alone("yields", accounts)
    assert run.state == "success"
    summary = run.xcom("ask")
    assert {record["custom_id"]: record["input"]["number"] for record in summary["succeeded"]} == {
        "a-0": 0,
        "a-1": 1,
        "a-2": 2,
    }


def test_a_function_may_return_prompts_requests_or_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "from a file"}\n')
    message = [{"role": "user", "content": "Hi"}]
    for dag_id, value in [
        ("prompts", ["Say a"]),
        ("requests", [{"custom_id": "a", "params": {"messages": message}}]),
        ("files", Files(tmp_path.as_uri())),
    ]:
        run = run_alone(f"returns_{dag_id}", lambda value=value: value)
        assert run.xcom("ask")["counts"]["succeeded"] == 1


def test_the_function_gets_upstream_data_and_the_context_and_shows_neither() -> None:
    with DAG("hides", schedule=None) as dag:

        @task
        def build() -> list[dict[str, str]]:
            return [{"secret": "confidential"}]

        @claude_batch_task(**MODEL)
        def ask(items: list[dict[str, str]], greeting: str, run_id: str | None = None) -> Iterator[str]:
            for item in items:
                yield f"{greeting} {item['secret']} in {run_id}"

        ask(build(), greeting="{{ dag.dag_id }}")

    run = run_dag(dag)
    assert run.state == "success"
    [record] = run.xcom("ask")["succeeded"]
    assert f"hides confidential in {run.run_id}"[:40] in record["text"]
    rendered = run.rendered("ask")
    assert "confidential" not in str(rendered)
    assert rendered["requests"].startswith("<requests from ")


def test_it_maps_and_overrides_like_any_task(tmp_path: Path) -> None:
    with DAG("maps", schedule=None) as dag:

        @claude_batch_task(**MODEL)
        def ask(topic: str) -> list[str]:
            return [f"About {topic}"]

        out = f"{tmp_path.as_uri()}/{{{{ dag.dag_id }}}}"
        ask.override(task_id="asked", output_path=out, max_tokens=60).expand(topic=["a", "b"])

    run = run_dag(dag)
    assert run.state == "success"
    for index in range(2):
        assert run.xcom("asked", map_index=index)["counts"]["total"] == 1
        assert (tmp_path / "maps" / str(index) / "summary.json").exists()


@pytest.mark.parametrize("template", ["{{ task.op_kwargs['topic'] }}", "{{ topic }}", "{{ label }}"])
def test_map_index_template_names_the_instances_through_all_deferrals(template: str) -> None:
    with DAG("named", schedule=None) as dag:

        @claude_batch_task(map_index_template=template, **MODEL)
        def ask(topic: str) -> Iterator[str]:
            get_current_context()["label"] = topic  # type: ignore[typeddict-unknown-key]
            yield f"About {topic}"

        ask.expand(topic=["a", "b"])

    run = run_dag(dag)
    assert run.state == "success"
    assert [run._instance("ask", index).rendered_map_index for index in range(2)] == ["a", "b"]


@pytest.mark.parametrize("name", ["topic", "label"])
def test_the_output_path_may_use_what_map_index_template_does(name: str, tmp_path: Path) -> None:
    with DAG(f"named_{name}", schedule=None) as dag:

        @claude_batch_task(
            map_index_template=f"{{{{ {name} }}}}",
            output_path=f"{tmp_path.as_uri()}/{{{{ dag.dag_id }}}}/{{{{ {name} }}}}",
            **MODEL,
        )
        def ask(topic: str) -> Iterator[str]:
            yield f"About {topic}"
            get_current_context()["label"] = topic.upper()  # type: ignore[typeddict-unknown-key]

        ask.expand(topic=["a", "b"])

    run = run_dag(dag)
    assert run.state == "success"
    for index, topic in enumerate(["a", "b"] if name == "topic" else ["A", "B"]):
        assert run._instance("ask", index).rendered_map_index == topic
        assert (tmp_path / dag.dag_id / topic / str(index) / "summary.json").exists()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("{{ label }}", "ask for label, which the function has not set"),
        ("{{ labl }}", "'labl' is undefined"),
    ],
)
def test_a_name_that_nobody_sets_costs_nothing(
    path: str, said: str, emulator: Emulator, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = f"{tmp_path.as_uri()}/{path}"
    run = run_alone("unset", lambda: ["Hi"], map_index_template="{{ label }}", output_path=out)
    assert (run.state, creates(emulator)) == ("failed", 0)
    assert re.search(said, capfd.readouterr().out)


def test_multiple_outputs_make_an_xcom_of_each_key_of_the_summary() -> None:
    run = run_alone("outputs", lambda: ["Hi"], multiple_outputs=True)
    assert run.xcom("ask", key="counts")["succeeded"] == 1
    assert len(run.xcom("ask", key="batch_ids")) == 1


def test_the_function_is_called_once_although_the_task_defers(tmp_path: Path) -> None:
    def called() -> list[str]:
        with (tmp_path / "calls").open("a") as file:
            file.write("x")
        return [f"It is {datetime.datetime.now(datetime.UTC)}"]

    run = run_alone("once", called)
    assert run.state == "success"
    assert (tmp_path / "calls").read_text() == "x"


def test_a_function_that_returns_none_fails_and_says_what_is_wanted(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_alone("returns_none", lambda: None, retries=3)
    assert (run.state, run.task_state("ask")) == ("failed", "failed")
    assert creates(emulator) == 0


def test_a_generator_that_fails_half_way_sends_nothing(emulator: Emulator) -> None:
    def broken() -> Iterator[str]:
        yield "one"
        raise ConnectionError("the database is gone")

    run = run_alone("breaks", broken)
    assert run.state == "failed"
    assert creates(emulator) == 0
