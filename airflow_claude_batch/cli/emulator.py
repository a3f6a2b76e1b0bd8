"""``emulator``: what ``claude-batch-emulator`` does."""

from __future__ import annotations

import argparse

from airflow_claude_batch.batches.errors import missing_package


def emulator(options: argparse.Namespace) -> int:
    """Run the emulator until it is told to stop."""
    try:
        from airflow_claude_batch.emulator.cli import serve
    except ImportError as error:
        raise missing_package("The emulator", error.name or "starlette", "emulator") from None
    return serve(options)
