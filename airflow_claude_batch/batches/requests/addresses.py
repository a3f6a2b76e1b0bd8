"""What is an address: asked of arguments that are places, and of texts that would be sent as they are."""

from __future__ import annotations

import re

_PLACE = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://|/")
_FILE = re.compile(
    r"[a-zA-Z][a-zA-Z0-9+.-]*://\S*|[a-zA-Z][a-zA-Z0-9+.-]+:/\S+"
    r"|(?:~|\.{1,2}|[a-zA-Z]:)?/\S*\.[a-zA-Z0-9]{1,8}|(?:[a-zA-Z]:)?/[^\s/]+/\S+"
)
_BEGINNING = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://|file:/|(?:~|\.{1,2})?/[^\r\n]*\.[a-zA-Z0-9]{1,8}$")


def is_address(value: str) -> bool:
    """Whether an argument that is to be an address is one: a URI, or an absolute path."""
    return _PLACE.match(value) is not None


def is_file_address(text: str) -> bool:
    """Whether a text is a file's address and nothing besides, in one word.

    That is a URI, a path that ends like a file's name, or one with a directory; also one of Windows.
    """
    return _FILE.fullmatch(text.strip()) is not None


def begins_like_address(text: str) -> bool:
    """The same for a text that may be one: a path may have blanks, and a URI anything behind it."""
    return is_file_address(text) or _BEGINNING.match(text.strip()) is not None
