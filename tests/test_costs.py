"""Tags, budgets and the book of costs, from the operators to the tables."""

from __future__ import annotations

import asyncio
import datetime
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, TaskDeferred
from airflow.sdk import DAG, Asset

from airflow_claude_batch import (
    Budget,
    ClaudeBatchBudgetTrigger,
    ClaudeBatchOperator,
    ClaudeBatchResultsOperator,
    ClaudeBatchSubmitOperator,
    format_costs,
    read_costs,
)
from airflow_claude_batch.batches.accounts.alerts import Alert, alerts_folder, raise_once
from airflow_claude_batch.batches.accounts.budgets import WindowBudget
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.cli import main
from airflow_claude_batch.common import settings
from airflow_claude_batch.emulator.testing import CREATE, Emulator
from airflow_claude_batch.testing.dag_runs import run_dag
from tests import economics
from tests.operators.conftest import Try

REPOSITORY = Path(__file__).parents[1]
DAILY = Budget(max_usd=0.01, per="day", scope="tag:team", expected_output_tokens=100)
TAGS = {"team": "growth"}


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", tmp_path.as_uri())
    return tmp_path


def rows(count: int) -> list[dict[str, Any]]:
    return [{"custom_id": f"r-{n}", "prompt": f"Hi {n}"} for n in range(count)]


def submit(count: int, try_: Try, **options: Any) -> Any:
    options = {"model": "claude-haiku-4-5", "max_tokens": 100, "tags": TAGS, **options}
    return ClaudeBatchSubmitOperator(task_id="submit", requests=rows(count), **options).execute(try_.context)


def deliver(handle: Any, emulator: Emulator, try_: Try | None = None) -> Any:
    for batch in emulator.batches():
        if batch["processing_status"] != "ended":
            emulator.end(batch["id"])
    results = ClaudeBatchResultsOperator(task_id="results", batch=handle)
    return results.execute((try_ or Try(task_id="results")).context)


def sent(emulator: Emulator) -> int:
    return len(emulator.journal(method="POST", path=CREATE))


# Tags


def test_tags_are_in_ledger_summary_asset_event_announcement_and_metrics(
    emulator: Emulator, airflow_database: None, monkeypatch: pytest.MonkeyPatch, storage: Path
) -> None:
    from airflow.providers.common.compat.sdk import Stats

    metric_tags: list[Any] = []
    monkeypatch.setattr(
        Stats, "incr", lambda name, count=1, *, tags=None: metric_tags.append(tags), raising=False
    )
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__TAGS", '{"company": "acme", "team": "nobody"}')
    emulator.settings(duration=0.01)
    tags = {"team": "{{ params.team }}", "quarter": 4, "empty": ""}
    with DAG("tagged", schedule=None, params={"team": "growth"}, default_args={"tags": tags}) as dag:
        ClaudeBatchOperator(
            task_id="ask",
            requests=rows(2),
            model="claude-haiku-4-5",
            max_tokens=50,
            outlets=[Asset("answers")],
        )
    run = run_dag(dag)
    assert run.state == "success"
    expected = {"company": "acme", "team": "growth", "quarter": "4"}
    assert run.xcom("ask")["tags"] == expected
    assert run.xcom("ask", key="claude_batch")["tags"] == expected
    assert expected | {"conn_id": "anthropic_default"} in metric_tags
    newest = max(storage.glob("jobs/tagged/*/ask/job-1/ledger-*.json"))
    assert json.loads(newest.read_text())["tags"] == expected
    [row] = read_costs(by="tag:team")
    assert (row["team"], row["requests"]) == ("growth", 2)


NO_TAGS = ["growth", {"a b": "x"}, {"team": "x" * 101}, {"conn_id": "x"}, {"team": ["x"]}, {"t": "a\nb"}]


@pytest.mark.parametrize("tags", [*NO_TAGS, {f"t{n}": "x" for n in range(11)}])
def test_what_are_no_tags_fails_the_dag_file(tags: Any) -> None:
    with pytest.raises(ValueError, match=r"tags is .*a mapping of at most 10 names"):
        ClaudeBatchSubmitOperator(task_id="submit", requests=[], tags=tags)


# Budgets


