"""An S3-compatible server on loopback that can be made to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from airflow_claude_batch.batches.storage import Folder


class S3:
    """moto's server, in this process."""

    def __init__(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        http_server: Any = self._server._server
        self._app, http_server.app = http_server.app, self._answer
        # moto lists a dict that its other threads write to, and answers 500 where that shows.
        self._one_at_a_time = threading.Lock()
        self.fails: Callable[[dict[str, Any]], bool] = lambda environ: False
        """Whether a request is answered with 503, by its WSGI environment."""

    def folder(self, name: str) -> Folder:
        """A folder of the one bucket."""
        options: dict[str, Any] = {"endpoint_url": self.url, "key": "k", "secret": "s"}
        once = {"retries": {"total_max_attempts": 1}}
        folder = Folder.at("s3://bucket", skip_instance_cache=True, config_kwargs=once, **options)
        folder.fs.retries = 1
        if not folder.fs.exists("bucket"):
            folder.fs.mkdir("bucket")
        return folder.child(name)

    def stop(self) -> None:
        self._server.stop()

    def _answer(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if self.fails(environ):
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Service Unavailable", [("Content-Length", "0")])
            return []
        with self._one_at_a_time:
            return self._app(environ, start_response)  # type: ignore[no-any-return]
