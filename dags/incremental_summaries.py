"""
### Incremental summaries

A product catalogue is summarised every night, and every night nine of ten products are as they were. Only
what has changed is asked; the other summaries are those of before, at no cost.

| task | what it does |
|---|---|
| `catalogue` | reads the whole table, as it is tonight |
| `summarise` | `reuse=True`: sends the products that nobody has asked about yet, delivers all |
| `bill` | how many were asked, how many had their summary already, and what that saved |

What is the same request, and for how long answers are kept, is in `docs/reuse.md`. To ask everything anew,
change `prompt_version`.

The catalogue is made up: one tenth of it changes a night. Put your own query into `catalogue`.
"""

from __future__ import annotations

import datetime
import os
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk import DAG, Param, task

if TYPE_CHECKING:
    from collections.abc import Iterator

AIRFLOW_HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
NIGHTS_UNCHANGED = 10
"""After so many nights each product has changed once."""
MATERIALS = ["oak", "steel", "linen", "glass", "cork", "wool", "bamboo"]
THINGS = ["table", "lamp", "chair", "shelf", "bowl", "rug", "clock", "bench"]


def describe(number: int, night: int) -> str:
    """A product's text as it is on a night; a tenth of them differ from the night before."""
    edition = (night + number) // NIGHTS_UNCHANGED
    material, thing = MATERIALS[number % len(MATERIALS)], THINGS[number % len(THINGS)]
    return f"{thing.capitalize()} no. {number}, made of {material}, edition {edition}. Two years of warranty."


@task(doc_md="The whole catalogue, as it is on this night.")
def catalogue(params: Any = None, ds: str | None = None) -> list[dict[str, Any]]:
    night = params["night"]
    if night is None:
        night = datetime.date.fromisoformat(ds or "2026-01-01").toordinal()
    return [
        {"sku": f"P-{number:05}", "text": describe(number, night)} for number in range(params["products"])
    ]


@task.claude_batch(
    model="claude-haiku-4-5",
    max_tokens=1000,
    system="You write one friendly sentence about a product, for a shop's front page.",
    reuse=True,
    output_path="{{ params.folder }}/{{ run_id | replace(':', '-') | replace('+', '-') }}",
    doc_md="Asks about products that are new or have changed; delivers a summary of every product.",
)
def summarise(products: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for product in products:
        yield {"custom_id": product["sku"], "prompt": product["text"]}


@task(doc_md="What this night cost, and what it did not.")
def bill(summary: dict[str, Any]) -> dict[str, Any]:
    total = summary["counts"]["total"]
    return {
        "products": total,
        "asked": summary["asked"],
        "reused": summary["reused"],
        "share_asked": f"{summary['asked'] / total:.0%}",
        "cost_usd": summary["cost"]["total_usd"],
        "saved_by_reuse_usd": summary["saved_by_reuse_usd"],
    }


with DAG(
    dag_id="incremental_summaries",
    schedule="@daily",
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Amsterdam"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "products": Param(200, type="integer", minimum=1, maximum=10_000, description="Products"),
        "night": Param(None, type=["null", "integer"], description="Which night; empty for the run's date"),
        "folder": Param(
            (AIRFLOW_HOME / "incremental_summaries").as_uri(),
            type="string",
            description="Directory for the summaries of each night, on any object storage",
        ),
    },
    tags=["claude", "example"],
    doc_md=__doc__,
) as dag:
    bill(summarise(catalogue()))
