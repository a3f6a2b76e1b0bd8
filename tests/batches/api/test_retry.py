"""The retry policy by itself, and through a client."""

from __future__ import annotations

import anthropic
import httpx2
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.retry import is_passing, passing_problem, retrying
from airflow_claude_batch.emulator.testing import CANCEL, RETRIEVE, Emulator
from tests.batches.waits import create

REQUEST = httpx2.Request("GET", "http://api.test/v1/messages/batches/b1")


def answer(status: int, message: str = "", **headers: str) -> anthropic.APIStatusError:
    response = httpx2.Response(status, headers=headers, request=REQUEST)
    body = {"type": "error", "error": {"type": "some_error", "message": message}}
    return anthropic.APIStatusError(message, response=response, body=body)


PASSING: list[Exception] = [
    *(answer(status) for status in (408, 409, 429, 500, 502, 503, 504, 529)),
    anthropic.APIConnectionError(request=REQUEST),
    anthropic.APITimeoutError(request=REQUEST),
    httpx2.ReadError("cut off"),
    httpx2.StreamClosed(),
]
FINAL: list[Exception] = [
    *(answer(status) for status in (400, 401, 402, 403, 404, 413)),
    answer(529, **{"x-should-retry": "false"}),
    ValueError("not the API's"),
]


@pytest.mark.parametrize("error", PASSING)
def test_what_may_pass_is_described(error: Exception) -> None:
    assert is_passing(error)
    assert passing_problem(error)


@pytest.mark.parametrize("error", FINAL)
def test_what_does_not_pass_is_raised(error: Exception) -> None:
    assert not is_passing(error)
    with pytest.raises(type(error)) as raised:
        passing_problem(error)
    assert raised.value is error


def test_a_404_passes_only_where_the_batch_certainly_exists() -> None:
    gone = answer(404, **{"x-should-retry": "false"})
    assert is_passing(gone, known=True)
    assert not is_passing(gone)


class Flaky:
    """Fails with each error in turn, then answers."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    def __call__(self) -> str:
        if self.errors:
            raise self.errors.pop(0)
        return "answer"


def test_the_last_failure_is_raised_as_it_is() -> None:
    first, second, third = answer(500), answer(503), answer(529)
    with pytest.raises(anthropic.APIStatusError) as raised:
        retrying(2, shortest=0.01)(Flaky(first, second, third))
    assert raised.value is third


def test_patience_grows_and_ends_at_what_the_caller_can_afford(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        assert retrying(4, shortest=0.01, longest=0.02)(Flaky(*[answer(500, "Busy")] * 4)) == "answer"
    first, *others = [record.args[1] for record in caplog.records if isinstance(record.args, tuple)]
    assert isinstance(first, float)
    assert 0.0075 <= first <= 0.01
    assert len(others) == 3
    assert all(isinstance(pause, float) and 0.015 <= pause <= 0.02 for pause in others)
    assert "HTTP 500 some_error: Busy" in caplog.text
    with pytest.raises(anthropic.APIStatusError):
        retrying(4, longest=0.02)(Flaky(answer(429, **{"retry-after": "1"})))


def test_a_batch_that_certainly_exists_is_found_though_the_api_denies_it_for_a_while(
    emulator: Emulator, api: BatchesApi
) -> None:
    [batch_id] = create(emulator)
    emulator.hide(batch_id, lookups=2)
    assert api.retrieve_known(batch_id).id == batch_id
    assert [call["status"] for call in emulator.journal(path=RETRIEVE)] == [404, 404, 200]


def test_a_cancel_is_asked_for_again_where_the_api_denies_the_batch_or_is_down(
    emulator: Emulator, api: BatchesApi
) -> None:
    [batch_id] = create(emulator)
    emulator.fault("status", path=CANCEL, status=404)
    emulator.fault("status", path=CANCEL, status=529)
    assert api.cancel(batch_id).processing_status == "canceling"
    assert len(emulator.journal(path=CANCEL)) == 3
