"""Where records come from when they lie in files: what ``requests`` of an operator may be besides data.

A source holds URIs only, so it can be written at the top of a DAG file, rendered as a template and shown
in the UI. Nothing is read before the task runs, and then one row at a time.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_claude_batch.batches.storage import Folder


class Source:
    """One or more URIs, rendered as templates."""

    template_fields = ("uris",)

    def __init__(self, *uris: str) -> None:
        if not uris:
            raise ValueError(f"{type(self).__name__} needs at least one URI")
        self.uris = list(uris)

    def __str__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.uris))})"

    __repr__ = __str__

    def read(self, locate: Callable[[str], Folder]) -> Iterator[Any]:
        """The records, in the order of the files' names.

        :param locate: opens a URI
        :raises InputError: where there is no file
        """
        raise NotImplementedError


class Files(Source):
    """The rows of JSON lines, CSV and Parquet files as records, their columns by name.

    :param uris: files, globs or directories that ``ObjectStoragePath`` understands, for example
        ``s3://conn_id@bucket/tickets/{{ ds }}/*.csv.gz``
    """

    def read(self, locate: Callable[[str], Folder]) -> Iterator[Any]:
        """The rows."""
        from airflow_claude_batch.batches.sources import read_files

        return read_files(map(locate, self.uris))


class Documents(Source):
    """One record for each document: PDF, PNG, JPEG, GIF, WebP, text or Markdown.

    A record has the columns ``name`` (the path below the directory) and ``documents``; what to do with it
    says the operator's ``prompt``.

    :param uris: files, globs or directories
    :param citations: have the answers cite the documents
    """

    def __init__(self, *uris: str, citations: bool = False) -> None:
        super().__init__(*uris)
        self.citations = citations

    def read(self, locate: Callable[[str], Folder]) -> Iterator[Any]:
        """A record for each document."""
        from airflow_claude_batch.batches.custom_ids import legal_id
        from airflow_claude_batch.batches.documents import SUFFIXES
        from airflow_claude_batch.batches.sources import find_files

        for location in map(locate, self.uris):
            for file in find_files(location, SUFFIXES):
                name = _below(location.path, file.path)
                document = {"uri": file.url, "citations": True} if self.citations else file.url
                yield {"custom_id": legal_id(name), "name": name, "documents": [document]}


def _below(pattern: str, path: str) -> str:
    """The path of a file below the directory that was named, or that its glob begins with."""
    while any(character in pattern for character in "*?["):
        pattern = posixpath.dirname(pattern)
    inside = path.removeprefix(pattern).strip("/") if path.startswith(pattern) else ""
    return inside or posixpath.basename(path)
