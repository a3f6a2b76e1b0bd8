"""
### What Claude's batches have cost today

Posts the day's table of costs, and says at once when a budget is nearly or fully used. The table comes from
the book that every job writes under `storage_path`, so nothing is asked of Claude.

| task | what it does |
|---|---|
| `table` | the costs of the day by `by`, and the alerts that have started this run |
| `post` | hands it to a notifier: `NOTIFIER` |

The DAG runs every evening, and whenever there is an alert (the asset `claude_batch_budget`). Any Airflow
notifier will do, such as `SlackWebhookNotifier(slack_webhook_conn_id="slack", text="{{ text }}")`; this one
writes into the log. Put your budgets into `[claude_batch] budgets`, for example
`[{"max_usd": 20, "per": "day", "scope": "all"}, {"max_usd": 200, "per": "month", "scope": "tag:team"}]`.
"""

from __future__ import annotations

import logging
from typing import Any

import pendulum
from airflow.sdk import DAG, Asset, AssetWatcher, BaseNotifier, Param, get_current_context, task
from airflow.timetables.assets import AssetOrTimeSchedule
from airflow.timetables.trigger import CronTriggerTimetable

from airflow_claude_batch import ClaudeBatchBudgetTrigger, format_costs, read_costs


class LogNotifier(BaseNotifier):
    """Writes a text into the log of the task."""

    template_fields = ("text",)

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def notify(self, context: Any) -> None:
        logging.getLogger(__name__).info("%s", self.text)


NOTIFIER = LogNotifier(text="{{ text }}")

budget_alerts = Asset(
    name="claude_batch_budget",
    uri="claude-batches://budgets",
    watchers=[AssetWatcher(name="any_budget", trigger=ClaudeBatchBudgetTrigger())],
)


@task
def table(params: Any = None, triggering_asset_events: Any = None) -> str:
    """The day's costs, below the alerts that have started this run."""
    events = [event for events in (triggering_asset_events or {}).values() for event in events]
    alerts = [event.extra["payload"]["message"] for event in events]
    rows = read_costs(by=params["by"], since=params["since"] or None)
    return "\n".join([*alerts, format_costs(rows)])


@task
def post(text: str) -> None:
    """Call the notifier as Airflow would, with the text in its context."""
    context: Any = {**get_current_context(), "text": text}
    NOTIFIER(context)


with DAG(
    dag_id="cost_watch",
    schedule=AssetOrTimeSchedule(
        timetable=CronTriggerTimetable("0 18 * * *", timezone="Europe/Amsterdam"),
        assets=[budget_alerts],  # type: ignore[list-item]  # DAG files have the SDK's assets
    ),
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Amsterdam"),
    catchup=False,
    params={
        "by": Param("dag", type="string", description="dag, connection, model, day or tag:NAME"),
        "since": Param("", type="string", description="The first day, yyyy-mm-dd; today where it is empty"),
    },
    tags=["claude", "example"],
    doc_md=__doc__,
) as dag:
    post(table())
