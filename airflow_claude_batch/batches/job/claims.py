"""Claims: the files ``batches/{batch_id}`` under ``storage_path`` that say whose batch a batch is.

A claim is created once and never overwritten. It names a job only on proof: the answer to the job's own POST,
or its mark in the batch's results.
"""

from __future__ import annotations

import logging
import re

import msgspec

from airflow_claude_batch.batches.errors import LedgerError
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

BATCH_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
"""Form of a batch id; anything else names no file and no address."""


class Claim(msgspec.Struct, kw_only=True):
    """Whose batch it is."""

    job: str
    """URL of the job's folder."""
    part: int
    sent_id: str = ""
    """custom_id with the mark of the POST that made the batch; empty in claims of before there were marks."""
    dag_id: str = ""
    """Likewise."""


_decode = msgspec.json.Decoder(Claim).decode


def claim(root: Folder, batch_id: str, mine: Claim) -> None:
    """Write down that a batch belongs to a part of a job. What another has written there stays.

    Args:
        root: ``storage_path``.
        batch_id: A batch that is proved to be this part's.
        mine: What to write.
    """
    if not BATCH_ID.fullmatch(batch_id):
        raise LedgerError(f"The API answered with a batch id of an unknown form: {batch_id[:100]!r}.")
    if root.child("batches").create(batch_id, msgspec.json.encode(mine) + b"\n"):
        return
    other = find_claim(root, batch_id)
    if other is not None and (other.job, other.part) != (mine.job, mine.part):
        log.error("The claim on %s names %s part %s, but it is this job's", batch_id, other.job, other.part)


def find_claim(root: Folder, batch_id: str) -> Claim | None:
    """Who owns a batch; None where nobody said so.

    Raises:
        LedgerError: For a claim that cannot be read.
    """
    if not BATCH_ID.fullmatch(batch_id):
        return None
    try:
        return _decode(root.child("batches").read(batch_id))
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise LedgerError(f"The claim {root.url}/batches/{batch_id} cannot be read: {error}") from error
