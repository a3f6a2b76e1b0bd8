"""Deleting answers under ``storage_path`` that are too old."""

from __future__ import annotations

import datetime
import posixpath
from collections.abc import Iterator

from airflow_claude_batch.batches.reuse.compaction import count_older, drop
from airflow_claude_batch.batches.reuse.store import ANSWERS, Store, milliseconds
from airflow_claude_batch.batches.storage import Folder


def purge_answers(root: Folder, *, older_than: datetime.timedelta | None, dry_run: bool = False) -> int:
    """Delete the answers of all scopes that were given longer ago.

    Args:
        root: ``storage_path``.
        older_than: Age; None for the longest ``max_age`` that a user of each store has wanted.
        dry_run: Only count, whole files only.

    Returns:
        How many answers.
    """
    now, deleted = datetime.datetime.now(datetime.UTC), 0
    for store in stores(root):
        oldest = store.not_before(now) if older_than is None else milliseconds(now - older_than)
        not_before = oldest or 0
        deleted += (count_older if dry_run else drop)(store, not_before)
    return deleted


def stores(root: Folder) -> Iterator[Store]:
    """Every store under ``storage_path``."""
    answers = root.child(ANSWERS)
    answers.fs.invalidate_cache(answers.path)
    found = answers.fs.find(answers.path) if answers.fs.exists(answers.path) else []
    prefix = answers.fs._strip_protocol(answers.path)
    for path in sorted({posixpath.dirname(path) for path in found}):
        yield Store(answers.child(*path.removeprefix(prefix).strip("/").split("/")))
