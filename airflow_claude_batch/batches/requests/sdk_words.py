"""Words and keys that the installed SDK knows, which may be newer than this package."""

from __future__ import annotations

import contextlib
import functools
import re
import typing
from collections.abc import Iterator
from typing import Any

from airflow_claude_batch.batches.requests.descriptions import describe

_WORD = re.compile(r"[\w./+-]{1,20}")


def named(value: Any) -> str:
    """A value that is meant to be a word; what is none may be anything, and is not shown."""
    return repr(value) if isinstance(value, str) and _WORD.fullmatch(value) else describe(value)


@functools.cache
def known_to_the_sdk() -> dict[str, list[Any]]:
    """What it has for the parameters, keys and media types that are checked here."""
    hints: dict[str, Any] = {}
    for name, hint in _HINTS.items():
        hints[name] = ()
        with contextlib.suppress(AttributeError, ImportError, KeyError, NameError, TypeError):
            hints[name] = hint()
    return {name: list(_words_of(hint)) for name, hint in hints.items()}


def _fields(name: str) -> dict[str, Any]:
    from anthropic import types

    return typing.get_type_hints(getattr(types, name))


def _members(name: str) -> list[dict[str, Any]]:
    from anthropic import types

    return [typing.get_type_hints(kind) for kind in typing.get_args(getattr(types, name))]


_HINTS: dict[str, typing.Callable[[], Any]] = {
    "effort": lambda: _fields("OutputConfigParam")["effort"],
    "output_config": lambda: list(_fields("OutputConfigParam")),
    "ttl": lambda: _fields("CacheControlEphemeralParam")["ttl"],
    "tool_choice": lambda: [kind["type"] for kind in _members("ToolChoiceParam")],
    "role": lambda: [kind["role"] for kind in _members("MessageParam")],
    "message": lambda: [key for kind in _members("MessageParam") for key in kind],
    "image": lambda: _fields("Base64ImageSourceParam")["media_type"],
    "document": lambda: _fields("Base64PDFSourceParam")["media_type"],
}


def _words_of(hint: Any) -> Iterator[str]:
    if isinstance(hint, str):
        yield hint
    for part in hint if isinstance(hint, list) else typing.get_args(hint):
        yield from _words_of(part)
