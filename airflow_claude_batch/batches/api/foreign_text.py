"""What the API, a gateway or the network says, made fit for logs, messages, XComs and pages.

Such text is not ours: it can be a web page, hold control characters, or repeat a prompt. Whatever passes it
on to people takes it from here.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

LONGEST = 300
"""Characters that are kept."""
PHRASE_WORDS = 4
"""So many words in a row that are also in the request are no coincidence."""
NAME_LEAST = 6
"""A word that is no English (``invoice-4711``, ``a@b.example``) is looked for from this length on."""

_FOREIGN = {"anthropic", "httpx2", "httpcore2"}
_QUOTING_HEADERS = "LocalProtocolError"
"""The transport's error that quotes a header which cannot be sent, and so the key."""
_CONTROL = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]+")
_USER_INFO = re.compile(r"(?<=://)[^\s/@]+@")
_QUOTED = re.compile(r"(?<!\w)([\"'`])(?P<what>.+?)\1(?!\w)")
_NAME = re.compile(r"[\w.:/*\[\]-]{1,64}")
_WORD = re.compile(r"[^\s\"'`<>()\[\]{},;:.]+(?:[.:][^\s\"'`<>()\[\]{},;:.]+)*")
_NAMED = ((b'"', b'":'), (b'"model":"', b'"'), (b'"type":"', b'"'))
_BEFORE, _AFTER = max(len(before) for before, _ in _NAMED), max(len(after) for _, after in _NAMED)
_ENGLISH = re.compile(r"[A-Za-z]?[a-z]+\W*")


def foreign_text(text: object, sent: Iterable[bytes] = ()) -> str:
    """One line of at most 300 characters, without what it repeats of a request.

    Args:
        text: What somebody else has said.
        sent: The JSON of the request that it is about, in blocks. Whole phrases of it, and its words that
            are no English, are taken out; without it only sentences in quotation marks are.
    """
    line = _USER_INFO.sub("", _CONTROL.sub(" ", str(text)).strip())[: 2 * LONGEST]
    line = _QUOTED.sub(_only_names, _without_repeats(line, sent))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def describe_error(error: BaseException, sent: Iterable[bytes] = ()) -> str:
    """An error of the API, or of the connection to it, in one line.

    Args:
        error: The SDK's, or its transport's.
        sent: The JSON of the request, in blocks, see :func:`foreign_text`.
    """
    status = None
    if not type(error).__module__.startswith("airflow."):  # that a connection is not defined has one, too
        status = getattr(error, "status_code", None)
    if status is None:
        cause = error.__cause__ or error
        if type(cause).__name__ == _QUOTING_HEADERS:
            return _QUOTING_HEADERS
        return foreign_text(f"{type(cause).__name__}: {cause}".removesuffix(": "))
    head = f"HTTP {status} {getattr(error, 'type', None) or ''}".rstrip()
    message = foreign_text(_message_of(error), sent)
    return f"{head}: {message}" if message else head


def is_foreign(error: BaseException) -> bool:
    """Whether an error is the SDK's or its transport's: its text may be a whole answer."""
    roots = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return not roots.isdisjoint(_FOREIGN)


def cut_foreign(error: BaseException) -> None:
    """Take the SDK's errors out of what a traceback of an error of ours shows as its causes."""
    for link in ("__cause__", "__context__"):
        behind = getattr(error, link)
        if behind is not None and is_foreign(behind):
            setattr(error, link, None)
        elif behind is not None:
            cut_foreign(behind)


def _message_of(error: Any) -> object:
    """The API's own sentence; the SDK's is the whole answer, printed."""
    body = getattr(error, "body", None)
    inner = body.get("error") if isinstance(body, dict) else None
    said = inner.get("message") if isinstance(inner, dict) else None
    return said or getattr(error, "message", "")


def _only_names(quoted: re.Match[str]) -> str:
    """Keep a quoted name (``'max_tokens'``); any other quotation may be of a prompt."""
    return quoted.group() if _NAME.fullmatch(quoted.group("what")) else f"{quoted.group(1)}…{quoted.group(1)}"


def _without_repeats(line: str, sent: Iterable[bytes]) -> str:
    """A line without what it has in common with a request."""
    telling = list(_telling(line))
    found = _found({line[start:end] for start, end in telling}, sent) if telling else set()
    kept, done = "", 0
    for start, end in sorted(span for span in telling if line[slice(*span)] in found):
        if start > done or not kept:
            kept += f"{line[done:start]}…"
        done = max(done, end)
    return kept + line[done:]


def _telling(line: str) -> Iterator[tuple[int, int]]:
    """Where in a line a request could show: phrases, and words that are no English."""
    words = list(_WORD.finditer(line))
    for first, last in zip(words, words[PHRASE_WORDS - 1 :], strict=False):
        yield first.start(), last.end()
    for word in words:
        if len(word.group()) >= NAME_LEAST and not _ENGLISH.fullmatch(word.group()):
            yield word.span()


def _found(texts: set[str], sent: Iterable[bytes]) -> set[str]:
    """Which texts a request holds as content."""
    needles = {text: json.dumps(text, ensure_ascii=False)[1:-1].encode() for text in texts}
    overlap = _BEFORE + max(map(len, needles.values())) + _AFTER
    found: set[str] = set()
    end = b" " * _BEFORE
    for block in itertools.chain(sent, [b" " * _AFTER]):
        searched = end + block
        found.update(text for text, needle in needles.items() if _holds(searched, needle))
        end = searched[-overlap:]
    return found


def _holds(searched: bytes, needle: bytes) -> bool:
    """Whether it stands there, and not only as a key, a model or a type, which are the API's names."""
    last = len(searched) - _AFTER
    count = searched.count(needle, _BEFORE, last)
    for before, after in _NAMED if count else ():
        name = before + needle + after
        count -= searched.count(name, _BEFORE - len(before), last + len(after))
    return count > 0
