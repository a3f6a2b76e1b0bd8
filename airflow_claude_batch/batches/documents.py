"""Documents of a record: files on any store become content blocks of its request.

A document is read while its record is spooled, and checked against what the API takes, so that one
that would be refused is found before anything is paid. What a file is, its first bytes say; only
text is told by its name. In memory are the documents of one record, the few most recent ones that may
be wanted again, and, on object storage, a few that are fetched ahead.

The limits are those of the API's documentation, as of November 2026:
https://platform.claude.com/docs/en/build-with-claude/vision#request-limits (below: vision) and
https://platform.claude.com/docs/en/build-with-claude/pdf-support#check-pdf-requirements (PDF support).
"""

from __future__ import annotations

import base64
import posixpath
import re
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from airflow_claude_batch.batches.errors import ConfigurationError, Fault, InputError
from airflow_claude_batch.batches.images import UnreadableImageError, dimensions, image_type
from airflow_claude_batch.batches.pdf import UnreadablePdfError, count_pages
from airflow_claude_batch.batches.requests import shorten
from airflow_claude_batch.batches.storage import Folder

LARGEST_REQUEST = 32_000_000
"""Bytes of all documents of one request, as they are sent (source: PDF support, 32 MB a request)."""
LARGEST_IMAGE = 10 * 1024 * 1024
"""Bytes of one image in base64 (source: vision, 10 MB; in its messages the API counts 10485760 bytes)."""
LARGEST_SIDE = 8_000
"""Pixels of an image's width, and of its height (source: vision)."""
LARGEST_SIDE_OF_MANY = 2_000
"""The same where a request has more than ``FEW_IMAGES`` images (source: vision)."""
FEW_IMAGES = 20
MOST = 600
"""PDF pages in one request; images and PDFs together in one request (sources: both; that they count together,
the API's message "too many images and documents" says)."""
MOST_IN_SMALL_CONTEXT = 100
"""The same for models with a small context window."""
SMALL_FOR_PAGES = 999_999
"""Tokens up to which a context window is small for PDF pages (source: PDF support, "under 1M tokens")."""
SMALL_FOR_IMAGES = 200_000
"""Tokens up to which it is small for images (source: vision)."""

KEPT_BYTES = 8_000_000
"""Documents read last that are kept: a handbook that every request has is read once."""

FETCHED_AHEAD = 8
"""Records whose documents are fetched at the same time where each fetch is a call over the network."""

TEXT_SUFFIXES = (".txt", ".md", ".markdown", ".text")
SUFFIXES = (".pdf", ".png", ".jpg", ".jpeg", ".gif", ".webp", *TEXT_SUFFIXES)
"""What documents end with, where a directory is searched for them."""

_OPTIONS = {"title", "context", "citations", "cache_control"}
_URI = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://\S")


class UnreadableDocumentError(Exception):
    """A document that cannot be sent; the message names it and says why."""


@dataclass(frozen=True, kw_only=True)
class _Block:
    """A document as a content block, with what counts against the API's limits."""

    content: dict[str, Any]
    size: int = 0
    """Bytes, as sent."""
    pages: int = 0
    image: bool = False
    name: str = ""
    width: int = 0
    """Pixels of an image that was read here."""
    height: int = 0


