"""The arguments of the emulator's command line, as data: ``claude-batch emulator`` has them, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def duration(text: str) -> float | str:
    """Seconds, or ``manual``."""
    return text if text == "manual" else float(text)


ARGUMENTS: dict[str, dict[str, Any]] = {
    "--host": {"default": "127.0.0.1", "help": "address to listen on (default: loopback only)"},
    "--port": {"type": int, "default": 8765, "help": "0: any free port (default: 8765)"},
    "--speed": {"type": float, "help": "batches are processed this many times as fast"},
    "--duration": {"type": duration, "help": 'seconds a batch takes, or "manual" (default: by size)'},
    "--api-key": {"help": "the only accepted key (default: any)"},
    "--settings": {"type": Path, "metavar": "FILE", "help": "JSON file with any of the settings"},
    "--max-seconds": {"type": float, "help": "stop by itself after this time"},
    "--ready-file": {"type": Path, "metavar": "FILE", "help": "write the URL here once it listens"},
    "--stop-with-stdin": {"action": "store_true", "help": "stop when standard input ends"},
}
