"""What the estimate needs to know about a job's requests: gathered while they are stored.

So the stored requests are not read a second time, which on an object store would be a download. What is
kept is small whatever the job's size: sums by group, and where some evenly spread requests lie.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from airflow_claude_batch.batches.requests.request import Request

SAMPLE = 20
"""Requests whose tokens are counted by the API, spread evenly over the job."""
BYTES_PER_TOKEN = 4.0
"""Rule of thumb for text."""
FILE_TOKENS, PAGE_TOKENS, PAGE_CHARACTERS = 1_600, 2_250, 80_000
"""Rule of thumb for base64 data: so many tokens each, and so many for each so many characters."""
BUCKET = 1024
"""Requests are grouped by size in steps of so many tokens, for models whose long prompts cost more."""
LAST_BUCKET = 1024
"""Longer prompts than any model takes are one group."""

_ENVELOPE = len('{"custom_id":"","params":}')
_BASE64 = re.compile(rb'"data":"([A-Za-z0-9+/=]{64,})"')


class SizeGroup(msgspec.Struct, kw_only=True, omit_defaults=True):
    """Requests of one model, region, cache lifetime and size."""

    model: str
    geo: str = ""
    """``inference_geo``; it may change the price."""
    lifetime: str = ""
    """How long a cache entry lives that these requests write; empty for none."""
    requests: int = 0
    size: float = 0.0
    """Sum of their sizes, in tokens by the rule of thumb."""
    max_output: int = 0


class SampledRequest(msgspec.Struct, kw_only=True):
    """Where one request lies."""

    file: str
    offset: int
    """Bytes before its line in the file (uncompressed)."""
    length: int
    model: str
    size: float
    """In tokens by the rule of thumb."""


class Survey(msgspec.Struct, kw_only=True, omit_defaults=True):
    """What the requests of a job come to."""

    groups: list[SizeGroup] = []
    sample: list[SampledRequest] = []


class _Like(NamedTuple):
    """What a request has in common with others of its template and size."""

    shared: Mapping[str, Any] | None
    bucket: int
    group: SizeGroup
    max_tokens: int


class Surveyor:
    """Takes note of each request as it is stored."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str, str, int], SizeGroup] = {}
        self._last: _Like | None = None
        self._kept: list[SampledRequest] = []
        self._count = 0
        self._every = 1

    def add(self, request: Request, file: str, offset: int, length: int) -> None:
        """Take note of a request; one that was read back, whose parameters nobody has, is left out.

        Args:
            request: As stored.
            file: Where its line is stored.
            offset: Bytes before the line in that file.
            length: Of the line there.
        """
        size = (len(request.line) - len(request.custom_id) - _ENVELOPE) / BYTES_PER_TOKEN
        last = self._last
        # Nearly all are like the one before but for their prompt; to look again takes 1.5 µs.
        if last is None or request.shared is not last.shared or int(size) // BUCKET != last.bucket:
            params = request.params
            if params is None:
                return
            size, last = self._look(request, params, size)
            self._last = last if last.shared is not None else None
        group = last.group
        group.requests += 1
        group.size += size
        group.max_output += last.max_tokens
        if self._count % self._every == 0:
            model = group.model
            self._keep(SampledRequest(file=file, offset=offset, length=length, model=model, size=size))
        self._count += 1

    def _look(self, request: Request, params: Mapping[str, Any], size: float) -> tuple[float, _Like]:
        """The request's size, files included, and what it counts among."""
        line, lifetime, shared = request.line, "", request.shared
        if not _is_text_only(params):
            shared = None
            if b'"base64"' in line:
                size += _tokens_of_files(line)
            if b'"cache_control"' in line:
                lifetime = "1h" if b'"ttl":"1h"' in line else "5m"
        geo, bucket = params.get("inference_geo") or "", int(size) // BUCKET
        key = params["model"], geo, lifetime, min(bucket, LAST_BUCKET)
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = SizeGroup(model=params["model"], geo=geo, lifetime=lifetime)
        return size, _Like(shared, bucket, group, params["max_tokens"])

    def _keep(self, sampled: SampledRequest) -> None:
        # How many requests there will be is not known: whenever there are too many, every other one goes.
        if len(self._kept) == 2 * SAMPLE:
            del self._kept[1::2]
            self._every *= 2
            if self._count % self._every:
                return
        self._kept.append(sampled)

    def result(self) -> Survey:
        """What was noted."""
        kept = self._kept
        wanted = min(len(kept), SAMPLE)
        sample = [kept[number * len(kept) // wanted] for number in range(wanted)]
        return Survey(groups=list(self._groups.values()), sample=sample)


def _is_text_only(params: Mapping[str, Any]) -> bool:
    """Whether there is plainly no file and no cache mark in it; to search the line for them costs more."""
    for message in params["messages"]:
        if type(message["content"]) is not str:
            return False
    # Plain loops: this runs for every request, and a generator costs three times as much.
    for value in params.values():
        kind = type(value)
        if kind is not str and kind is not int and value is not params["messages"]:
            return False
    return True


def _tokens_of_files(line: bytes) -> float:
    """What base64 data counts more, or less, than text of the same length."""
    files = [len(data) for data in _BASE64.findall(line)]
    tokens = sum(FILE_TOKENS + PAGE_TOKENS * length // PAGE_CHARACTERS for length in files)
    return tokens - sum(files) / BYTES_PER_TOKEN