def test_a_day_s_budget_is_kept_over_jobs_and_settled_costs_make_room(emulator: Emulator) -> None:
    """A hundred requests of 100 tokens out are estimated at more than 0.025 dollars."""
    budget = Budget(max_usd=0.04, per="day", scope="tag:team")
    first = submit(100, Try(run_id="1"), budget=budget)
    with pytest.raises(AirflowFailException, match=r"BudgetExceededError.*\$0\.04 a day for tag:team=growth"):
        submit(100, Try(run_id="2"), budget=budget)
    assert sent(emulator) == 1
    other = submit(100, Try(run_id="3"), budget=budget, tags={"team": "sales"})
    assert other["batch_ids"], "another team has a budget of its own"
    deliver(first, emulator)
    assert submit(20, Try(run_id="4"), budget=budget)["batch_ids"]


def test_a_job_that_waits_defers_and_goes_on_in_the_next_window(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []
    budget = Budget(
        max_usd=0.04, per="day", scope="tag:team", on_exceeded="wait", on_budget_exceeded=told.append
    )
    submit(100, Try(run_id="1"), budget=budget)
    second = Try(run_id="2")
    for _ in range(2):
        with pytest.raises(TaskDeferred) as deferred:
            submit(100, second, budget=budget)
    assert 0 < deferred.value.trigger.serialize()[1]["seconds"] <= 3600
    assert "left in 20" in second.pushed["claude_batch"]["pause"]["reason"]
    assert [(one["kind"], one["budget"]["scope"]) for one in told] == [("exceeded", "tag:team=growth")]
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    monkeypatch.setattr("airflow_claude_batch.batches.api.client.BatchesApi.now", lambda self: tomorrow)
    assert submit(100, second, budget=budget)["batch_ids"]
    assert sent(emulator) == 2


def test_a_job_that_could_never_fit_fails_instead_of_waiting(emulator: Emulator) -> None:
    budget = Budget(max_usd=0.001, per="month", scope="all", on_exceeded="wait")
    with pytest.raises(AirflowFailException, match=r"\$0\.001 a month for all has \$0\.0010 left"):
        submit(100, Try(), budget=budget)
    assert sent(emulator) == 0


def test_configured_budgets_hold_for_all_and_the_time_zone_is_a_setting(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, storage: Path
) -> None:
    monkeypatch.setenv(
        "AIRFLOW__CLAUDE_BATCH__BUDGETS",
        '[{"max_usd": 0.04, "per": "day", "scope": "all"}, {"max_usd": 0.03, "per": "job"}]',
    )
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__BUDGET_TIMEZONE", "Pacific/Kiritimati")
    submit(100, Try(run_id="1"))
    with pytest.raises(AirflowFailException, match=r"max_usd=0\.03"):
        submit(200, Try(run_id="2"))
    with pytest.raises(AirflowFailException, match="a day for all"):
        submit(100, Try(run_id="3", dag_id="another"), tags=None)
    ahead = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=14)
    assert (storage / "costs" / ahead.date().isoformat()).is_dir()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("BUDGETS", "[", "budgets is no JSON"),
        ("BUDGETS", "{}", "budgets is no JSON list"),
        ("BUDGETS", '[{"max": 5}]', "item 1: max is unknown; it has max_usd"),
        ("BUDGETS", '[{"max_usd": 1}, {"max_usd": 5, "per": "week"}]', "item 2: Budget.per is 'week'"),
        ("BUDGETS", '[{"max_usd": 5, "scope": "team"}]', "item 1: Budget.scope is 'team'"),
        ("TAGS", '["a"]', "tags is no JSON object"),
        ("TAGS", '{"a b": 1}', "tags is a dict"),
        ("BUDGET_TIMEZONE", "Europe/Bielefeld", "budget_timezone is 'Europe/Bielefeld'"),
    ],
)
def test_a_setting_that_cannot_be_read_sends_nothing(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, setting: str, value: str, message: str
) -> None:
    monkeypatch.setenv(f"AIRFLOW__CLAUDE_BATCH__{setting}", value)
    with pytest.raises(AirflowFailException, match=message):
        submit(1, Try())
    assert sent(emulator) == 0


def test_a_model_of_unknown_price_is_refused_under_any_budget(emulator: Emulator) -> None:
    emulator.fault("status", path="/v1/models", times=None, status=404, type="not_found_error")
    budget = Budget(max_usd=100, per="day", scope="all")
    with pytest.raises(AirflowFailException, match="1 requests have a model without a known price"):
        submit(1, Try(), model="claude-next", budget=budget)
    assert sent(emulator) == 0


