"""Single Messages calls: usage, rate limits and their headers, faults, and what is counted."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest

from airflow_claude_batch.emulator.testing import MESSAGES, Emulator
from tests.emulator.conftest import prompt


def ask(client: anthropic.Anthropic, text: str = "tea") -> Any:
    return client.with_options(max_retries=0).messages.with_raw_response.create(**prompt(text))


def test_an_answer_is_billed_at_the_standard_tier_and_tells_no_limit_where_there_is_none(client):
    answer = ask(client)
    assert answer.parse().usage.service_tier == "standard"
    assert not [name for name in answer.headers if name.startswith("anthropic-ratelimit")]


def test_calls_beyond_the_limit_are_refused_and_every_answer_tells_what_is_left(emulator, client):
    emulator.settings(messages_per_minute=2, input_tokens_per_minute=10_000, output_tokens_per_minute=10_000)
    first = ask(client)
    assert first.headers["anthropic-ratelimit-requests-limit"] == "2"
    assert first.headers["anthropic-ratelimit-requests-remaining"] == "1"
    usage = first.parse().usage
    assert int(first.headers["anthropic-ratelimit-input-tokens-remaining"]) == 10_000 - usage.input_tokens
    assert int(first.headers["anthropic-ratelimit-output-tokens-remaining"]) == 10_000 - usage.output_tokens
    ask(client)
    with pytest.raises(anthropic.RateLimitError, match="2 requests per minute") as refused:
        ask(client)
    assert 1 <= int(refused.value.response.headers["retry-after"]) <= 30
    assert refused.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"


def test_output_that_was_given_keeps_later_calls_out(emulator: Emulator, client):
    emulator.settings(output_tokens_per_minute=10, answer_bytes=400)
    ask(client)
    with pytest.raises(anthropic.RateLimitError, match="10 output tokens per minute"):
        ask(client)


@pytest.mark.parametrize(("kind", "billed"), [("drop_after", 1), ("drop_before", 0)])
def test_the_ledger_counts_what_was_accepted_though_its_answer_was_lost(emulator, client, kind, billed):
    emulator.fault(kind, path=MESSAGES)
    with pytest.raises(anthropic.APIConnectionError):
        ask(client)
    assert emulator.ledger()["direct_answers"] == billed
    ask(client)
    ledger = emulator.ledger()
    assert (ledger["direct"], ledger["direct_answers"]) == (1, 1 + billed)
    assert ledger["direct_more_than_once_count"] == billed


def test_the_ledger_tells_what_was_answered_both_ways(emulator, client, submit):
    batch = submit("tea", "coffee")
    ask(client, "tea")
    assert emulator.ledger()["both_ways_count"] == 0
    emulator.end(batch.id)
    assert emulator.ledger()["both_ways"] == ["tea"]
