"""The ledger: a job's durable record.

Each change creates the next version, ``ledger-000017.json``, which only one writer can do; the highest
counts. So a write that comes late, or from a worker that was taken for dead, changes nothing. A damaged
ledger is an error, never an empty one: forgetting a batch means paying for it twice.
"""

from __future__ import annotations

import datetime
import enum
import hashlib
import re
from typing import Any

import msgspec

from airflow_claude_batch.batches.errors import LedgerError, LostOwnershipError
from airflow_claude_batch.batches.job.on_time import LateBatches, OnTime
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.survey import Survey
from airflow_claude_batch.batches.storage import Folder

VERSION = 2
VERSION_1_FILE = "ledger.json"
KEPT = 5
"""Versions that are kept, for people; older ones are deleted."""

_NAME = re.compile(r"ledger-(\d{6,})\.json")


class Trial(msgspec.Struct, kw_only=True):
    """That a job has some records of its input only, to try it."""

    records: int
    of: int
    """Records of the whole input."""
    pick: str
    """Which ones: ``first``, ``spread`` or ``random``."""
    asset_events: bool = False
    """Whether what is scheduled on the task's assets is to run on them."""


class ReuseNote(msgspec.Struct, kw_only=True, omit_defaults=True):
    """How a job uses the answers of earlier ones, and keeps its own for later ones."""

    store: str
    """URL of the folder that holds them."""
    max_age_seconds: int | None = None
    """How old an answer may be."""
    part_requests: int
    """Most requests in a part that is sent after all."""


class BookingState(enum.Enum):
    """How far a job's reservation has come."""

    RESERVED = "reserved"
    ADMITTED = "admitted"
    RELEASED = "released"


