"""How a line becomes a record: the user's choices, and what follows from them for one line.

Pure: nothing is downloaded, written or counted here.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec

from airflow_claude_batch.batches.output_schema import OutputSchema
from airflow_claude_batch.batches.records import WHY, ErroredRecord, SucceededRecord, is_retryable
from airflow_claude_batch.batches.resultlines import (
    Message,
    ResultLine,
    read_error,
    whole_message,
    whole_result,
)

STOP_REASONS = {
    "refusal": "the model refused to answer",
    "max_tokens": "the answer was cut off at max_tokens",
    "pause_turn": "the answer stopped in the middle of a server tool's loop",
    "model_context_window_exceeded": "the answer was cut off at the end of the model's context window",
}
"""Stop reasons of answers that a user may not want to count as answers, in words."""

_decode_text = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, kw_only=True)
class Reading:
    """The user's choices about answers."""

    count_as_failed: Collection[str] = ()
    """Stop reasons whose answers are ``invalid``: keys of :data:`STOP_REASONS`."""
    output_schema: OutputSchema | None = None
    """What answers must look like; one that does not is ``invalid``."""
    resubmit_invalid: bool = False
    """Whether an invalid answer is asked for again (and paid for again)."""
    include_message: bool = False
    """Whether succeeded records carry the API's whole message."""

    def check(self, message: Message, text: str) -> tuple[Any, tuple[str, str] | None]:
        """An answer's parsed output, and why it is not usable (error type and words), if it is not.

        The output is ``msgspec.UNSET`` where no schema was asked for.
        """
        reason = message.stop_reason or ""
        if reason in self.count_as_failed:
            return None, (reason, STOP_REASONS.get(reason, f"the answer ended with {reason}"))
        if self.output_schema is None:
            return msgspec.UNSET, None
        output, fault = self.output_schema.parse(text)
        if fault is None:
            return output, None
        if reason in STOP_REASONS:
            return None, (reason, f"{STOP_REASONS[reason]}; {fault}")
        return None, ("output_schema", fault)

    def complete(
        self, record: SucceededRecord, raw: bytes, message: Message, rounds: int
    ) -> ErroredRecord | None:
        """Add to a record what was asked for; or say why it is no usable answer."""
        record.output, problem = self.check(message, _decode_text(record.text))
        if problem is not None:
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
            )
        if self.include_message:
            record.message = whole_message(raw)
        return None

    @property
    def checks(self) -> bool:
        """Whether there is anything to check."""
        return self.output_schema is not None or bool(self.count_as_failed)


def answer_text(message: Message) -> msgspec.Raw:
    """The text blocks of an answer, joined, as JSON."""
    texts = [block.text for block in message.content if block.type == "text" and block.text]
    if len(texts) == 1:
        return texts[0]
    return msgspec.Raw(_encode("".join(map(_decode_text, texts))))


def read_failure(raw: bytes, line: ResultLine, columns: msgspec.Raw, rounds: int) -> ErroredRecord:
    """The record of any other line; what this release does not understand is kept whole."""
    outcome = line.result.type
    record = ErroredRecord(
        custom_id=line.custom_id,
        outcome=outcome if outcome in ("errored", "expired", "canceled") else "errored",
        rounds=rounds,
        input=columns or None,
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


def missing_record(custom_id: str, columns: msgspec.Raw, rounds: int) -> ErroredRecord:
    """The record of a request for which no line came."""
    return ErroredRecord(
        custom_id=custom_id,
        outcome="missing",
        message=WHY["missing"],
        retryable=True,
        rounds=rounds,
        input=columns or None,
    )
