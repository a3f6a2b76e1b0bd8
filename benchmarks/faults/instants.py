"""Chosen instants: a process kills or stops itself at the n-th call of a kind.

The calls are caught below the engine, where it leaves the process: links, renames and removals of files,
requests to S3, requests to the API.
"""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.faults.plan import Fate, Instant
from benchmarks.faults.s3 import GIVEN_UP, LATE

SENT_SECONDS = 0.05
"""After which a PUT has reached the server."""


class Trap:
    """Counts calls, and strikes at the one that was chosen."""

    def __init__(self, instant: Instant, *, stop: bool) -> None:
        self.instant = instant
        self._signal = signal.SIGSTOP if stop else signal.SIGKILL
        self._count = 0
        self._lock = threading.Lock()

    def meets(self, calls: tuple[str, ...], name: str) -> bool:
        """Whether this call is the chosen one."""
        if self.instant.call not in calls or self.instant.name not in name:
            return False
        with self._lock:
            self._count += 1
            return self._count == self.instant.number

    def strike(self) -> None:
        """Kill or stop this process."""
        os.kill(os.getpid(), self._signal)

    def strike_soon(self) -> None:
        """The same when what is under way has reached its server."""
        timer = threading.Timer(SENT_SECONDS, self.strike)
        timer.daemon = True
        timer.start()


def set_trap(fate: Fate) -> None:
    """Lay the trap in this process, which is about to begin its work."""
    if fate.instant is None:
        return
    trap = Trap(fate.instant, stop=fate.stop)
    _catch_files(trap)
    _catch_s3(trap)
    _catch_api(trap)


def _catch_files(trap: Trap) -> None:
    def caught(kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*paths: Any, **options: Any) -> Any:
            meets = trap.meets((kind,), str(paths[-1]))
            if meets and trap.instant.when == "before":
                trap.strike()
            result = function(*paths, **options)
            if meets and trap.instant.when == "after":
                trap.strike()
            return result

        return call

    kinds = {"link": "create", "replace": "replace", "rename": "replace", "unlink": "remove"}
    for name, kind in {**kinds, "remove": "remove"}.items():
        setattr(os, name, caught(kind, getattr(os, name)))


def _catch_s3(trap: Trap) -> None:
    from aiobotocore.httpsession import AIOHTTPSession

    send = AIOHTTPSession.send

    async def caught(self: Any, request: Any) -> Any:
        meets = trap.meets(_kinds_of(request), str(request.url))
        if meets and trap.instant.when == "before":
            trap.strike()
        if meets and trap.instant.when in ("late", "given up"):
            request.headers[LATE] = str(trap.instant.seconds)
            if trap.instant.when == "late":
                trap.strike_soon()
            else:
                request.headers[GIVEN_UP] = "yes"
        answer = await send(self, request)
        if meets and trap.instant.when == "after":
            trap.strike()
        return answer

    AIOHTTPSession.send = caught


def _kinds_of(request: Any) -> tuple[str, ...]:
    """What a request to S3 is, in the words of `Instant.call`."""
    if request.method == "PUT":
        return ("put", "create" if "If-None-Match" in request.headers else "replace")
    deletes = request.method == "DELETE" or str(request.url).endswith("?delete")
    return ("remove",) if deletes else ()


def _catch_api(trap: Trap) -> None:
    import httpx2

    class Body(httpx2.SyncByteStream):
        """Strikes when so many bytes are read, before the block that makes them is sent."""

        def __init__(self, stream: Any, length: int) -> None:
            self._stream, self._length = stream, length

        def __iter__(self) -> Iterator[bytes]:
            read, struck = 0, False
            for block in self._stream:
                read += len(block)
                if read >= self._length and not struck:
                    struck = True
                    trap.strike()
                yield block

        def close(self) -> None:
            self._stream.close()

    handle = httpx2.HTTPTransport.handle_request

    def caught(self: httpx2.HTTPTransport, request: httpx2.Request) -> httpx2.Response:
        meets = trap.meets(("api",), f"{request.method} {request.url.path}")
        if meets and trap.instant.when == "before":
            trap.strike()
        if meets and trap.instant.when in ("amid", "checked"):
            length = int(request.headers.get("content-length", "0"))
            request.stream = Body(request.stream, 0 if trap.instant.when == "amid" else length)
        answer = handle(self, request)
        if meets and trap.instant.when == "after":
            trap.strike()
        return answer

    httpx2.HTTPTransport.handle_request = caught  # type: ignore[method-assign]
