"""Command line of the emulator: ``claude-batch-emulator``, or ``python -m airflow_claude_batch.emulator``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import uvicorn

from airflow_claude_batch.emulator.api.connection import protocol
from airflow_claude_batch.emulator.app import create_app
from airflow_claude_batch.emulator.arguments import ARGUMENTS
from airflow_claude_batch.emulator.control.settings import Settings, merged

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHUTDOWN_SECONDS = 1
_THREAD_SWITCH_SECONDS = 0.001


def main(argv: Sequence[str] | None = None) -> int:
    """Run the emulator until it is told to stop; returns the exit status."""
    return serve(_parser().parse_args(argv))


def serve(arguments: argparse.Namespace) -> int:
    """The same, with its arguments read."""
    try:
        settings = _settings(arguments)
    except (OSError, msgspec.DecodeError) as error:
        print(f"claude-batch-emulator: settings: {error}", file=sys.stderr)
        return 2
    try:
        listener = socket.create_server((arguments.host, arguments.port), backlog=2048)
    except OSError as error:
        print(
            f"claude-batch-emulator: cannot listen on {arguments.host}:{arguments.port}: {error}",
            file=sys.stderr,
        )
        return 1
    # A big create is parsed in a thread; at the default interval each poll would wait 5 ms a turn for it.
    sys.setswitchinterval(_THREAD_SWITCH_SECONDS)
    config = uvicorn.Config(
        create_app(settings),
        http=protocol(),
        ws="none",
        log_level="critical",
        access_log=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        server_header=False,
    )
    server = _Server(config, arguments)
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    return 0


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, arguments: argparse.Namespace) -> None:
        super().__init__(config)
        self._arguments = arguments

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        assert sockets is not None
        host, port = sockets[0].getsockname()[:2]
        url = f"http://{host}:{port}"
        if self._arguments.ready_file:
            _write_whole(self._arguments.ready_file, url)
        print(f"claude-batch-emulator listening on {url}", flush=True)
        if self._arguments.max_seconds:
            asyncio.get_running_loop().call_later(self._arguments.max_seconds, self._stop)
        if self._arguments.stop_with_stdin:
            threading.Thread(target=self._stop_with_stdin, daemon=True).start()

    def _stop(self) -> None:
        self.should_exit = True

    def _stop_with_stdin(self) -> None:
        while os.read(0, 4096):
            pass
        self._stop()


def _write_whole(path: Path, text: str) -> None:
    """Write so that a reader sees all or nothing."""
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)


def _settings(arguments: argparse.Namespace) -> Settings:
    settings = Settings()
    if arguments.settings:
        settings = merged(settings, msgspec.json.decode(arguments.settings.read_bytes(), type=dict))
    given = {name: getattr(arguments, name) for name in ("speed", "duration", "api_key")}
    return merged(settings, {name: value for name, value in given.items() if value is not None})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="claude-batch-emulator", description="A local Claude Message Batches API, for demos and tests."
    )
    for flag, options in ARGUMENTS.items():
        parser.add_argument(flag, **options)
    return parser
