"""A person's word on what became of a POST whose answer was lost.

The way out of an ``AmbiguousSubmissionError``: nothing that the API still shows can tell, so somebody looks
at the batches in the Claude Console and says which of them is the part's, or that none of them is.
"""

from __future__ import annotations

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.job import lease as leases
from airflow_claude_batch.batches.job.claims import BATCH_ID, find_claim
from airflow_claude_batch.batches.job.identity import root_relative
from airflow_claude_batch.batches.job.job import Job, open_job, read_ledger
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import Part, PartState
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission import reconcile


def adopt(root: Folder, url: str, number: int, batch_id: str | None) -> None:
    """Record the batch of an uncertain part, or that there is none.

    Args:
        root: ``storage_path``.
        url: Of the job's folder.
        number: Position of the part in the ledger.
        batch_id: The batch; None if the POST has made none, so that the next try sends the part again.

    Raises:
        ConfigurationError: If that cannot be, or a worker is at work on the job; nothing is changed then.
        LedgerError: If there is no such job, or it cannot be read.
    """
    folder = root_relative(root, url)
    _uncertain_part(read_ledger(folder), number)  # before anything is written there
    home = folder.parent
    if leases.alive(home, leases.newest(home)):
        raise ConfigurationError(
            f"A worker is at work on {folder.url}. Try again when its task has ended, or mark it failed."
        )
    with open_job(root, url) as job:
        part = _uncertain_part(job.ledger, number)
        if batch_id is not None:
            _check(job, part, batch_id)
            job.claim(part, batch_id)
            _check(job, part, batch_id)  # another job may have claimed it meanwhile
        with job.change():
            if batch_id is None:
                part.intent_at = None
            else:
                part.batch_id, part.submitted_at, part.adopted = batch_id, part.intent_at, True
        reconcile.withdraw(job, part)


def _uncertain_part(ledger: Ledger, number: int) -> Part:
    if not 0 <= number < len(ledger.parts):
        last = len(ledger.parts) - 1
        raise ConfigurationError(f"{ledger.job} has no part {number}; its parts are 0 to {last}.")
    part = ledger.parts[number]
    if part.split or part.rejected:
        raise ConfigurationError(f"Part {number} of {ledger.job} is not sent as it is; nothing was changed.")
    if part.state is not PartState.UNCERTAIN:
        named = f" ({part.batch_id})" if part.batch_id else ""
        raise ConfigurationError(
            f"There is no doubt about part {number} of {ledger.job}: {part.state.value}{named}. Nothing was "
            "changed."
        )
    return part


def _check(job: Job, part: Part, batch_id: str) -> None:
    """Return if the batch can be the part's."""
    if not BATCH_ID.fullmatch(batch_id):
        raise ConfigurationError(f"{batch_id[:100]!r} is no batch id; it looks like msgbatch_01….")
    number = job.number_of(part)
    claim = find_claim(job.root, batch_id)
    if claim is not None and (claim.job, claim.part) != (job.ledger.job, number):
        raise ConfigurationError(
            f"Batch {batch_id} belongs to part {claim.part} of {claim.job}. Nothing was changed."
        )
    if batch_id in job.ledger.batch_ids:
        raise ConfigurationError(
            f"Batch {batch_id} is that of another part of this job. Nothing was changed."
        )
    if batch_id in part.foreign:
        raise ConfigurationError(
            f"The results of batch {batch_id} have shown that it is not part {number}'s. Nothing was changed."
        )
