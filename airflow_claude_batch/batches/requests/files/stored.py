"""A stored file, opened: decompressed by what it holds, with a look at its first bytes.

What the store itself fails at is told apart from what is wrong with the file: a retry may cure it.
"""

from __future__ import annotations

import bz2
import codecs
import contextlib
import gzip
import io
import logging
import lzma
import posixpath
import zlib
from collections.abc import Iterator
from typing import IO, Any, cast

from airflow_claude_batch.batches.errors import (
    missing_package,
)
from airflow_claude_batch.batches.requests.files.rows import UnreadableFileError
from airflow_claude_batch.batches.storage import BLOCK, UPLOAD_BLOCK, Folder

SAMPLE = 256 << 10
"""Bytes at the beginning of a file that are looked at before it is read."""
COMPRESSION_SUFFIXES = {".gz": "gzip", ".bz2": "bz2", ".xz": "xz", ".zst": "zstd"}

_MAGIC = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_BZ2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")  # of a file with content, of an empty one
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins like UTF-16's, so it is tried first
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_TWO_ORDERS = {"utf-16": ("utf-16-le", "utf-16-be"), "utf-32": ("utf-32-le", "utf-32-be")}
"""Encodings that a byte order mark makes one of two; Windows writes the first."""

log = logging.getLogger(__name__)


