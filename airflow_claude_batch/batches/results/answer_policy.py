"""How a line becomes a record: the user's choices, and what follows from them for one line.

Pure: nothing is downloaded, written or counted here.
"""

from __future__ import annotations

import inspect
import re
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_claude_batch.batches.api.result_lines import (
    Block,
    Message,
    ResultLine,
    read_error,
    whole_message,
    whole_result,
)
from airflow_claude_batch.batches.errors import CheckError
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.results.citations import citations_of, quotes_of
from airflow_claude_batch.batches.results.output_records import (
    UNREADABLE_RESULT,
    WHY,
    ErroredRecord,
    SucceededRecord,
    is_retryable,
)
from airflow_claude_batch.batches.results.sent_requests import Own
from airflow_claude_batch.batches.results.stored_requests import StoredRequests

EMPTY = "empty"
"""In place of a stop reason: an answer without content that no stop reason explains."""
STOP_REASONS = {
    "refusal": "the model refused to answer",
    "max_tokens": "the answer was cut off at max_tokens",
    "pause_turn": "the answer stopped in the middle of a server tool's loop",
    "model_context_window_exceeded": "the answer was cut off at the end of the model's context window",
}
"""Stop reasons of answers that a user may not want to count as answers, in words."""

KINDS = {**STOP_REASONS, EMPTY: "the answer is empty"}
"""What ``count_as_failed`` may hold, in words."""

_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode
_SEEN = frozenset(range(128)) - frozenset(b'"\\ \x7f')
"""First bytes of the JSON of texts that hold something to be seen."""
_INVISIBLE = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff]*"
)
"""White space, controls, the blank of Braille, and what Unicode calls default ignorable, such as a
zero-width space (source: DerivedCoreProperties.txt of Unicode 16). Not all of Cf is: U+0600 is seen."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The user's choices about answers."""

    count_as_failed: Collection[str] = ()
    """Kinds of answers that are ``invalid``: keys of :data:`KINDS`."""
    output_schema: OutputSchema | None = None
    """What answers must look like; one that does not is ``invalid``."""
    resubmit_invalid: bool = False
    """Whether an invalid answer is asked for again (and paid for again)."""
    include_message: bool = False
    """Whether succeeded records carry the API's whole message."""
    quotes: Collection[str] = ()
    """Fields of the output that quote a document, see :mod:`.citations`."""
    user_check: Callable[[dict[str, Any]], str | None] | None = None
    """The user's own: takes a succeeded record, and says what is wrong with it."""

    misfit: Callable[[Any, str], str | None] | None = None
    """Says why an answer's output does not fit into the files, where it does not; takes its JSON, too."""

    def complete(
        self,
        record: SucceededRecord,
        raw: bytes,
        message: Message,
        rounds: int,
        requests: StoredRequests | None = None,
    ) -> ErroredRecord | None:
        """Add to a record what was asked for, what the answer calls and quotes; or say why it is unusable.

        Args:
            record: Of the answer.
            raw: Its result line.
            message: The same, read.
            rounds: How many times the request was sent.
            requests: What was sent, where that is known.

        Raises:
            CheckError: When the user's check fails itself.
        """
        problem = self._fill(record, message, requests)
        if problem is None and self.include_message:
            record.message = whole_message(raw)
        if problem is None and self.user_check is not None:
            problem = _ask(self.user_check, record)
        if problem is None:
            return None
        return ErroredRecord(
            custom_id=record.custom_id,
            outcome="invalid",
            error_type=problem[0],
            message=problem[1],
            retryable=self.resubmit_invalid,
            rounds=rounds,
            input=record.input,
            cost_usd=record.cost_usd,
            result=whole_result(raw),
            model=record.model,
            request_digest=record.request_digest,
            prompt_version=record.prompt_version,
        )

    def _fill(
        self, record: SucceededRecord, message: Message, requests: StoredRequests | None
    ) -> _Problem | None:
        kind = kind_of(message)
        if kind in self.count_as_failed:
            return kind, KINDS.get(kind, f"the answer ended with {kind}")
        calls = [block for block in message.content if block.type == "tool_use"]
        said, fault = "", None
        if calls:
            said, fault = self._read_calls(record, calls, requests)
        elif self.output_schema is not None:
            said = _decode_text(record.text)
            record.output, fault = self.output_schema.parse(said, record.custom_id)
        if fault is None and said and self.misfit is not None:
            fault = self.misfit(record.output, said)
        if fault is not None:
            if kind in KINDS:
                return kind, f"{KINDS[kind]}; {fault}"
            return "tool_use" if calls else "output_schema", fault
        citations = citations_of(message.content, _decode_text)
        if self.quotes:
            messages = requests.messages(record.custom_id) if requests else None
            citations += quotes_of(record.output, self.quotes, messages)
        if citations:
            record.citations = citations
        return None

    def _read_calls(
        self, record: SucceededRecord, calls: list[Block], requests: StoredRequests | None
    ) -> tuple[str, str | None]:
        """Take the input of a tool as the output; returns its JSON, and what is wrong with it."""
        inputs = [bytes(block.input or b"{}") for block in calls]
        try:
            values = list(map(msgspec.json.decode, inputs))
        except (msgspec.DecodeError, RecursionError) as error:
            return "", f"the input of a tool cannot be read: {error}"
        for block, value in zip(calls, values, strict=True):
            fault = requests.fault_of_call(record.custom_id, block.name, value) if requests else None
            if fault is not None:
                return "", fault
        if len(calls) == 1:
            record.tool, record.output, said = calls[0].name or "", values[0], inputs[0].decode()
        else:
            record.output = [
                {"tool": block.name, "input": value} for block, value in zip(calls, values, strict=True)
            ]
            said = _encode(record.output).decode()
        if self.output_schema is None:
            return said, None
        record.output, fault = self.output_schema.parse(said, record.custom_id)
        return said, fault

    def wants(self, message: Message) -> bool:
        """Whether there is anything to do for this answer besides its text; where it is not ``always``."""
        content = message.content
        if len(content) == 1:  # nearly all of them
            return content[0].type == "tool_use" or bool(content[0].citations)
        return any(block.type == "tool_use" or block.citations for block in content)

    @property
    def checks(self) -> bool:
        """Whether there is anything to check."""
        asked = self.output_schema, self.count_as_failed, self.quotes, self.user_check
        return any(value is not None and value != () for value in asked)

    @property
    def always(self) -> bool:
        """Whether each answer is looked into, whatever it holds."""
        return self.checks or self.include_message


