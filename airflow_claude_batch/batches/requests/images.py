"""How large an image is, in pixels, as its header says: all that it takes to know whether the API takes it.

The headers of the four formats need no image library; none of the pixels is decoded.
"""

from __future__ import annotations

import struct

_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""Markers of JPEG segments that tell the size (SOF0 to SOF15; the three others are tables)."""
_JPEG_BARE = frozenset([0x01, *range(0xD0, 0xD9)])
"""Markers without a segment."""


class UnreadableImageError(Exception):
    """The file's header does not tell how large the image is; the message says so."""


def image_type(data: bytes) -> str | None:
    """The media type by the first bytes; None for what is no image that the API takes."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def dimensions(data: bytes, media_type: str) -> tuple[int, int]:
    """Width and height in pixels.

    Args:
        media_type: What :func:`image_type` says.

    Raises:
        UnreadableImageError: Where the header is cut off or damaged.
    """
    try:
        width, height = _READERS[media_type](data)
    except (struct.error, IndexError):
        width = height = 0
    if not width or not height:
        raise UnreadableImageError("it is cut off or damaged; its header does not tell how large it is")
    return width, height


def _png(data: bytes) -> tuple[int, int]:
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    return (width, height) if kind == b"IHDR" else (0, 0)


def _gif(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _jpeg(data: bytes) -> tuple[int, int]:
    position = 2
    while True:
        position = data.find(b"\xff", position) + 1
        if not position:
            return 0, 0
        marker = data[position]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 4)
            return width, height
        if marker in (0x00, 0xFF) or marker in _JPEG_BARE:  # stuffing, padding
            continue
        (length,) = struct.unpack_from(">H", data, position + 1)
        position += 1 + length


def _webp(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":  # two numbers of three bytes each
        width, width_high, height, height_high = struct.unpack_from("<HBHB", data, 24)
        return 1 + (width_high << 16 | width), 1 + (height_high << 16 | height)
    if kind == b"VP8L" and data[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", data, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return 0, 0


_READERS = {"image/png": _png, "image/jpeg": _jpeg, "image/gif": _gif, "image/webp": _webp}