class _Watched(io.RawIOBase):
    """A file of a store that keeps what the store failed with."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.failure: Exception | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            data = self._file.read(len(buffer))
        except Exception as error:
            self.failure = error
            raise
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        super().close()
        self._file.close()


class _After(io.RawIOBase):
    """Bytes, and then what is left of a file."""

    def __init__(self, head: bytes, file: IO[bytes]) -> None:
        self._head = head
        self._file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data, self._head = self._head[: len(buffer)], self._head[len(buffer) :]
        data = data or self._file.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class Stored:
    """One file, open.

    Args:
        file: It, as it was found.
        compression: What the user says of it; None: what its first bytes say.
    """

    def __init__(self, file: Folder, compression: str | None = None) -> None:
        self.url = file.url
        self.name = posixpath.basename(file.path)
        self._guesses: list[str] = []
        self._said: set[str] = set()
        self._raw = _Watched(file.fs.open(file.path, "rb", block_size=UPLOAD_BLOCK))
        stored = io.BufferedReader(self._raw, BLOCK)
        self.compression = compression or _compression(stored.peek(16)[:16])
        named = COMPRESSION_SUFFIXES.get(posixpath.splitext(self.name.lower())[1], "none")
        if compression is None and self.compression != named:
            self.guess(f"compression {self.compression}")
        self.random = _decompressed(stored, self.compression, self.url)
        """The content, from where it is read next; the readers of Parquet and Excel go to and fro in it."""
        self.head = b""
        """The first bytes of the content."""

    def look(self) -> None:
        """Read the first bytes; what :meth:`stream` gives begins with them all the same."""
        try:
            self.head = _exactly(self.random, SAMPLE)
        except DAMAGED as error:
            raise damaged(self, error, "at its beginning") from None

    @property
    def whole(self) -> bool:
        """Whether the first bytes are all."""
        return len(self.head) < SAMPLE

    @property
    def failure(self) -> Exception | None:
        """What the store failed with."""
        return self._raw.failure

    def stream(self) -> IO[bytes]:
        """The content from its beginning, once."""
        return cast("IO[bytes]", io.BufferedReader(_After(self.head, self.random), BLOCK))

    def guess(self, what: str) -> None:
        """Note what was found out rather than said; once is enough."""
        if what not in self._said:
            self._guesses.append(what)
            self._said.add(what)

    def say_guesses(self) -> None:
        """Log what was found out about this file, in one line."""
        if self._guesses:
            log.info("%s is read with %s", self.url, ", ".join(self._guesses))
            self._guesses.clear()

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(Exception):  # a decompressor that failed may fail again
            self.random.close()
        self._raw.close()


def _exactly(file: IO[bytes], size: int) -> bytes:
    """So many bytes, or all there are."""
    blocks = []
    while size > 0 and (block := file.read(min(size, BLOCK))):
        blocks.append(block)
        size -= len(block)
    return b"".join(blocks)


def _compression(head: bytes) -> str:
    """What the first bytes of a file say."""
    for magic, compression in _MAGIC:
        if head.startswith(magic):
            return compression
    return "bz2" if head.startswith(b"BZh") and head[4:10] in _BZ2_BLOCKS else "none"


def _decompressed(stored: Any, compression: str, url: str) -> IO[bytes]:
    if compression == "gzip":
        return cast("IO[bytes]", gzip.open(stored))
    if compression == "bz2":
        return cast("IO[bytes]", bz2.open(stored))
    if compression == "xz":
        return cast("IO[bytes]", lzma.open(stored))
    if compression == "zstd":
        return _zstd(stored, url)
    return cast("IO[bytes]", stored)


def _zstd(stored: Any, url: str) -> IO[bytes]:
    try:
        import pyarrow
    except ImportError:
        raise missing_package(f"Reading {url} (zstd)", "pyarrow", "parquet") from None
    return cast("IO[bytes]", pyarrow.CompressedInputStream(pyarrow.PythonFile(stored), "zstd"))


def encoding_of(stored: Stored, given: str | None) -> str:
    """The encoding of a file of text: its byte order mark's, the user's, or UTF-8.

    Raises:
        UnreadableFileError: Where the user's has two byte orders, and the file does not show which it has.
    """
    marked = next((encoding for bom, encoding in _BOMS if stored.head.startswith(bom)), None)
    said = codecs.lookup(given).name if given is not None else None
    found = marked or said or _without_mark(stored.head)
    if marked is None and found in _TWO_ORDERS:
        found = _without_mark(stored.head)
        if found not in _TWO_ORDERS[str(said)]:
            both = " or ".join(f"encoding='{order}'" for order in _TWO_ORDERS[str(said)])
            raise UnreadableFileError(f"the file has no byte order mark; say {both}", "no mark")
    if found != said and not {found, said} <= {None, "utf-8", "utf-8-sig"}:
        stored.guess(f"encoding {found}")
    return found


def _without_mark(head: bytes) -> str:
    """UTF-16 writes every second byte of Latin text as zero; nothing else in the first bytes of text is."""
    start = head[:2000]
    if len(start) >= 4 and 0 in start:
        if 0 not in start[0::2] and start[1::2].count(0) * 3 > len(start[1::2]):
            return "utf-16-le"
        if 0 not in start[1::2] and start[0::2].count(0) * 3 > len(start[0::2]):
            return "utf-16-be"
    return "utf-8"


def no_text(error: UnicodeDecodeError, encoding: str, place: str) -> UnreadableFileError:
    """For bytes that the encoding does not have."""
    way_out = "say encoding=… of what it was written with"
    if encoding.startswith("utf-8"):
        way_out = "say encoding='cp1252' (Western Europe), 'cp1250' (Central Europe) or another one"
    rule = f"the file is no {encoding.upper().removesuffix('-SIG')} text; {way_out} (it was read no further)"
    return UnreadableFileError(rule, f"byte {error.object[error.start]:#04x} near this line", place)


DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""What decompressing fails with; also what the store fails with."""


def damaged(stored: Stored, error: Exception, place: str) -> Exception:
    """For a file that cannot be decompressed any further; the store's own failures stay what they are."""
    if stored.failure is not None:
        return stored.failure
    rule = f"the {stored.compression} file is damaged or cut off ({error}); it was read no further"
    return UnreadableFileError(rule, type(error).__name__, place)


def recoded(file: IO[bytes], encoding: str) -> IO[bytes]:
    """A file of text in another encoding as UTF-8."""
    if encoding == "utf-8":
        return file
    return cast("IO[bytes]", io.BufferedReader(_Recoded(_decoded(file, encoding)), BLOCK))


def _decoded(file: IO[bytes], encoding: str) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)()
    while block := file.read(BLOCK):
        yield decoder.decode(block).encode()
    yield decoder.decode(b"", final=True).encode()


class _Recoded(io.RawIOBase):
    def __init__(self, blocks: Iterator[bytes]) -> None:
        self._blocks = blocks
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            if (block := next(self._blocks, None)) is None:
                return 0
            self._rest = block
        data, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)
