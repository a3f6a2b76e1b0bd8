"""A file's content as a content block, or the reason why the API would refuse it.

What a file is, its first bytes say; only text is told by its name. What the API does not take, a converter
of the DAG's author may turn into something that it does.

The limits are those of the API's documentation, as of November 2026:
https://platform.claude.com/docs/en/build-with-claude/vision#request-limits (below: vision) and
https://platform.claude.com/docs/en/build-with-claude/pdf-support#check-pdf-requirements (PDF support).
"""

from __future__ import annotations

import base64
import posixpath
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.requests.images import UnreadableImageError, dimensions, image_type
from airflow_claude_batch.batches.requests.pdf import UnreadablePdfError, read_pdf

LARGEST_REQUEST = 32_000_000
"""Bytes of all documents of one request, as they are sent (source: PDF support, 32 MB a request)."""
LARGEST_IMAGE = 10 * 1024 * 1024
"""Bytes of one image in base64 (source: vision, 10 MB; in its messages the API counts 10485760 bytes)."""
LARGEST_SIDE = 8_000
"""Pixels of an image's width, and of its height (source: vision)."""

TEXT_SUFFIXES = (".txt", ".md", ".markdown", ".text")
SUFFIXES = (".pdf", ".png", ".jpg", ".jpeg", ".gif", ".webp", *TEXT_SUFFIXES)
"""What documents end with, where a directory is searched for them."""

Converter: TypeAlias = Callable[[bytes], Any]
"""From a file's bytes to text, to bytes of a PDF or an image, or to a pair of either with its media type."""


class UnreadableDocumentError(Exception):
    """A document that cannot be sent; the message names it and says why."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A document as a content block, with what counts against the API's limits."""

    content: dict[str, Any]
    size: int = 0
    """Bytes, as sent."""
    pages: int = 0
    """0 where it has none, or they cannot be counted."""
    pdf: bool = False
    image: bool = False
    name: str = ""
    width: int = 0
    """Pixels of an image that was read here."""
    height: int = 0


def as_block(data: bytes, name: str, *, decrypt: bool = False) -> Block:
    """The content block for a file's content.

    Args:
        data: The content.
        name: The file's, for messages; its suffix tells text.
        decrypt: Whether a PDF that is encrypted, but opens without a password, is saved without encryption.

    Raises:
        UnreadableDocumentError: For content that the API would refuse.
    """
    suffix = suffix_of(name)
    if not data:
        raise UnreadableDocumentError(f"{name}: the file is empty")
    if suffix == ".pdf" or data.startswith(b"%PDF-"):
        return _pdf(data, name, decrypt=decrypt)
    media_type = image_type(data)
    if media_type:
        return _image(data, media_type, name)
    if suffix in TEXT_SUFFIXES:
        return _text(data, name)
    raise UnreadableDocumentError(
        f"{name}: it is none of PDF, PNG, JPEG, GIF, WebP by its first bytes, nor {', '.join(TEXT_SUFFIXES)} "
        f"by its name; Documents(..., convert={{'{suffix or '.docx'}': function}}) converts it"
    )


def convert(data: bytes, name: str, converter: Converter, *, decrypt: bool = False) -> Block:
    """The content block for what a converter makes of a file's content.

    Raises:
        UnreadableDocumentError: Where the converter fails, or the API would refuse what it returns.
        ConfigurationError: Where a library that it imports is not there, or it returns something else.
    """
    suffix = suffix_of(name)
    if not data:
        raise UnreadableDocumentError(f"{name}: the file is empty")
    try:
        result = converter(data)
    except ImportError as error:
        raise ConfigurationError(f"the converter of {suffix} files cannot import {error.name}") from error
    except Exception as error:  # noqa: BLE001
        # Its own text may quote the document.
        raise UnreadableDocumentError(f"{name}: its converter failed ({type(error).__name__})") from None
    media_type = None
    if isinstance(result, tuple) and len(result) == 2:
        result, media_type = result
    if isinstance(result, str) and _is_text(media_type or "text/plain"):
        return _text(result, name)
    if isinstance(result, (bytes, bytearray)) and isinstance(media_type, str | None):
        return _of_media_type(bytes(result), media_type, name, decrypt=decrypt)
    raise ConfigurationError(
        f"the converter of {suffix} files returned a {type(result).__name__}; it returns text, bytes, or a "
        "pair of either with its media type, such as (data, 'application/pdf')"
    )


def suffix_of(name: str) -> str:
    """A file's suffix, in lower case."""
    return posixpath.splitext(name)[1].lower()


def check_sides(image: Block, limit: int, when: str) -> None:
    """Refuse an image with a longer side."""
    if max(image.width, image.height) > limit:
        raise UnreadableDocumentError(
            f"{image.name}: {image.width} × {image.height} pixels; the API takes {limit} × {limit} {when}. "
            "Scale it down"
        )


def too_large(what: str, size: int, limit: int, whole: str) -> str:
    """Why something is too large."""
    return f"{what}: {size / 1e6:.1f} MB; the API takes {limit / 1e6:.0f} MB for {whole}"


def _is_text(media_type: Any) -> bool:
    return isinstance(media_type, str) and media_type.startswith("text/")


def _of_media_type(data: bytes, media_type: str | None, name: str, *, decrypt: bool) -> Block:
    found = "application/pdf" if data.startswith(b"%PDF-") else image_type(data)
    if _is_text(media_type):
        return _text(data, name)
    if media_type == "application/pdf" or (media_type is None and found == "application/pdf"):
        return _pdf(data, name, decrypt=decrypt)
    if found and media_type in (found, None):
        return _image(data, found, name)
    said = f", though it is said to be {media_type}" if media_type else ""
    raise UnreadableDocumentError(
        f"{name}: what its converter returned is no PDF, PNG, JPEG, GIF or WebP by its first bytes{said}"
    )


def _pdf(data: bytes, name: str, *, decrypt: bool) -> Block:
    try:
        pdf = read_pdf(data, decrypt=decrypt)
    except UnreadablePdfError as error:
        raise UnreadableDocumentError(f"{name}: {error}") from None
    text = _base64(pdf.data)
    source = {"type": "base64", "media_type": "application/pdf", "data": text}
    return Block(
        content={"type": "document", "source": source}, size=len(text), pages=pdf.pages or 0, pdf=True
    )


def _image(data: bytes, media_type: str, name: str) -> Block:
    try:
        width, height = dimensions(data, media_type)
    except UnreadableImageError as error:
        raise UnreadableDocumentError(f"{name}: {error}") from None
    text = _base64(data)
    if len(text) > LARGEST_IMAGE:
        raise UnreadableDocumentError(too_large(name, len(text), LARGEST_IMAGE, "an image, in base64"))
    content = {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": text}}
    block = Block(content=content, size=len(text), image=True, name=name, width=width, height=height)
    check_sides(block, LARGEST_SIDE, "at the most")
    return block


def _text(data: bytes | str, name: str) -> Block:
    try:
        text = data if isinstance(data, str) else data.decode("utf-8-sig")
        size = len(data) if isinstance(data, bytes) else len(data.encode())
    except UnicodeError:
        raise UnreadableDocumentError(f"{name}: text is UTF-8; convert it") from None
    if "\0" in text:  # UTF-16 of Latin letters is UTF-8, too
        raise UnreadableDocumentError(f"{name}: text is UTF-8, and has no zero bytes; convert it")
    if not text.strip():
        raise UnreadableDocumentError(f"{name}: the file holds no text")
    source = {"type": "text", "media_type": "text/plain", "data": text}
    return Block(content={"type": "document", "source": source}, size=size)


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
