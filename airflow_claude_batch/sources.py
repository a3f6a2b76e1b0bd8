"""Where records come from when they lie in files: what ``requests`` of an operator may be besides data.

A source holds URIs only, so it can be written at the top of a DAG file, rendered as a template and shown
in the UI. Nothing is read before the task runs, and then one row at a time.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.common.scalars import as_text

if TYPE_CHECKING:
    from airflow_claude_batch.batches.storage import Folder

_URI = re.compile(r"(?:[a-zA-Z][a-zA-Z0-9+.-]*:/)?/[^\r\n]+")
"""A URI or an absolute path in one line; names may hold blanks."""


def is_place(value: Any) -> bool:
    """Whether a value says where files are, as a URI or an absolute path."""
    return isinstance(value, str) and _URI.fullmatch(value) is not None


class Source:
    """One or more URIs, rendered as templates."""

    template_fields: tuple[str, ...] = ("uris",)

    documents_column: str | None = None
    """Column in which the source itself puts where a record's documents are."""

    def __init__(self, *uris: str) -> None:
        if not uris:
            raise ValueError(f"{type(self).__name__} needs at least one URI")
        self.uris = [as_text(uri) for uri in uris]
        for number, uri in enumerate(self.uris, 1):
            # What Airflow renders is known when the task runs.
            if not (
                hasattr(uri, "iter_references") or (isinstance(uri, str) and ("{{" in uri or "{%" in uri))
            ):
                self._check(uri, number)
        self.left_out: Counter[str] = Counter()
        """Files that directories hold besides, by suffix; counted when the source is read."""

    def __str__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.uris))})"

    __repr__ = __str__

    def places(self) -> list[str]:
        """The URIs, which are rendered now.

        Raises:
            ConfigurationError: For what is none.
        """
        uris = [as_text(uri) for uri in self.uris]
        for number, uri in enumerate(uris, 1):
            self._check(uri, number)
        return uris

    def _check(self, uri: Any, number: int) -> None:
        if is_place(uri):
            return
        from airflow_claude_batch.batches.requests.descriptions import describe

        rule = "a URI such as s3://conn_id@bucket/folder/, or an absolute path"
        if isinstance(uri, (list, tuple)):
            rule += f"; several are {type(self).__name__}(*uris)"
        elif "{{" not in str(uri):
            rule += "; records of another task are requests=build.output"
        raise ConfigurationError(
            f"Argument {number} of {type(self).__name__}(…) is {describe(uri)}; it is {rule}. Nothing was "
            "sent."
        )

    def roots(self) -> list[str]:
        """The directories that it reads from: records may name documents there."""
        from airflow_claude_batch.batches.requests.document_access import directory_of
        from airflow_claude_batch.batches.requests.files import ROW_SUFFIXES

        compressed = [suffix + end for suffix in ROW_SUFFIXES for end in (".bz2", ".xz", ".zst")]
        return [directory_of(uri, (*ROW_SUFFIXES, *compressed)) for uri in self.places()]

    def read(self, locate: Callable[[str], Folder]) -> Iterator[Any]:
        """The records, in the order of the files' names.

        Args:
            locate: Opens a URI.

        Raises:
            EmptyInputError: Where directories and globs hold no file.
            InputError: Where a file is not there.
        """
        raise NotImplementedError


class Files(Source):
    """The rows of JSON, CSV, Parquet, ORC, Avro and Excel files as records, their columns by name.

    What is not said is found out for each file, and logged; where it cannot be told, the file is refused. A
    compressed file (gzip, bz2, xz, zstd) is known by its content. A file that several of the URIs name is
    read once.

    Args:
        uris: Files, globs or directories that ``ObjectStoragePath`` understands, for example
            ``s3://conn_id@bucket/tickets/{{ ds }}/*.csv.gz``. A name that exists as it is written is no glob.
        format: ``jsonl``, ``json``, ``csv``, ``tsv``, ``parquet``, ``orc``, ``avro`` or ``xlsx``, whatever
            the names of the files end with.
        compression: ``gzip``, ``bz2``, ``xz``, ``zstd`` or ``none``.
        encoding: Of CSV and JSON, by Python's names: ``cp1252``. Else UTF-8, or UTF-16 that shows itself.
        delimiter: Between the fields of CSV.
        quote: Around fields of CSV; ``""``: quotes are text like any other.
        escape: Before a quote inside a field of CSV (a backslash for MySQL's); ``""``: it is written twice.
        header: Names of the columns of CSV or Excel whose first row is data already.
        columns: The columns to read, and no others.
        nulls: Texts in CSV that stand for a missing value. Else only a field of backslash and N does.
        sheet: The sheet of an Excel workbook that has several.
        literal: Take ``*``, ``?`` and ``[`` in names as they are.
    """

    template_fields = (
        *("uris", "format", "compression", "encoding", "delimiter", "quote", "escape"),
        *("header", "columns", "nulls", "sheet"),
    )

    def __init__(
        self,
        *uris: str,
        format: str | None = None,
        compression: str | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        quote: str | None = None,
        escape: str | None = None,
        header: bool | list[str] | None = None,
        columns: list[str] | None = None,
        nulls: list[str] | None = None,
        sheet: str | None = None,
        literal: bool = False,
    ) -> None:
        super().__init__(*uris)
        self.format = format
        self.compression = compression
        self.encoding = encoding
        self.delimiter = delimiter
        self.quote = quote
        self.escape = escape
        self.header = header
        self.columns = columns
        self.nulls = nulls
        self.sheet = sheet
        self.literal = _yes_or_no("literal", literal)

    def __str__(self) -> str:
        options = {name: value for name, value in self._options().items() if value not in (None, False)}
        said = [*map(repr, self.uris), *(f"{name}={value!r}" for name, value in options.items())]
        return f"Files({', '.join(said)})"

    __repr__ = __str__

    def _options(self) -> dict[str, Any]:
        names = [name for name in self.template_fields if name != "uris"]
        return {**{name: getattr(self, name) for name in names}, "literal": self.literal}

    def roots(self) -> list[str]:
        """The directories that it reads from: records may name documents there."""
        return [posixpath.dirname(uri) for uri in self.places()] if self.literal else super().roots()

    def read(self, locate: Callable[[str], Folder]) -> Iterator[Any]:
        """The rows."""
        from airflow_claude_batch.batches.requests.files import ReadOptions, read_files

        self.left_out.clear()
        return read_files(map(locate, self.places()), ReadOptions(**self._options()), self.left_out)


