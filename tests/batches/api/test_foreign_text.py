from __future__ import annotations

import json

import anthropic
import httpx2
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.foreign_text import LONGEST, describe_error, foreign_text
from airflow_claude_batch.emulator.testing import Emulator


def test_it_is_one_line_of_at_most_300_characters() -> None:
    text = foreign_text("<html>\r\n<h1>Bad\tgateway</h1>\x1b[31m\x00\u202e" + "x" * 5000)
    assert text.startswith("<html> <h1>Bad gateway</h1> [31m xxx")
    assert len(text) == LONGEST
    assert text.endswith("…")
    assert text.isprintable()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("'max_tokens' must be at least 1", "'max_tokens' must be at least 1"),
        ('model "claude-haiku-4-5" is overloaded', 'model "claude-haiku-4-5" is overloaded'),
        ("It can't be 'Dear Sir, it's me' and isn't", "It can't be '…' and isn't"),
        ('text "My secret plan" is too long', 'text "…" is too long'),
        ("ProxyError: http://user:password@proxy:3128 refused", "ProxyError: http://proxy:3128 refused"),
    ],
)
def test_names_that_are_quoted_stay_and_sentences_go(said: str, kept: str) -> None:
    assert foreign_text(said) == kept


SENT = {
    "model": "claude-haiku-4-5",
    "max_tokens": 100,
    "messages": [{"role": "user", "content": "CANARY-1 of müller@mail.example:\npay him at once, please"}],
}


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("cannot read CANARY-1 today", "cannot read … today"),
        ("bad: pay him at once, please. Really", "bad: …. Really"),
        ("no such mail: müller@mail.example", "no such mail: …"),
        ("claude-haiku-4-5: max_tokens is too high", "claude-haiku-4-5: max_tokens is too high"),
        ("please pay at once", "please pay at once"),
        ("CANARY-1, CANARY-1", "…, …"),
    ],
)
def test_what_was_sent_does_not_come_back(said: str, kept: str) -> None:
    body = json.dumps(SENT, ensure_ascii=False, separators=(",", ":")).encode()
    blocks = [body[start : start + 7] for start in range(0, len(body), 7)]
    assert foreign_text(said, [body]) == kept
    assert foreign_text(said, blocks) == kept


def test_an_error_of_the_api_names_status_type_and_the_apis_own_sentence() -> None:
    request = httpx2.Request("POST", "http://api.test/", json=SENT)
    body = {"type": "error", "error": {"type": "api_error", "message": "bad: CANARY-1 of"}}
    response = httpx2.Response(500, request=request, json=body)
    error = anthropic.InternalServerError("Error code: 500 - …", response=response, body=body)
    assert describe_error(error) == "HTTP 500 api_error: bad: CANARY-1 of"
    assert describe_error(error, [json.dumps(SENT).encode()]) == "HTTP 500 api_error: bad: … of"


def test_an_error_of_the_connection_names_its_cause() -> None:
    lost = anthropic.APIConnectionError(request=httpx2.Request("GET", "http://api.test/"))
    lost.__cause__ = httpx2.ConnectError("Connection refused")
    assert describe_error(lost) == "ConnectError: Connection refused"
    assert describe_error(TimeoutError()) == "TimeoutError"


def test_a_gateways_page_in_place_of_an_answer_is_cut(emulator: Emulator, api: BatchesApi) -> None:
    emulator.fault("status", status=502, times=None, body="<html>" + "sorry " * 1000)
    with pytest.raises(anthropic.InternalServerError) as raised:
        api.retrieve("msgbatch_1")
    assert describe_error(raised.value).startswith("HTTP 502")
    assert len(describe_error(raised.value)) <= LONGEST + 20
