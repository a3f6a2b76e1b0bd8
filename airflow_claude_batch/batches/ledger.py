"""The ledger: a job's durable record, and the claims that say whose batch a batch is.

One JSON file in the job's folder, rewritten as a whole at each step. A damaged ledger is an error,
never an empty one: forgetting a batch means paying for it twice.
"""

from __future__ import annotations

import datetime
import hashlib
from typing import Any, Literal

import msgspec

from airflow_claude_batch.batches.errors import LedgerError
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.tally import Tally

LEDGER = "ledger.json"
VERSION = 1


class DeliveryNote(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the results of one part came to, once they are delivered."""

    key: str
    """Names where the records were written, and how; see ``Delivery.key``."""
    tally: Tally
    created_at: datetime.datetime | None = None
    """When the batch was created."""
    ended_at: datetime.datetime | None = None


class Part(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The slice of the job that goes into one batch."""

    requests: str
    """File of request lines in the job's folder."""
    inputs: str
    """File of custom_ids and the user's columns."""
    request_count: int
    bytes: int
    """Length of the POST body."""
    ids_digest: str = ""
    """Hash over the custom_ids, independent of their order."""
    round: int = 0
    """0 is the first submission; n+1 resubmits what round n left retryable."""
    intent_at: datetime.datetime | None = None
    """When the POST was about to be sent. Without a batch id: its answer never arrived."""
    intent_lease: int = 0
    """Number of the lease under which it was about to be sent."""
    batch_id: str | None = None
    submitted_at: datetime.datetime | None = None
    adopted: Literal["", "unverified", "verified"] = ""
    """How the batch was found, when not by the answer to its own POST."""
    foreign: list[str] = []
    """Batches that looked like this part's and turned out to be somebody else's."""
    split: bool = False
    """Too large for the API: replaced by two later parts of half the size."""
    rejected: bool = False
    """Holds records that are not sent; ``inputs`` says why. They are delivered as errored."""
    moved: int = 0
    """Requests left to later rounds, listed in ``moved-*.jsonl``."""
    moved_to: int = 0
    """The highest round that they go to."""
    given_up: str = ""
    """Why the part, of a later round, was not sent; its requests are delivered as they failed before."""
    delivery: DeliveryNote | None = None


class Ledger(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All that is known about one job."""

    version: int
    job: str
    """URL of the job's folder."""
    dag_id: str = ""
    run_id: str = ""
    task_id: str = ""
    map_index: int = -1
    conn_id: str = ""
    life: int = 1
    """First try number of the life of the task instance that this job belongs to."""
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
    estimate: dict[str, Any] = {}
    """What the job was estimated to cost before it was sent."""
    delivery_life: int = 0
    """First try number of the life of the results task that delivers this job."""
    granted_rounds: int = 0
    """Rounds that do not count against ``resubmit_rounds``: those before a clear."""
    superseded_by: str = ""
    """URL of the job that replaced this one."""

    @property
    def live_parts(self) -> list[Part]:
        """Parts that are to be sent (a split part is stood for by its halves)."""
        return [part for part in self.parts if not part.split and not part.rejected]

    @property
    def batch_ids(self) -> list[str]:
        """Batches of the job so far, in the order of its parts."""
        return [part.batch_id for part in self.live_parts if part.batch_id]

    @property
    def handle(self) -> dict[str, Any]:
        """The small JSON value that names this job in XCom."""
        return {"job": self.job, "batch_ids": self.batch_ids, "request_count": self.request_count}


_encoder = msgspec.json.Encoder()


def save(folder: Folder, ledger: Ledger) -> None:
    """Replace the stored ledger, readably."""
    folder.write(LEDGER, msgspec.json.format(_encoder.encode(ledger), indent=2))


def load(folder: Folder) -> Ledger | None:
    """The job's ledger; None where there is no file.

    :raises LedgerError: where there is one that cannot be read, or of another version
    """
    try:
        data = folder.read(LEDGER)
    except FileNotFoundError:
        return None
    try:
        ledger = msgspec.json.decode(data, type=Ledger)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise LedgerError(
            f"The ledger {folder.url}/{LEDGER} cannot be read ({error}; {len(data)} bytes). Nothing was "
            "sent. It may name batches that are paid for: restore it from a backup. To start over on "
            f"purpose, look up this job's batches under {folder.url.split('/jobs/')[0]}/batches, then "
            "delete the folder."
        ) from error
    if ledger.version != VERSION:
        raise LedgerError(
            f"The ledger {folder.url}/{LEDGER} has version {ledger.version}; this release of "
            f"airflow-claude-batch reads version {VERSION}. Upgrade the package on this machine."
        )
    return ledger


def short_hash(text: str) -> str:
    """A name for a file that stands for a longer one."""
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


class Claim(msgspec.Struct, kw_only=True):
    """The file ``batches/{batch_id}``: whose batch is this?"""

    job: str
    part: int


def claim(root: Folder, batch_id: str, job: str, part: int) -> None:
    """Write down that a batch belongs to a part of a job."""
    root.child("batches").write(batch_id, msgspec.json.encode(Claim(job=job, part=part)) + b"\n")


def find_claim(root: Folder, batch_id: str) -> Claim | None:
    """Who owns a batch; None where nobody said so."""
    try:
        return msgspec.json.decode(root.child("batches").read(batch_id), type=Claim)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise LedgerError(f"The claim {root.url}/batches/{batch_id} cannot be read: {error}") from error
