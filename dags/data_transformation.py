"""
### Data transformation

Raw product rows lie as JSON lines on object storage; Claude turns each into a clean one. The input is split
into several batches on purpose, as a really large one would be (a batch holds 100,000 requests at most), and
the output is one file again.

| task | what it does |
|---|---|
| `raw_products` | writes the raw rows as gzipped JSON lines, in two files |
| `submit` | streams the files into batches of 40 requests |
| `wait` | one wait for all batches, without a worker slot |
| `results` | `clean/`: succeeded and errored records of all batches, `summary.json` |
| `merge` | one file of clean rows; a row without an answer keeps its raw text |

The products' own numbers contain slashes, which the API does not take as custom_id; they are mapped, and come
back beside the answer as they were.
"""

from __future__ import annotations

import gzip
import json
import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, Asset, ObjectStoragePath, Param, task

from airflow_claude_batch import (
    ClaudeBatchResultsOperator,
    ClaudeBatchSensor,
    ClaudeBatchSubmitOperator,
    Files,
    Limits,
    read_errored,
    read_succeeded,
)

AIRFLOW_HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = "{{ params.folder }}/{{ run_id | replace(':', '-') | replace('+', '-') }}"
CLEAN_PRODUCTS = Asset("claude_batch_clean_products")
REQUESTS_PER_BATCH = 40
PROMPT = "Make a clean product name and one category of this row of an old shop system:\n{{ raw }}"
PRODUCT = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "category": {"type": "string", "enum": ["kitchen", "office", "garden", "other"]},
    },
    "required": ["name", "category"],
    "additionalProperties": False,
}
RAW = ["MUG blk 330ML *neu*", "stapler / metal, RED (2nd)", "garden hose 15m w/ FITTING", "desk lamp E27 wht"]


@task(doc_md="Raw rows in two gzipped files, made up; in real life they come from another system.")
def raw_products(folder: str, params: Any = None) -> str:
    target = ObjectStoragePath(folder) / "raw"
    target.mkdir(parents=True, exist_ok=True)
    draw = random.Random(23)
    rows = [
        {"product": f"NL/{number:05}/{draw.choice('AB')}", "raw": draw.choice(RAW)}
        for number in range(1, params["products"] + 1)
    ]
    for name, share in (("a", rows[::2]), ("b", rows[1::2])):
        lines = "".join(json.dumps(row) + "\n" for row in share)
        (target / f"{name}.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    return str(target)


@task(outlets=[CLEAN_PRODUCTS], doc_md="Clean rows in one file, those without an answer as they were.")
def merge(summary: dict[str, Any]) -> str:
    folder = ObjectStoragePath(summary["summary_path"]).parent
    merged = folder / "products.jsonl"
    with merged.open("w") as file:
        for record in read_succeeded(summary):
            file.write(json.dumps({**record["input"], **record["output"]}) + "\n")
        for record in read_errored(summary):
            file.write(json.dumps({**record["input"], "name": None, "category": None}) + "\n")
    return str(merged)


with DAG(
    dag_id="data_transformation",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Amsterdam"),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "products": Param(120, type="integer", minimum=1, maximum=10_000, description="How many rows"),
        "folder": Param(
            (AIRFLOW_HOME / "data_transformation").as_uri(),
            type="string",
            description="Where everything lies: a directory that Airflow's ObjectStoragePath understands",
        ),
    },
    tags=["claude", "example"],
    doc_md=__doc__,
) as dag:
    raw = raw_products(FOLDER)
    submit = ClaudeBatchSubmitOperator(
        task_id="submit",
        requests=Files(f"{FOLDER}/raw/*.jsonl.gz"),
        prompt=PROMPT,
        custom_id="product",
        model="claude-haiku-4-5",
        max_tokens=100,
        output_schema=PRODUCT,
        limits=Limits(requests=REQUESTS_PER_BATCH),
        doc_md="One request per row, 40 to a batch. Constant memory, however many rows there are.",
    )
    wait = ClaudeBatchSensor(
        task_id="wait",
        batch=submit.output,
        doc_md="Deferred until the last of the batches has ended.",
    )
    results = ClaudeBatchResultsOperator(
        task_id="results",
        batch=wait.output,
        output_path=f"{FOLDER}/clean",
        doc_md="The records of all batches in one directory.",
    )
    raw >> submit
    merge(results.output)
