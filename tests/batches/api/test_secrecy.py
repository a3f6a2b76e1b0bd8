"""Prompts are data: no log and no message holds them, though the API repeats them."""

from __future__ import annotations

import datetime
import json
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import anthropic
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.cost.prices import PriceBook
from airflow_claude_batch.batches.errors import RejectedError
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.create_errors import classify
from airflow_claude_batch.batches.submission.preflight import probe
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.helpers import QUICK, started

CANARY = "canary-4711@mail.example"
PARAMS: dict[str, Any] = {
    "model": "claude-haiku-4-5",
    "max_tokens": 10,
    "messages": [{"role": "user", "content": f"Write to {CANARY} about the money"}],
}
BODY = json.dumps({"requests": [{"custom_id": "one", "params": PARAMS}]}, separators=(",", ":")).encode()


def create(api: BatchesApi) -> object:
    return api.create([BODY[:100], BODY[100:]], len(BODY), [])


def send_one(api: BatchesApi) -> object:
    return api.send_one(PARAMS, [])


def count(api: BatchesApi) -> object:
    return api.count_tokens(json.dumps(PARAMS).encode())


@pytest.mark.parametrize("call", [create, send_one, count])
@pytest.mark.parametrize(
    "said", [f"no such address: {CANARY}", f"bad '{CANARY}'", "Write to x about the money"]
)
def test_what_a_refusal_repeats_is_in_no_log_and_no_reason(
    emulator: Emulator,
    api: BatchesApi,
    caplog: pytest.LogCaptureFixture,
    call: Callable[[BatchesApi], Any],
    said: str,
) -> None:
    emulator.fault("status", method="POST", status=400, type="invalid_request_error", message=said)
    with caplog.at_level("DEBUG"):
        with pytest.raises(anthropic.BadRequestError) as raised:
            call(api)
        failure = classify(raised.value, "conn", [BODY])
        call(api)
    assert "invalid_request_error" in failure.reason
    for text in (caplog.text, failure.reason):
        assert CANARY not in text
        assert "about the money" not in caplog.text
    assert len(emulator.journal(method="POST")) == 2


@pytest.mark.parametrize("probed", [False, True])
def test_a_failed_submission_shows_no_prompt_in_log_or_traceback(
    root: Folder, api: BatchesApi, emulator: Emulator, caplog: pytest.LogCaptureFixture, probed: bool
) -> None:
    said = f"no such address: {CANARY}"
    emulator.fault(
        "status", method="POST", status=400, type="invalid_request_error", message=said, times=None
    )
    rows = [{"custom_id": "one", "prompt": PARAMS["messages"][0]["content"]}]
    with caplog.at_level("DEBUG"), started(root, rows) as job:
        prices = PriceBook(datetime.datetime.now(datetime.UTC))
        submission = Submission(job=job, api=api, policy=QUICK)
        attempt = partial(probe, job, api, prices) if probed else submission.run
        with pytest.raises(RejectedError) as raised:
            attempt()
    told = "".join(traceback.format_exception(raised.value))
    assert "no such address: …" in told
    assert CANARY not in told + caplog.text


def test_a_body_that_is_sent_again_is_whole(emulator: Emulator, api: BatchesApi) -> None:
    emulator.fault("status", method="POST", status=500)
    assert api.count_tokens(json.dumps(PARAMS).encode()) > 0
    assert len(emulator.journal(method="POST")) == 2
