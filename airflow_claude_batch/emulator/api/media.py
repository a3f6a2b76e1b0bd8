"""The API's limits on images and PDFs in a request, in the API's words.

Sources: https://platform.claude.com/docs/en/build-with-claude/vision#request-limits,
https://platform.claude.com/docs/en/build-with-claude/pdf-support#check-pdf-requirements, and error messages
that users report. Only base64 sources are looked at: the emulator fetches nothing and stores no files.
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.emulator.api.errors import ApiError

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.api.models import Model

_IMAGE_BYTES = 10_485_760  # "10 MB (base64-encoded)"
_SIDE = 8_000
_MANY = 20
_SIDE_OF_MANY = 2_000
_MOST, _MOST_OF_SMALL = 600, 100
_SMALL_FOR_IMAGES = 200_000  # tokens of the context window
_LARGE_FOR_PAGES = 1_000_000

_PAGE = re.compile(rb"/Type\s*/Page\b")
_TRAILER = re.compile(rb"\btrailer\b.*?\bstartxref\b|/Type\s*/XRef\b.*?\bstream\b", re.DOTALL)
_DEFLATED = re.compile(rb"/Type\s*/ObjStm\b.*?stream\r?\n", re.DOTALL)
_START_OF_FRAME = re.compile(rb"\xff[\xc0-\xc3\xc5-\xc7\xc9-\xcb\xcd-\xcf]")


def check_media(params: dict[str, Any], model: Model) -> None:
    """Raise if the images and PDFs of valid messages are too many, too large, or no images and PDFs."""
    blocks = list(_blocks(params))
    if not blocks:
        return
    images = [(where, block) for where, block in blocks if block["type"] == "image"]
    documents = len(blocks) - len(images)
    most = _MOST_OF_SMALL if model.max_input_tokens <= _SMALL_FOR_IMAGES else _MOST
    if len(blocks) > most:
        raise ApiError(400, f"too many images and documents: {len(images)} + {documents} > {most}")
    for where, block in images:
        if block["source"]["type"] == "base64":
            _check_image(block["source"], f"{where}.image.source.base64", len(images))
    pages = sum(_pages(where, block["source"]) for where, block in blocks if block["type"] == "document")
    most = _MOST_OF_SMALL if model.max_input_tokens < _LARGE_FOR_PAGES else _MOST
    if pages > most:
        raise ApiError(400, f"A maximum of {most} PDF pages may be provided.")


def check_citations(params: dict[str, Any]) -> None:
    """Raise for documents with and without citations, and for citations beside an output format.

    Source: https://platform.claude.com/docs/en/build-with-claude/citations
    """
    cited = [
        bool((block.get("citations") or {}).get("enabled"))
        for message in params["messages"]
        if isinstance(message["content"], list)
        for block in message["content"]
        if block["type"] in ("document", "search_result")
    ]
    config = params.get("output_config")
    if any(cited) and isinstance(config, dict) and config.get("format"):
        raise ApiError(400, "output_config.format: Output format is not supported together with citations")
    if any(cited) and not all(cited):
        raise ApiError(400, "Citations must be enabled on all or none of the documents in a request")


def _blocks(params: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for index, message in enumerate(params["messages"]):
        if isinstance(message["content"], list):
            for number, block in enumerate(message["content"]):
                if block["type"] in ("image", "document"):
                    yield f"messages.{index}.content.{number}", block


def _check_image(source: dict[str, Any], where: str, images: int) -> None:
    text = source["data"]
    if len(text) > _IMAGE_BYTES:
        raise ApiError(400, f"{where}: image exceeds 10 MB maximum: {len(text)} bytes > {_IMAGE_BYTES} bytes")
    size = _size(_decode(text, where), source["media_type"])
    if size is None:
        raise ApiError(400, "Could not process image")
    if max(size) > _SIDE:
        rule = f"max allowed size: {_SIDE} pixels"
    elif images > _MANY and max(size) > _SIDE_OF_MANY:
        rule = f"max allowed size for many-image requests: {_SIDE_OF_MANY} pixels"
    else:
        return
    raise ApiError(400, f"{where}.data: At least one of the image dimensions exceed {rule}")


def _decode(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ApiError(400, f"{where}.data: Invalid base64 data") from None


def _size(data: bytes, media_type: str) -> tuple[int, int] | None:
    """Width and height by the header; None for what is no image of this type."""
    if media_type == "image/png" and data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    if media_type == "image/gif" and data[:4] == b"GIF8" and len(data) >= 10:
        return int.from_bytes(data[6:8], "little"), int.from_bytes(data[8:10], "little")
    if media_type == "image/webp" and data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp_size(data)
    if media_type == "image/jpeg" and data[:3] == b"\xff\xd8\xff":
        return _jpeg_size(data)
    return None


def _webp_size(data: bytes) -> tuple[int, int]:
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return bits % 2**14 + 1, (bits >> 14) % 2**14 + 1
    return int.from_bytes(data[26:28], "little") % 2**14, int.from_bytes(data[28:30], "little") % 2**14


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    at = 2
    while data[at : at + 1] == b"\xff":  # segment after segment; a thumbnail inside one is not looked into
        if _START_OF_FRAME.match(data, at) and len(data) >= at + 9:
            return int.from_bytes(data[at + 7 : at + 9], "big"), int.from_bytes(data[at + 5 : at + 7], "big")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _pages(where: str, source: dict[str, Any]) -> int:
    """Pages of a PDF; 0 for a document of another kind."""
    if source["type"] != "base64":
        return 0
    data = _decode(source["data"], f"{where}.document.source.base64")
    if b"%PDF-" not in data[:1024]:
        raise ApiError(400, "The PDF specified was not valid.")
    if any(b"/Encrypt" in trailer for trailer in _TRAILER.findall(data)) and not _opens(data):
        raise ApiError(400, "The PDF specified is password protected.")
    return len(_PAGE.findall(data)) + sum(len(_PAGE.findall(text)) for text in _object_streams(data))


def _opens(data: bytes) -> bool:
    """Whether an encrypted PDF is readable without a password: it has an owner's only."""
    import pypdf

    try:
        return bool(pypdf.PdfReader(io.BytesIO(data)).decrypt(""))
    except Exception:  # noqa: BLE001  # damaged, or encrypted in a way that is not in the standard
        return False


def _object_streams(data: bytes) -> Iterator[bytes]:
    for stream in _DEFLATED.finditer(data):
        try:
            yield zlib.decompressobj().decompress(data[stream.end() :])
        except zlib.error:
            continue
