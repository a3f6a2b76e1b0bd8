"""The first failed records of a job, read from where they were delivered.

Where that is, an XCom says, which somebody may have written. So it is believed only if everything bears it
out: the job's ledger lies under ``storage_path`` and names this task instance; the place begins as an
``output_path`` in the DAG's code does, or lies in the store of ``storage_path``; and its ``summary.json``
names this job. Records hold prompts and answers: only what is listed in :func:`_view` leaves here.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as TooLate
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec
from sqlalchemy.orm import Session

from airflow_claude_batch.batches.api.foreign_text import LONGEST, foreign_text
from airflow_claude_batch.batches.errors import ClaudeBatchError
from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.identity import root_relative
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part_reader import find_lines
from airflow_claude_batch.batches.results.output.directory import SUMMARY
from airflow_claude_batch.batches.results.output.read_records import read_records
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.common.settings import open_folder, show_columns_in_ui
from airflow_claude_batch.plugins.bounded import Allowance, BoundedFolder, EnoughError
from airflow_claude_batch.plugins.jobs import Job
from airflow_claude_batch.plugins.proof import is_of, readable_root
from airflow_claude_batch.plugins.queries import details

MOST_RECORDS = 100
MOST_BYTES = 64 << 20
"""Read of a job's records; and once more of its stored requests, which messages are compared with."""
SECONDS = 6.0
"""For each of the two."""
MOST_SECONDS = 2 * SECONDS + 3
"""Then the store hangs."""
LONGEST_VALUE = 500
"""Characters of a column that are shown."""

UNREADABLE = (
    "The API server cannot read this job's ledger, which has to say whose records these are. Set "
    "[claude_batch] storage_path for the API server, and give it that store's connection, package or volume."
)
UNPROVED = (
    "What lies at {path} is not proved to be this job's, or the API server cannot read it. Records are shown "
    "where summary.json beside them names this job, and where the place begins as an output_path in the "
    "DAG's code does, or is in the store of storage_path."
)

log = logging.getLogger(__name__)
_readers = ThreadPoolExecutor(max_workers=4, thread_name_prefix="claude-batch-records")


class NotShownError(Exception):
    """The records are not shown; the message says why."""


class _Owner(msgspec.Struct):
    job: str | None = None


_decode_owner = msgspec.json.Decoder(_Owner).decode


def failed_records(session: Session, job: Job) -> dict[str, Any]:
    """Read the first :data:`MOST_RECORDS` failed records of a job.

    Returns:
        ``records``, ``columns`` (names of the user's own ones that are shown), ``cut`` (whether reading ended
        before so many records were found), and ``path``.

    Raises:
        NotShownError: Where there are none, or none that may be read.
    """
    summary = job.summary
    if summary is None:
        raise NotShownError("No results are delivered.")
    if not summary.errored_path:
        raise NotShownError("This job has no output_path: its records are in the XCom of its results task.")
    declared = details.declared_places(session, job.row.key.dag_id)
    # A store may take its time, and a connection to the database is not held so long.
    session.close()
    reading = _readers.submit(_read, job, summary.errored_path, declared)
    try:
        return reading.result(MOST_SECONDS)
    except TooLate:
        reading.cancel()
        raise NotShownError(f"The store did not answer within {MOST_SECONDS:g} seconds.") from None


def _read(job: Job, path: str, declared: details.Declared) -> dict[str, Any]:
    root, folder, ledger = _proved(job, declared)
    errored = _records_of(path, ledger, root, declared)
    found: list[dict[str, Any]] = []
    try:
        for record in read_records(errored):
            found.append(record)
            if len(found) == MOST_RECORDS:
                break
    except Exception as error:
        # Where reading ended, a line may have been cut, which then is no JSON.
        if not errored.allowance.is_spent:
            log.warning("Cannot read the records at %s: %s", path, type(error).__name__)
            why = str(error) if isinstance(error, ClaudeBatchError) else type(error).__name__
            raise NotShownError(f"The records at {path} cannot be read: {why}") from error
    cut = errored.allowance.is_spent and len(found) < MOST_RECORDS
    columns = show_columns_in_ui()
    failures = [_failure(record) for record in found]
    _clean(failures, folder, ledger)
    views = [_view(failure, columns) for failure in failures]
    shown = [name for name in columns if any(name in view["columns"] for view in views)]
    return {"records": views, "columns": shown, "cut": cut, "path": path}


def _proved(job: Job, declared: details.Declared) -> tuple[Folder, Folder, Ledger]:
    """``storage_path``, folder and ledger of a job that is proved to be the task instance's."""
    url = job.announcement.job or ""
    root = readable_root(declared.storage_path_of(url))
    if root is None:
        raise NotShownError(UNREADABLE)
    try:
        folder = root_relative(root, url)
        ledger = ledgers.load(folder)
    except ClaudeBatchError as error:
        raise NotShownError(str(error)) from error
    if ledger is None:
        raise NotShownError("The job's ledger is gone; `claude-batch purge` deletes it after some weeks.")
    if not is_of(ledger, folder, root, job.row.key):
        raise NotShownError(f"{url[:200]!r} is no job of this task instance.")
    return root, folder, ledger


