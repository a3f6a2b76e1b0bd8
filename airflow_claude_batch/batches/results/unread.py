"""Results that exist by the API's counts, and come in no download: damaged for good, or lost on the way.

Without them a part is not delivered: they were paid for, and a retry may get them. Which they are is noted
in the job's folder, ``unread-00000-….jsonl`` (the number is the part's). Only a person can say that they
never come; then exactly these requests are delivered as errored (``unreadable_result``), and the others
whole. If another one stays away later, that is an error again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Set

import msgspec

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import ConfigurationError, UnreadResultsError
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.part_writer import writers_label
from airflow_claude_batch.batches.results.download import Download
from airflow_claude_batch.batches.results.line_sources import part_source
from airflow_claude_batch.batches.results.sent_requests import Ids
from airflow_claude_batch.batches.storage import Folder, iter_lines


class _Unread(msgspec.Struct):
    custom_id: str


_decode = msgspec.json.Decoder(_Unread).decode
_encode_lines = msgspec.json.Encoder().encode_lines


def way_out(ledger: Ledger, part: Part) -> str:
    """What a person can do about a part of a job, in a sentence."""
    number = next(number for number, own in enumerate(ledger.parts) if own is part)
    return (
        f"Where no retry helps, `claude-batch accept {ledger.job} --part {number}` lets the others be "
        "delivered without them."
    )


def accepted_ids(folder: Folder, part: Part) -> Set[str]:
    """custom_ids of a part whose results never come, as a person has accepted."""
    return _read(folder, part.accepted_file)


@contextlib.contextmanager
def noting(job: Job, part: Part, download: Download) -> Iterator[None]:
    """Where results do not come, write down which, before the error goes its way."""
    try:
        yield
    except UnreadResultsError:
        _note(job, part, {custom_id for custom_id, _ in download.missing()})
        raise


def look(job: Job, api: BatchesApi, part: Part) -> None:
    """Read the results of a part that is answered, and note which do not come.

    Raises:
        ResultsError: When there are none yet.
        ResultsGoneError: When they cannot be had any more.
        IncompleteResultsError: When they cannot be read for now.
    """
    source = part_source(api, job.folder, job.ledger, job.number_of(part))
    assert source is not None
    with contextlib.closing(Ids(job.folder, part.inputs)) as sent:
        download = Download(
            source=source, inputs=sent, sent_as=part.sent_as, accepted=accepted_ids(job.folder, part)
        )
        with contextlib.suppress(UnreadResultsError), noting(job, part, download):
            for _ in download.arrivals():
                pass


def accept(job: Job, files: Set[str]) -> None:
    """Record a person's word that results never come.

    Args:
        job: Whose results they are.
        files: The lists of them that the person has seen.

    Raises:
        ConfigurationError: When others were noted meanwhile; nothing is changed then.
    """
    parts = [part for part in job.ledger.parts if part.unread_file in files]
    if len(parts) < len(files):
        raise ConfigurationError(f"Other results of {job.folder.url} stay away by now. Nothing was changed.")
    with job.change():
        for part in parts:
            part.accepted_file = part.unread_file


def _note(job: Job, part: Part, custom_ids: Set[str]) -> None:
    if part.unread_file and _read(job.folder, part.unread_file) == custom_ids:
        return
    name = f"unread-{job.number_of(part):05d}-{writers_label()}.jsonl"
    job.folder.write(name, _encode_lines([_Unread(custom_id) for custom_id in sorted(custom_ids)]))
    with job.change():
        part.unread, part.unread_file = len(custom_ids), name


def _read(folder: Folder, name: str) -> Set[str]:
    if not name:
        return frozenset()
    with folder.open_read(name) as file:
        return frozenset(_decode(line).custom_id for line in iter_lines(file))
