"""``retry``: failed requests of a job are sent again, and its output is whole again afterwards."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.job.job import open_job
from airflow_claude_batch.batches.job.ledger import Destination, Ledger
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.delivery import Delivery
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.output_records import OUTCOMES
from airflow_claude_batch.batches.results.resubmission import choose, spool_next
from airflow_claude_batch.batches.results.unsent_records import unsent_records
from airflow_claude_batch.cli.command import DONE, NO, NothingFoundError
from airflow_claude_batch.cli.delivering import check_idle, deliver, submit_all
from airflow_claude_batch.cli.places import (
    api_of,
    existing_storage,
    find_job,
    folder_at,
    name_of,
    price_factor_of,
    retry_line,
    text_of,
)
from airflow_claude_batch.cli.printing import check_answerable, confirm, note, progress, say
from airflow_claude_batch.cli.summaries import print_summary
from airflow_claude_batch.cli.view import tally_of
from airflow_claude_batch.common.settings import open_folder
from airflow_claude_batch.runtime.reuse import job_answers

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import BatchesApi
    from airflow_claude_batch.batches.job.job import Job
    from airflow_claude_batch.batches.job.part import Part
    from airflow_claude_batch.batches.results.output_records import ErroredRecord
    from airflow_claude_batch.batches.storage import Folder

FAILED = OUTCOMES[1:]
PERMANENT = frozenset({"invalid_request_error"})
"""Errors that would come again; such requests are sent only where their ids are given."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which failures are sent again."""

    outcomes: frozenset[str] = frozenset()
    custom_ids: frozenset[str] = frozenset()

    @classmethod
    def of(cls, words: list[str]) -> Chosen:
        """Read what ``--only`` was given.

        Raises:
            ConfigurationError: For anything but outcomes, or ``ids`` and a file.
        """
        if words[0] == "ids" and len(words) == 2:
            ids = frozenset(filter(None, map(str.strip, text_of(words[1], "--only ids").splitlines())))
            if not ids:
                raise ConfigurationError(f"--only ids {words[1]}: the file names no custom_id.")
            return cls(custom_ids=ids)
        if unknown := [word for word in words if word not in FAILED]:
            raise ConfigurationError(
                f"--only {unknown[0]}: it takes {', '.join(FAILED)}, or ids and a file with a custom_id "
                "a line."
            )
        return cls(outcomes=frozenset(words))

    def __call__(self, record: ErroredRecord) -> bool:
        """Whether this one is."""
        if self.custom_ids:
            return record.custom_id in self.custom_ids
        return record.outcome in self.outcomes and record.error_type not in PERMANENT

    def count(self, ledger: Ledger) -> int:
        """How many there may be, by what was delivered."""
        if self.custom_ids:
            return len(self.custom_ids)
        counts = tally_of(ledger).counts
        return sum(counts.get(outcome, 0) for outcome in self.outcomes)


def retry(options: argparse.Namespace) -> int:
    """Bring the job to its end, send again what is asked for, and deliver that, too."""
    root = existing_storage(options)
    chosen = Chosen.of(options.only) if options.only else None
    folder, ledger = find_job(root, options.job)
    _check(folder, ledger, chosen)
    api = api_of(options, ledger)
    delivery = delivery_of(options, ledger, api)
    delivery.reuse = job_answers(ledger, root)
    name = name_of(root, folder.url)
    try:
        summary = None
        if chosen is None or _is_open(ledger):
            if chosen is not None:  # before anything is delivered
                check_answerable(f"Send failed requests of {name} again?", yes=options.yes)
            summary = deliver(root, folder.url, delivery, poll_interval=options.poll_interval)
        if chosen is not None:
            _, ledger = find_job(root, name)
            if not _ask(options, ledger, chosen):
                return NO
            _send_again(root, folder, delivery, chosen)
            if options.no_wait:
                batch_ids = submit_all(root, folder.url, api)
                later = retry_line(options, name, *_again(options))
                say(f"Sent: {', '.join(batch_ids[-3:])}. Later: {later}")
                return DONE
            summary = deliver(root, folder.url, delivery, poll_interval=options.poll_interval)
    except KeyboardInterrupt:
        note(f"Go on with: {retry_line(options, name, *_again(options))}")
        raise
    assert summary is not None
    print_summary(summary, options.shown_as)
    return DONE


def _again(options: argparse.Namespace) -> list[str]:
    """What the ledger does not know: the next command has to say it once more."""
    given = {"--output": options.output, "--check": options.check}
    return [word for flag, value in given.items() if value for word in (flag, value)]


def delivery_of(options: argparse.Namespace, ledger: Ledger, api: BatchesApi) -> Delivery:
    """How the job was delivered, or is to be.

    Raises:
        ConfigurationError: Where that is not known, or cannot be done here.
    """
    place = ledger.destination or Destination(output_schema=ledger.output_schema)
    given, path = options.output, place.path
    if path is None and given is None:
        raise ConfigurationError(
            f"{ledger.job} was not delivered to a directory that its ledger names (into XCom, or not at "
            "all): say --output PATH."
        )
    if place.user_check and options.check is None:
        raise ConfigurationError(
            "A function of the DAG's file has checked this job's answers. Say --check FILE.py:FUNCTION, or "
            "clear the results task instead."
        )
    schema = None if place.output_schema is None else OutputSchema.of(place.output_schema)
    output = open_directory(
        open_folder(path) if given is None and path is not None else folder_at(given or ""),
        format=options.format or place.format,  # type: ignore[arg-type]
        compression=options.compression or place.compression,  # type: ignore[arg-type]
        output_schema=place.output_schema,
        include_message=place.include_message,
        overwrite=options.overwrite,
    )
    reading = Reading(
        count_as_failed=tuple(place.count_as_failed),
        output_schema=schema,
        resubmit_invalid=place.resubmit_invalid,
        include_message=place.include_message,
        quotes=tuple(place.quotes),
        user_check=load_check(options.check) if options.check else None,
    )
    return Delivery(api=api, output=output, reading=reading, price_factor=price_factor_of(api))


