"""``adopt``: a person's word on whose a batch is, where nothing else can tell any more."""

from __future__ import annotations

import argparse

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.adopt import adopt as settle_part
from airflow_claude_batch.batches.submission.adopt_batches import adopt_batches, identity_of, restore
from airflow_claude_batch.cli.command import DONE
from airflow_claude_batch.cli.places import api_of, existing_storage, url_of
from airflow_claude_batch.cli.printing import note, say

USES = (
    "Say what is to be adopted: BATCH … with --dag, --run and --task; BATCH, or --none, with --job and "
    "--part; or --job alone, where its ledger cannot be read."
)


def adopt(options: argparse.Namespace) -> int:
    """One of the three things that can be said; see `USES`."""
    root = existing_storage(options)
    of_task = [options.dag, options.run, options.task]
    if options.job is not None and any(of_task):
        raise ConfigurationError(f"--job and --dag, --run, --task exclude each other. {USES}")
    if options.job is not None:
        options.job = url_of(root, options.job)
    if options.part is not None or options.none:
        return _settle(root, options)
    if options.job is not None:
        return (
            _restore(root, options.job)
            if not options.batch_ids
            else _adopt(root, identity_of(root, options.job), options)
        )
    if not all(of_task) or not options.batch_ids:
        raise ConfigurationError(USES)
    identity = Identity(
        dag_id=options.dag, run_id=options.run, task_id=options.task, map_index=options.map_index
    )
    return _adopt(root, identity, options)


def _settle(root: Folder, options: argparse.Namespace) -> int:
    """After an ambiguity: which batch is the part's."""
    one = [None] if options.none else options.batch_ids
    if options.job is None or options.part is None or len(one) != 1 or (options.none and options.batch_ids):
        raise ConfigurationError(USES)
    [batch_id] = one
    settle_part(root, options.job, options.part, batch_id)
    if batch_id is None:
        say(f"Part {options.part} of {options.job} is sent again by the next try. Clear the task now.")
    else:
        say(f"Part {options.part} of {options.job} has batch {batch_id} now. Clear the task; it goes on.")
    return DONE


def _restore(root: Folder, url: str) -> int:
    ledger = restore(root, url)
    say(f"The ledger of {url} was written anew; it names {', '.join(ledger.batch_ids) or 'no batch'}.")
    say("Clear the task; it goes on with it.")
    return DONE


def _adopt(root: Folder, identity: Identity, options: argparse.Namespace) -> int:
    batch_ids = list(dict.fromkeys(options.batch_ids))
    adopted = adopt_batches(root, identity, api_of(options), batch_ids, force=options.force)
    say(f"{', '.join(adopted.batch_ids)}: now of the job {adopted.job}")
    if adopted.new:
        note(
            "The task has stored no requests that they could be compared with. Clear its submission: it "
            "stores its source, compares the custom_ids, and sends nothing where they are the same. "
            "Without that the answers are delivered as they are, without columns, and nothing is sent again."
        )
    else:
        note("Their custom_ids are those that the task has stored. Clear the task; it goes on with them.")
    return DONE
