"""
### Answer judging

How far may a cheap model's answers be trusted? One model extracts, another reads each answer beside its
source and says whether it is right, and the last task counts how often.

| task | what it does |
|---|---|
| `tickets` | makes up support tickets |
| `extract` | a cheap model takes product and urgency out of each ticket |
| `judge` | a better model judges each extraction; its records are `Answers(extract.output)` |
| `agreement` | share of extractions that the judge agrees with, in all and for each product |

`Answers(…)` hands on the succeeded records of a job: the columns of each request, the answer's `text` and its
`output`. The judge's template uses all three.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, Param, task

from airflow_claude_batch import Answers, ClaudeBatchOperator, read_succeeded

AIRFLOW_HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = "{{ params.folder }}/{{ run_id | replace(':', '-') | replace('+', '-') }}"
EXTRACT = "Which product is this ticket about, and how urgent is it?\n\n{{ ticket }}"
JUDGE = (
    "Somebody has read this ticket:\n\n{{ ticket }}\n\n"
    "and says: product {{ output.product }}, urgency {{ output.urgency }}. Is that right?"
)
PRODUCTS = ["printer", "router", "laptop"]
TICKET = {
    "type": "object",
    "properties": {
        "product": {"type": "string", "enum": PRODUCTS},
        "urgency": {"type": "string", "enum": ["low", "high"]},
    },
    "required": ["product", "urgency"],
    "additionalProperties": False,
}
VERDICT = {
    "type": "object",
    "properties": {"agrees": {"type": "boolean"}},
    "required": ["agrees"],
    "additionalProperties": False,
}


@task(doc_md="Support tickets, made up; put your own query here: Sql(conn_id, 'select …').")
def tickets(params: Any = None) -> list[dict[str, Any]]:
    draw = random.Random(5)
    complaints = ["is on fire", "blinks at night", "has not started since Monday"]
    return [
        {"id": f"ticket-{number:04}", "ticket": f"My {draw.choice(PRODUCTS)} {draw.choice(complaints)}."}
        for number in range(1, params["tickets"] + 1)
    ]


@task(doc_md="How often the judge agrees, in all and for each product.")
def agreement(summary: dict[str, Any]) -> dict[str, Any]:
    judged: Counter[str] = Counter()
    agreed: Counter[str] = Counter()
    for record in read_succeeded(summary):
        product = record["input"]["output"]["product"]
        judged[product] += 1
        agreed[product] += record["output"]["agrees"]
    shares = {product: agreed[product] / judged[product] for product in sorted(judged)}
    return {"judged": judged.total(), "agreement": agreed.total() / judged.total(), "by_product": shares}


with DAG(
    dag_id="answer_judging",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Amsterdam"),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "tickets": Param(30, type="integer", minimum=1, maximum=5000, description="How many tickets"),
        "folder": Param(
            (AIRFLOW_HOME / "answer_judging").as_uri(),
            type="string",
            description="Where everything lies: a directory that Airflow's ObjectStoragePath understands",
        ),
    },
    tags=["claude", "example"],
    doc_md=__doc__,
) as dag:
    extract = ClaudeBatchOperator(
        task_id="extract",
        requests=tickets(),
        prompt=EXTRACT,
        custom_id="id",
        model="claude-haiku-4-5",
        max_tokens=100,
        output_schema=TICKET,
        output_path=f"{FOLDER}/extracted",
        doc_md="Product and urgency of each ticket, by a cheap model.",
    )
    judge = ClaudeBatchOperator(
        task_id="judge",
        requests=Answers(extract.output),
        prompt=JUDGE,
        custom_id="id",
        model="claude-sonnet-4-6",
        max_tokens=50,
        output_schema=VERDICT,
        output_path=f"{FOLDER}/judged",
        doc_md="Whether each extraction is right, by a better model.",
    )
    agreement(judge.output)
