"""The first question: what is not the API's answer fails at once, and says what came back and what to set."""

from __future__ import annotations

import socket
import traceback
from pathlib import Path

import anthropic
import pytest

from airflow_claude_batch.batches.api import reach
from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.api.reach import check_reachable
from airflow_claude_batch.batches.errors import (
    AccessError,
    ConfigurationError,
    NotReachedYetError,
    UnreachableError,
)
from tests.batches.helpers import api_at
from tests.gateway import BAD_KEY, EMPTY_LIST, HTML, JSON, LOGIN, NO_LIST, NOT_FOUND, Answer, Gateway

REDIRECT: Answer = (301, {"location": "https://gateway.example/v1/messages/batches?limit=1"}, b"")


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "PAUSE_SECONDS", 0.01)


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        (LOGIN, ConfigurationError, "status 200, text/html.*login page"),
        ((200, JSON, b'{"status":"ok"}'), ConfigurationError, "status 200, application/json"),
        (NOT_FOUND, ConfigurationError, "status 404, application/json.*prefix"),
        ((404, HTML, b"<html>nginx</html>"), ConfigurationError, "status 404, text/html.*prefix"),
        ((403, HTML, b"<html>blocked</html>"), ConfigurationError, "status 403, text/html"),
        (REDIRECT, ConfigurationError, "redirected to https://gateway.example/v1/messages/batches "),
        ((308, {"location": "/elsewhere"}, b""), ConfigurationError, "redirected to /elsewhere"),
        (BAD_KEY, AccessError, "key was not accepted"),
        ((502, HTML, b"<html>Bad Gateway</html>"), NotReachedYetError, "status 502, text/html"),
    ],
)
def test_what_is_not_the_apis_answer_fails_and_says_what_came_back(
    answer: Answer, error: type[Exception], words: str
) -> None:
    with Gateway(lambda path: answer) as gateway, pytest.raises(error, match=words) as raised:
        check_reachable(api_at(gateway.url))
    assert "'anthropic_default' (http://127.0.0.1:" in str(raised.value)
    assert "Please log in" not in str(raised.value)


@pytest.mark.parametrize("answer", [EMPTY_LIST, NO_LIST])
def test_any_answer_of_the_apis_own_will_do_and_one_question_is_asked(answer: Answer) -> None:
    with Gateway(lambda path: answer) as gateway:
        check_reachable(api_at(gateway.url))
    assert gateway.paths == ["/v1/messages/batches?limit=1"]


def test_a_missing_path_prefix_is_named_and_the_right_one_passes() -> None:
    def answer(path: str) -> Answer:
        return EMPTY_LIST if path.startswith("/claude/v1/") else NOT_FOUND

    with Gateway(answer) as gateway:
        check_reachable(api_at(f"{gateway.url}/claude"))
        with pytest.raises(ConfigurationError, match="prefix"):
            check_reachable(api_at(gateway.url))


@pytest.mark.parametrize("path", ["/v1", "/v1/messages", "/v1/messages/batches", "/claude/v1/"])
def test_the_apis_own_path_in_the_host_is_named(path: str) -> None:
    with (
        Gateway(lambda asked: NO_LIST) as gateway,
        pytest.raises(
            ConfigurationError, match=f"status 404.*Leave {path.removeprefix('/claude').rstrip('/')} "
        ),
    ):
        check_reachable(api_at(f"{gateway.url}{path}"))


def test_a_token_that_no_header_can_hold_is_not_shown() -> None:
    with Gateway(lambda path: EMPTY_LIST) as gateway:
        api = api_at(gateway.url, default_headers={"X-Token": "team-42-secret\n"})
        with pytest.raises(ConfigurationError, match="a header cannot be sent") as raised:
            check_reachable(api)
        with pytest.raises(anthropic.APIConnectionError) as foreign:
            api.newest()
    assert describe_error(foreign.value) == "LocalProtocolError"
    assert "team-42" not in "".join(traceback.format_exception(raised.value))


def test_a_certificate_that_nobody_vouches_for_is_named(tmp_path: Path) -> None:
    with (
        Gateway(lambda path: EMPTY_LIST, certificate=tmp_path) as gateway,
        pytest.raises(ConfigurationError, match=r"no TLS connection.*SSL_CERT_FILE"),
    ):
        check_reachable(api_at(gateway.url))


def test_tls_where_there_is_none_is_named() -> None:
    with Gateway(lambda path: EMPTY_LIST) as gateway, pytest.raises(ConfigurationError, match="no TLS"):
        check_reachable(api_at(gateway.url.replace("http://", "https://")))


@pytest.mark.parametrize("host", ["gateway.example/claude", "127.0.0.1:8000"])
def test_a_host_without_a_scheme_is_named(host: str) -> None:
    with pytest.raises(ConfigurationError, match="with its scheme"):
        check_reachable(api_at(host))


def test_a_host_that_has_no_address_fails_and_may_be_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreachableError, match="no address") as raised:
        check_reachable(api_at("https://gateway.invalid"))
    assert not isinstance(raised.value, NotReachedYetError)


def test_where_nobody_listens_it_may_pass() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(NotReachedYetError, match="cannot be reached"):
            check_reachable(api_at(f"http://127.0.0.1:{unused.getsockname()[1]}"))


def test_a_gateways_outage_that_passes_meanwhile_is_none() -> None:
    answers = [(503, HTML, b"<html>starting</html>"), EMPTY_LIST]
    with Gateway(lambda path: answers.pop(0)) as gateway:
        check_reachable(api_at(gateway.url))