def test_a_submission_that_fails_before_it_has_sent_anything_gives_its_reservation_back(
    emulator: Emulator,
) -> None:
    budget = Budget(max_usd=0.04, per="day", scope="tag:team")
    emulator.fault("status", method="POST", path=CREATE, status=403, type="permission_error", times=1)
    with pytest.raises(AirflowFailException, match="AccessError"):
        submit(100, Try(run_id="1"), budget=budget)
    assert submit(100, Try(run_id="2"), budget=budget)["batch_ids"]


# Settled


def test_clears_and_retries_of_both_steps_are_booked_once(emulator: Emulator) -> None:
    handle = submit(3, Try())
    assert submit(3, Try(try_number=2, max_tries=1)) == handle
    [row] = read_costs()
    assert (row["dag"], row["total_usd"]) == ("dag", 0)
    assert row["reserved_usd"] > 0
    for try_number in (1, 2, 3):
        summary = deliver(
            handle, emulator, Try(task_id="results", try_number=try_number, max_tries=try_number - 1)
        )
    [row] = read_costs()
    assert row["total_usd"] == pytest.approx(summary["cost"]["total_usd"])
    assert row["saved_by_batch_usd"] == pytest.approx(summary["cost"]["saved_usd"])
    assert (row["requests"], row["reserved_usd"]) == (3, 0)


def test_single_calls_are_reserved_and_booked_at_their_own_price_and_apart(emulator: Emulator) -> None:
    try_ = Try()
    handle = submit(3, try_, direct_below=10)
    assert handle["batch_ids"] == []
    assert read_costs()[0]["reserved_usd"] == pytest.approx(try_.pushed["estimate"]["standard_usd"])
    summary = deliver(handle, emulator)
    [row] = read_costs()
    assert row["direct_usd"] == row["total_usd"] == pytest.approx(summary["cost"]["total_usd"])
    assert (row["batch_usd"], row["saved_by_batch_usd"], row["reserved_usd"]) == (0, 0, 0)
    assert submit(3, Try(try_number=2, max_tries=1), direct_below=10) == handle
    assert read_costs() == [row]


def test_what_is_reused_is_booked_as_saved(emulator: Emulator) -> None:
    deliver(submit(3, Try(run_id="1"), reuse=True, max_tokens=1000), emulator)  # a whole answer
    [first] = read_costs()
    summary = deliver(submit(4, Try(run_id="2"), reuse=True, max_tokens=1000), emulator)
    [both] = read_costs()
    assert both["saved_by_reuse_usd"] == pytest.approx(summary["saved_by_reuse_usd"])
    assert summary["saved_by_reuse_usd"] > 0
    assert both["total_usd"] == pytest.approx(first["total_usd"] + summary["cost"]["total_usd"])
    assert (both["requests"], both["reserved_usd"]) == (7, 0)


def test_a_job_that_costs_more_than_its_estimate_raises_an_alert_and_stops_the_next(
    emulator: Emulator, caplog: pytest.LogCaptureFixture, storage: Path
) -> None:
    budget = Budget(max_usd=0.00001, per="day", scope="tag:team", expected_output_tokens=1)
    handle = submit(1, Try(run_id="1"), budget=budget)
    assert not list(storage.glob("costs/alerts/*"))
    deliver(handle, emulator)
    assert "Alert: the budget of $1e-05 a day for tag:team=growth is exceeded" in caplog.text
    with pytest.raises(AirflowFailException, match="BudgetExceededError"):
        submit(1, Try(run_id="2"), budget=budget)
    assert len(list(storage.glob("costs/alerts/*.exceeded.json"))) == 1


def test_an_alert_is_raised_once_a_window(emulator: Emulator, caplog: pytest.LogCaptureFixture) -> None:
    budget = Budget(max_usd=0.04, per="day", scope="tag:team", warn_at=0.5)
    submit(90, Try(run_id="1"), budget=budget)
    submit(10, Try(run_id="2"), budget=budget)
    assert caplog.text.count("Alert: ") == 1


# Discounts


@pytest.mark.parametrize(("own", "setting", "factor"), [(0.5, "0.9", 0.5), (None, "0.9", 0.9)])
def test_a_connection_s_own_discount_goes_before_the_setting(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch, own: float | None, setting: str, factor: float
) -> None:
    full = submit(5, Try(run_id="full", task_id="full"))
    assert full
    [before] = read_costs()
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__PRICE_FACTOR", setting)
    connection = {"conn_type": "anthropic", "password": "k", "host": emulator.url}
    extra = {"extra": {"price_factor": own}} if own is not None else {}
    monkeypatch.setenv("AIRFLOW_CONN_ANTHROPIC_DEFAULT", json.dumps(connection | extra))
    try_ = Try(run_id="less")
    submit(5, try_)
    assert try_.pushed["estimate"]["total_usd"] == pytest.approx(before["reserved_usd"] * factor)