def _records_of(path: str, ledger: Ledger, root: Folder, declared: details.Declared) -> BoundedFolder:
    """The folder of the failed records, if it is this job's."""
    refused = NotShownError(UNPROVED.format(path=path[:500]))
    place, _, last = path.rpartition("/")
    if last != "errored" or not _may_be_opened(place, root, declared.output_paths):
        raise refused
    try:
        output = BoundedFolder.around(open_folder(place), Allowance.of(bytes=MOST_BYTES, seconds=SECONDS))
        with output.open_read(SUMMARY) as file:
            owner = _decode_owner(file.read())
    except Exception as error:  # noqa: BLE001  # whatever it is, it must not tell what else lies there
        log.info("Cannot read %s: %s: %s", place, type(error).__name__, foreign_text(error))
        raise refused from None
    if owner.job != ledger.job:
        raise refused
    return output.child(last)


_TEMPLATE = re.compile(r"\{[{%#].*", re.DOTALL)
_STORE = re.compile(r"([a-z0-9+.-]+://[^/{]*)?/")


def _may_be_opened(place: str, root: Folder, output_paths: Iterable[str]) -> bool:
    """Whether the DAG's code, or the administrator, has named the store with its connection."""
    if not {"..", "."}.isdisjoint(place.split("/")):
        return False
    named = [_TEMPLATE.sub("", one) for one in output_paths]
    return _store(place) == _store(root.url) or any(
        place.startswith(one) for one in named if _STORE.match(one)
    )


def _store(url: str) -> tuple[str, str]:
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", url
    return parts.scheme or "file", parts.netloc


@dataclass(kw_only=True)
class _Failure:
    custom_id: str
    outcome: str
    type: str | None
    message: str | None
    request_id: str | None
    retryable: bool | None
    rounds: int
    input: dict[str, Any]


def _failure(record: dict[str, Any]) -> _Failure:
    """A record of any format; the API's own lines have another shape."""
    if "outcome" in record:
        return _Failure(
            custom_id=_text(record.get("custom_id")) or "",
            outcome=_text(record.get("outcome")) or "",
            type=_text(record.get("error_type")),
            message=_text(record.get("message")),
            request_id=_text(record.get("request_id")),
            retryable=bool(record.get("retryable")),
            rounds=int(record.get("rounds") or 0),
            input=_mapping(record.get("input")),
        )
    result = _mapping(record.get("result"))
    envelope = _mapping(result.get("error"))
    error = _mapping(envelope.get("error"))
    return _Failure(
        custom_id=_text(record.get("custom_id")) or "",
        outcome=_text(result.get("type")) or "",
        type=_text(error.get("type")),
        message=_text(error.get("message")),
        request_id=_text(envelope.get("request_id")),
        retryable=None,
        rounds=1,
        input={},
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _clean(failures: list[_Failure], folder: Folder, ledger: Ledger) -> None:
    """Take out of messages what they repeat of requests and answers.

    The API's are compared with the request that they are about, as it is stored; where that is gone, they are
    withheld unless the job's summary shows them anyhow.
    """
    public = {sample["message"] for sample in _samples(ledger)}
    asked = {one.custom_id for one in failures if one.message not in public and _is_of_api(one)}
    sent = dict(_lines(folder, ledger, asked))
    for one in failures:
        if one.message is None or one.message in public:
            continue
        if one.custom_id in asked:
            line = sent.get(one.custom_id)
            one.message = None if line is None else foreign_text(one.message, [line])
        else:
            one.message = _own_words(one)


def _is_of_api(failure: _Failure) -> bool:
    return failure.outcome not in ("invalid", "expired", "canceled", "missing")


def _own_words(failure: _Failure) -> str | None:
    """A message of this package without values of an answer: at most the place that they are at."""
    words = failure.message or ""
    if failure.outcome != "invalid" or failure.rounds == 0:
        return foreign_text(words)
    if failure.type == "check":
        return None
    return foreign_text(words.partition(": ")[0].partition("; ")[0])


def _samples(ledger: Ledger) -> Iterator[dict[str, Any]]:
    """Messages that the job's summary shows, cleaned."""
    for part in ledger.parts:
        if part.delivery is not None:
            yield from part.delivery.tally.samples.values()


def _lines(folder: Folder, ledger: Ledger, custom_ids: set[str]) -> Iterator[tuple[str, bytes]]:
    """Stored requests, as far as they are found soon."""
    spool = BoundedFolder.around(folder, Allowance.of(bytes=MOST_BYTES, seconds=SECONDS))
    missing = set(custom_ids)
    for part in ledger.parts:
        if not missing:
            return
        try:
            found = find_lines(spool, part, missing)
        except EnoughError:
            return
        except Exception as error:  # noqa: BLE001  # purged, or damaged: messages are withheld
            log.info("Cannot read %s of %s: %s", part.requests, folder.url, type(error).__name__)
            continue
        missing -= set(found)
        yield from found.items()


def _view(failure: _Failure, columns: list[str]) -> dict[str, Any]:
    return {
        "custom_id": failure.custom_id[:LONGEST],
        "outcome": failure.outcome[:LONGEST],
        "type": (failure.type or failure.outcome)[:LONGEST],
        "message": failure.message,
        "request_id": failure.request_id and failure.request_id[:LONGEST],
        "retryable": failure.retryable,
        "columns": {name: _shown(failure.input[name]) for name in columns if name in failure.input},
    }


def _shown(value: Any) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value, enc_hook=str).decode()
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 1]}…"
