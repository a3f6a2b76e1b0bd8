"""
### Nightly account report

Every night Claude writes a short summary of each account's last 24 hours, through the Message Batches API:
half the price of single calls, and no worker slot is held while Anthropic works.

| task | what it does |
|---|---|
| `submit` | builds one request per account and sends them as a batch |
| `wait` | sleeps in the triggerer until the batch has ended |
| `results` | writes `succeeded/`, `errored/` and `summary.json` under `output` |
| `write_report` | turns them into one page for people: `report.md` |

With a `deadline` what the batch has not finished in time is asked by single calls, at the standard price.
Every request comes back as a succeeded or an errored record, never not at all. A retry of any task goes on
where the last try stopped; it does not send the batch again.

The usage figures are synthetic: put your own query into `account_activity`.
"""

from __future__ import annotations

import os
import random
from datetime import timedelta
from heapq import nlargest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk import DAG, ObjectStoragePath, Param, task

from airflow_claude_batch import (
    ClaudeBatchResultsOperator,
    ClaudeBatchSensor,
    ClaudeBatchSubmitOperator,
    read_errored,
    read_succeeded,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

AIRFLOW_HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
SYSTEM = (
    "You write for customer success managers. Summarise the account's last 24 hours in at most 60 words: "
    "what changed, why it may matter, and one next step. Use only the figures you are given."
)
PROMPT = """\
Account {account} ({plan} plan), the 24 hours before {day}:
{active_users} of {seats} seats active
{api_calls:,} API calls, {change_percent:+} % against the day before, {failed_calls:,} of them failed
New tickets: {tickets}"""


def account_activity(accounts: int, day: str) -> Iterator[dict[str, Any]]:
    """Made-up usage of each account: the same for the same day, whenever it is asked for."""
    for number in range(1, accounts + 1):
        draw = random.Random(f"{day}/{number}")
        seats = draw.choice([5, 12, 40, 150, 600])
        yield {
            "account": f"ACC-{number:05}",
            "plan": {5: "starter", 12: "team", 40: "team", 150: "business", 600: "enterprise"}[seats],
            "seats": seats,
            "active_users": draw.randint(seats // 4, seats),
            "api_calls": seats * draw.randint(20, 400),
            "change_percent": round(draw.gauss(2, 15)),
            "failed_calls": seats * draw.randint(0, 6),
            "tickets": draw.sample(
                [
                    "login loops after SSO change",
                    "export times out",
                    "invoice question",
                    "asks for EU hosting",
                ],
                k=draw.choice([0, 0, 0, 1, 1, 2]),
            ),
        }


def report_requests(params: dict[str, Any], ds: str) -> Iterator[dict[str, Any]]:
    """One request per account, made while they are sent: a million would not need more memory.

    `account`, `plan` and `api_calls` are no parameters of the API; they come back beside the answer.
    """
    for activity in account_activity(params["accounts"], ds):
        yield {
            "custom_id": f"report-{activity['account']}",
            "prompt": PROMPT.format(day=ds, **activity),
            "account": activity["account"],
            "plan": activity["plan"],
            "api_calls": activity["api_calls"],
        }


@task(doc_md="One page for people beside the records: totals, the busiest accounts, what failed.")
def write_report(summary: dict[str, Any], ds: str | None = None) -> str:
    folder = ObjectStoragePath(summary["summary_path"]).parent
    counts, usage, cost = summary["counts"], summary["usage"], summary.get("cost") or {}
    busiest = nlargest(5, read_succeeded(summary), key=lambda record: record["input"]["api_calls"])
    errored = list(read_errored(summary))

    page = [
        f"# Accounts on {ds}",
        f"{counts['succeeded']:,} of {counts['total']:,} summaries were written, {len(errored):,} were not.",
        f"{usage['input_tokens']:,} tokens in, {usage['output_tokens']:,} tokens out.",
    ]
    if cost.get("total_usd") is not None:
        page.append(f"Cost: ${cost['total_usd']:.4f}.")
    page.append("## Busiest accounts")
    for record in busiest:
        about = record["input"]
        page += [
            f"### {about['account']} ({about['plan']}, {about['api_calls']:,} API calls)",
            record["text"],
        ]
    if errored:
        page.append("## Without a summary")
        page.append("\n".join(f"- {record['input']['account']}: {reason(record)}" for record in errored))

    report = folder / "report.md"
    report.write_text("\n\n".join(page) + "\n")
    return str(report)


def reason(errored: dict[str, Any]) -> str:
    """Why a request has no answer: the error's type, or `expired` and the like."""
    return errored["error_type"] or errored["outcome"]


with DAG(
    dag_id="nightly_report",
    schedule="0 2 * * *",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Amsterdam"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "accounts": Param(200, type="integer", minimum=1, maximum=10_000, description="How many accounts"),
        "output": Param(
            (AIRFLOW_HOME / "nightly_report").as_uri(),
            type="string",
            description="Where the results go: a directory that Airflow's ObjectStoragePath understands",
        ),
        "deadline": Param(
            None,
            type=["string", "null"],
            description="When the report is needed, by the DAG's time zone (06:00); empty: no such time",
        ),
        "direct_minutes": Param(
            20,
            type="number",
            minimum=0,
            description="How many minutes before the deadline the rest is asked by single calls",
        ),
    },
    tags=["claude", "example"],
    doc_md=__doc__,
) as dag:
    submit = ClaudeBatchSubmitOperator(
        task_id="submit",
        requests=report_requests,
        model="claude-haiku-4-5",
        max_tokens=300,
        system=SYSTEM,
        deadline="{{ params.deadline }}",
        direct_minutes="{{ params.direct_minutes }}",
        doc_md="Sends one request per account. A retry finds the batch that was already sent.",
    )
    wait = ClaudeBatchSensor(
        task_id="wait",
        batch=submit.output,
        doc_md="Deferred while Anthropic works: minutes, at most a day. No worker slot is held.",
    )
    results = ClaudeBatchResultsOperator(
        task_id="results",
        batch=wait.output,
        output_path="{{ params.output }}/{{ ds }}",
        doc_md="Succeeded and errored records as JSONL, and `summary.json` with counts, tokens and cost.",
    )

    write_report(results.output)