@dataclass(kw_only=True)
class DocumentReader:
    """Reads the documents of records.

    :param locate: opens a URI; the file is the path that is opened
    :param context_window: tokens that the model takes; None where that is not known
    """

    locate: Callable[[str], Folder]
    context_window: int | None = None
    _kept: OrderedDict[str, _Block] = field(default_factory=OrderedDict)
    _coming: dict[str, Future[bytes]] = field(default_factory=dict)

    def ahead(self, records: Iterable[Any]) -> Iterator[Any]:
        """The same records, each a little later: meanwhile its documents are on their way."""
        waiting: deque[Any] = deque()
        with ThreadPoolExecutor(FETCHED_AHEAD, thread_name_prefix="claude-batch-documents") as pool:
            for record in records:
                documents = record.get("documents") if isinstance(record, Mapping) else None
                if documents is not None:
                    self._fetch_ahead(documents, pool)
                waiting.append(record)
                if len(waiting) > FETCHED_AHEAD:
                    yield waiting.popleft()
            yield from waiting

    def _fetch_ahead(self, documents: Any, pool: ThreadPoolExecutor) -> None:
        for document in documents if isinstance(documents, (list, tuple)) else ():
            uri = document.get("uri") if isinstance(document, Mapping) else document
            if not isinstance(uri, str) or uri in self._kept or uri in self._coming:
                continue
            try:
                location = self.locate(uri)
            except Exception:  # noqa: BLE001, S112  # it will be said when the record's turn comes
                continue
            if not location.is_local:
                self._coming[uri] = pool.submit(_fetch, location, uri)

    def __call__(self, documents: Any, index: int) -> list[dict[str, Any]]:
        """The content blocks for the ``documents`` of record ``index``.

        :param documents: a list; each a URI, ``{"uri": …}`` or ``{"file_id": …}``, a mapping with
            ``title``, ``context``, ``citations`` (true or false) and ``cache_control`` where wanted
        :raises InputError: for a list of another shape
        :raises UnreadableDocumentError: for a document that cannot be sent
        """
        items = [_as_item(document, index) for document in _as_list(documents, index)]
        blocks = [self._block(item) for item in items]
        self._check(blocks)
        return [_with_options(block, item) for block, item in zip(blocks, items, strict=True)]

    def _block(self, item: Mapping[str, Any]) -> _Block:
        if "file_id" in item:
            kind = item.get("type", "document")
            source = {"type": "file", "file_id": item["file_id"]}
            return _Block(content={"type": kind, "source": source}, image=kind == "image")
        uri = item["uri"]
        if (kept := self._kept.get(uri)) is not None:
            self._kept.move_to_end(uri)
            return kept
        block = self._read(uri)
        self._kept[uri] = block
        while sum(one.size for one in self._kept.values()) > KEPT_BYTES:
            self._kept.popitem(last=False)
        return block

    def _read(self, uri: str) -> _Block:
        coming = self._coming.pop(uri, None)
        try:
            data = coming.result() if coming is not None else _fetch(self.locate(uri), uri)
        except ConfigurationError as error:
            raise UnreadableDocumentError(str(error)) from None
        except FileNotFoundError:
            raise UnreadableDocumentError(f"{uri}: there is no such file") from None
        except IsADirectoryError:
            raise UnreadableDocumentError(f"{uri}: a directory is no document") from None
        except PermissionError as error:
            raise UnreadableDocumentError(f"{uri}: it may not be read ({error})") from None
        return as_block(data, uri)

    def _check(self, blocks: list[_Block]) -> None:
        size = sum(block.size for block in blocks)
        if size > LARGEST_REQUEST:
            whole = "the documents together"
            raise UnreadableDocumentError(_too_large(whole, size, LARGEST_REQUEST, "a request"))
        pages = sum(block.pages for block in blocks)
        if pages > (most := self._most(SMALL_FOR_PAGES)):
            raise UnreadableDocumentError(
                f"the documents have {pages} PDF pages together; the API takes {most} in a "
                "request to this model. Split them"
            )
        images = [block for block in blocks if block.image]
        counted = len(images) + sum(block.pages > 0 for block in blocks)
        if counted > (most := self._most(SMALL_FOR_IMAGES)):
            raise UnreadableDocumentError(
                f"{counted} images and PDFs; the API takes {most} in a request to this model"
            )
        largest = max(images, key=lambda image: max(image.width, image.height), default=None)
        if largest is not None and len(images) > FEW_IMAGES:
            _check_sides(largest, LARGEST_SIDE_OF_MANY, f"where a request has more than {FEW_IMAGES}")

    def _most(self, small: int) -> int:
        in_small_context = self.context_window is not None and self.context_window <= small
        return MOST_IN_SMALL_CONTEXT if in_small_context else MOST


def _fetch(location: Folder, uri: str) -> bytes:
    size = location.fs.size(location.path)
    if size is not None and size > LARGEST_REQUEST:
        raise UnreadableDocumentError(_too_large(uri, size, LARGEST_REQUEST, "a request"))
    data: bytes = location.fs.cat_file(location.path)
    return data


def is_uri(text: str) -> bool:
    """Whether a text is a URI and nothing else."""
    return _URI.match(text) is not None and not any(character.isspace() for character in text)


