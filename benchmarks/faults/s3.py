"""moto's S3 server in a process of its own, where a PUT may arrive long after its client is gone."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import io
import json
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

BUCKET = "bucket"
LATE = "x-late-seconds"
"""Header of a PUT that is to be written so many seconds later; its client gets no answer before."""
GIVEN_UP = "x-given-up"
"""Header of one whose client is told at once that it failed, and which is written nevertheless."""
_PENDING = "/_pending"

_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class S3:
    """The server, seen from the harness."""

    def __init__(self, url: str) -> None:
        self.url = url

    def pending(self) -> list[str]:
        """Paths of the PUTs that have still to be written."""
        paths: list[str] = self._late()["pending"]
        return paths

    def late_puts(self) -> int:
        """How many PUTs came late so far."""
        return int(self._late()["late"])

    @functools.cached_property
    def shared(self) -> Any:
        """A file system for the harness, which may not fork any more afterwards."""
        return self.file_system()

    def _late(self) -> dict[str, Any]:
        with _DIRECT.open(self.url + _PENDING, timeout=30) as answer:
            late: dict[str, Any] = json.loads(answer.read())
        return late

    def file_system(self) -> Any:
        """A file system of this process alone: forks must not share connections."""
        import s3fs

        return s3fs.S3FileSystem(
            key="k", secret="s", endpoint_url=self.url, session=_session(), skip_instance_cache=True
        )

    def attach(self) -> None:
        """Make Airflow use it for ``s3://``."""
        from airflow.sdk.io.store import attach

        attach("s3", fs=self.file_system())


_sessions: list[Any] = []


def _session() -> Any:
    """One for all forks: its model of the service takes a tenth of a second to load."""
    if not _sessions:
        from aiobotocore.session import AioSession

        session = AioSession()
        loader = session.get_component("data_loader")
        for data in ("service-2", "endpoint-rule-set-1", "paginators-1", "waiters-2"):
            loader.load_service_model("s3", data)
        for name in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
            loader.load_data(name)
        _sessions.append(session)
    return _sessions[0]


def warm_up(url: str) -> None:
    """Make each kind of request once, so that no fork has to load what it takes."""
    asyncio.run(_requests(url))


async def _requests(url: str) -> None:
    one: dict[str, str] = {"Bucket": BUCKET, "Key": "warm-up"}
    async with _session().create_client(
        "s3", endpoint_url=url, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    ) as client:
        await client.put_object(**one, Body=b"data", IfNoneMatch="*")
        await client.head_object(**one)
        await (await client.get_object(**one))["Body"].read()
        await client.list_objects_v2(Bucket=BUCKET)
        await client.delete_object(**one)


@contextlib.contextmanager
def start_s3() -> Iterator[S3]:
    """Run the server for the block."""
    command = [sys.executable, "-m", "benchmarks.faults.s3"]
    server = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert server.stdout
    try:
        yield S3(server.stdout.readline().strip())
    finally:
        server.kill()
        server.wait()


class _LatePuts:
    """WSGI: the server's own application behind a slow network."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self._pending: list[str] = []
        self._late = 0
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == _PENDING:
            start_response("200 OK", [("Content-Type", "application/json")])
            with self._lock:
                return [json.dumps({"pending": self._pending, "late": self._late}).encode()]
        seconds = environ.get("HTTP_X_LATE_SECONDS")
        if environ["REQUEST_METHOD"] != "PUT" or seconds is None:
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        written = self._write_later(environ, float(seconds))
        if "HTTP_X_GIVEN_UP" not in environ:
            written.wait()  # its client is dead by then
        start_response("500 Internal Server Error", [("Content-Length", "0")])
        return []

    def _write_later(self, environ: dict[str, Any], seconds: float) -> threading.Event:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        path, written = environ["PATH_INFO"], threading.Event()
        own = {**environ, "wsgi.input": io.BytesIO(body)}
        with self._lock:
            self._pending.append(path)
            self._late += 1

        def write() -> None:
            try:
                for _ in self._app(own, lambda status, headers, exc_info=None: None):
                    pass
            finally:
                with self._lock:
                    self._pending.remove(path)
                written.set()

        timer = threading.Timer(seconds, write)
        timer.daemon = True
        timer.start()
        return written


def _serve() -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    inner: Any = server._server
    inner.app = _LatePuts(inner.app)
    request = urllib.request.Request(f"http://{host}:{port}/{BUCKET}", method="PUT")
    _DIRECT.open(request).close()
    print(f"http://{host}:{port}", flush=True)
    sys.stdin.read()  # until the harness is gone


if __name__ == "__main__":
    _serve()
