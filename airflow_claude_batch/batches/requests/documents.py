"""Documents of a record: files on any store become content blocks of its request.

A document is read while its record is spooled, and checked against what the API takes, so that one
that would be refused is found before anything is paid. In memory are the documents of one record, the
few most recent ones that may be wanted again, and, on object storage, a few that are fetched ahead.

The limits are those of the API's documentation, as of November 2026:
https://platform.claude.com/docs/en/build-with-claude/vision#request-limits (below: vision) and
https://platform.claude.com/docs/en/build-with-claude/pdf-support#check-pdf-requirements (PDF support).
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from airflow_claude_batch.batches.errors import ConfigurationError, Fault, InputError
from airflow_claude_batch.batches.requests.descriptions import describe
from airflow_claude_batch.batches.requests.document_access import (
    DocumentAccess,
    NotRegularFileError,
    RefusedPlaceError,
)
from airflow_claude_batch.batches.requests.document_blocks import (
    LARGEST_REQUEST,
    Block,
    Converter,
    UnreadableDocumentError,
    as_block,
    check_sides,
    convert,
    suffix_of,
    too_large,
)
from airflow_claude_batch.batches.requests.objects import held
from airflow_claude_batch.batches.storage import BLOCK, Folder

LARGEST_SIDE_OF_MANY = 2_000
"""Pixels of an image's sides where a request has more than ``FEW_IMAGES`` images (source: vision)."""
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

_OPTIONS = {"title", "context", "citations", "cache_control"}
_OURS = {"uri", "file_id", "type", "decrypt"}


