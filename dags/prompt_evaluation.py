"""
### Prompt evaluation

Which wording works best? Every prompt variant is asked about every review of a labelled dataset, and the
answers are compared with the labels.

| task | what it does |
|---|---|
| `dataset` | writes labelled reviews as JSON lines |
| `ask` | one mapped task instance per variant, each with its own batch; no worker slot held meanwhile |
| `compare` | one table: share of right answers, tokens and cost per variant, the best one first |

A variant is a template over the dataset's columns; add one to `VARIANTS` and there is one more line in the
table. Batches cost half of what single calls cost, so a whole evaluation is cheap.
"""

from __future__ import annotations

import json
import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, ObjectStoragePath, Param, task

from airflow_claude_batch import ClaudeBatchOperator, Files, read_succeeded

AIRFLOW_HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = "{{ params.folder }}/{{ run_id | replace(':', '-') | replace('+', '-') }}"
VARIANTS = {
    "plain": "Is this review positive, negative or neutral?\n\n{{ review }}",
    "role": "You read reviews for a hotel group. Judge the guest's mood.\n\n<review>{{ review }}</review>",
    "careful": "First look for what the guest would complain about, then decide.\n\nReview: {{ review }}",
}
MOOD = {
    "type": "object",
    "properties": {"mood": {"type": "string", "enum": ["positive", "negative", "neutral"]}},
    "required": ["mood"],
    "additionalProperties": False,
}
REVIEWS = {
    "positive": ["Lovely staff and a quiet room.", "Best breakfast of the whole trip.", "We will come back."],
    "negative": ["The shower was cold, twice.", "Nobody answered the phone.", "Paper walls, no sleep."],
    "neutral": ["The hotel is near the station.", "We stayed for two nights.", "Parking is extra."],
}


@task(doc_md="Labelled reviews, made up; put your own dataset here.")
def dataset(folder: str, params: Any = None) -> None:
    file = ObjectStoragePath(folder) / "dataset.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    draw = random.Random(17)
    with file.open("w") as lines:
        for number in range(1, params["reviews"] + 1):
            label = draw.choice(list(REVIEWS))
            row = {"id": f"review-{number:04}", "review": draw.choice(REVIEWS[label]), "label": label}
            lines.write(json.dumps(row) + "\n")


@task(doc_md="Right answers, tokens and cost per variant, as Markdown.")
def compare(summaries: Any, folder: str) -> str:
    lines = ["| variant | right | answered | tokens in | tokens out | cost |", "|---|---|---|---|---|---|"]
    scores = [(name, score(summary)) for name, summary in zip(VARIANTS, summaries, strict=True)]
    for name, (right, summary) in sorted(scores, key=lambda row: row[1][0], reverse=True):
        usage, counts, cost = summary["usage"], summary["counts"], summary["cost"]["total_usd"]
        lines.append(
            f"| {name} | {right:.1%} | {counts['succeeded']} of {counts['total']}"
            f" | {usage['input_tokens']:,} | {usage['output_tokens']:,}"
            f" | {'unknown' if cost is None else f'${cost:.4f}'} |"
        )
    table = ObjectStoragePath(folder) / "comparison.md"
    table.write_text("\n".join(lines) + "\n")
    return str(table)


def score(summary: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """The share of all reviews that was judged as labelled; one without an answer counts as wrong."""
    right = sum(record["output"]["mood"] == record["input"]["label"] for record in read_succeeded(summary))
    return right / summary["counts"]["total"], summary


with DAG(
    dag_id="prompt_evaluation",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Amsterdam"),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "reviews": Param(40, type="integer", minimum=1, maximum=5000, description="Size of the dataset"),
        "folder": Param(
            (AIRFLOW_HOME / "prompt_evaluation").as_uri(),
            type="string",
            description="Where everything lies: a directory that Airflow's ObjectStoragePath understands",
        ),
    },
    tags=["claude", "example"],
    doc_md=__doc__,
) as dag:
    ask = ClaudeBatchOperator.partial(
        task_id="ask",
        requests=Files(f"{FOLDER}/dataset.jsonl"),
        custom_id="id",
        model="claude-haiku-4-5",
        max_tokens=50,
        output_schema=MOOD,
        output_path=f"{FOLDER}/answers",
        doc_md="The whole dataset, asked with one variant of the prompt.",
    ).expand(prompt=list(VARIANTS.values()))

    dataset(FOLDER) >> ask  # type: ignore[operator]
    compare(ask.output, FOLDER)
