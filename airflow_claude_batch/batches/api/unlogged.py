"""Calls without a line each in the log, as the SDK's transport writes it: looks at batches, single calls."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from contextvars import ContextVar

_calling: ContextVar[bool] = ContextVar("claude_batch_unlogged", default=False)
"""Whether the call under way is one of these."""


@contextlib.contextmanager
def unlogged() -> Iterator[None]:
    """Make a call in the block, without the transport's line."""
    # The level of this logger is other people's to set; a filter that is there is not added again.
    logging.getLogger("httpx2").addFilter(_is_other)
    calling = _calling.set(True)
    try:
        yield
    finally:
        _calling.reset(calling)


def _is_other(_: logging.LogRecord) -> bool:
    return not _calling.get()
