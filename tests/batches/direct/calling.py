"""A job whose parts are answered by single calls, and what the server then knows."""

from __future__ import annotations

from typing import Any

import anthropic

from airflow_claude_batch.batches.api.messages import MessagesApi
from airflow_claude_batch.batches.direct.answer import DirectCalls
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.storage import Folder
from tests.batches.helpers import started


def messages_at(url: str) -> MessagesApi:
    return MessagesApi(anthropic.AsyncAnthropic(api_key="test-key", base_url=url))


def calls(job: Job, url: str, **options: Any) -> DirectCalls:
    return DirectCalls(job=job, connect=lambda: messages_at(url), **options)


def make_direct(job: Job) -> None:
    with job.change() as ledger:
        for part in ledger.live_parts:
            part.way = "direct"


def start_direct(root: Folder, rows: Any, **options: Any) -> str:
    """Store a job of direct parts; returns its URL."""
    with started(root, rows, **options) as job:
        make_direct(job)
        return job.folder.url
