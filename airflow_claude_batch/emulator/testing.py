"""Run the emulator in your own tests.

As a context manager::

    with start_emulator(duration="manual") as emulator:
        client = anthropic.Anthropic(api_key="any", base_url=emulator.url)
        ...
        emulator.end(batch.id)

or as a pytest fixture: see `airflow_claude_batch.emulator.pytest_plugin`; tests of a DAG want
`airflow_claude_batch.testing.pytest_plugin`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

CREATE = r"/v1/messages/batches$"
"""Path of create and list, for :meth:`Emulator.fault` and :meth:`Emulator.wait_for`."""
RETRIEVE = r"/v1/messages/batches/[^/]+$"
"""Path of retrieve and delete."""
CANCEL = r"/cancel$"
RESULTS = r"/results$"
MESSAGES = r"/v1/messages$"
"""Path of a single call."""

_START_SECONDS = 30.0
_CALL_SECONDS = 120.0
_STOP_SECONDS = 10.0
_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Loopback is never reached through a proxy."""


class EmulatorError(Exception):
    """The admin interface refused a call, or a wait timed out; the message is the emulator's own."""


class Emulator:
    """A running emulator, driven over its admin interface."""

    def __init__(self, url: str) -> None:
        self.url = url
        """Base URL for API clients."""

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings (see `emulator.control.settings.Settings`) and return them all."""
        return self._dict("PATCH" if changes else "GET", "/settings", changes or None)

    def fault(
        self,
        kind: str,
        *,
        method: str | None = None,
        path: str | None = None,
        api_key: str | None = None,
        skip: int = 0,
        times: int | None = 1,
        probability: float = 1.0,
        seed: int = 0,
        **action: Any,
    ) -> int:
        """Put a fault rule in force, for one matching request or for ``times`` of them (``None``: all).

        ``kind`` and its further fields are those of `emulator.control.faults`, for example
        ``fault("drop_after", method="POST", path=CREATE)``. Returns the rule's number.
        """
        match = {"method": method, "path": path, "api_key": api_key}
        rule = {"match": match, "skip": skip, "times": times, "probability": probability, "seed": seed}
        number: int = self._dict("POST", "/faults", {**rule, "action": {"kind": kind, **action}})["numbers"][
            0
        ]
        return number

    def faults(self) -> list[dict[str, Any]]:
        """The rules in force, with how often each matched and hit."""
        return self._list("/faults")

    def clear_faults(self, number: int | None = None) -> None:
        """Remove one rule, or all."""
        self._call("DELETE", "/faults" if number is None else f"/faults/{number}")

    def advance(self, seconds: float) -> None:
        """Move the emulated clock; all that becomes due has happened on return."""
        self._call("POST", "/clock/advance", {"seconds": seconds})

    def end(self, batch_id: str) -> dict[str, Any]:
        """End a batch now, as if its time had come (a canceling one: with its cancellation)."""
        return self._dict("POST", f"/batches/{batch_id}/end")

    def expire(self, batch_id: str, finished_share: float = 0.0) -> dict[str, Any]:
        """End a batch now; all but this share of its requests expire."""
        return self._dict("POST", f"/batches/{batch_id}/expire", {"finished_share": finished_share})

    def archive(self, batch_id: str) -> dict[str, Any]:
        """End a batch if need be, and make its results unavailable as after 29 days."""
        return self._dict("POST", f"/batches/{batch_id}/archive")

    def delete(self, batch_id: str) -> dict[str, Any]:
        """End a batch if need be, and delete it, as somebody else would."""
        return self._dict("POST", f"/batches/{batch_id}/delete")

    def hide(self, batch_id: str, *, lookups: int = 0, seconds: float = 0.0) -> None:
        """Answer 404 for the next lookups of this id, or for some time."""
        self._call("POST", f"/batches/{batch_id}/hide", {"lookups": lookups, "seconds": seconds})

    def batches(self) -> list[dict[str, Any]]:
        """All batches ever created, deleted ones too, oldest first."""
        return self._list("/batches")

    def custom_ids(self, batch_id: str) -> list[str]:
        """The custom_ids of a batch in the order they were sent."""
        return self._call("GET", f"/batches/{batch_id}/custom_ids").decode().split()

    def journal(
        self, since: int = 0, *, method: str | None = None, path: str | None = None
    ) -> list[dict[str, Any]]:
        """API requests received after entry number ``since``, those still waiting too."""
        return self._list("/journal?" + _query(since=since, method=method, path=path))

    def wait_for(
        self,
        method: str | None = None,
        path: str | None = None,
        *,
        count: int = 1,
        timeout: float = 30.0,
        since: int = 0,
        waiting: bool = False,
    ) -> list[dict[str, Any]]:
        """Block until ``count`` matching API requests were answered (``waiting``: have arrived)."""
        query = _query(method=method, path=path, count=count, timeout=timeout, since=since)
        return self._list(f"/journal/wait?{query}&waiting={'true' if waiting else 'false'}")

    def ledger(self) -> dict[str, Any]:
        """How many custom_ids were submitted, are live and were billed, and which of them more than once."""
        return self._dict("GET", "/ledger")

    def state(self) -> dict[str, Any]:
        """Clock, numbers of batches, counters of all requests."""
        return self._dict("GET", "/state")

    def reset(self) -> None:
        """Back to how it was started: no batches, journal, faults or advanced time."""
        self._call("POST", "/reset")

    def _dict(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self._call(method, path, body))
        return value

    def _list(self, path: str) -> list[Any]:
        value: list[Any] = json.loads(self._call("GET", path))
        return value

    def _call(self, method: str, path: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_emulator{path}", data, method=method)  # noqa: S310 - our own http URL
        try:
            with _DIRECT.open(request, timeout=_CALL_SECONDS) as response:
                answer: bytes = response.read()
                return answer
        except urllib.error.HTTPError as error:
            message = json.loads(error.read())["error"]["message"]
            raise EmulatorError(f"{method} {path}: {message}") from None


def _query(**values: Any) -> str:
    return urllib.parse.urlencode({name: value for name, value in values.items() if value is not None})


@contextlib.contextmanager
def start_emulator(**settings: Any) -> Iterator[Emulator]:
    """Run an emulator with these settings, in its own process on a free loopback port, for the block."""
    with tempfile.TemporaryDirectory(prefix="claude-batch-emulator-") as folder:
        file = Path(folder) / "settings.json"
        file.write_text(json.dumps(settings))
        command = [sys.executable, "-m", "airflow_claude_batch.emulator", "--port", "0", "--stop-with-stdin"]
        paths = [str(_PACKAGE_ROOT), os.environ.get("PYTHONPATH", "")]
        process = subprocess.Popen(  # noqa: S603 - our own command line
            [*command, "--settings", str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        try:
            yield Emulator(_url_of(process))
        finally:
            _stop(process)


def _url_of(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + _START_SECONDS
    ready, _, _ = select.select([process.stdout], [], [], deadline - time.monotonic())
    if not ready:
        raise EmulatorError(f"the emulator did not start within {_START_SECONDS:.0f} s")
    line = process.stdout.readline().decode()
    if "listening on " not in line:
        raise EmulatorError(f"the emulator did not start; its standard error says why {line}".rstrip())
    return line.split("listening on ")[1].strip()


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    process.stdout.close()
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