class Booking(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where a job's costs are booked; see ``accounts``."""

    day: str
    """Folder of the book, ``yyyy-mm-dd``."""
    at: datetime.datetime
    attempt: int = 1
    state: BookingState = BookingState.RESERVED
    pico: int | None = None
    """The estimate, in picodollars; None where it is not known."""
    budgets: list[dict[str, Any]] = []
    """The budgets that it is subject to."""
    about: str = ""
    """Of an addition: what it is for."""
    additions: list[Booking] = []
    """What was reserved beyond it since: for later rounds, and for single calls at a deadline."""


class Destination(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Where a job's records were written, and how: what it takes to write further ones beside them."""

    path: str | None = None
    """URL of the directory; None for XCom."""
    format: str = "jsonl"
    compression: str | None = None
    count_as_failed: list[str] = []
    output_schema: dict[str, Any] | None = None
    """JSON Schema that answers were checked against."""
    resubmit_invalid: bool = False
    include_message: bool = False
    quotes: list[str] = []
    user_check: bool = False
    """Whether a function of the DAG's author judged the answers."""


class Ledger(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All that is known about one job."""

    version: int
    """Of this format."""
    number: int = 0
    """Of this file; 0 for none yet, or one of format version 1."""
    owner: str = ""
    """Fencing token of the process that wrote this, told apart from all others."""
    job: str
    """URL of the job's folder."""
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1
    shared_with: list[str] = []
    """DAGs besides its own whose tasks may deliver this job."""
    conn_id: str = ""
    generation: int = 1
    """First try number of the generation of the task instance that this job belongs to."""
    try_number: int = 0
    """The last try that took the job up; 0 for none."""
    created_at: datetime.datetime
    spooled: bool = False
    """Whether the whole input is stored; before that, nothing may be sent."""
    digest: str = ""
    request_count: int = 0
    warm_cache: bool = False
    """Whether the first part has still to end before the others are submitted and find its prefix cached."""
    probed: bool = False
    """Whether the first request was sent by itself and found valid."""
    betas: list[str] = []
    parts: list[Part] = []
    output_schema: dict[str, Any] | None = None
    """JSON Schema that answers are to keep to, as the user wrote it."""
    prompt_version: str | None = None
    """What names the prompt: the user's word, or a hash of template, system prompt and schema."""
    reuse: ReuseNote | None = None
    """Where answers are looked up and kept; None for a job that does neither."""
    survey: Survey | None = None
    """What the requests come to, for the estimate; None in ledgers of before it was gathered."""
    left_out: dict[str, int] = {}
    """Files beside the input that were not read, by suffix."""
    estimate: dict[str, Any] = {}
    """What the job was estimated to cost before it was sent."""
    dry_run: bool = False
    """Whether the job was only stored to be looked at; it is sent when its task runs without ``dry_run``."""
    trial: Trial | None = None
    """Of a job that tries some records; None for the whole input."""
    on_time: OnTime | None = None
    """When the job is needed; None where there is no such moment."""
    past_deadline: datetime.datetime | None = None
    """A deadline that was missed, or that a clear came after: who delivers again wants the rest, too."""
    direct_per_second: float = 0.0
    """The pace at which single calls were last answered; 0 where there were none."""
    direct_outages: int = 0
    """How often in a row single calls were given up for a while, since nobody was answered."""
    direct_outage_at: datetime.datetime | None = None
    """When that began."""
    tags: dict[str, str] = {}
    """What the job's costs are booked under."""
    max_usd: float | None = None
    """Most that the job may cost, all its rounds and single calls together; None for no bound."""
    booking: Booking | None = None
    map_index_names: dict[str, str | int | float] = {}
    """What the function that gave the records has set for the ``map_index_template``."""
    delivery_generation: int = 0
    """First try number of the generation of the results task that delivers this job."""
    destination: Destination | None = None
    """Where it was delivered last; None in ledgers of before it was recorded, too."""
    granted_rounds: int = 0
    """Rounds that do not count against ``resubmit_rounds``: those before a clear."""
    superseded_by: str = ""
    """URL of the job that replaced this one."""
    without_requests: bool = False
    """Whether it was made of its batches (see `from_batches`): what was sent in them is not known."""

    @property
    def live_parts(self) -> list[Part]:
        """Parts that are to be answered (a split part is stood for by its halves)."""
        return [part for part in self.parts if not part.split and not part.rejected]

    @property
    def batch_parts(self) -> list[Part]:
        """Those of them that are answered by a batch."""
        return [part for part in self.live_parts if part.way == "batch"]

    def estimated_usd(self, requests: int) -> float | None:
        """What so many requests are estimated to cost, as part of the job; None where that is not known."""
        whole = self.estimate.get("total_usd")
        # What is reused is not in the estimate.
        estimated = self.estimate.get("requests") or self.request_count
        return None if whole is None else float(whole * requests / max(estimated, 1))

    @property
    def open_parts(self) -> list[Part]:
        """Parts that a batch has still to answer, or to be sent for, as far as is delivered."""
        return [part for part in self.batch_parts if part.delivery is None and not part.given_up]

    @property
    def without_batches(self) -> LateBatches | None:
        """How the job goes on once nothing of it is sent as a batch any more; None as long as it is."""
        return self.on_time.chosen if self.on_time is not None else None

    @property
    def sends_batches(self) -> bool:
        """Whether what was not sent yet goes into batches."""
        return self.without_batches is None or (self.on_time is not None and self.on_time.sent_again)

    @property
    def due_at(self) -> datetime.datetime | None:
        """When the job is to go on without the batches that are open then; None where it has none."""
        if self.on_time is None or self.on_time.began_at is not None or not self.open_parts:
            return None
        open_requests = sum(part.request_count for part in self.open_parts)
        return self.on_time.begins_at(open_requests, self.direct_per_second)

    @property
    def missed_deadline(self) -> datetime.datetime | None:
        """The latest one that holds no more for who comes after a clear."""
        now, on_time = datetime.datetime.now(datetime.UTC), self.on_time
        return on_time.at if on_time is not None and on_time.is_missed(now) else self.past_deadline

    @property
    def batch_ids(self) -> list[str]:
        """Batches of the job so far, in the order of its parts."""
        return [part.batch_id for part in self.live_parts if part.batch_id]

    @property
    def handle(self) -> dict[str, Any]:
        """The small JSON value that names this job in XCom."""
        return {"job": self.job, "batch_ids": self.batch_ids, "request_count": self.request_count}


def save(folder: Folder, ledger: Ledger) -> None:
    """Create the ledger's next version, readably.

    Raises:
        LostOwnershipError: When another process has written since this ledger was read.
    """
    before = ledger.number
    ledger.number = before + 1
    try:
        data = msgspec.json.format(msgspec.json.encode(ledger), indent=2)
        created = folder.create(file_name(ledger.number), data)
        numbers = versions(folder)
        # Where the number was taken, deleted by its owner and is free again, a higher one exists.
        if not created or numbers[-1:] != [ledger.number]:
            raise LostOwnershipError(
                f"Another worker has taken over the job in {folder.url}; this one stops without sending "
                "anything more."
            )
    except BaseException:
        ledger.number = before  # the next try must not pass over a number that another may have taken
        raise
    for number in numbers[:-KEPT]:
        folder.remove_file(file_name(number))
    if ledger.number > 1:
        folder.remove_file(VERSION_1_FILE)


def load_version(folder: Folder, number: int) -> Ledger:
    """One stored version.

    Raises:
        LedgerError: Where it cannot be read.
    """
    return _decode(folder, file_name(number), folder.read(file_name(number)))


def load(folder: Folder) -> Ledger | None:
    """The job's ledger; None where there is no file.

    Raises:
        LedgerError: Where there is one that cannot be read, or of another version.
    """
    for _ in range(10):
        numbers = versions(folder)
        name = file_name(numbers[-1]) if numbers else VERSION_1_FILE
        try:
            return _decode(folder, name, folder.read(name))
        except FileNotFoundError:
            if not numbers:
                return None
            # Replaced by a newer one since the folder was listed.
    raise LedgerError(f"The ledger in {folder.url} changes faster than it can be read. A retry tries again.")


def load_listed(folder: Folder, name: str) -> Ledger | None:
    """The job's ledger by the file that a listing has as its newest; None where there is none any more.

    Raises:
        LedgerError: Where it cannot be read.
    """
    try:
        return _decode(folder, name, folder.read(name))
    except FileNotFoundError:  # replaced by a newer one since
        return load(folder)


def file_name(number: int) -> str:
    """Of one version."""
    return f"ledger-{number:06d}.json"


def is_ledger(name: str) -> bool:
    """Whether a file of this name is a ledger."""
    return name == VERSION_1_FILE or _NAME.fullmatch(name) is not None


def versions(folder: Folder) -> list[int]:
    """Numbers of the stored versions, the newest last; those of format version 1 have none."""
    return sorted(int(match[1]) for name in folder.names() if (match := _NAME.fullmatch(name)))


def _decode(folder: Folder, name: str, data: bytes) -> Ledger:
    try:
        version = _decode_version(data).version
        if version == 1:
            return msgspec.convert(_from_version_1(msgspec.json.decode(data)), Ledger)
        if version == VERSION:
            return _decode_ledger(data)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise LedgerError(
            f"The ledger {folder.url}/{name} cannot be read ({error}; {len(data)} bytes). Nothing was "
            "sent. It may name batches that are paid for: restore the file from a backup, or let "
            f"`claude-batch adopt --job {folder.url}` write a new one, from the newest version that can be "
            "read and from the batches that claims give to this job."
        ) from error
    raise LedgerError(
        f"The ledger {folder.url}/{name} has version {version}; this release of airflow-claude-batch reads "
        f"versions 1 to {VERSION}. Upgrade the package on this machine."
    )


class _Version(msgspec.Struct):
    version: int


# Made here, in one thread: in msgspec 0.22 two threads that are the first to decode a type end the process.
_decode_version = msgspec.json.Decoder(_Version).decode
_decode_ledger = msgspec.json.Decoder(Ledger).decode


def _from_version_1(old: dict[str, Any]) -> dict[str, Any]:
    """A ledger of format version 1, as this release would have written it."""
    new = {**old, "version": VERSION, "generation": old.get("life", 1)}
    new["delivery_generation"] = old.get("delivery_life", 0)
    new["parts"] = [_part_from_version_1(number, part) for number, part in enumerate(old.get("parts", []))]
    return new


def _part_from_version_1(number: int, old: dict[str, Any]) -> dict[str, Any]:
    part = {**old, "adopted": bool(old.get("adopted")), "moved_file": f"moved-{number:05d}.jsonl"}
    if old.get("adopted") == "unverified":  # by its size alone: it may be anybody's
        part |= {"batch_id": None, "adopted": False}
    return part


def short_hash(text: str) -> str:
    """A name for a file that stands for a longer one."""
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
