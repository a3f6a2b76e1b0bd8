"""A submit task looks at the place that the results task of its DAG will write to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSkipException
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG

from airflow_claude_batch import (
    ClaudeBatchOperator,
    ClaudeBatchResultsOperator,
    ClaudeBatchSensor,
    ClaudeBatchSubmitOperator,
)
from airflow_claude_batch.batches.errors import ResultsError
from airflow_claude_batch.emulator.testing import Emulator
from tests.operators.conftest import Try


class Night:
    """A DAG of three tasks, run as Airflow runs it: each task is given what the one before has returned."""

    def __init__(
        self,
        folder: Path,
        output_path: str,
        *,
        key: str = "return_value",
        waits: bool = True,
        dag: dict[str, Any] | None = None,
        submit: dict[str, Any] | None = None,
        **results: Any,
    ) -> None:
        place = {"storage_path": (folder / "jobs").as_uri()}
        given = {"requests": ["Hi"], "model": "claude-haiku-4-5", "max_tokens": 16, **(submit or {})}
        with DAG("dag", **(dag or {})):
            self.submit = ClaudeBatchSubmitOperator(task_id="submit", **given, **place)
            batch: Any = self.submit.output[key]
            if waits:
                batch = ClaudeBatchSensor(task_id="wait", batch=batch, **place).output
            self.results = ClaudeBatchResultsOperator(
                task_id="results", batch=batch, output_path=output_path, **place, **results
            )
        self.key = key

    def send(self, run_id: str = "run-1", **attempt: Any) -> Any:
        handle = self.submit.execute(Try(run_id=run_id, **attempt).context)
        return handle if self.key == "return_value" else handle[self.key]

    def run(self, run_id: str = "run-1", map_index: int = -1) -> None:
        self.results.batch = self.send(run_id, map_index=map_index)
        attempt = Try(task_id="results", run_id=run_id, map_index=map_index)
        self.results.output_path = self.results.render_template(self.results.output_path, attempt.context)
        self.results.execute(attempt.context)


@pytest.fixture(autouse=True)
def at_once(emulator: Emulator) -> None:
    emulator.settings(duration=0)


@pytest.mark.parametrize("waits", [True, False])
def test_a_place_that_holds_another_runs_results_costs_nothing(
    emulator: Emulator, tmp_path: Path, waits: bool
) -> None:
    place = f"{tmp_path.as_uri()}/out/{{{{ ds }}}}"
    Night(tmp_path, place, waits=waits).run()
    with pytest.raises(AirflowFailException, match=r"holds the results of the job .* Give each job"):
        Night(tmp_path, place, waits=waits).run("run-2")
    assert len(emulator.batches()) == 1
    Night(tmp_path, place, waits=waits).run()  # a clear of both
    Night(tmp_path, place, waits=waits, overwrite=True).run("run-2")
    assert len(emulator.batches()) == 2


def test_a_place_that_cannot_be_written_costs_nothing(emulator: Emulator, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(ResultsError, match="cannot be written"):
        Night(tmp_path, f"{tmp_path.as_uri()}/file/out").run()
    assert emulator.batches() == []


@pytest.mark.parametrize(
    "path",
    [
        *("{{ ti.xcom_pull('later') }}", "{{ task.task_id }}", "{{ ds.none_such.at_all }}", "{{ 1 / 0 }}"),
        *("{{ now() }}", "{{ macros.uuid.uuid4() }}", "{% do [] %}", "{{ inlet_events }}"),
    ],
)
def test_a_place_that_is_not_known_yet_is_left_to_the_results_task(
    emulator: Emulator, tmp_path: Path, path: str
) -> None:
    macros = {"user_defined_macros": {"now": lambda: "tuesday"}}
    Night(tmp_path, f"{tmp_path.as_uri()}/out/{path}", dag=macros).send()
    assert len(emulator.batches()) == 1
    assert not (tmp_path / "out").exists()


def skips() -> Any:
    raise AirflowSkipException("nothing today")


@pytest.mark.parametrize("source", [{"requests": [], "on_empty": "skip"}, {"requests": skips}])
def test_a_night_without_records_is_skipped_wherever_it_would_have_written(
    tmp_path: Path, source: dict[str, Any]
) -> None:
    place = f"{tmp_path.as_uri()}/out"
    Night(tmp_path, place).run()
    with pytest.raises(AirflowSkipException):
        Night(tmp_path, place, submit=source).send("run-2")


@pytest.mark.parametrize("one_task", [True, False])
def test_a_dry_run_needs_no_place(emulator: Emulator, tmp_path: Path, one_task: bool) -> None:
    def dry(run_id: str) -> None:
        attempt = Try(run_id=run_id, conf={"claude_batch_dry_run": True})
        night = Night(tmp_path, place)
        task: Any = night.submit
        if one_task:
            common: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 16, "output_path": place}
            task = ClaudeBatchOperator(
                task_id="submit", requests=["Hi"], storage_path=night.submit.storage_path, **common
            )
        task.execute(attempt.context)

    place = f"{tmp_path.as_uri()}/out"
    dry("run-0")
    assert not (tmp_path / "out").exists()
    Night(tmp_path, place).run()
    dry("run-2")
    assert len(emulator.batches()) == 1


def test_what_is_sent_already_goes_on_whatever_has_become_of_the_place(
    emulator: Emulator, tmp_path: Path
) -> None:
    Night(tmp_path, f"{tmp_path.as_uri()}/out").send()
    (tmp_path / "out").rmdir()
    (tmp_path / "out").write_text("no directory")
    Night(tmp_path, f"{tmp_path.as_uri()}/out").send(try_number=2)
    assert len(emulator.batches()) == 1


@pytest.mark.parametrize("branches", [True, False])
def test_a_place_is_left_to_a_results_task_that_others_come_before(
    emulator: Emulator, tmp_path: Path, branches: bool
) -> None:
    """They may clear it, or skip the task."""
    place = f"{tmp_path.as_uri()}/out"
    Night(tmp_path, place).run()
    night = Night(tmp_path, place)
    with night.submit.dag:
        other = EmptyOperator(task_id="other")
    other >> night.results
    if not branches:
        night.submit >> other
    night.send("run-2")
    assert len(emulator.batches()) == 2


def test_ids_alone_tell_not_whose_results_are_there(emulator: Emulator, tmp_path: Path) -> None:
    for _ in range(2):
        Night(
            tmp_path,
            f"{tmp_path.as_uri()}/out",
            key="batch_ids",
            waits=False,
            submit={"multiple_outputs": True},
        ).run()
    assert len(emulator.batches()) == 1


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"queue": "big"},
        {"executor_config": {"pod_override": "with other rights"}},
        {"executor": "KubernetesExecutor"},
        {"run_as_user": "reports"},
    ],
)
def test_a_place_is_left_to_a_results_task_that_runs_elsewhere(
    emulator: Emulator, tmp_path: Path, elsewhere: dict[str, Any]
) -> None:
    Night(tmp_path, f"{tmp_path.as_uri()}/out", **elsewhere).send()
    assert len(emulator.batches()) == 1
    assert not (tmp_path / "out").exists()


def test_mapped_instances_write_to_directories_of_their_own(emulator: Emulator, tmp_path: Path) -> None:
    for map_index in range(2):
        Night(tmp_path, f"{tmp_path.as_uri()}/out").run(map_index=map_index)
    assert {file.name for file in (tmp_path / "out").iterdir()} == {"0", "1"}


def test_the_results_of_another_submit_task_are_not_its_own(emulator: Emulator, tmp_path: Path) -> None:
    place = f"{tmp_path.as_uri()}/out"
    Night(tmp_path, place).run()
    night = Night(tmp_path, f"{tmp_path.as_uri()}/first")
    common: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 16}
    with night.submit.dag:
        judge = ClaudeBatchSubmitOperator(task_id="judge", requests=["Hi"], **common)
        judged = ClaudeBatchResultsOperator(task_id="judged", batch=judge.output, output_path=place)
    night.results >> judge >> judged
    night.run("run-2")
    assert len(emulator.batches()) == 2
