"""What becomes of the requests of a batch when it ends, and the result lines that tell of it."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.emulator.answers.message import message, seed_of
from airflow_claude_batch.emulator.answers.usage import NO_CACHE, PromptCache, input_tokens
from airflow_claude_batch.emulator.api.batch import (
    BLANK,
    CANCELED,
    CUT,
    EMPTY,
    ERRORED,
    EXPIRED,
    PAUSED,
    REFUSED,
    SUCCEEDED,
    THINKING,
    WINDOW,
    Batch,
)
from airflow_claude_batch.emulator.api.errors import MESSAGE_BY_TYPE, ApiError, errored_result, invalid
from airflow_claude_batch.emulator.api.models import find_model
from airflow_claude_batch.emulator.api.params import check_params

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.control.settings import Outcomes

_CODES = {
    "errored": ERRORED,
    "expired": EXPIRED,
    "canceled": CANCELED,
    "refusal": REFUSED,
    "max_tokens": CUT,
    "empty": EMPTY,
    "thinking_only": THINKING,
    "blank": BLANK,
    "pause_turn": PAUSED,
    "model_context_window_exceeded": WINDOW,
}
_SHAPES = {code: name for name, code in _CODES.items()}

Outcome = tuple[int, str, str]
"""Code, and for an errored request the error's type and message."""


def _draw(*what: object) -> float:
    """A number from 0 to 1 that is the same for the same words."""
    return zlib.crc32(":".join(map(str, what)).encode()) / 2**32


class _Rules:
    def __init__(self, outcomes: Outcomes) -> None:
        self._seed = outcomes.seed
        self._messages = outcomes.messages
        self._failures = [
            (frozenset(f.custom_ids), re.compile(f.pattern) if f.pattern is not None else None, f)
            for f in outcomes.failures
        ]
        self._shares: list[tuple[float, int, str]] = [(s, ERRORED, t) for t, s in outcomes.errored.items()]
        for name in ("expired", "canceled", "refusal", "max_tokens"):
            self._shares.append((getattr(outcomes, name), _CODES[name], ""))
        self._shares = [share for share in self._shares if share[0] > 0]

    def outcome(self, custom_id: str, earlier_tries: int) -> Outcome | None:
        """What the settings want of this request; ``None``: nothing."""
        for ids, pattern, failure in self._failures:
            if failure.tries is not None and earlier_tries >= failure.tries:
                continue
            if custom_id in ids or (pattern is not None and pattern.search(custom_id)):
                return (
                    _CODES[failure.outcome],
                    failure.error_type,
                    failure.message or self._text(failure.error_type),
                )
        if not self._shares:
            return None
        drawn = _draw(custom_id, earlier_tries, self._seed)
        for share, code, error_type in self._shares:
            if drawn < share:
                return code, error_type, self._text(error_type)
            drawn -= share
        return None

    def _text(self, error_type: str) -> str:
        return self._messages.get(error_type) or MESSAGE_BY_TYPE.get(error_type, "An error occurred.")


def decide(batch: Batch, cache: PromptCache, at: float, unfinished: int) -> None:
    """Fill the batch's codes, errors and cache use, for an end at emulated time ``at``.

    Requests beyond ``batch.finished_share`` get the code ``unfinished`` (CANCELED or EXPIRED).
    """
    rules = _Rules(batch.settings.outcomes)
    codes = bytearray(len(batch.custom_ids))
    step = (at - batch.created_at) / len(codes)
    for index, name in enumerate(batch.names):
        if batch.finished_share < 1.0 and _draw(name, "finished") >= batch.finished_share:
            codes[index] = unfinished
            continue
        wanted = rules.outcome(name, batch.earlier_tries.get(index, 0))
        if wanted is None:
            wanted = _process(batch, index, cache, batch.created_at + index * step)
        codes[index] = wanted[0]
        if wanted[0] == ERRORED:
            batch.errors[index] = wanted[1:]
    batch.codes = codes


def _process(batch: Batch, index: int, cache: PromptCache, now: float) -> Outcome:
    raw = bytes(batch.params[index])
    try:
        params = msgspec.json.decode(raw)
        model = check_params(params, batch.headers)
        if b'"cache_control"' in raw:
            may_read = _draw(batch.names[index], "cache") < batch.settings.cache_hit_share
            batch.cache_use[index] = cache.use(params, model, now, may_read=may_read)
        if len(raw) > model.max_input_tokens and (tokens := input_tokens(params)) > model.max_input_tokens:
            raise invalid(f"prompt is too long: {tokens} tokens > {model.max_input_tokens} maximum")
    except ApiError as error:
        return ERRORED, error.type, error.message
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        return ERRORED, "invalid_request_error", f"params: {error}"
    return SUCCEEDED, "", ""


def result_line(batch: Batch, index: int) -> bytes:
    """The result line of one request, newline included; the same bytes at every call."""
    custom_id = batch.custom_ids[index]
    return (
        msgspec.json.encode({"custom_id": custom_id, "result": _result(batch, index, batch.names[index])})
        + b"\n"
    )


def _result(batch: Batch, index: int, name: str) -> dict[str, Any]:
    code = batch.codes[index]
    if code == CANCELED:
        return {"type": "canceled"}
    if code == EXPIRED:
        return {"type": "expired"}
    raw = bytes(batch.params[index])
    seed = seed_of(name, raw)
    if code == ERRORED:
        return errored_result(*batch.errors[index], request_id=f"req_01{seed:08x}{index:08x}")
    params = msgspec.json.decode(raw)
    return {
        "type": "succeeded",
        "message": message(
            name,
            params,
            find_model(params["model"]),
            seed,
            batch.settings,
            batch.cache_use.get(index, NO_CACHE),
            shape=_SHAPES.get(code, ""),
            given=batch.answer(name, params) if batch.answer is not None else None,
        ),
    }
