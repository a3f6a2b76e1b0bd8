"""``cancel``: end batches, and say what they had answered by then."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.api.cancel import Cancellation, cancel_all
from airflow_claude_batch.batches.job.authority import owned_by
from airflow_claude_batch.batches.job.claims import BATCH_ID
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import PartState
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.cli.command import DONE, NO, PASSING, NothingFoundError
from airflow_claude_batch.cli.places import api_of, existing_storage, find_job, owner_of
from airflow_claude_batch.cli.printing import confirm, note, print_rows, progress

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import Batch, BatchesApi

LOOK_SECONDS = 1.0


def cancel(options: argparse.Namespace) -> int:
    """Ask, cancel, and print what became of each batch."""
    root = existing_storage(options)
    ledger, batch_ids, warning = _target(root, options.job)
    api = api_of(options, ledger)
    batches = {batch_id: _look(api, batch_id, is_known=ledger is not None) for batch_id in batch_ids}
    running = [batch_id for batch_id, batch in batches.items() if batch is None or not batch.ended]
    if warning:
        note(warning)
    if not running:
        print_rows([_row(*item, "had ended before") for item in batches.items()], options.output)
        return DONE
    requests = sum(batch.request_counts.total for batch in batches.values() if batch and not batch.ended)
    many = f"{len(running)} of {len(batches)} batches" if len(batches) > 1 else f"batch {running[0]}"
    question = f"Cancel {many} ({requests} requests)? What is answered by then is billed, and kept."
    if not confirm(question, yes=options.yes):
        return NO
    answers: dict[str, Cancellation] = {}
    try:
        for batch_id in running:
            [answers[batch_id]] = cancel_all(api, [batch_id])
        asked = [batch_id for batch_id in running if not answers[batch_id].goes_on]
        _wait(api, batches, asked, options.wait)
    finally:  # what was done is said, whatever came then
        rows = []
        for batch_id, batch in batches.items():
            answer = answers.get(batch_id)
            word = "not asked" if answer is None and batch_id in running else _word(answer)
            rows.append({**_row(batch_id, batch, word), "problem": answer.problem if answer else ""})
        print_rows(rows, options.output)
    return PASSING if len(asked) < len(running) else DONE


def _target(root: Folder, text: str) -> tuple[Ledger | None, list[str], str]:
    """The batches that are meant, and what the person should know before."""
    if BATCH_ID.fullmatch(text):
        owner = owner_of(root, text)
        if isinstance(owner, str):
            return None, [text], owner
        return owner[1], [text], ""
    _, ledger = find_job(root, text)
    open_ids = [part.batch_id for part in ledger.live_parts if part.batch_id and part.delivery is None]
    owned = owned_by(root, open_ids, ledger.dag_id)
    warning = ""
    if len(owned) < len(open_ids):
        warning = "Left alone, because no claim gives it to this DAG: "
        warning += ", ".join(batch_id for batch_id in open_ids if batch_id not in owned)
    elif any(part.state in (PartState.TO_SEND, PartState.UNCERTAIN) for part in ledger.live_parts):
        warning = "Not all of the job is submitted; its task may send more. Mark the task failed to stop it."
    if not owned:
        raise NothingFoundError(f"No batch of {ledger.job} is left to cancel. {warning}".strip())
    return ledger, owned, warning


def _look(api: BatchesApi, batch_id: str, *, is_known: bool) -> Batch | None:
    """A batch; None for one of a job's that the API does not know now, which passes, now and then."""
    import anthropic

    try:
        return api.retrieve(batch_id)
    except anthropic.NotFoundError:
        if is_known:
            return None
        raise NothingFoundError(f"The API does not know {batch_id}. Nothing was cancelled.") from None


def _wait(api: BatchesApi, batches: dict[str, Batch | None], asked: list[str], seconds: float) -> None:
    """Look until all that were asked for have ended, or the time is over; keeps what it sees."""
    deadline, going_on = time.monotonic() + seconds, list(asked)
    with progress("Waiting until what is in flight is done", len(asked)) as update:
        while going_on:
            for batch_id in list(going_on):
                batches[batch_id] = batch = api.retrieve_known(batch_id)
                if batch.ended:
                    going_on.remove(batch_id)
            update(len(asked) - len(going_on))
            if not going_on or time.monotonic() >= deadline:
                return
            time.sleep(min(LOOK_SECONDS, max(deadline - time.monotonic(), 0)))


def _word(answer: Cancellation | None) -> str:
    if answer is None:
        return "had ended before"
    return "could not be cancelled" if answer.goes_on else "cancelled"


def _row(batch_id: str, batch: Batch | None, word: str) -> dict[str, Any]:
    """Counts are known only when a batch has ended."""
    if batch is None:
        unknown = ("status", "requests", "answered", "canceled", "failed")
        return {"batch": batch_id, "result": word, **dict.fromkeys(unknown)}
    counts, known = batch.request_counts, batch.ended
    return {
        "batch": batch.id,
        "result": word,
        "status": batch.processing_status,
        "requests": counts.total,
        "answered": counts.succeeded if known else None,
        "canceled": counts.canceled if known else None,
        "failed": counts.errored + counts.expired if known else None,
    }
