"""Whether there is an API behind a connection: one free question, before anything is read or stored.

Any answer of the API's own will do, errors included: some gateways have no list of batches. What is not
its answer (a login page, a redirect, a gateway that knows no such path) will not become one by waiting, so it
fails at once and says what came back. An outage may pass; that is told apart.
"""

from __future__ import annotations

import logging
import re
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

import msgspec

from airflow_claude_batch.batches.api.client import BatchesApi, decode_page
from airflow_claude_batch.batches.api.foreign_text import describe_error, foreign_text
from airflow_claude_batch.batches.errors import (
    AccessError,
    ConfigurationError,
    NotReachedYetError,
    UnreachableError,
)

log = logging.getLogger(__name__)

TRIES = 3
PAUSE_SECONDS = 1.0
"""Before the second try; doubled before the third."""
_WITH_API_PATH = re.compile(r"/v1(/messages(/batches)?)?$")


def check_reachable(api: BatchesApi) -> None:
    """Ask the API one question.

    Raises:
        ConfigurationError: When what answers is not the API.
        AccessError: When the API does not accept the key.
        UnreachableError: When the host has no address.
        NotReachedYetError: When nothing answers, which may pass.
    """
    for number in range(1, TRIES + 1):
        try:
            _ask(api)
        except UnreachableError:
            if number == TRIES:
                raise
            time.sleep(PAUSE_SECONDS * 2 ** (number - 1))
        else:
            return


def _ask(api: BatchesApi) -> None:
    import anthropic
    import httpx2

    where = f"Connection {api.conn_id!r} ({api.address})"
    try:
        kind, body = api.knock()
    except anthropic.APIStatusError as error:
        _judge(error, where, api.address)
        return
    except (anthropic.APIConnectionError, httpx2.InvalidURL, httpx2.TransportError) as error:
        raise _unreachable(error, where) from None  # its text may be a header's, the key
    try:
        decode_page(body)
    except msgspec.DecodeError:
        raise ConfigurationError(
            f"{where}: what answers is not the Claude API: status 200, {foreign_text(kind)}, {len(body)} "
            "bytes. It may be a login page or a proxy. Set the connection's host to the base URL of "
            "the API or of the gateway, path prefix included. Nothing was sent."
        ) from None


def _judge(error: Any, where: str, address: str) -> None:
    """What a status says; returns where it is the API's own and says nothing against sending."""
    status = error.status_code
    if 300 <= status < 400:
        target = foreign_text(error.response.headers.get("location", "nowhere").partition("?")[0])
        raise ConfigurationError(
            f"{where} is redirected to {target} (status {status}), and a POST does not survive that. Set the "
            "connection's host to the address that it is redirected to, with its scheme. Nothing was sent."
        )
    if _is_the_apis(error.body):
        if status == 401:
            raise AccessError(
                f"{where}: the key was not accepted ({describe_error(error)}). Nothing was sent."
            )
        if status == 404 and (path := _WITH_API_PATH.search(address)):
            raise ConfigurationError(
                f"{where}: the API knows no such path (status 404). Leave {path.group()} out of the "
                "connection's host; it is added to it. Nothing was sent."
            )
        log.info("The list of batches could not be looked at (%s); going on", describe_error(error))
        return
    kind = foreign_text(error.response.headers.get("content-type", "no media type"))
    if status >= 500 or status in (408, 429):
        raise NotReachedYetError(f"{where}: status {status}, {kind}, not from the API. Nothing was sent.")
    raise ConfigurationError(
        f"{where}: what answers is not the Claude API: status {status}, {kind}. Set the connection's host to "
        "the base URL of the API or of the gateway; its path prefix may be missing. Nothing was sent."
    )


def _is_the_apis(body: Any) -> bool:
    """Whether it is the API's error: ``{"type": "error", "error": {"type": …}}``."""
    return isinstance(body, dict) and body.get("type") == "error" and isinstance(body.get("error"), dict)


def _unreachable(error: Exception, where: str) -> Exception:
    import httpx2

    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, httpx2.LocalProtocolError):
            return ConfigurationError(
                f"{where}: a header cannot be sent: the key, or one of default_headers in the connection's "
                "extra, holds a line end, a space at an end or another character that no header can. Write "
                "it anew. Nothing was sent."
            )
        if isinstance(cause, (httpx2.UnsupportedProtocol, httpx2.InvalidURL)):
            return ConfigurationError(
                f"{where}: that is no URL. Set the connection's host with its scheme: https://host/prefix. "
                "Nothing was sent."
            )
        if isinstance(cause, ssl.SSLError):
            reason = foreign_text(cause.reason or type(cause).__name__)
            return ConfigurationError(
                f"{where}: no TLS connection ({reason}). Where the "
                "certificate is your gateway's own, let workers and triggerers trust its authority "
                "(SSL_CERT_FILE); where there is no TLS, write http://. Nothing was sent."
            )
        if isinstance(cause, socket.gaierror):
            return UnreachableError(
                f"{where}: the host has no address ({foreign_text(str(cause))}). Check the connection's "
                "host, and the name service of the worker. Nothing was sent."
            )
    return NotReachedYetError(f"{where} cannot be reached ({describe_error(error)}). Nothing was sent.")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
