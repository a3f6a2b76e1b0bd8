"""
### When a batch ends that something else submitted

A notebook, a service or another team submits message batches with the same workspace's key. This DAG starts
when one of them ends, and writes its results to `output`. Nothing has to be changed where they are submitted,
and nothing waits meanwhile: a look every 30 seconds, in the triggerer, serves all watchers of a connection.

| task | what it does |
|---|---|
| `ended` | names the batch that this run is about (several, if they ended at about the same time) |
| `results` | writes `succeeded/`, `errored/` and `summary.json` under `output` |

The DAG is paused when it is first seen: once unpaused it starts for *every* batch of the workspace that ends,
batches of other DAGs included. Give `batch_ids=[…]` to the trigger to watch for some only. Run by hand, it
takes the batches that the parameter `batch_ids` names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from airflow.sdk import DAG, Asset, AssetWatcher, Param, task

from airflow_claude_batch import ClaudeBatchResultsOperator
from airflow_claude_batch.triggers.batch_ended import ClaudeBatchEndedTrigger

AIRFLOW_HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()

ended_batches = Asset(
    name="claude_batches_ended",
    uri="claude-batches://anthropic_default/ended",
    watchers=[AssetWatcher(name="any_batch", trigger=ClaudeBatchEndedTrigger(poll_interval=30))],
)


@task
def ended(triggering_asset_events: Any = None, params: Any = None) -> list[str]:
    """The ids of the batches whose end started this run."""
    events = [event for events in triggering_asset_events.values() for event in events]
    return sorted({event.extra["payload"]["batch_id"] for event in events}) or params["batch_ids"]


with DAG(
    dag_id="external_batch",
    schedule=[ended_batches],
    is_paused_upon_creation=True,
    params={
        "batch_ids": Param([], type="array", description="Which batches, when run by hand"),
        "output": Param(
            (AIRFLOW_HOME / "external_batch").as_uri(),
            type="string",
            description="Where the results go: a directory that Airflow's ObjectStoragePath understands",
        ),
    },
    tags=["claude", "example"],
    doc_md=__doc__,
) as dag:
    ClaudeBatchResultsOperator(
        task_id="results", batch=ended(), output_path="{{ params.output }}/{{ run_id | replace(':', '.') }}"
    )
