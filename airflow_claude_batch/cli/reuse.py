"""``reuse``: look after the answers that later jobs may reuse."""

from __future__ import annotations

import argparse

from airflow_claude_batch.batches.reuse.build import build
from airflow_claude_batch.cli.command import DONE, NO, NothingFoundError
from airflow_claude_batch.cli.places import DEFAULT_CONNECTION, existing_storage, folder_at
from airflow_claude_batch.cli.printing import say
from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook


def reuse(options: argparse.Namespace) -> int:
    """Keep the answers of jobs of before; there is no other action."""
    root = existing_storage(options)
    done = build(
        root,
        options.dag,
        api_of=lambda conn_id: ClaudeBatchHook(options.conn_id or conn_id or DEFAULT_CONNECTION).batches,
        scope=options.scope,
        version=options.prompt_version,
        answers=folder_at(options.store) if options.store else None,
    )
    if not done.jobs:
        raise NothingFoundError(f"There is no job of DAG {options.dag} under {root.url}.")
    say(
        f"kept {done.answers} answers of {done.jobs} jobs; {done.kept_before} parts were kept before, "
        f"{done.failed} could not be fetched"
    )
    return NO if done.failed else DONE
