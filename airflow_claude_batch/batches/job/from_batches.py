"""Jobs that are made of batches: their ledger was lost, or a person has submitted them.

What is known of such a job are the custom_ids that its batches show in their results. That is enough to
deliver it, not to send anything again. When its task runs again and has stored its source, both are compared:
where the custom_ids are the same, the job takes over what was stored, and is one like any other; nothing is
sent.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.marks import is_marked, unmarked
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.part_reader import read_inputs
from airflow_claude_batch.batches.storage import Folder


def made_part(folder: Folder, number: int, sent: list[str], sent_id: str = "") -> Part:
    """Store what is known of a batch's requests: their custom_ids.

    Args:
        folder: Of the job.
        number: Of the part.
        sent: The custom_ids that the batch's results show.
        sent_id: The one of them that carries the mark; empty where no claim says so.
    """
    looking_marked = [custom_id for custom_id in sent if unmarked(custom_id) is not None]
    if not sent_id and len(looking_marked) == 1 and len(sent) > 1:
        sent_id = looking_marked[0]
    own = unmarked(sent_id) or "" if sent_id in sent else ""
    name = f"adopted-{number:05d}.jsonl"
    with folder.open_write(name) as file:
        for custom_id in sent:
            row = {"custom_id": own if own and custom_id == sent_id else custom_id}
            file.write(msgspec.json.encode(row) + b"\n")
    part = Part(requests="", inputs=name, request_count=len(sent), bytes=0)
    if own:
        part.marked, part.stored_id, part.sent_id = own, sent_id, sent_id
    return part


def sent_ids(folder: Folder, part: Part) -> list[str]:
    """The custom_ids of a part as its batch's results show them."""
    own = (custom_id for custom_id, _ in read_inputs(folder, part.inputs))
    return [part.sent_id if part.marked and custom_id == part.marked else custom_id for custom_id in own]


def match(folder: Folder, part: Part, sent: Iterable[str]) -> str | None:
    """Whether custom_ids that a batch's results show are those of a stored part.

    Args:
        folder: Of the part's job.
        part: With its stored custom_ids.
        sent: Those of the batch.

    Returns:
        Under which custom_id the part's marked request was sent in that batch; None where they differ.
    """
    theirs = set(sent)
    if len(theirs) != part.request_count:
        return None
    mine = {custom_id for custom_id, _ in read_inputs(folder, part.inputs)}
    if mine == theirs:
        return part.marked
    extra = theirs - mine
    sent_id = extra.pop()
    fits = not extra and part.marked not in theirs and is_marked(sent_id, part.marked)
    return sent_id if fits else None


def complete(folder: Folder, ledger: Ledger, fresh_folder: Folder, fresh: Ledger) -> bool:
    """Give a job that was made of batches the requests that its task has just stored, if they are the same.

    Args:
        folder: Of the job.
        ledger: Its ledger; saved here.
        fresh_folder: Where the task's input was stored.
        fresh: What was stored.

    Returns:
        Whether the custom_ids of all batches are those of all parts.

    Raises:
        LostOwnershipError: When another process has written the ledger meanwhile.
    """
    pairs = _pairs(folder, ledger, fresh_folder, fresh)
    if pairs is None:
        return False
    parts = []
    for part, stored, sent_id in pairs:
        for name in (stored.requests, stored.inputs):
            folder.fs.cp_file(fresh_folder.locate(name), folder.locate(name))
        part.requests, part.inputs, part.bytes = stored.requests, stored.inputs, stored.bytes
        part.marked, part.stored_id, part.sent_id = stored.marked, stored.stored_id, sent_id
        part.delivery = None
        parts.append(part)
    for rejected in (part for part in fresh.parts if part.rejected):
        folder.fs.cp_file(fresh_folder.locate(rejected.inputs), folder.locate(rejected.inputs))
        parts.append(rejected)
    ledger.parts, ledger.without_requests = parts, False
    for name in ("digest", "request_count", "survey", "left_out", "betas"):
        setattr(ledger, name, getattr(fresh, name))
    ledgers.save(folder, ledger)
    return True


def _pairs(
    folder: Folder, ledger: Ledger, fresh_folder: Folder, fresh: Ledger
) -> list[tuple[Part, Part, str]] | None:
    """Each batch's part beside the stored one, in the stored order, and its marked custom_id."""
    left = list(ledger.parts)
    if len(left) != len(fresh.live_parts):
        return None
    pairs = []
    for stored in fresh.live_parts:
        for part in left:
            sent_id = match(fresh_folder, stored, sent_ids(folder, part))
            if sent_id is not None:
                pairs.append((part, stored, sent_id))
                left.remove(part)
                break
        else:
            return None
    return pairs
