"""One request and what becomes of it: a result line like a batch's, or a failure that ends the work.

A refusal of the request itself becomes an errored line, as in a batch. After a failure that passes it is
asked again, by the one retry policy and at the pace of all calls. What is wrong with the account, or with the
whole API, is raised.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from airflow_claude_batch.batches.api.account import account_error
from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.api.messages import Answer, MessagesApi
from airflow_claude_batch.batches.api.retry import LONGEST_SECONDS, asked_seconds, is_passing, retrying_async
from airflow_claude_batch.batches.direct.pace import Pace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from tenacity import RetryCallState

TRIES = 6
"""How often a request is asked that keeps failing for a passing reason while others are answered."""
ERROR_TYPES = {413: "request_too_large", 429: "rate_limit_error", 529: "overloaded_error"}
"""Types of errors whose answers do not say it, such as those of a gateway."""
EXTENDED_OUTPUT = "output-300k"
"""Begins the name of the beta whose answers exist in batches only."""


class _Usage(msgspec.Struct):
    input_tokens: int = 0
    cache_creation_input_tokens: int | None = None
    output_tokens: int = 0


class _Message(msgspec.Struct):
    type: str = ""
    usage: _Usage = msgspec.field(default_factory=_Usage)


class StoredRequest(msgspec.Struct):
    """A line of a requests file."""

    custom_id: str
    params: msgspec.Raw


_decode = msgspec.json.Decoder(_Message).decode
decode_request = msgspec.json.Decoder(StoredRequest).decode


def beta_of_batches(betas: Iterable[str]) -> str | None:
    """A beta among these whose requests only batches take."""
    return next((beta for beta in betas if beta.startswith(EXTENDED_OUTPUT)), None)


class OutageError(Exception):
    """The API does not answer anybody; not a failure of the request."""

    def __init__(self, reason: str, seconds: float | None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.seconds = seconds
        """How long the API asked to be left alone."""


@dataclass(kw_only=True)
class Health:
    """Whether the API answers anybody."""

    patience_seconds: float
    usual_seconds: float = 0.0
    """How long a call takes, on average."""
    answers: int = 0
    """Calls that were answered, or refused for what they asked."""
    failing_since: float | None = None
    """When the first call failed after the last one that was answered, by `time.monotonic`."""

    def answered(self, seconds: float | None = None) -> None:
        """A call was answered, in so many seconds, or refused for what it asked."""
        if seconds is not None:
            self.usual_seconds += (seconds - self.usual_seconds) * (0.1 if self.usual_seconds else 1.0)
        self.answers += 1
        self.failing_since = None

    def failed(self) -> None:
        """A call failed for a reason that passes."""
        if self.failing_since is None:
            self.failing_since = time.monotonic()

    @property
    def is_out(self) -> bool:
        """Whether nobody has been answered for so long that waiting on would only hold a worker slot."""
        since = self.failing_since
        patience = self.patience_seconds + 2 * self.usual_seconds
        return since is not None and time.monotonic() - since >= patience


@dataclass(kw_only=True)
class Caller:
    """Makes calls, each until it is answered or refused."""

    api: MessagesApi
    betas: list[str]
    pace: Pace
    health: Health
    before: Callable[[], Awaitable[None]]
    """Awaited before each call; raises where none is to begin any more."""
    over: asyncio.Event
    """Set when no call is to begin any more."""
    paid: set[object] = field(default_factory=set)
    """Tasks of the event loop whose call has begun: what it costs may be owed already."""

    async def result_line(self, custom_id: str, params: bytes) -> bytes:
        """Ask one request.

        Args:
            custom_id: The user's own.
            params: What is asked, as JSON.

        Returns:
            The result line, with its end.

        Raises:
            OutageError: Where the API answers nobody.
            Final: Where the account is refused.
        """
        answer: Answer | None = None
        failure: Exception | None = None
        try:
            answer = await self._ask_again_and_again(params)
        except Exception as error:  # noqa: BLE001  # what is none of the API's is raised below
            failure = error
        # Outside the except block: a traceback would show the API's sentence as it is, prompts included.
        result = _succeeded(answer.message) if answer else self._failed(failure, params)
        return b'{"custom_id":"%b","result":%b}\n' % (custom_id.encode(), result)

    async def _ask_again_and_again(self, params: bytes) -> Answer:
        """Ask until there is an answer, or a failure that does not pass, or enough of those that do."""
        before, first = self.health.answers, None
        try:
            return await self._ask(params)
        except Exception as error:  # noqa: BLE001  # the policy decides; most calls need none of its 70 us
            first = error

        def is_last(call: RetryCallState) -> bool:
            others_are_answered = self.health.answers > before
            enough = call.attempt_number >= TRIES and others_are_answered
            return enough or self.health.is_out or self.over.is_set()

        async for attempt in retrying_async(0, sleep=asyncio.sleep, stop=is_last):
            with attempt:
                if attempt.retry_state.attempt_number == 1:
                    raise first
                return await self._ask(params)
        raise first

    async def _ask(self, params: bytes) -> Answer:
        """One call, told to pace and health."""
        await self.before()
        async with self.pace.call() as number:
            began, task = time.monotonic(), asyncio.current_task()
            self.paid.add(task)
            try:
                answer = await self.api.ask(params, self.betas)
            except Exception as error:
                self.paid.discard(task)
                self.pace.refused(number, error)
                if is_passing(error):
                    self.health.failed()
                else:
                    self.health.answered()
                raise
            self.pace.answered(number, answer.headers, _tokens(answer.message))
            self.health.answered(time.monotonic() - began)
            return answer

    def _failed(self, error: Exception | None, params: bytes) -> bytes:
        """The result of a request that was refused, or has failed too often."""
        import anthropic

        if not isinstance(error, anthropic.APIError):
            assert error is not None
            raise error
        reason = describe_error(error, [params])
        is_status = isinstance(error, anthropic.APIStatusError)
        if is_status and (kind := account_error(error)) is not None:
            raise kind(reason)
        asked = asked_seconds(error)
        cannot_go_on = self.health.is_out or self.over.is_set() or (asked or 0.0) > LONGEST_SECONDS
        if is_passing(error) and cannot_go_on:
            raise OutageError(reason, asked)
        status = getattr(error, "status_code", None)
        usual = "invalid_request_error" if status is not None and status < 500 else "api_error"
        said = getattr(error, "type", None) or ERROR_TYPES.get(status or 0, usual)
        return _errored(said, reason, getattr(error, "request_id", None))


def _tokens(message: bytes) -> dict[str, float]:
    """What an answer took of the limits; what was read from the cache does not count."""
    with contextlib.suppress(msgspec.DecodeError):
        usage = _decode(message).usage
        given = usage.input_tokens + (usage.cache_creation_input_tokens or 0)
        return {"requests": 1, "input-tokens": given, "output-tokens": usage.output_tokens}
    return {}


def _succeeded(message: bytes) -> bytes:
    """The result of a request with this answer."""
    try:
        kind = _decode(message).type
        if b"\n" in message:  # between its values: in a text it is escaped
            message = msgspec.json.encode(msgspec.json.decode(message))
    except msgspec.DecodeError:
        kind = ""
    if kind != "message":
        return _errored("api_error", "the answer is no message; a gateway may have given it", None)
    return b'{"type":"succeeded","message":%b}' % message


def _errored(kind: str, reason: str, request_id: str | None) -> bytes:
    """The result of a request with this error; it is nested as in a batch's results."""
    error = {"type": "error", "error": {"type": kind, "message": reason}, "request_id": request_id}
    return b'{"type":"errored","error":%b}' % msgspec.json.encode(error)