class Documents(Source):
    """One record for each document: PDF, PNG, JPEG, GIF, WebP, text, Markdown, or what a converter takes.

    A record has the columns ``name`` (as much of its path as tells it from the others: below the directory,
    or below what several of them have in common), ``uri`` and ``documents``; what to do with it says the
    operator's ``prompt``. A file that several of the URIs stand for is one record.

    Args:
        uris: Files, globs or directories.
        citations: Have the answers cite the documents.
        decrypt: Save PDFs that are encrypted, but open without a password, without their encryption;
            otherwise they are sent as they are.
        convert: Functions by suffix, such as ``{".docx": docx_to_text}``. Each takes a file's bytes and
            returns text, the bytes of a PDF or an image, or a pair of either with its media type; it is
            called while the input is stored, so a file that it fails on costs nothing.
    """

    documents_column = "documents"

    def __init__(
        self,
        *uris: str,
        citations: bool = False,
        decrypt: bool = False,
        convert: Mapping[str, Callable[[bytes], Any]] | None = None,
    ) -> None:
        super().__init__(*uris)
        self.citations = _yes_or_no("citations", citations)
        self.decrypt = _yes_or_no("decrypt", decrypt)
        self.convert = _checked(convert or {})

    def roots(self) -> list[str]:
        """The directories that it reads from."""
        from airflow_claude_batch.batches.requests.document_access import directory_of

        return [directory_of(uri, self._suffixes()) for uri in self.places()]

    def _suffixes(self) -> tuple[str, ...]:
        from airflow_claude_batch.batches.requests.document_blocks import SUFFIXES

        return tuple(dict.fromkeys((*SUFFIXES, *self.convert)))

    def read(self, locate: Callable[[str], Folder]) -> Iterator[Any]:
        """A record for each document."""
        from airflow_claude_batch.batches.requests.custom_ids import legal_id
        from airflow_claude_batch.batches.requests.files import find_all

        options = {key: True for key in ("citations", "decrypt") if getattr(self, key)}
        locations = list(map(locate, self.places()))
        name_of = _names(locations, self._suffixes())
        self.left_out.clear()
        found = find_all(locations, self._suffixes(), left_out=self.left_out)
        for file in found:
            name, url = name_of(file), file.url
            document = {"uri": url, **options} if options else url
            yield {"custom_id": legal_id(name), "name": name, "uri": url, "documents": [document]}


def _yes_or_no(name: str, value: Any) -> bool:
    if not isinstance(value, bool):  # the text "false" would count as true
        raise TypeError(f"{name} is a {type(value).__name__}; it is True or False")
    return value


def _checked(convert: Mapping[str, Callable[[bytes], Any]]) -> dict[str, Callable[[bytes], Any]]:
    for suffix, function in convert.items():
        if not isinstance(suffix, str) or not re.fullmatch(r"\.[^./\s]+", suffix):
            raise ValueError(f"convert = {{{suffix!r}: …}}: a key is a suffix, such as '.docx'")
        if not callable(function):
            raise TypeError(f"convert[{suffix!r}] is a {type(function).__name__}; it is a function of bytes")
    return {suffix.lower(): function for suffix, function in convert.items()}


def _names(locations: list[Folder], suffixes: tuple[str, ...]) -> Callable[[Folder], str]:
    """What tells files apart: their paths below the directory that all locations lie in, else their URIs."""
    from airflow_claude_batch.batches.requests.document_access import directory_of
    from airflow_claude_batch.batches.requests.files.find import place_of

    if len({place_of(location)[0] for location in locations}) > 1:
        return lambda file: file.url
    folders = [replace(location, path=directory_of(location.path, suffixes)) for location in locations]
    common = posixpath.commonpath([place_of(folder)[1] for folder in folders])
    return lambda file: place_of(file)[1].removeprefix(common).lstrip("/")
