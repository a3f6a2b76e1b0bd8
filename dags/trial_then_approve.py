"""
### Look first, then pay

A catalogue is to be described by a model, and nobody knows yet what that costs, or whether the prompt works.

| task | what it does |
|---|---|
| `plan` | validates and stores the whole input, sends nothing, and says what would be sent |
| `tried` | asks five records by single calls: answers in seconds, and what the whole will cost |
| `proposal` | puts plan, costs and answers on one page |
| `approve` | waits, without a worker slot, until a person approves or rejects that page |
| `descriptions` | sends the rest as a batch, at half the price; skipped where it was rejected |

The approval is Airflow's own: under *Required Actions* in its UI, or through its REST API.

The products are synthetic: put your own query into `products`.
"""

from __future__ import annotations

import os
import random
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Param, task

from airflow_claude_batch import ClaudeBatchOperator, Trial

if TYPE_CHECKING:
    from collections.abc import Iterator

AIRFLOW_HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
PROMPT = "Describe {{ sku }}, a {{ product }} of {{ material }}, for a catalogue, in at most two sentences."
REQUEST: dict[str, Any] = {
    "prompt": PROMPT,
    "custom_id": "sku",
    "model": "claude-haiku-4-5",
    "max_tokens": 200,
    "reuse": True,
}
"""With `reuse` the whole asks only what the trial did not."""


def products(params: dict[str, Any]) -> Iterator[dict[str, str]]:
    """Made-up products: the same ones each time."""
    draw = random.Random(19)
    for number in range(params["products"]):
        yield {
            "sku": f"SKU-{number:05}",
            "product": draw.choice(["bench", "lamp", "shelf", "table", "chair"]),
            "material": draw.choice(["oak", "steel", "glass", "bamboo"]),
        }


@task(doc_md="What a person needs to decide: how much, for what, and what the answers look like.")
def proposal(plan: dict[str, Any], tried: dict[str, Any]) -> str:
    whole, answers = tried["trial"]["whole"], tried["succeeded"]
    cost = whole["batch_usd"]
    forecast = "What the whole will cost is not known."
    if cost is not None:
        forecast = f"The whole will cost ${cost['expected']:.4f}, at most ${cost['high'] or 0:.4f}."
    lines = [
        f"{plan['requests']:,} requests in {plan['batches']} batch(es), {plan['bytes']:,} bytes.",
        forecast,
        f"The trial has cost ${tried['cost']['total_usd'] or 0:.4f}.",
        *plan["warnings"],
        f"{len(answers)} of {tried['counts']['total']} tried records were answered, for example:",
        *(f"- {record['input']['sku']}: {record['text'][:200]}" for record in answers[:3]),
    ]
    return "\n\n".join(lines)


with DAG(
    dag_id="trial_then_approve",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
    catchup=False,
    params={
        "products": Param(400, type="integer", minimum=1, maximum=100_000, description="How many products"),
        "output": Param(
            (AIRFLOW_HOME / "descriptions").as_uri(),
            type="string",
            description="Where the descriptions go: a directory that Airflow's ObjectStoragePath understands",
        ),
    },
    tags=["claude", "example"],
    doc_md=__doc__,
) as dag:
    plan = ClaudeBatchOperator(task_id="plan", requests=products, dry_run=True, **REQUEST)
    tried = ClaudeBatchOperator(
        task_id="tried", requests=products, trial=Trial(records=5, pick="spread"), **REQUEST
    )
    page = proposal(plan.output, tried.output)
    approve = ApprovalOperator(
        task_id="approve",
        subject="Send the whole catalogue?",
        body="{{ ti.xcom_pull(task_ids='proposal') }}",
        execution_timeout=timedelta(days=3),
    )
    descriptions = ClaudeBatchOperator(
        task_id="descriptions",
        requests=products,
        output_path="{{ params.output }}/{{ run_id }}",
        **REQUEST,
    )
    page >> approve >> descriptions
