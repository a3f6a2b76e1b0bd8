"""One batch: what was sent, where it stands, and the object that the API shows of it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.emulator.api.clock import rfc3339

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.answers.usage import CacheUse
    from airflow_claude_batch.emulator.api.params import Headers
    from airflow_claude_batch.emulator.control.settings import Settings

AnswerHook = Callable[[str, dict[str, Any]], str | None]
"""Takes custom_id and params; the text of the answer, or None for one that is made up."""

EXPIRES_AFTER = 24 * 3600.0
ARCHIVED_AFTER = 29 * 24 * 3600.0

SUCCEEDED, REFUSED, CUT, EMPTY, THINKING, BLANK, PAUSED, WINDOW, ERRORED, CANCELED, EXPIRED = range(11)
"""What became of a request."""
LAST_ANSWER = WINDOW
"""Up to this one they are ``succeeded`` for the API, and billed."""


_RANDOM_END = re.compile(r"_[a-z2-7]{10}$")


def name_of(custom_id: str) -> str:
    """A custom_id without the random end that a client may give it to recognise its batch by.

    Settings name requests, and the same request has the same answer in each run, whatever that end is.
    """
    return _RANDOM_END.sub("", custom_id) if custom_id[-11:-10] == "_" else custom_id


class Batch:
    """A batch and its requests; times are seconds since the epoch on the emulated clock."""

    __slots__ = (
        "_shown",
        "answer",
        "archived_at",
        "cache_use",
        "cancel_at",
        "codes",
        "created_at",
        "custom_ids",
        "deleted",
        "earlier_tries",
        "end_at",
        "ended_at",
        "errors",
        "finished_share",
        "headers",
        "hidden_lookups",
        "hidden_until",
        "id",
        "names",
        "params",
        "position",
        "processing_seconds",
        "settings",
        "size",
    )  # fmt: skip

    def __init__(
        self, id: str, position: int, created_at: float, custom_ids: list[str], params: list[msgspec.Raw],
        headers: Headers, size: int, settings: Settings, answer: AnswerHook | None = None,
    ) -> None:  # fmt: skip
        self.id = id
        self.position = position
        self.created_at = created_at
        self.custom_ids = custom_ids
        self.names = [name_of(custom_id) for custom_id in custom_ids]
        """What outcomes, answers and counts go by."""
        self.params = params
        self.headers = headers
        self.size = size
        self.settings = settings
        """As they were at creation, and from the end on as they were then."""
        self.answer = answer
        self.processing_seconds = processing_seconds(len(custom_ids), settings)
        self.end_at = min(created_at + self.processing_seconds, self.expires_at)
        self.finished_share = 1.0
        self.cancel_at: float | None = None
        self.ended_at: float | None = None
        self.archived_at: float | None = None
        self.deleted = False
        self.hidden_lookups = settings.not_found_lookups
        self.hidden_until = created_at + settings.not_found_seconds if settings.not_found_seconds else 0.0
        self.earlier_tries: dict[int, int] = {}
        self.codes = bytearray()
        self.errors: dict[int, tuple[str, str]] = {}
        self.cache_use: dict[int, CacheUse] = {}
        self._shown: tuple[str, bytes] | None = None

    @property
    def expires_at(self) -> float:
        return self.created_at + EXPIRES_AFTER

    @property
    def status(self) -> str:
        if self.ended_at is not None:
            return "ended"
        return "in_progress" if self.cancel_at is None else "canceling"

    def progress(self, now: float) -> float:
        """Share of the processing time that has passed."""
        return min(1.0, (now - self.created_at) / self.processing_seconds) if self.processing_seconds else 1.0

    def counts(self) -> dict[str, int]:
        """``request_counts``: everything is processing until the whole batch has ended."""
        count = self.codes.count
        return {
            "processing": 0 if self.ended_at is not None else len(self.custom_ids),
            "succeeded": sum(map(count, range(LAST_ANSWER + 1))),
            "errored": count(ERRORED),
            "canceled": count(CANCELED),
            "expired": count(EXPIRED),
        }

    def changed(self) -> None:
        self._shown = None

    def shown(self, base_url: str) -> bytes:
        """The API's JSON object; kept until something changes, because lists ask for it by the thousand."""
        if self._shown is None or self._shown[0] != base_url:
            self._shown = (base_url, msgspec.json.encode(self._object(base_url)))
        return self._shown[1]

    def _object(self, base_url: str) -> dict[str, Any]:
        has_results = self.ended_at is not None and self.archived_at is None
        return {
            "id": self.id,
            "type": "message_batch",
            "processing_status": self.status,
            "request_counts": self.counts(),
            "created_at": rfc3339(self.created_at),
            "expires_at": rfc3339(self.expires_at),
            "ended_at": rfc3339(self.ended_at),
            "cancel_initiated_at": rfc3339(self.cancel_at),
            "archived_at": rfc3339(self.archived_at),
            "results_url": f"{base_url}/v1/messages/batches/{self.id}/results" if has_results else None,
        }


def processing_seconds(requests: int, settings: Settings) -> float:
    """Seconds from creation to end: 60 for one request, 180 for 100,000, divided by the speed."""
    if settings.duration == "manual":
        return math.inf
    duration = settings.duration
    if duration is None:
        duration = 60.0 + 24.0 * math.log10(requests)
    return duration / settings.speed
