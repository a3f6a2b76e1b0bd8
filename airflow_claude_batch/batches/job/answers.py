"""Answers that no batch gave: files of result lines in the job's folder, ``answers-<part>-<n>.jsonl``.

Each is written once, whole, and created exclusively. Lines have the form of a results file's, under the
user's own custom_ids. A request that has several lines has the first of them.
"""

from __future__ import annotations

import re

from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.storage import Folder

_NAME = re.compile(r"answers-(\d{5,})-(\d{6,})\.jsonl(\.gz)?")


def answer_file(part: int, number: int) -> str:
    """Name of a file.

    Args:
        part: Position of the part in the ledger.
        number: Of the file, counted from 0.
    """
    return f"answers-{part:05d}-{number:06d}.jsonl"


def answer_number(name: str) -> int:
    """Number of a file."""
    match = _NAME.fullmatch(name)
    assert match is not None
    return int(match[2])


def answer_files(folder: Folder, part: int) -> list[str]:
    """The files of a part, in the order in which they were written."""
    found = {
        int(match[2]): name
        for name in folder.names()
        if (match := _NAME.fullmatch(name)) and int(match[1]) == part
    }
    return [found[number] for number in sorted(found)]


def has_sent(folder: Folder, ledger: Ledger) -> bool:
    """Whether a batch of the job exists, or may exist, or a single call was answered."""
    if any(part.batch_id or part.intent_at for part in ledger.parts):
        return True
    direct = [number for number, part in enumerate(ledger.parts) if part.way == "direct"]
    return any(ledger.parts[number].answered or answer_files(folder, number) for number in direct)
