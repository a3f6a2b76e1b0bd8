from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pydantic
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.sdk import DAG, Asset

from airflow_claude_batch import (
    AnswerPolicy,
    Budget,
    ClaudeBatchResultsOperator,
    ClaudeBatchSubmitOperator,
    Limits,
    Recovery,
)
from airflow_claude_batch.batches.job import lease
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from airflow_claude_batch.runtime.lineage import lineage
from airflow_claude_batch.testing.dag_runs import run_dag
from tests.operators.conftest import Try

OVERLOADED = {"custom_ids": ["r-1"], "error_type": "overloaded_error", "tries": 1}


def rows(count: int) -> list[dict[str, Any]]:
    return [{"custom_id": f"r-{n}", "prompt": f"Hi {n}", "n": n} for n in range(count)]


def submit(tmp_path: Path, requests: Any, try_: Try | None = None, **options: Any) -> Any:
    options = {"model": "claude-haiku-4-5", "max_tokens": 50, "storage_path": tmp_path.as_uri(), **options}
    operator = ClaudeBatchSubmitOperator(task_id="submit", requests=requests, **options)
    return operator.execute((try_ or Try()).context)


def results(tmp_path: Path, batch: Any, **options: Any) -> ClaudeBatchResultsOperator:
    options = {"output_path": (tmp_path / "out").as_uri(), "storage_path": tmp_path.as_uri(), **options}
    return ClaudeBatchResultsOperator(task_id="results", batch=batch, **options)


def run(operator: ClaudeBatchResultsOperator, emulator: Emulator, try_: Try | None = None) -> Any:
    """Execute as Airflow does: each deferral ends, and the task starts again."""
    context = (try_ or Try(task_id="results")).context
    for _ in range(8):
        try:
            return operator.execute(context)
        except TaskDeferred:
            for batch in emulator.batches():
                if batch["processing_status"] != "ended":
                    emulator.end(batch["id"])
    raise AssertionError("the task does not end")


def test_the_step_waits_sends_again_and_delivers_across_deferrals(emulator: Emulator, tmp_path: Path) -> None:
    emulator.settings(outcomes={"failures": [OVERLOADED]})
    try_ = Try(task_id="results")
    summary = run(results(tmp_path, submit(tmp_path, rows(5))), emulator, try_)
    assert (summary["counts"]["succeeded"], summary["rounds"], summary["resubmitted"]) == (5, 2, 1)
    assert len(emulator.journal(method="POST", path=CREATE)) == 2
    assert summary == try_.pushed["summary"]
    assert [batch["round"] for batch in summary["batches"]] == [0, 1]
    written = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert written == summary


def test_the_task_fails_for_good_after_the_output_is_complete(emulator: Emulator, tmp_path: Path) -> None:
    failure = {
        "custom_ids": ["r-0", "r-1"],
        "error_type": "invalid_request_error",
        "message": "prompt too long",
    }
    emulator.settings(outcomes={"failures": [failure]})
    operator = results(
        tmp_path, submit(tmp_path, rows(4)), answer_policy=AnswerPolicy(max_failed_fraction=0.25)
    )
    try_ = Try(task_id="results")
    with pytest.raises(
        AirflowFailException, match=r"2 of 4 requests failed.*2 x invalid_request_error.*errored"
    ):
        run(operator, emulator, try_)
    assert (tmp_path / "out" / "summary.json").exists()
    assert try_.pushed["summary"]["error_samples"]["invalid_request_error"]["message"] == "prompt too long"


def test_batches_of_another_system_are_delivered_by_their_ids(emulator: Emulator, tmp_path: Path) -> None:
    handle = submit(tmp_path / "elsewhere", rows(4), limits=Limits(requests=3))
    summary = run(results(tmp_path, handle["batch_ids"]), emulator)
    assert (summary["counts"]["total"], summary["job"]) == (4, None)


def test_a_schema_given_to_submit_is_checked_by_results(emulator: Emulator, tmp_path: Path) -> None:
    class Rating(pydantic.BaseModel):
        stars: int
        reason: str

    handle = submit(tmp_path, rows(3), output_schema=Rating, max_tokens=500)
    summary = run(results(tmp_path, handle), emulator)
    assert summary["counts"]["succeeded"] == 3
    [line, *_] = (tmp_path / "out" / "succeeded" / "part-00000.jsonl").read_text().splitlines()
    assert set(json.loads(line)["output"]) == {"stars", "reason"}


