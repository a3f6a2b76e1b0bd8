"""A submit task looks at the place that the results task of its DAG will write to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException
from airflow.sdk import DAG

from airflow_claude_batch import ClaudeBatchResultsOperator, ClaudeBatchSensor, ClaudeBatchSubmitOperator
from airflow_claude_batch.batches.errors import ResultsError
from airflow_claude_batch.emulator.testing import Emulator
from tests.operators.conftest import Try


class Night:
    """A DAG of three tasks, run as Airflow runs it: each task is given what the one before has returned."""

    def __init__(self, folder: Path, output_path: str, *, waits: bool = True, **results: Any) -> None:
        place = {"storage_path": (folder / "jobs").as_uri()}
        with DAG("dag"):
            self.submit = ClaudeBatchSubmitOperator(
                task_id="submit", requests=["Hi"], model="claude-haiku-4-5", max_tokens=16, **place
            )
            batch: Any = self.submit.output
            if waits:
                batch = ClaudeBatchSensor(task_id="wait", batch=batch, **place).output
            self.results = ClaudeBatchResultsOperator(
                task_id="results", batch=batch, output_path=output_path, **place, **results
            )

    def run(self, run_id: str = "run-1", map_index: int = -1) -> None:
        handle = self.submit.execute(Try(run_id=run_id, map_index=map_index).context)
        attempt = Try(task_id="results", run_id=run_id, map_index=map_index)
        self.results.batch = handle
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
    "path", ["{{ ti.xcom_pull('later') }}", "{{ task.task_id }}", "{{ ds.none_such.at_all }}", "{{ 1 / 0 }}"]
)
def test_a_place_that_is_not_known_yet_is_left_to_the_results_task(
    emulator: Emulator, tmp_path: Path, path: str
) -> None:
    Night(tmp_path, f"{tmp_path.as_uri()}/out/{path}").submit.execute(Try().context)
    assert len(emulator.batches()) == 1
    assert not (tmp_path / "out").exists()


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
    Night(tmp_path, f"{tmp_path.as_uri()}/out", **elsewhere).submit.execute(Try().context)
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
