"""Single calls: what goes over the wire, and what comes back."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import anthropic
import pytest

from airflow_claude_batch.batches.api import aio_client, messages
from airflow_claude_batch.batches.api.aio_client import LARGE_BODY
from airflow_claude_batch.batches.api.messages import Answer, MessagesApi
from airflow_claude_batch.emulator.testing import MESSAGES, Emulator
from tests.gateway import JSON
from tests.gateway import Gateway as TlsGateway

MESSAGE = (200, JSON, b'{"type":"message"}')
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


def body(size: int = 10) -> bytes:
    content = [{"role": "user", "content": "x" * size}]
    return json.dumps({"model": "claude-haiku-4-5", "max_tokens": 10, "messages": content}).encode()


def ask(url: str, params: bytes | None = None, betas: tuple[str, ...] = (), **client: Any) -> Answer:
    async def once() -> Answer:
        api = MessagesApi(anthropic.AsyncAnthropic(**{"api_key": "key", "base_url": url, **client}))
        try:
            return await api.ask(params or body(), betas)
        finally:
            await api.close()

    return asyncio.run(once())


class Gateway(BaseHTTPRequestHandler):
    """Answers compressed, or sends elsewhere; keeps what it was asked."""

    protocol_version = "HTTP/1.1"
    seen: list[tuple[str, dict[str, str], bytes]]
    moved: bool

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers["content-length"]))
        type(self).seen.append((self.path, {k.lower(): v for k, v in self.headers.items()}, data))
        answer = gzip.compress(b'{"type":"message"}')
        self.send_response(307 if type(self).moved else 200)
        if type(self).moved:
            self.send_header("location", "http://127.0.0.1:1/v1/messages")
        self.send_header("content-encoding", "gzip")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def gateway() -> Iterator[tuple[str, type[Gateway]]]:
    handler = type("Handler", (Gateway,), {"seen": [], "moved": False})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/claude", handler
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(params=[False, True], ids=["no proxy", "a proxy for others"])
def environment(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    if request.param:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")


@pytest.mark.usefixtures("environment")
def test_a_call_has_the_body_as_it_is_and_the_headers_that_the_sdk_makes(
    gateway: tuple[str, type[Gateway]],
) -> None:
    url, handler = gateway
    given = {"default_headers": {"x-team": "growth"}, "auth_token": "token", "api_key": None}
    assert ask(url, body(), ("a-beta", "b-beta"), **given).message == b'{"type":"message"}'
    [(path, headers, data)] = handler.seen
    assert (path, data) == ("/claude/v1/messages", body())
    wanted = {
        "authorization": "Bearer token",
        "anthropic-beta": "a-beta,b-beta",
        "content-type": "application/json",
        "content-length": str(len(body())),
        "x-team": "growth",
    }
    assert {name: headers.get(name) for name in wanted} == wanted
    assert "AsyncAnthropic" in headers["user-agent"]
    assert "anthropic-version" in headers
    assert "transfer-encoding" not in headers


@pytest.mark.usefixtures("environment")
def test_a_token_that_is_fetched_for_the_call_goes_with_it(gateway: tuple[str, type[Gateway]]) -> None:
    url, handler = gateway

    def fetched(**_: Any) -> anthropic.AccessToken:
        return anthropic.AccessToken(token="fetched", expires_at=None)  # pragma: allowlist secret

    ask(url, api_key=None, credentials=fetched)
    [(_, headers, data)] = handler.seen
    assert (headers["authorization"], data) == ("Bearer fetched", body())


@pytest.mark.usefixtures("environment")
def test_a_key_is_not_taken_to_where_a_redirect_points(gateway: tuple[str, type[Gateway]]) -> None:
    url, handler = gateway
    handler.moved = True
    with pytest.raises(anthropic.APIStatusError) as raised:
        ask(url)
    assert (raised.value.status_code, len(handler.seen)) == (307, 1)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("size", [LARGE_BODY - 1000, LARGE_BODY, 3 * LARGE_BODY])
def test_a_large_body_arrives_whole(emulator: Emulator, size: int) -> None:
    answer = ask(emulator.url, body(size))
    assert json.loads(answer.message)["type"] == "message"
    [entry] = emulator.journal(path=MESSAGES)
    assert entry["bytes"] == len(body(size))


@pytest.mark.usefixtures("environment")
def test_what_comes_too_late_or_not_at_all_is_the_sdk_s_own_exception(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(anthropic.APIConnectionError):
        ask("http://127.0.0.1:1")
    emulator.fault("drop_after", path=MESSAGES)
    with pytest.raises(anthropic.APIConnectionError):
        ask(emulator.url)
    emulator.settings(message_seconds=5)
    monkeypatch.setattr(messages, "ANSWER_SECONDS", 0.2)
    with pytest.raises(anthropic.APITimeoutError):
        ask(emulator.url)


@pytest.mark.usefixtures("environment")
def test_a_gateway_s_own_certificate_is_trusted_where_the_environment_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TlsGateway(lambda path: MESSAGE, certificate=tmp_path) as gateway:
        with pytest.raises(anthropic.APIConnectionError):
            ask(gateway.url)
        assert gateway.paths == []
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "gateway.pem"))
        aio_client._certificates.cache_clear()  # they are read once a process
        try:
            assert ask(gateway.url).message == MESSAGE[2]
        finally:
            aio_client._certificates.cache_clear()
    assert gateway.paths == ["/v1/messages"]