def test_an_estimate_is_shown_and_a_job_above_the_limit_is_never_sent(
    emulator: Emulator, tmp_path: Path
) -> None:
    try_ = Try()
    with pytest.raises(AirflowFailException, match=r"BudgetExceededError.*max_usd=0\.0001"):
        submit(tmp_path, rows(4), try_, budget=0.0001)
    assert emulator.batches() == []
    assert try_.pushed["estimate"]["total_usd"] > 0.0001
    assert try_.pushed["estimate"]["upper_bound_usd"] == try_.pushed["estimate"]["total_usd"]

    handle = submit(tmp_path, rows(4), budget=Budget(max_usd=0.0001, expected_output_tokens=2))
    assert len(handle["batch_ids"]) == 1


def test_another_worker_on_the_same_job_is_given_way_to(emulator: Emulator, tmp_path: Path) -> None:
    handle = submit(tmp_path, rows(2))
    [batch] = emulator.batches()
    emulator.end(batch["id"])
    operator = results(tmp_path, handle)
    home = Folder.at(handle["job"]).parent
    with lease.hold(home), pytest.raises(TaskDeferred) as deferred:
        operator.execute(Try(task_id="results").context)
    assert deferred.value.method_name == "execute_complete"
    assert operator.execute(Try(task_id="results").context)["counts"]["succeeded"] == 2


def attacker(**options: Any) -> Try:
    """A results task of another DAG."""
    return Try(dag_id="attacker", task_id="results", **options)


def end_all(emulator: Emulator) -> None:
    for batch in emulator.batches():
        emulator.end(batch["id"])


def without_dag_id(job: str) -> None:
    """The ledger, as it was before it named its DAG."""
    folder = Folder.at(job)
    ledger = ledgers.load(folder)
    assert ledger is not None
    ledger.dag_id = ledger.run_id = ledger.task_id = ""
    ledgers.save(folder, ledger)


@pytest.mark.parametrize("recorded", [True, False])
def test_another_dags_job_is_not_delivered_and_the_error_says_how_it_could_be(
    emulator: Emulator, tmp_path: Path, recorded: bool
) -> None:
    handle = submit(tmp_path, rows(3))
    if not recorded:
        without_dag_id(handle["job"])
    end_all(emulator)
    asked = len(emulator.journal())
    with pytest.raises(AirflowFailException) as refused:
        run(results(tmp_path, handle), emulator, attacker())
    for words in ("'dag'", "'attacker'", "Recovery(shared_with=['attacker'])", "share_jobs_between_dags"):
        assert words in str(refused.value)
    assert not (tmp_path / "out").exists()
    assert len(emulator.journal()) == asked
    assert run(results(tmp_path, handle), emulator)["counts"]["succeeded"] == 3


def test_another_dags_batches_are_no_more_delivered_by_their_ids(emulator: Emulator, tmp_path: Path) -> None:
    handle = submit(tmp_path, rows(3))
    with pytest.raises(AirflowFailException, match="belongs to DAG 'dag', and this task to DAG 'attacker'"):
        run(results(tmp_path, handle["batch_ids"]), emulator, attacker())
    assert not (tmp_path / "out").exists()
    assert run(results(tmp_path, handle["batch_ids"]), emulator)["counts"]["succeeded"] == 3


def test_a_job_that_is_shared_with_a_dag_is_delivered_by_it_until_it_is_not_any_more(
    emulator: Emulator, tmp_path: Path
) -> None:
    handle = submit(tmp_path, rows(3), recovery=Recovery(shared_with=["partner"]))
    partner = Try(dag_id="partner", task_id="results")
    assert run(results(tmp_path, handle), emulator, partner)["counts"]["succeeded"] == 3
    assert run(results(tmp_path, handle["batch_ids"], overwrite=True), emulator, partner)["job"] is None
    with pytest.raises(AirflowFailException, match="belongs to DAG 'dag'"):
        run(results(tmp_path, handle), emulator, attacker())

    assert submit(tmp_path, rows(3), Try(max_tries=1)) == handle
    with pytest.raises(AirflowFailException, match="belongs to DAG 'dag'"):
        run(results(tmp_path, handle), emulator, partner)


