"""From a connection to a client: what could not be used, or would show a key, is refused with the way out."""

from __future__ import annotations

import asyncio
import json
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_claude_batch import ClaudeBatchOperator
from airflow_claude_batch.batches.api import reach
from airflow_claude_batch.batches.api.reach import check_reachable
from airflow_claude_batch.batches.errors import ConfigurationError, WaitAccessError
from airflow_claude_batch.cli import main
from airflow_claude_batch.emulator.testing import Emulator
from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
from tests.gateway import EMPTY_LIST, Gateway
from tests.operators.conftest import Try

SECRET = "team-42-secret"
CONN = "anthropic_default"

Connect = Callable[..., ClaudeBatchHook]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Connect:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setattr(reach, "PAUSE_SECONDS", 0.01)

    def connection(**fields: Any) -> ClaudeBatchHook:
        whole = {"conn_type": "anthropic", "password": "test-key", **fields}
        monkeypatch.setenv(f"AIRFLOW_CONN_{CONN.upper()}", json.dumps(whole))
        return ClaudeBatchHook(CONN)

    return connection


def header(value: Any, name: str = "X-Team") -> dict[str, Any]:
    return {"anthropic_client_kwargs": {"default_headers": {name: value}}}


UNSENDABLE: list[dict[str, Any]] = [
    {"password": f"{SECRET}\n"},
    {"password": f" {SECRET} "},
    {"password": f"sk-ant-\r\n{SECRET}"},
    {"password": f"{SECRET}\x00"},
    {"extra": header(f"{SECRET}\n")},
    {"extra": header("x", name=f"X {SECRET}")},
    {"extra": {"anthropic_client_kwargs": {"api_key": f"{SECRET}\n"}}},
    {"extra": {"anthropic_client_kwargs": {"auth_token": f"{SECRET}\n"}}, "password": None},
    {"host": f"https://me:{SECRET}@gateway.example"},
    {"host": f"https://me:{SECRET}@gateway.example:port"},
]


@pytest.mark.parametrize("fields", UNSENDABLE)
def test_a_key_that_cannot_be_sent_fails_at_once_and_is_shown_nowhere(
    connect: Connect,
    emulator: Emulator,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    airflow_database: None,
    fields: dict[str, Any],
) -> None:
    hook = connect(**{"host": emulator.url, **fields})
    storage = tmp_path.as_uri()
    with caplog.at_level(0):
        with pytest.raises(AirflowFailException, match=f"ConfigurationError: .*{CONN}") as failed:
            ClaudeBatchOperator(
                task_id="reports",
                requests=[{"custom_id": "a", "prompt": "x"}],
                model="claude-haiku-4-5",
                max_tokens=5,
                storage_path=storage,
            ).execute(Try(task_id="reports").context)
        with pytest.raises(WaitAccessError, match=CONN) as waited:
            asyncio.run(hook.get_async_batches())
        with pytest.raises(ConfigurationError, match=CONN) as asked:
            _ = hook.messages
        main(["doctor", "--storage-path", storage])
    told = "".join(
        line for error in (failed, waited, asked) for line in traceback.format_exception(error.value)
    )
    behind = [str(one) for error in (failed, waited, asked) for one in reach._causes(error.value)]
    printed = "".join(capsys.readouterr())
    assert "connection" in printed
    for text in (told, *behind, caplog.text, printed):
        assert SECRET not in text
    assert emulator.journal() == []


@pytest.mark.parametrize("value", ["schlüssel", "a b\tc", "", "Basic bWU6eA=="])
def test_headers_that_can_be_sent_are(connect: Connect, value: str) -> None:
    with Gateway(lambda path: EMPTY_LIST) as gateway:
        check_reachable(connect(host=gateway.url, extra=header(value)).batches)
    assert gateway.paths


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"password": None}, "has no key.*password"),
        ({"host": "http://127.0.0.1:abc"}, "no URL.*https://host/prefix"),
        ({"host": "http://[::1"}, "no URL"),
        ({"extra": {"anthropic_client_kwargs": {"foo": 1}}}, "foo.*arguments of anthropic.Anthropic"),
        ({"extra": {"anthropic_client_kwargs": [1]}}, "a JSON object"),
        ({"extra": header(5)}, "X-Team"),
        ({"extra": [1]}, "its extra is no JSON object"),
        ({"extra": "{bad"}, "its extra is no JSON object"),
    ],
)
def test_a_connection_that_makes_no_client_says_what_to_set(
    connect: Connect, fields: dict[str, Any], words: str
) -> None:
    with pytest.raises(ConfigurationError, match=f"Connection '{CONN}'.*{words}"):
        _ = connect(**fields).batches
    with pytest.raises(WaitAccessError, match=words):
        asyncio.run(connect(**fields).get_async_batches())


def test_a_key_of_the_environment_will_do(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test-key")
    assert connect(password=None).batches.address
