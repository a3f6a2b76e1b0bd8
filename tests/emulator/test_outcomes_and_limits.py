"""Requests that fail inside a batch, and the limits of an organisation."""

from __future__ import annotations

from collections import Counter

import anthropic
import pytest

IDS = [f"r-{n}" for n in range(400)]


def kinds(results):
    return Counter(
        r.error.error.type
        if r.type == "errored"
        else r.message.stop_reason
        if r.type == "succeeded"
        else r.type
        for r in results.values()
    )


def test_shares_of_requests_end_otherwise(emulator, submit, results_of):
    emulator.settings(
        outcomes={
            "errored": {"overloaded_error": 0.2, "api_error": 0.1},
            "expired": 0.1,
            "canceled": 0.1,
            "refusal": 0.1,
            "max_tokens": 0.1,
        }
    )
    counts = kinds(results_of(submit(*IDS).id))
    assert sum(counts.values()) == len(IDS)
    assert 50 < counts["overloaded_error"] < 110
    for kind in ("api_error", "expired", "canceled", "refusal", "max_tokens"):
        assert 20 < counts[kind] < 65, kind
    assert kinds(results_of(submit(*IDS).id)) != counts, "another try draws anew"


def test_everything_can_fail_with_a_message_of_ones_own(emulator, client, submit, results_of):
    message = "Your credit balance is too low to access the Claude API."
    emulator.settings(
        outcomes={"errored": {"invalid_request_error": 1.0}, "messages": {"invalid_request_error": message}}
    )
    batch = submit("a", "b")
    assert {r.error.error.message for r in results_of(batch.id).values()} == {message}
    assert client.messages.batches.retrieve(batch.id).request_counts.errored == 2
    assert emulator.ledger()["billed"] == 0


def test_a_custom_id_fails_on_its_first_tries_only(emulator, submit, results_of):
    emulator.settings(
        outcomes={
            "failures": [
                {"custom_ids": ["a"], "tries": 2, "error_type": "overloaded_error"},
                {"pattern": "^b", "tries": 1, "outcome": "expired"},
            ]
        }
    )
    seen = [kinds(results_of(submit("a", "b1", "c").id)) for _ in range(3)]
    assert seen[0] == {"overloaded_error": 1, "expired": 1, "end_turn": 1}
    assert seen[1] == {"overloaded_error": 1, "end_turn": 2}
    assert seen[2] == {"end_turn": 3}


def test_a_refusal_is_a_billed_success(emulator, submit, results_of):
    emulator.settings(outcomes={"refusal": 1.0})
    result = results_of(submit("a").id)["a"]
    assert (result.type, result.message.stop_reason) == ("succeeded", "refusal")
    assert result.message.usage.output_tokens > 0
    assert emulator.ledger()["billed"] == 1


def test_a_full_queue_answers_429_until_it_drains(emulator, submit):
    emulator.settings(queue_limit=3, retry_after=7)
    first = submit("a", "b")
    with pytest.raises(anthropic.RateLimitError, match="processing queue") as error:
        submit("c", "d")
    assert error.value.response.headers["retry-after"] == "7"
    emulator.end(first.id)
    submit("c", "d")


def test_too_many_calls_a_minute_answer_429(emulator, client):
    emulator.settings(requests_per_minute=2)
    client.messages.batches.list()
    client.messages.batches.list()
    with pytest.raises(anthropic.RateLimitError) as error:
        client.messages.batches.list()
    assert 0 < int(error.value.response.headers["retry-after"]) <= 60


@pytest.mark.parametrize("kind", ["enforced", "contract"])
def test_a_spend_limit_is_final(emulator, submit, kind):
    emulator.settings(spend_limit=kind)
    with pytest.raises(anthropic.RateLimitError) as error:
        submit("a")
    assert error.value.error_code == f"{kind}_spend_limit_reached"
    assert error.value.type == "rate_limit_error"
    assert "retry-after" not in error.value.response.headers


def test_the_ledger_tells_what_was_submitted_and_billed_more_than_once(emulator, submit):
    first, second = submit("a", "b"), submit("b", "c")
    ledger = emulator.ledger()
    assert (ledger["custom_ids"], ledger["submitted_once"]) == (3, 2)
    assert ledger["submitted_more_than_once"] == ledger["live_more_than_once"] == ["b"]
    emulator.end(first.id)
    emulator.delete(first.id)
    emulator.end(second.id)
    assert emulator.ledger()["billed_more_than_once"] == ["b"]


def test_a_cancelled_batch_is_not_live(emulator, client, submit):
    client.messages.batches.cancel(submit("a").id)
    submit("a")
    assert emulator.ledger()["live_more_than_once"] == []