_Problem = tuple[str, str]
"""Why an answer is not usable: error type and words."""


def _ask(check: Callable[[dict[str, Any]], str | None], record: SucceededRecord) -> _Problem | None:
    """What the user's check says of a record."""
    try:
        said = check(msgspec.json.decode(msgspec.json.encode(record)))
    except Exception as error:  # noqa: BLE001  # of the user's own code
        # Neither its text nor its traceback, which may quote the answer.
        raise CheckError(
            f"check raised {type(error).__name__} for the answer of {record.custom_id}{_place(error)}. "
            "Correct it and clear the task: the answers are not lost, and nothing is sent again."
        ) from None
    if said is not None and not isinstance(said, str):
        raise CheckError(
            f"check returned a {type(said).__name__} for the answer of {record.custom_id}; it returns None "
            "or a text that says what is wrong. Correct it and clear the task: the answers are not lost."
        )
    return None if said is None else ("check", said)


def _place(error: Exception) -> str:
    """The line of the check that an error comes from, as far as Python knows it."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    own = [frame for frame in frames if frame.filename == frames[0].filename]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def source_of(check: Callable[..., Any] | None) -> str | None:
    """What tells two checks apart: their source, as far as Python finds it."""
    if check is None:
        return None
    try:
        return inspect.getsource(check)
    except (OSError, TypeError):
        return f"{getattr(check, '__module__', '')}.{getattr(check, '__qualname__', type(check).__name__)}"


def kind_of(message: Message) -> str:
    """What an answer is counted as: its stop reason, or :data:`EMPTY`."""
    reason = message.stop_reason or ""
    return EMPTY if reason not in STOP_REASONS and is_empty(message) else reason


def is_empty(message: Message) -> bool:
    """Whether an answer has neither text nor a call of a tool."""
    for block in message.content:
        if block.type == "tool_use" or (block.type == "text" and not _is_blank(block.text)):
            return False
    return True


def _is_blank(text: msgspec.Raw) -> bool:
    view = memoryview(text)
    if len(view) > 2 and view[1] in _SEEN:
        return False
    return not text or _INVISIBLE.fullmatch(_decode_text(text)) is not None


def answer_text(message: Message) -> msgspec.Raw:
    """The text blocks of an answer, joined, as JSON."""
    texts = [block.text for block in message.content if block.type == "text" and block.text]
    if len(texts) == 1:
        return texts[0]
    return msgspec.Raw(_encode("".join(map(_decode_text, texts))))


def read_failure(raw: bytes, line: ResultLine, own: Own, rounds: int) -> ErroredRecord:
    """The record of any other line; what this release does not understand is kept whole."""
    outcome = line.result.type
    record = ErroredRecord(
        custom_id=line.custom_id,
        outcome=outcome if outcome in ("errored", "expired", "canceled") else "errored",
        rounds=rounds,
        input=own.columns or None,
        request_digest=own.digest,
    )
    if outcome == "errored":
        envelope = read_error(line.result.error)
        record.request_id = envelope.request_id
        if envelope.error.type:
            record.error_type, record.message = envelope.error.type, envelope.error.message
        else:
            record.message = "the error has a shape that is unknown to this release"
            record.result = whole_result(raw)
    elif outcome in WHY:
        record.message = WHY[outcome]
    else:
        kind = "succeeded with a message of unknown shape" if outcome == "succeeded" else repr(outcome)
        record.message = f"the result type is unknown to this release: {kind}"
        record.result = whole_result(raw)
    record.retryable = is_retryable(outcome, record.error_type, record.message)
    return record


def unreadable_record(custom_id: str, own: Own, rounds: int) -> ErroredRecord:
    """The record of a request whose line exists and never came."""
    return ErroredRecord(
        custom_id=custom_id,
        outcome="errored",
        error_type=UNREADABLE_RESULT,
        message=WHY[UNREADABLE_RESULT],
        rounds=rounds,
        input=own.columns or None,
        request_digest=own.digest,
    )


def missing_record(custom_id: str, own: Own, rounds: int) -> ErroredRecord:
    """The record of a request for which there is no line."""
    return ErroredRecord(
        custom_id=custom_id,
        outcome="missing",
        message=WHY["missing"],
        retryable=True,
        rounds=rounds,
        input=own.columns or None,
        request_digest=own.digest,
    )