def as_block(data: bytes, name: str) -> _Block:
    """The content block for a file's content.

    :raises UnreadableDocumentError: for content that the API would refuse
    """
    suffix = posixpath.splitext(name)[1].lower()
    if not data:
        raise UnreadableDocumentError(f"{name}: the file is empty")
    if suffix == ".pdf" or data.startswith(b"%PDF-"):
        return _pdf(data, name)
    media_type = image_type(data)
    if media_type:
        return _image(data, media_type, name)
    if suffix in TEXT_SUFFIXES:
        return _text(data, name)
    raise UnreadableDocumentError(
        f"{name}: it is none of PDF, PNG, JPEG, GIF, WebP by its first bytes, nor {', '.join(TEXT_SUFFIXES)} "
        "by its name"
    )


def _pdf(data: bytes, name: str) -> _Block:
    try:
        pages = count_pages(data)
    except UnreadablePdfError as error:
        raise UnreadableDocumentError(f"{name}: {error}") from None
    text = _base64(data)
    source = {"type": "base64", "media_type": "application/pdf", "data": text}
    return _Block(content={"type": "document", "source": source}, size=len(text), pages=pages)


def _image(data: bytes, media_type: str, name: str) -> _Block:
    try:
        width, height = dimensions(data, media_type)
    except UnreadableImageError as error:
        raise UnreadableDocumentError(f"{name}: {error}") from None
    text = _base64(data)
    if len(text) > LARGEST_IMAGE:
        raise UnreadableDocumentError(_too_large(name, len(text), LARGEST_IMAGE, "an image, in base64"))
    content = {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": text}}
    block = _Block(content=content, size=len(text), image=True, name=name, width=width, height=height)
    _check_sides(block, LARGEST_SIDE, "at the most")
    return block


def _check_sides(image: _Block, limit: int, when: str) -> None:
    if max(image.width, image.height) > limit:
        raise UnreadableDocumentError(
            f"{image.name}: {image.width} × {image.height} pixels; the API takes {limit} × {limit} {when}. "
            "Scale it down"
        )


def _text(data: bytes, name: str) -> _Block:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableDocumentError(f"{name}: text is UTF-8; convert it") from None
    if not text.strip():
        raise UnreadableDocumentError(f"{name}: the file holds no text")
    source = {"type": "text", "media_type": "text/plain", "data": text}
    return _Block(content={"type": "document", "source": source}, size=len(data))


def _as_list(documents: Any, index: int) -> list[Any]:
    if isinstance(documents, (str, Mapping)):
        documents = [documents]
    if not isinstance(documents, (list, tuple)) or not documents:
        raise _fault(documents, index, "documents is a list of at least one URI")
    return list(documents)


def _as_item(document: Any, index: int) -> Mapping[str, Any]:
    if isinstance(document, str):
        document = {"uri": document}
    if not isinstance(document, Mapping) or ("uri" in document) == ("file_id" in document):
        raise _fault(document, index, 'a document is a URI, {"uri": "..."} or {"file_id": "..."}')
    name = document.get("uri", document.get("file_id"))
    if not isinstance(name, str) or not name:
        raise _fault(document, index, "a URI or file_id is text")
    unknown = document.keys() - _OPTIONS - {"uri", "file_id", "type"}
    if unknown:
        known = ", ".join(sorted(_OPTIONS))
        raise _fault(sorted(unknown), index, f"besides its place a document has {known}")
    if document.get("type", "document") not in ("document", "image"):
        raise _fault(document["type"], index, "the type of a file_id is document or image")
    return document


def _with_options(block: _Block, item: Mapping[str, Any]) -> dict[str, Any]:
    content = dict(block.content)
    options = {key: item[key] for key in _OPTIONS if item.get(key) is not None}
    if content["type"] == "image":  # images have neither title nor citations
        options = {key: value for key, value in options.items() if key == "cache_control"}
    if "citations" in options:
        options["citations"] = {"enabled": bool(options["citations"])}
    return {**content, **options}


def _fault(value: Any, index: int, rule: str) -> InputError:
    return InputError([Fault(index=index, where="documents", value=shorten(value), rule=rule)])


def _too_large(what: str, size: int, limit: int, whole: str) -> str:
    return f"{what}: {size / 1e6:.1f} MB; the API takes {limit / 1e6:.0f} MB for {whole}"


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