@dataclass(kw_only=True)
class DocumentReader:
    """Reads the documents of records.

    Args:
        locate: Opens a URI; the file is the path that is opened.
        access: Says which URIs may be opened; without, none.
        context_window: Tokens that the model takes; None where that is not known.
        converters: By suffix, in lower case: what makes of a file something that the API takes.
    """

    locate: Callable[[str], Folder]
    access: DocumentAccess = field(default_factory=DocumentAccess)
    context_window: int | None = None
    converters: Mapping[str, Converter] = field(default_factory=dict)
    _kept: OrderedDict[tuple[str, bool], Block] = field(default_factory=OrderedDict)
    _kept_bytes: int = 0
    _coming: dict[str, Future[bytes]] = field(default_factory=dict)

    def ahead(self, records: Iterable[Any], column: str) -> Iterator[Any]:
        """The same records, those with documents a little later: meanwhile these are on their way.

        Args:
            records: Of a source.
            column: Of their documents.
        """
        waiting: deque[Any] = deque()
        with ThreadPoolExecutor(FETCHED_AHEAD, thread_name_prefix="claude-batch-documents") as pool:
            for record in records:
                documents = None
                if type(record) is dict or isinstance(record, Mapping):
                    documents = record.get(column)
                if documents is not None:
                    self._fetch_ahead(documents, pool)
                if not waiting and not self._coming:  # nothing is on its way
                    yield from self._handed_over(record, documents)
                    continue
                waiting.append((held(record), documents))
                if len(waiting) > FETCHED_AHEAD:
                    yield from self._handed_over(*waiting.popleft())
            while waiting:
                yield from self._handed_over(*waiting.popleft())

    def _handed_over(self, record: Any, documents: Any) -> Iterator[Any]:
        """A record; what it did not read of its documents, because it is bad in another way, is let go."""
        yield record
        for document in documents if isinstance(documents, (list, tuple)) else ():
            uri = document.get("uri") if isinstance(document, Mapping) else document
            if isinstance(uri, str):
                self._coming.pop(uri, None)

    def _fetch_ahead(self, documents: Any, pool: ThreadPoolExecutor) -> None:
        for document in documents if isinstance(documents, (list, tuple)) else ():
            uri = document.get("uri") if isinstance(document, Mapping) else document
            if not isinstance(uri, str) or uri in self._coming or self._keeps(uri):
                continue
            try:
                self.access.check(uri)
                location = self.locate(uri)
            except Exception:  # noqa: BLE001, S112  # it will be said when the record's turn comes
                continue
            if not location.is_local:
                self._coming[uri] = pool.submit(_fetch, location, uri)

    def _keeps(self, uri: str) -> bool:
        return (uri, False) in self._kept or (uri, True) in self._kept

    def __call__(self, documents: Any, index: int) -> list[dict[str, Any]]:
        """The content blocks for the ``documents`` of record ``index``.

        Args:
            documents: A list; each a URI, ``{"uri": …}`` or ``{"file_id": …}``, a mapping with ``title``,
                ``context``, ``citations`` (true or false), ``cache_control`` and ``decrypt`` where wanted.

        Raises:
            InputError: For a list of another shape.
            UnreadableDocumentError: For a document that cannot be sent.
        """
        items = [_as_item(document, index) for document in _as_list(documents, index)]
        try:
            for item in items:
                if "uri" in item:
                    self.access.check(item["uri"])
            return self._content(items)
        except RefusedPlaceError as error:
            raise _fault(documents, index, str(error)) from None

    def _content(self, items: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        blocks = [self._block(item) for item in items]
        self._check(blocks)
        return [_with_options(block, item) for block, item in zip(blocks, items, strict=True)]

    def _block(self, item: Mapping[str, Any]) -> Block:
        if "file_id" in item:
            kind = item.get("type", "document")
            source = {"type": "file", "file_id": item["file_id"]}
            return Block(content={"type": kind, "source": source}, image=kind == "image")
        uri, decrypt = item["uri"], item.get("decrypt") is True
        if (kept := self._kept.get((uri, decrypt))) is not None:
            self._kept.move_to_end((uri, decrypt))
            return kept
        data = self._read(uri)
        converter = self.converters.get(suffix_of(uri))
        if converter is None:
            block = as_block(data, uri, decrypt=decrypt)
        else:
            block = convert(data, uri, converter, decrypt=decrypt)
        self._kept[uri, decrypt] = block
        self._kept_bytes += block.size
        while self._kept_bytes > KEPT_BYTES:
            self._kept_bytes -= self._kept.popitem(last=False)[1].size
        return block

    def _read(self, uri: str) -> bytes:
        coming = self._coming.pop(uri, None)
        try:
            return coming.result() if coming is not None else self._fetch(uri)
        except ConfigurationError as error:
            raise UnreadableDocumentError(str(error)) from None
        except FileNotFoundError:
            raise UnreadableDocumentError(f"{uri}: there is no such file") from None
        except IsADirectoryError:
            raise UnreadableDocumentError(f"{uri}: a directory is no document") from None
        except NotRegularFileError:
            raise UnreadableDocumentError(f"{uri}: it is no regular file, but a device or a pipe") from None
        except PermissionError as error:
            raise UnreadableDocumentError(
                f"{uri}: it may not be read ({error.strerror or 'denied'})"
            ) from None

    def _fetch(self, uri: str) -> bytes:
        location = self.locate(uri)
        if not location.is_local:
            return _fetch(location, uri)
        data = self.access.read_local(location.path, LARGEST_REQUEST)
        if len(data) > LARGEST_REQUEST:
            size = location.fs.size(location.path)
            raise UnreadableDocumentError(too_large(uri, size, LARGEST_REQUEST, "a request"))
        return data

    def _check(self, blocks: list[Block]) -> None:
        size = sum(block.size for block in blocks)
        if size > LARGEST_REQUEST:
            whole = "the documents together"
            raise UnreadableDocumentError(too_large(whole, size, LARGEST_REQUEST, "a request"))
        pages = sum(block.pages for block in blocks)
        if pages > (most := self._most(SMALL_FOR_PAGES)):
            raise UnreadableDocumentError(
                f"the documents have {pages} PDF pages together; the API takes {most} in a "
                "request to this model. Split them"
            )
        images = [block for block in blocks if block.image]
        counted = len(images) + sum(block.pdf for block in blocks)
        if counted > (most := self._most(SMALL_FOR_IMAGES)):
            raise UnreadableDocumentError(
                f"{counted} images and PDFs; the API takes {most} in a request to this model"
            )
        largest = max(images, key=lambda image: max(image.width, image.height), default=None)
        if largest is not None and len(images) > FEW_IMAGES:
            check_sides(largest, LARGEST_SIDE_OF_MANY, f"where a request has more than {FEW_IMAGES}")

    def _most(self, small: int) -> int:
        in_small_context = self.context_window is not None and self.context_window <= small
        return MOST_IN_SMALL_CONTEXT if in_small_context else MOST


def _fetch(location: Folder, uri: str) -> bytes:
    size = location.fs.size(location.path)
    if size is not None and size > LARGEST_REQUEST:
        raise UnreadableDocumentError(too_large(uri, size, LARGEST_REQUEST, "a request"))
    if size is not None:
        content: bytes = location.fs.cat_file(location.path, start=0, end=size)
        return content
    with location.fs.open(location.path, "rb", block_size=BLOCK) as file:
        data: bytes = file.read(LARGEST_REQUEST + 1)
    if len(data) > LARGEST_REQUEST:
        raise UnreadableDocumentError(f"{uri}: more than {LARGEST_REQUEST} bytes, which no request takes")
    return data


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
    unknown = document.keys() - _OPTIONS - _OURS
    if unknown:
        known = ", ".join(sorted(_OPTIONS | {"decrypt"}))
        raise _fault(sorted(unknown), index, f"besides its place a document has {known}")
    for name in ("citations", "decrypt"):
        if not isinstance(document.get(name), (bool, NoneType)):  # the text "false" would count as true
            raise _fault(document[name], index, f"{name} of a document is true or false")
    if document.get("type", "document") not in ("document", "image"):
        raise _fault(document["type"], index, "the type of a file_id is document or image")
    return document


def _with_options(block: Block, item: Mapping[str, Any]) -> dict[str, Any]:
    content = dict(block.content)
    options = {key: item[key] for key in _OPTIONS if item.get(key) is not None}
    if content["type"] == "image":  # images have neither title nor citations
        options = {key: value for key, value in options.items() if key == "cache_control"}
    if "citations" in options:
        options["citations"] = {"enabled": options["citations"]}
    return {**content, **options}


def _fault(value: Any, index: int, rule: str) -> InputError:
    return InputError([Fault(index=index, where="documents", value=describe(value), rule=rule)])
