"""As much of a PDF as it takes to know whether the API will read it: is it whole, encrypted, how long.

No PDF library is needed for that. Page-tree nodes are dictionaries with ``/Type /Pages`` and a ``/Count``;
they lie open in the file, or since PDF 1.5 in compressed object streams. The root of the tree is the
node without a parent; a file that was edited and appended to has several, the last one counts.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator

_HEADER_WITHIN = 1024
_END_WITHIN = 2048
_LARGEST_OBJECT_STREAM = 50_000_000
"""Bytes, decompressed; page trees of the longest documents are far smaller."""

_NODE_OR_OBJECT_STREAM = re.compile(rb"/Type\s*/(Pages|ObjStm)\b")
_PAGES = re.compile(rb"/Type\s*/Pages\b")
_COUNT = re.compile(rb"/Count\s+(\d+)")
_PARENT = re.compile(rb"/Parent\b")
_ENCRYPT = re.compile(rb"/Encrypt\s*(?:\d+\s+\d+\s+R|<<)")
_STREAM = re.compile(rb"\bstream\r?\n")


class UnreadablePdfError(Exception):
    """The file is no PDF that can be read; the message says why."""


def count_pages(data: bytes) -> int:
    """Pages of a PDF.

    :raises UnreadablePdfError: for a file that is no PDF, cut off, encrypted, or without pages
    """
    if b"%PDF-" not in data[:_HEADER_WITHIN]:
        raise UnreadablePdfError("it does not begin like a PDF")
    if b"%%EOF" not in data[-_END_WITHIN:]:
        raise UnreadablePdfError("it does not end like a PDF; it is cut off or damaged")
    if _is_encrypted(data):
        raise UnreadablePdfError("it is encrypted; save it without a password")
    pages = None
    for node in _page_nodes(data):
        count = _COUNT.search(node)
        if count and not _PARENT.search(node):
            pages = int(count[1])
    if not pages:
        raise UnreadablePdfError("no pages are found in it")
    return pages


def _is_encrypted(data: bytes) -> bool:
    """The trailer names the encryption: after the word ``trailer``, or in a cross-reference stream."""
    for match in _ENCRYPT.finditer(data):
        before = data[max(0, match.start() - 4096) : match.start()]
        around = data[max(0, match.start() - 4096) : match.end() + 4096]
        if b"trailer" in before or b"/XRef" in around:
            return True
    return False


def _page_nodes(data: bytes) -> Iterator[bytes]:
    """Every page-tree node, in the order of the file, as the whole dictionary."""
    for match in _NODE_OR_OBJECT_STREAM.finditer(data):
        if match[1] == b"Pages":
            start = data.rfind(b" obj", 0, match.start())
            end = data.find(b"endobj", match.end())
            in_stream = data.find(b"stream", start, match.start()) >= 0  # a page's own text
            if 0 <= start < end and not in_stream:
                yield data[start:end]
        else:
            content = _decompress(data, match.end())
            for node in _PAGES.finditer(content):
                yield _dictionary_around(content, node.start())


def _decompress(data: bytes, position: int) -> bytes:
    """The stream whose dictionary holds ``position``; empty where it is not a deflated one."""
    start = _STREAM.search(data, position)
    if start is None:
        return b""
    end = data.find(b"endstream", start.end())
    try:
        return zlib.decompressobj().decompress(data[start.end() : end], _LARGEST_OBJECT_STREAM)
    except zlib.error:
        return b""


def _dictionary_around(content: bytes, position: int) -> bytes:
    """The innermost ``<< … >>`` that holds the position."""
    start, depth = position, 0
    while start > 0:
        opening, closing = content.rfind(b"<<", 0, start), content.rfind(b">>", 0, start)
        if closing > opening:
            depth, start = depth + 1, closing
        elif opening < 0:
            break
        elif depth:
            depth, start = depth - 1, opening
        else:
            start = opening
            break
    end, depth = position, 0
    while True:
        opening, closing = content.find(b"<<", end), content.find(b">>", end)
        if closing < 0:
            return content[start:]
        if 0 <= opening < closing:
            depth, end = depth + 1, opening + 2
        elif depth:
            depth, end = depth - 1, closing + 2
        else:
            return content[start : closing + 2]
