"""The arguments of the operators: declared once, and known to Airflow, editors and type checkers alike."""

from __future__ import annotations

import importlib.util
import inspect
import subprocess
import sys
from pathlib import Path, PurePosixPath
from typing import Any

import anthropic
import pytest
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, ObjectStoragePath

from airflow_claude_batch import (
    ClaudeBatchOperator,
    ClaudeBatchResultsOperator,
    ClaudeBatchSensor,
    ClaudeBatchSubmitOperator,
    trial,
)
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.requests.prompt_cache import read_system
from airflow_claude_batch.common.scalars import scalar
from airflow_claude_batch.common.settings import open_folder
from airflow_claude_batch.operators import arguments
from airflow_claude_batch.operators.arguments import own_arguments
from airflow_claude_batch.runtime.deliver import ResultsInput

REPOSITORY = Path(__file__).parents[1]
# Rare settings are fields of groups. What has come on top of 16, 12 and 23 was asked for by its own name:
# `bad_records`, `on_empty`, `prompt_version`, `tags`, `reuse`; `check`, `timeout`, `on_timeout`;
# `direct_below`, `deadline`, `on_deadline`, `direct_minutes`, `trial`, `dry_run`.
OPERATORS: dict[Any, tuple[Any, int]] = {
    ClaudeBatchSubmitOperator: (arguments.SubmitArguments, 27),
    ClaudeBatchResultsOperator: (arguments.ResultsArguments, 15),
    ClaudeBatchOperator: (arguments.BatchArguments, 37),
}
RIGHT = """
from airflow_claude_batch import (
    Budget, ClaudeBatchOperator, ClaudeBatchResultsOperator, ClaudeBatchSensor, ClaudeBatchSubmitOperator,
    Limits, claude_batch_task,
)

submit = ClaudeBatchSubmitOperator(task_id="a", requests=["Hi"], model="x", limits=Limits(requests=2))
wait = ClaudeBatchSensor(task_id="b", batch=submit.output, timeout=60)
ClaudeBatchResultsOperator(task_id="c", batch=wait.output, output_format="parquet", pool="p", retries=2)
ClaudeBatchOperator(task_id="d", requests=["Hi"], budget=Budget(max_usd="{{ params.usd }}"), cache="1h")

@claude_batch_task(model="x", budget=5, retries=3)
def ask() -> list[str]:
    return ["Hi"]
"""
WRONG = """
from airflow_claude_batch import (
    Budget, ClaudeBatchOperator, ClaudeBatchResultsOperator, ClaudeBatchSensor, ClaudeBatchSubmitOperator,
    claude_batch_task,
)

ClaudeBatchSubmitOperator(task_id="a", requests=[], modl="x")
ClaudeBatchSensor(task_id="b", batch="b", modl="x")
ClaudeBatchResultsOperator(task_id="c", batch="b", modl="x")
ClaudeBatchOperator(task_id="d", requests=[], modl="x")
ClaudeBatchOperator(task_id="e")
ClaudeBatchOperator(task_id="f", requests=[], output_format="csv")
Budget(maximum=5)

@claude_batch_task(modl="x")
def ask() -> list[str]:
    return ["Hi"]
"""
WRONG_LINES = [7, 8, 9, 10, 11, 12, 13, 15]
CHECKERS = {
    "mypy": [
        "mypy",
        "--no-error-summary",
        "--no-pretty",
        *("--config-file", str(REPOSITORY / "pyproject.toml")),
        *("--cache-dir", str(REPOSITORY / ".mypy_cache")),
    ],
    "basedpyright": ["basedpyright", "--level", "error", "--pythonpath", sys.executable],
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("checker", CHECKERS)
def test_type_checkers_know_the_arguments_and_refuse_others(tmp_path: Path, checker: str) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    (tmp_path / "right.py").write_text(RIGHT)
    (tmp_path / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", *CHECKERS[checker], "right.py", "wrong.py"]
    if checker == "basedpyright":
        (tmp_path / "pyproject.toml").write_text(
            f'[tool.basedpyright]\ntypeCheckingMode = "standard"\nextraPaths = ["{REPOSITORY}"]\n'
        )
    result = subprocess.run(
        command,
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "MYPYPATH": str(REPOSITORY), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=380,
    )
    found = [line.strip() for line in result.stdout.splitlines() if "error" in line and ".py:" in line]
    assert [line for line in found if "right.py" in line] == [], result.stdout
    for number in WRONG_LINES:
        assert any(f"wrong.py:{number}:" in line for line in found), (number, result.stdout, result.stderr)


@pytest.mark.parametrize("operator", OPERATORS)
def test_there_are_few_arguments_and_python_shows_them(operator: Any) -> None:
    declaration, most = OPERATORS[operator]
    own = own_arguments(declaration)
    shown = [name for name in inspect.signature(operator.__init__).parameters if name not in ("self", "task")]
    assert shown == own
    assert len(own) <= most


def test_the_one_task_takes_what_the_two_steps_take_and_the_decorator_takes_it_too() -> None:
    both = {*own_arguments(arguments.SubmitArguments), *own_arguments(arguments.ResultsArguments)}
    assert set(own_arguments(arguments.BatchArguments)) == both - {"batch"}
    assert set(own_arguments(arguments.DecoratorArguments)) == both - {"batch", "requests"}


def test_every_argument_of_airflows_own_is_declared() -> None:
    for operator, declaration in (
        (BaseOperator, arguments.TaskArguments),
        (BaseSensorOperator, arguments.SensorTaskArguments),
    ):
        taken = set(inspect.signature(operator.__init__).parameters) - {"self", "kwargs", "task_id"}
        assert taken <= set(declaration.__annotations__)


@pytest.mark.parametrize("operator", [*OPERATORS, ClaudeBatchSensor])
def test_default_args_of_a_dag_apply_to_every_argument(operator: Any) -> None:
    declaration = arguments.SensorArguments if operator is ClaudeBatchSensor else OPERATORS[operator][0]
    values: dict[str, Any] = {name: f"a {name}" for name in own_arguments(declaration)}
    values |= {"cache": "5m", "budget": 3, "resubmission": 4, "limits": None, "recovery": None}
    values |= {
        "answer_policy": None,
        "poll_interval": 9,
        "max_tokens": 8,
        "message_params": {"metadata": {"user_id": "u"}},
    }
    values |= {"requests": ["Hi"], "retries": 7, "bad_records": 0.5, "on_empty": "skip", "check": len}
    values |= {"output_path": "s3://a/b", "storage_path": "s3://c/d", "output_format": "raw", "timeout": 60}
    values |= {"compression": "zstd", "overwrite": True, "on_timeout": "cancel", "deferrable": False}
    values |= {"cancel_on_kill": False, "direct_below": 9, "deadline": "06:00", "on_deadline": "deliver"}
    values |= {"direct_minutes": 4, "trial": 2, "dry_run": True}
    values |= {"tags": {"team": "growth"}, "reuse": True, "documents_from": ["s3://a/b"]}
    values |= {"output_schema": {"type": "object"}}
    with DAG("defaults", schedule=None, default_args=values):
        made = operator(task_id="made")
    written = operator(task_id="written", **{name: values[name] for name in own_arguments(declaration)})
    for name in own_arguments(declaration):
        assert str(getattr(made, name)) == str(getattr(written, name)), name
        if name not in ("limits", "recovery", "answer_policy", "requests"):
            assert getattr(made, name) != getattr(operator(task_id="x", **_required(declaration)), name), name
    assert made.retries == 7


@pytest.mark.parametrize(
    "form", [{"output_format": "parquet"}, {"output_format": "raw"}, {"compression": "gzip"}]
)
def test_a_form_of_files_without_a_path_is_refused(form: dict[str, Any]) -> None:
    [(name, value)] = form.items()
    for make in (
        lambda **given: ClaudeBatchResultsOperator(task_id="x", batch="b", **given),
        lambda **given: ClaudeBatchOperator(task_id="x", requests=["Hi"], **given),
    ):
        with pytest.raises(ConfigurationError, match=f"{name} is '{value}', and there is no output_path"):
            make(**form)
        make(**form, output_path="{{ params.path }}")
        made = make(**{name: "{{ params.form }}"})
        setattr(made, name, value)  # as Airflow renders it
        with pytest.raises(ConfigurationError, match="there is no output_path"):
            ResultsInput.of(made, batch="msgbatch_1")


def _required(declaration: Any) -> dict[str, Any]:
    return {
        name: ["x"] if name == "requests" else "x"
        for name in own_arguments(declaration)
        if name in declaration.__required_keys__
    }


@pytest.mark.parametrize(
    "prompt",
    [
        *(Path("/opt/x.md"), Path("x.md"), PurePosixPath("prompts/sort"), ObjectStoragePath("s3://c@b/x")),
        *("/opt/x.md", "file:///opt/x.md\n", "./prompts/x.md", "~/x.md", "s3://c@b/x.md"),
        *("x.md", "prompts/sort.txt\n", "sort.jinja2"),
    ],
)
def test_a_prompt_that_is_an_address_is_not_sent_for_every_record(prompt: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"an address is not read; .*read_text"):
        ClaudeBatchOperator(task_id="x", requests=[{"a": 1}], prompt=prompt)


@pytest.mark.parametrize(
    "prompt",
    [
        "Read.",
        "/help",
        "Summarise README.md",
        "e.g.",
        "/fix README.md",
        "What is at s3://c@b/x.md?",
        "{{ url }}",
        "s3://{{ place }}",
        "see:\n/a.md",
    ],
)
def test_a_prompt_that_only_holds_an_address_is_one(prompt: str) -> None:
    assert scalar("prompt", prompt) == prompt


def test_a_trial_sends_no_path_either() -> None:
    client = anthropic.Anthropic(api_key="test-key", base_url="http://127.0.0.1:9")
    with pytest.raises(ConfigurationError, match="read_text"):
        trial.run(["x"], prompt=Path("x.md"), model="m", max_tokens=9, client=client)  # type: ignore[arg-type]


@pytest.mark.parametrize("system", [Path("x.md"), Path("prompts/sort"), "x.md", "prompts/sort.txt"])
def test_a_system_prompt_whose_file_depends_on_where_a_worker_runs_is_refused(system: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"system is '.*'; .*a URI or an absolute path"):
        ClaudeBatchOperator(task_id="x", requests=["Hi"], system=system)
    assert ClaudeBatchOperator(task_id="y", requests=["Hi"], system=Path("/opt/x.md")).shown_system


@pytest.mark.parametrize("name", ["x.md", "x", "my prompt"])
def test_a_path_as_the_system_prompt_is_read_however_it_is_called(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("Be brief.")
    path: Any = tmp_path / name
    operator = ClaudeBatchOperator(task_id="x", requests=["Hi"], system=path)
    assert read_system(operator.shown_system, open_folder) == "Be brief."


@pytest.mark.parametrize("text", ["C:\\prompts\\sort.md", "s3:/bucket/sort.md"])
def test_what_can_only_be_a_file_is_no_system_prompt(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"system is '.*'; .*a URI or an absolute path"):
        ClaudeBatchOperator(task_id="x", requests=["Hi"], system=text)


@pytest.mark.parametrize("path", [Path("x.md"), PurePosixPath("/opt/x"), ObjectStoragePath("s3://c@b/x.md")])
def test_a_record_whose_prompt_is_a_path_is_refused(path: Any) -> None:
    rows = [{"custom_id": "a", "prompt": "Hi"}, {"custom_id": "b", "prompt": path}]
    with pytest.raises(ConfigurationError, match=r"requests\[1\]: prompt is a path; .*read_text"):
        ClaudeBatchOperator(task_id="x", requests=rows)


@pytest.mark.parametrize("name", ["model", "conn_id"])
def test_an_id_has_no_blanks_around_it(name: str) -> None:
    assert scalar(name, " claude-haiku-4-5\n") == "claude-haiku-4-5"


@pytest.mark.parametrize("operator", [*OPERATORS, ClaudeBatchSensor])
def test_what_is_no_argument_is_refused_at_once(operator: Any) -> None:
    with pytest.raises(TypeError, match="modl"):
        operator(task_id="x", requests=[], batch="b", modl="y")
