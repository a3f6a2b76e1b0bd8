"""The emulator in a thread of a test: what was sent can be looked at, and answers be made there."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import uvicorn

from airflow_claude_batch.emulator.api.connection import protocol
from airflow_claude_batch.emulator.app import create_app
from airflow_claude_batch.emulator.control.emulation import Emulation
from airflow_claude_batch.emulator.control.settings import Settings, merged

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_SECONDS = 10.0


@contextlib.contextmanager
def run_in_process(**settings: Any) -> Iterator[tuple[str, Emulation]]:
    """Run an emulator with these settings for the block; yields its URL and what it holds."""
    emulation = Emulation(merged(Settings(), settings))
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        create_app(emulation=emulation),
        http=protocol(),
        ws="none",
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=1,
        server_header=False,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="claude-batch-emulator", daemon=True
    )
    thread.start()
    deadline = time.monotonic() + _START_SECONDS
    while not server.started and thread.is_alive() and time.monotonic() < deadline:
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", emulation
    finally:
        server.should_exit = True
        thread.join(_START_SECONDS)
        listener.close()