def _check(folder: Folder, ledger: Ledger, chosen: Chosen | None) -> None:
    check_idle(folder)
    if not ledger.spooled:
        raise ConfigurationError(f"The input of {folder.url} is not stored whole; clear its task.")
    if ledger.dry_run:
        raise ConfigurationError(
            f"{folder.url} was stored by a dry run, and nothing of it was sent. Clear its task, without "
            "dry_run."
        )
    if ledger.superseded_by:
        batch_ids = " ".join(ledger.batch_ids)
        answers = f" Its answers: `claude-batch fetch {batch_ids} --output PATH`." if batch_ids else ""
        raise ConfigurationError(
            f"{folder.url} was replaced by {ledger.superseded_by}; nothing was sent.{answers}"
        )
    if chosen is not None and ledger.without_requests:
        raise ConfigurationError(
            f"{folder.url} was made of its batches, and what was sent in them is not known. Clear its "
            "submission, which stores the requests."
        )
    by_calls = ledger.without_batches == "direct" or any(part.way == "direct" for part in ledger.live_parts)
    if chosen is not None and by_calls:
        raise ConfigurationError(
            f"{folder.url} was answered by single calls, which only a task makes. Submit the rows of its "
            "errored records as a job of their own. Nothing was sent or changed."
        )


def _is_open(ledger: Ledger) -> bool:
    return any(part.delivery is None for part in ledger.parts if not part.split)


def _ask(options: argparse.Namespace, ledger: Ledger, chosen: Chosen) -> bool:
    count = chosen.count(ledger)
    if not count:
        raise NothingFoundError(f"No request of {ledger.job} is {' or '.join(sorted(chosen.outcomes))}.")
    usd = ledger.estimated_usd(count)
    price = "" if usd is None else f", about ${usd:.4f}"
    return confirm(f"Send up to {count} of {ledger.request_count} requests again{price}?", yes=options.yes)


def _send_again(root: Folder, folder: Folder, delivery: Delivery, chosen: Chosen) -> None:
    """Move what is chosen into a new round.

    Raises:
        NothingFoundError: Where there is nothing of that kind that could be sent.
    """
    with open_job(root, folder.url) as job:
        moved = _move(job, delivery, chosen)
        if moved:
            _answer_anew(job)
        spool_next(job)
    if not moved:
        raise NothingFoundError(_why_nothing(folder, chosen))
    left = len(chosen.custom_ids) - moved if chosen.custom_ids else 0
    if left > 0:
        note(f"{left} of the ids are not sent: they have an answer, or are none of this job's.")
    note(f"{moved} requests are sent again.")


def _move(job: Job, delivery: Delivery, chosen: Chosen) -> int:
    """Move what is chosen out of the job's parts; returns how many requests that are."""
    # What was not asked is not asked again; who repeats a request gets what that one is answered now.
    parts = [part for part in job.ledger.live_parts if part.is_answered and part.way != "reuse"]
    for part in parts:
        _check_whole(job, part, chosen)
    moved = 0
    with progress("Reading results", len(parts)) as update:
        for number, part in enumerate(parts, 1):
            moved += choose(delivery.api, job, part, chosen, delivery.reading)
            update(number)
    return moved


def _answer_anew(job: Job) -> None:
    """Let who repeats a request get its new answer, and batches take what a deadline left out."""
    with job.change() as ledger:
        if ledger.on_time is not None and ledger.without_batches is not None:
            ledger.on_time.sent_again = True
        for part in ledger.parts:
            if part.repeats:
                part.delivery, part.answered = None, False


def _why_nothing(folder: Folder, chosen: Chosen) -> str:
    if chosen.custom_ids:
        return (
            f"Nothing was sent: none of the {len(chosen.custom_ids)} ids is a failed request of {folder.url} "
            "that could be sent again."
        )
    return (
        "Nothing was sent. What was refused before it was sent, and what the API calls an invalid request, "
        "would only fail again; what has an answer is not asked again."
    )


def _check_whole(job: Job, part: Part, chosen: Chosen) -> None:
    """Return if none or all of a part is wanted that was given up: it goes as it was stored."""
    if not part.given_up:
        return
    wanted = sum(map(chosen, unsent_records(job.folder, job.ledger, part)))
    if 0 < wanted < part.request_count:
        raise ConfigurationError(
            f"Part {job.ledger.parts.index(part)} of {job.folder.url} was not sent ({part.given_up}), and is "
            f"sent as a whole or not at all: {wanted} of its {part.request_count} requests are asked for. "
            "Ask for all of them: they are errored records with this reason. Nothing was sent."
        )


def load_check(text: str) -> Callable[[dict[str, Any]], str | None]:
    """A function of a Python file."""
    path, separator, name = text.rpartition(":")
    spec = importlib.util.spec_from_file_location("claude_batch_check", path) if separator else None
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"--check {text}: it looks like checks.py:is_plausible")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ConfigurationError(
            f"--check {text}: the file cannot be loaded: {type(error).__name__}: {error}"
        ) from error
    function: Any = getattr(module, name, None)
    if not callable(function):
        raise ConfigurationError(f"--check {text}: {path} has no function {name}")
    return function  # type: ignore[no-any-return]
