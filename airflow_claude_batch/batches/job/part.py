"""A part: the slice of a job that goes into one batch, or is answered in another way."""

from __future__ import annotations

import datetime
import enum
from typing import Literal

import msgspec

from airflow_claude_batch.batches.job.counts import Tally


class DeliveryNote(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the results of one part came to, once they are delivered."""

    key: str
    """Names where the records were written, and how; see ``Delivery.key``."""
    tally: Tally
    created_at: datetime.datetime | None = None
    """When the batch was created."""
    ended_at: datetime.datetime | None = None


class PartState(enum.Enum):
    """How far a part has come."""

    TO_SEND = "no POST is under way, and none may have made a batch"
    UNCERTAIN = "a POST was announced, and its answer never came: a batch may exist"
    SUBMITTED = "it has its batch"
    GIVEN_UP = "it is not sent"
    UNBATCHED = "it is never sent as a batch: its answers come from elsewhere"


Way = Literal["batch", "direct", "reuse"]
"""How a part is answered: by a batch, by single calls, or by what earlier jobs were answered."""


class Part(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The slice of the job that goes into one batch, or is answered in another way."""

    requests: str
    """File of request lines in the job's folder."""
    inputs: str
    """File of custom_ids and the user's columns."""
    request_count: int
    bytes: int
    """Length of the POST body."""
    way: Way = "batch"
    """How it is answered."""
    answered: bool = False
    """Of a part that no batch answers: whether each of its requests has its stored result line."""
    round: int = 0
    """0 is the first submission; n+1 resubmits what round n left retryable."""
    marked: str = ""
    """custom_id of the request that carries the part's mark (see ``marks``); empty in format version 1."""
    stored_id: str = ""
    """The same with the mark that it was stored with."""
    sent_id: str = ""
    """The same with the mark of the latest POST."""
    intent_at: datetime.datetime | None = None
    """When the POST was about to be sent, by the API's clock. Without a batch id: no answer has come."""
    intent_lease: int = 0
    """Number of the lease under which it was about to be sent."""
    newest_before: datetime.datetime | None = None
    """When the workspace's newest batch before the POST was created: what is older cannot be this part's."""
    batch_id: str | None = None
    submitted_at: datetime.datetime | None = None
    adopted: bool = False
    """Whether the batch was found by its mark, not told by the answer to its own POST."""
    foreign: list[str] = []
    """Batches of the part's size that turned out to be somebody else's."""
    split: bool = False
    """Too large for the API: replaced by two later parts of half the size."""
    rejected: bool = False
    """Holds records that are not sent; ``inputs`` says why. They are delivered as errored."""
    repeats: bool = False
    """Holds requests that ask what others of the job ask; they get what those are answered."""
    kept: str = ""
    """Under which key (see ``DeliveryNote``) its answers were kept for later jobs; empty for none."""
    moved: int = 0
    """Requests left to later rounds."""
    moved_file: str = ""
    """File in the job's folder that lists them."""
    moved_to: int = 0
    """The highest round that they go to."""
    unread: int = 0
    """Results that exist, and that the latest delivery could not get (see `results.unread`)."""
    unread_file: str = ""
    """File in the job's folder that lists them."""
    accepted_file: str = ""
    """Such a list of which a person has accepted that they never come."""
    given_up: str = ""
    """Why the part, of a later round, was not sent; its requests are delivered as they failed before."""
    late: bool = False
    """Its batch was cancelled because the job is needed; what it leaves open goes on as the deadline says."""
    delivery: DeliveryNote | None = None

    @property
    def sent_as(self) -> tuple[str, str] | None:
        """The custom_id that carries the mark, with and without it; None where none does."""
        return (self.sent_id, self.marked) if self.marked else None

    @property
    def state(self) -> PartState:
        """How far the part has come."""
        if self.batch_id:
            return PartState.SUBMITTED
        if self.given_up:
            return PartState.GIVEN_UP
        if self.way != "batch":
            return PartState.UNBATCHED
        return PartState.TO_SEND if self.intent_at is None else PartState.UNCERTAIN

    @property
    def is_answered(self) -> bool:
        """Whether it can be delivered, as soon as its batch has ended where it has one."""
        return bool(self.batch_id or self.given_up or self.rejected or self.answered)