def test_a_discount_that_is_none_says_where_it_stands() -> None:
    with pytest.raises(ValueError, match="The connection's price_factor is '85 %'"):
        settings.price_factor("85 %")


# Tables


def test_the_command_prints_a_table_or_csv(emulator: Emulator, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["costs"]) == 0
    assert capsys.readouterr().out == "Nothing was spent.\n"
    deliver(submit(3, Try()), emulator)
    capsys.readouterr()
    assert main(["costs", "--by", "tag:team", "--since", "2026-01-01"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["team", "growth", "-" * len(lines[0]), "all"]
    assert main(["costs", "--by", "model", "--csv"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert header.startswith("model,requests,batch_usd,direct_usd,total_usd,")
    assert row.startswith("claude-haiku-4-5-20251001,3,0.0")
    assert main(["costs", "--by", "week"]) == 2
    assert "by dag, connection, model, day or tag:NAME" in capsys.readouterr().err
    assert main(["costs", "--since", "yesterday"]) == 2
    assert "'yesterday' is no day" in capsys.readouterr().err


def test_a_table_for_people_shows_what_there_is(emulator: Emulator) -> None:
    deliver(submit(2, Try()), emulator)
    text = format_costs(read_costs())
    assert "saved by batch $" in text
    assert "without a price" not in text


def test_the_page_of_costs_has_the_figures_that_the_prices_give() -> None:
    page = (REPOSITORY / "docs" / "costs.md").read_text().splitlines()
    for row in economics.tables():
        assert row in page


# The trigger


WINDOW = f"{datetime.datetime.now(datetime.UTC):%Y-%m}"


def alert(**about: Any) -> Alert:
    given = {"kind": "warning", "window": WINDOW, "settled_usd": 1.0, "reserved_usd": 7.0, "job": "j"}
    budget = WindowBudget(max_usd=10, per="month", scope="all")
    at = datetime.datetime.now(datetime.UTC)
    return Alert(**{**given, "budget": budget, "at": at, **about})


def test_the_trigger_announces_each_alert_once(storage: Path) -> None:
    root = Folder.at(storage.as_uri())
    old = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=2)
    assert raise_once(root, alert(window=f"{WINDOW}-01", at=old))
    assert raise_once(root, alert())
    assert not raise_once(root, alert()), "one a window"

    async def watch() -> list[Any]:
        found: list[Any] = []

        async def collect() -> None:
            async for event in ClaudeBatchBudgetTrigger(poll_interval=0.1).run():
                found.append(event.payload)
                if len(found) == 1:
                    raise_once(root, alert(kind="exceeded", settled_usd=11.0))
                else:
                    return

        await asyncio.wait_for(collect(), 20)
        return found

    first, second = asyncio.run(watch())
    assert (first["kind"], first["window"]) == ("warning", WINDOW)
    assert first["message"] == (
        f"the budget of $10 a month for all is used to 80% in {WINDOW}: $1.0000 paid, $7.0000 reserved"
    )
    assert (second["kind"], second["budget"]["max_usd"]) == ("exceeded", 10)


def test_the_trigger_announces_no_alert_again_however_many_there_are_and_one_that_is_damaged_hides_none(
    storage: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("airflow_claude_batch.triggers.budget_alert.SETTLE_SECONDS", 0)
    root = Folder.at(storage.as_uri())
    folder = alerts_folder(root)
    for number in range(1_100):
        folder.write(
            f"{WINDOW}.{number}.warning.json", msgspec.json.encode(alert(job=str(number))), durable=False
        )
    folder.write(f"{WINDOW}.damaged.warning.json", b"{")
    folder.write("2020-01.old.warning.json", msgspec.json.encode(alert(job="old")))

    async def watch() -> list[str]:
        found: list[str] = []

        async def collect() -> None:
            async for event in ClaudeBatchBudgetTrigger(poll_interval=0.01).run():
                found.append(event.payload["job"])
                if len(found) == 1_100:
                    await asyncio.to_thread(raise_once, root, alert(job="news"))
                if event.payload["job"] == "news":
                    return

        await asyncio.wait_for(collect(), 20)
        return found

    found = asyncio.run(watch())
    assert sorted(found[:-1]) == sorted(map(str, range(1_100)))
    assert found[-1] == "news"
