"""
### Ticket classification

Support tickets get a queue, a priority and a language. The answers have a fixed shape, so that the next task
can rely on it.

| task | what it does |
|---|---|
| `open_tickets` | reads the tickets that came in |
| `classify` | one request per ticket: sends them, waits without a worker slot, returns the checked answers |
| `route` | counts what goes to which queue, and what a person has to look at |

`classify` is a Python function: `@task.claude_batch` sends what it yields. A retry goes on with the batch
that was sent; it does not send it again.

The tickets are made up: put your own query into `open_tickets`.
"""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk import DAG, Param, task

from airflow_claude_batch import read_errored, read_succeeded

if TYPE_CHECKING:
    from collections.abc import Iterator

SYSTEM = "You sort support tickets of a software company. Judge by what the customer needs, not by the tone."
TICKET = {
    "type": "object",
    "properties": {
        "queue": {"type": "string", "enum": ["billing", "login", "data export", "feature request", "other"]},
        "priority": {"type": "string", "enum": ["low", "normal", "urgent"]},
        "language": {"type": "string", "enum": ["en", "de", "fr", "other"]},
    },
    "required": ["queue", "priority", "language"],
    "additionalProperties": False,
}
TEXTS = [
    "Since the SSO change nobody in our office can log in.",
    "The nightly export stops after 10 minutes with a time-out.",
    "Why is there a second invoice for October?",
    "Wir hätten gern eine Ansicht für mehrere Standorte.",
    "Impossible de réinitialiser mon mot de passe.",
    "Is there a way to archive old projects?",
]


@task(doc_md="The tickets to sort; made up, the same for the same day.")
def open_tickets(params: Any = None, ds: str | None = None) -> list[dict[str, Any]]:
    draw = random.Random(ds)
    return [
        {"ticket": f"T-{number:05}", "customer": f"C-{draw.randint(1, 400):04}", "text": draw.choice(TEXTS)}
        for number in range(1, params["tickets"] + 1)
    ]


@task.claude_batch(
    model="claude-haiku-4-5",
    max_tokens=100,
    system=SYSTEM,
    output_schema=TICKET,
    doc_md="Sends one request per ticket, waits deferred, and returns the answers with the counts.",
)
def classify(tickets: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """`ticket` and `customer` are no parameters of the API; they come back beside the answer."""
    for ticket in tickets:
        yield {
            "custom_id": ticket["ticket"],
            "prompt": ticket["text"],
            "ticket": ticket["ticket"],
            "customer": ticket["customer"],
        }


@task(doc_md="How many tickets go to which queue; those without an answer are left to a person.")
def route(summary: dict[str, Any]) -> dict[str, Any]:
    answers = [record["output"] for record in read_succeeded(summary)]
    return {
        "queues": dict(Counter(answer["queue"] for answer in answers).most_common()),
        "urgent": sum(answer["priority"] == "urgent" for answer in answers),
        "for_a_person": sorted(record["custom_id"] for record in read_errored(summary)),
    }


with DAG(
    dag_id="ticket_classification",
    schedule="@hourly",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Amsterdam"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "tickets": Param(60, type="integer", minimum=1, maximum=1000, description="How many tickets"),
    },
    tags=["claude", "example"],
    doc_md=__doc__,
) as dag:
    route(classify(open_tickets()))
