"""Costs and budgets on the page: from the book, and no figure of a DAG that the user may not read."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch.batches.accounts.book import Book
from airflow_claude_batch.batches.accounts.entries import Account, Line
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.storage import Folder
from tests.plugins.seeding import Seed, seed

TODAY = datetime.datetime.now(datetime.UTC).date().isoformat()
BUDGETS = """[
    {"max_usd": 10, "per": "day", "scope": "tag:team"},
    {"max_usd": 20, "per": "month", "scope": "all"},
    {"max_usd": 30, "per": "day", "scope": "dag"},
    {"max_usd": 5, "per": "job"}
]"""


def book_one(root: Folder, number: int, dag_id: str, team: str, usd: float) -> None:
    spent = Line(
        model="claude-haiku-4-5", requests=3, pico=round(usd * PICO), standard_pico=round(2 * usd * PICO)
    )
    about = Account(dag_id=dag_id, tags={"team": team}, lines=[spent.kind])
    Book(root).settle(TODAY, f"00a1b2-{number:020x}-1", about, [spent])


@pytest.fixture(autouse=True)
def booked(session: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Folder:
    seed(session, [Seed(dag_id="nightly_report", number=1), Seed(dag_id="score_leads", number=2)])
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", tmp_path.as_uri())
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__BUDGETS", BUDGETS)
    root = Folder.at(tmp_path.as_uri())
    book_one(root, 1, "nightly_report", "growth", 4)
    book_one(root, 2, "score_leads", "sales", 8)
    return root


def names(rows: list[dict[str, Any]]) -> dict[str, float]:
    return {row["name"]: row["total_usd"] for row in rows}


def test_costs_are_summed_up_by_dag_tag_model_and_day(ask: Any) -> None:
    costs = ask("costs", period="week")
    assert names(costs["by_dag"]) == {"score_leads": 8, "nightly_report": 4}
    assert names(costs["by_tag"]["team"]) == {"sales": 8, "growth": 4}
    assert names(costs["by_model"]) == {"claude-haiku-4-5": 12}
    assert names(costs["by_day"]) == {TODAY: 12}
    assert costs["total"]["saved_by_batch_usd"] == 12
    assert costs["projected_month_usd"] >= 12
    assert names(ask("costs", tag="team=growth")["by_dag"]) == {"nightly_report": 4}
    assert names(ask("costs", dag_id="score_leads")["by_tag"]["team"]) == {"sales": 8}


def test_budgets_show_what_is_used_of_them(ask: Any) -> None:
    used = {
        (one["scope"], one["per"]): one["settled_usd"] / one["max_usd"] for one in ask("costs")["budgets"]
    }
    assert used == {
        ("all", "month"): 0.6,
        ("tag:team=growth", "day"): 0.4,
        ("tag:team=sales", "day"): 0.8,
        ("dag:nightly_report", "day"): pytest.approx(4 / 30),
        ("dag:score_leads", "day"): pytest.approx(8 / 30),
    }


def test_a_viewer_of_one_dag_sees_no_figure_that_holds_another_s(client_of: Any) -> None:
    answer = client_of("only-nightly_report").get("/claude-batches/api/costs").json()
    assert names(answer["by_dag"]) == {"nightly_report": 4}
    assert names(answer["by_tag"]["team"]) == {"growth": 4}
    shown = {(one["scope"], one["per"]): one.get("settled_usd") for one in answer["budgets"]}
    assert shown == {
        ("all", "month"): None,
        ("tag:team", "day"): None,
        ("tag:team=growth", "day"): 4,
        ("dag:nightly_report", "day"): 4,
    }
    assert "sales" not in str(answer)
    assert "score_leads" not in str(answer)


def test_a_book_that_cannot_be_read_leaves_the_rest_of_the_page(
    ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", "nowhere://bucket/key")
    assert set(ask("costs")) == {"unavailable"}


@pytest.mark.parametrize(
    "query", [{"period": "year"}, {"tag": "team"}, {"tag": "a b=c"}, {"dag_id": "x" * 300}]
)
def test_a_question_of_another_form_is_refused(client_of: Any, query: dict[str, str]) -> None:
    assert client_of("admin", "admin").get("/claude-batches/api/costs", params=query).status_code == 422