def test_a_setting_lets_all_dags_deliver_each_others_jobs(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__SHARE_JOBS_BETWEEN_DAGS", "True")
    handle = submit(tmp_path, rows(3))
    assert run(results(tmp_path, handle), emulator, attacker())["counts"]["succeeded"] == 3


@pytest.mark.parametrize("dag_id", ["dag", "partner"])
def test_a_person_who_ends_the_task_ends_only_batches_of_its_own_dag(
    emulator: Emulator, tmp_path: Path, dag_id: str
) -> None:
    handle = submit(tmp_path, rows(3), recovery=Recovery(shared_with=["partner"]))
    with pytest.raises(TaskDeferred) as deferred:
        results(tmp_path, handle).execute(Try(dag_id=dag_id, task_id="results").context)
    assert deferred.value.trigger.cancel_on_kill is (dag_id == "dag")


def test_a_path_that_leads_out_of_storage_path_is_refused(emulator: Emulator, tmp_path: Path) -> None:
    handle = submit(tmp_path / "elsewhere", rows(3))
    (tmp_path / "storage").mkdir()
    job = handle["job"].replace("/elsewhere/", "/storage/../elsewhere/")
    with pytest.raises(AirflowFailException, match="does not lie under storage_path"):
        run(
            results(tmp_path, {**handle, "job": job}, storage_path=(tmp_path / "storage").as_uri()),
            emulator,
            Try(task_id="results"),
        )


def test_asset_events_carry_counts_cost_and_paths(
    emulator: Emulator, airflow_database: None, tmp_path: Path
) -> None:
    from airflow.models.asset import AssetEvent, AssetModel
    from airflow.utils.session import create_session
    from sqlalchemy import select

    emulator.settings(duration=0.5)
    asset = Asset("s3://bucket/reports-of-test-results")
    with DAG("outlets", schedule=None) as dag:
        operator = ClaudeBatchSubmitOperator(
            task_id="submit",
            requests=rows(3),
            model="claude-haiku-4-5",
            max_tokens=5,
            storage_path=tmp_path.as_uri(),
        )
        results(tmp_path, operator.output, outlets=[asset], poll_interval=0.3)
    assert run_dag(dag).state == "success"
    with create_session() as session:
        wanted = select(AssetEvent).join(AssetModel, AssetEvent.asset_id == AssetModel.id)
        [event] = session.scalars(wanted.where(AssetModel.uri == asset.uri)).all()
    extra = event.extra["claude_batch"]
    assert extra["counts"]["succeeded"] == 3
    assert extra["cost"]["total_usd"] > 0
    assert extra["summary_path"].endswith("out/summary.json")


def test_lineage_names_what_was_read_and_written(emulator: Emulator, tmp_path: Path) -> None:
    pytest.importorskip("airflow.providers.openlineage")
    operator = results(tmp_path, submit(tmp_path, rows(3)))
    summary = run(operator, emulator)
    # The listener asks in a fork of the task's process: nothing may be asked of Airflow there.
    found = operator.get_openlineage_facets_on_complete(task_instance=None)
    assert [dataset.name for dataset in found.outputs] == [
        f"{tmp_path}/out/succeeded",
        f"{tmp_path}/out/errored",
    ]
    assert [d.outputFacets["outputStatistics"].rowCount for d in found.outputs] == [3, 0]
    assert found.inputs[0].name == summary["job"].removeprefix("file://")
    assert lineage(None) is None


def test_outcomes_tokens_and_cost_are_counted_as_metrics(
    emulator: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.providers.common.compat.sdk import Stats

    counted: dict[str, int] = {}
    monkeypatch.setattr(
        Stats,
        "incr",
        lambda name, count=1, rate=1, *, tags=None: counted.__setitem__(name, count),
        raising=False,
    )
    summary = run(results(tmp_path, submit(tmp_path, rows(3))), emulator)
    assert counted["claude_batch.requests.succeeded"] == 3
    assert counted["claude_batch.tokens.output_tokens"] == summary["usage"]["output_tokens"]
    assert counted["claude_batch.cost_microusd"] == round(summary["cost"]["total_usd"] * 1e6)
