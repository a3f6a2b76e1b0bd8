"""What has to be known of a PDF before it is sent: is it whole, does it open, how long is it.

``pypdf`` reads it. On odd files it raises nearly every kind of error; none of them leaves this module.
A page tree that it cannot count does not stop a document: the API counts for itself.
"""

from __future__ import annotations

import io
import logging
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_claude_batch.batches.errors import ConfigurationError

if TYPE_CHECKING:
    from pypdf import PdfReader

_HEADER_WITHIN = 1024
_PADDING = b"\0 \t\r\n\f"
_START_OF_TABLE = re.compile(rb"startxref\s+\d+")
_LINEARIZED = re.compile(rb"obj\s*<<[^>]*/Linearized\b[^>]*?/L\s+(\d+)")
"""A file arranged for the web says first how long it is: its tables stand at the beginning, too."""


class UnreadablePdfError(Exception):
    """The file is no PDF that can be read; the message says why."""


@dataclass(frozen=True, kw_only=True)
class Pdf:
    """What is known of a PDF."""

    data: bytes
    pages: int | None
    """None where they cannot be counted."""


def read_pdf(data: bytes, *, decrypt: bool = False) -> Pdf:
    """Look into a PDF.

    Args:
        data: The file.
        decrypt: Whether a file that is encrypted, but opens without a password, is saved without
            encryption; otherwise it stays as it is.

    Raises:
        UnreadablePdfError: For a file that is no PDF, cut off, without pages, or opens only with a password.
        ConfigurationError: Where pypdf is not installed.
    """
    if b"%PDF-" not in data[:_HEADER_WITHIN]:
        raise UnreadablePdfError("it does not begin like a PDF")
    whole = data.rstrip(_PADDING)
    linearized = _LINEARIZED.search(data, 0, _HEADER_WITHIN)
    if (linearized and len(data) + 2 < int(linearized[1])) or not _START_OF_TABLE.search(whole):
        raise UnreadablePdfError("it does not end like a PDF; it is cut off or damaged")
    reader = _open(whole)
    pages = _count_pages(reader)
    if pages == 0:
        raise UnreadablePdfError("no pages are found in it")
    if decrypt and reader.is_encrypted:
        data = _without_encryption(reader)
    return Pdf(data=data, pages=pages)


def _open(data: bytes) -> PdfReader:
    try:
        from pypdf import PdfReader
    except ImportError:
        raise ConfigurationError(
            "PDFs are read with pypdf: pip install 'airflow-claude-batch[documents]'"
        ) from None
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # a line for each oddity of each file
    try:
        reader = PdfReader(io.BytesIO(data))
        locked = reader.is_encrypted and not reader.decrypt("")
        catalogue = None if locked else reader.root_object
    except Exception as error:  # noqa: BLE001
        problem = "it is encrypted in an unknown way" if b"/Encrypt" in data else "it is damaged"
        raise UnreadablePdfError(f"{problem} ({type(error).__name__})") from None
    if locked:
        raise UnreadablePdfError("it is encrypted and opens only with a password; save it without one")
    if not catalogue or "/Pages" not in catalogue:
        raise UnreadablePdfError("it is damaged (its pages are named nowhere)")
    return reader


def _count_pages(reader: PdfReader) -> int | None:
    try:
        found = len(reader.pages)
        # None at all, where the tree claims some: its branches are lost.
        return found or (None if reader.root_object["/Pages"]["/Count"] else 0)  # type: ignore[index]
    except Exception:  # noqa: BLE001
        return None


def _without_encryption(reader: PdfReader) -> bytes:
    from pypdf import PdfWriter

    saved = io.BytesIO()
    try:
        PdfWriter(clone_from=reader).write(saved)
    except Exception as error:  # noqa: BLE001
        problem = f"it cannot be saved without its encryption ({type(error).__name__})"
        raise UnreadablePdfError(problem) from None
    return saved.getvalue()
