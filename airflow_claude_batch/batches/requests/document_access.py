"""Places that data names are opened only where the DAG's author allowed it.

A record may come from anybody; the worker's rights and Airflow's connections are not theirs. So a document
is read only below a root: those the author listed, else the directories of the source itself. Places are
compared in normal form, the connection is part of the place, and what is opened is a regular file.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_ADDRESS = re.compile(r"(?:([a-zA-Z][a-zA-Z0-9+.-]*):/)?/(.*)", re.DOTALL)
_GLOB = "*?["
_FILE_SCHEMES = ("file", "local")


class RefusedPlaceError(Exception):
    """A place that data names and that nobody allowed; the message says so and names the way out."""


class NotRegularFileError(OSError):
    """A device, a pipe or a socket: reading it may never end."""


@dataclass(frozen=True)
class _Place:
    """An address in normal form."""

    scheme: str
    authority: str
    """Connection and bucket or host, as written: ``conn@bucket``."""
    path: str
    """Absolute, without ``.``, ``..`` and double slashes."""

    @classmethod
    def of(cls, address: str) -> _Place | None:
        """The address in normal form; None for what is no address, or a chain of several."""
        match = _ADDRESS.fullmatch(address)
        if match is None or "::" in address or "\\" in address or "\0" in address:
            return None
        scheme = (match[1] or "file").lower()
        if match[1] is None:
            return cls("file", "", _normal(f"/{match[2]}"))
        authority, _, path = match[2].partition("/")
        if scheme in _FILE_SCHEMES:
            # file://conn_id@/path names a connection too; on a disk it opens nothing else.
            authority = "" if authority in ("", "localhost") else authority
            scheme = "file"
        return cls(scheme, authority, _normal(f"/{path}"))

    def holds(self, other: _Place) -> bool:
        """Whether the other place is this one or below it."""
        if (self.scheme, self.authority) != (other.scheme, other.authority):
            return False
        root = self.path.rstrip("/") + "/"
        return other.path == self.path or other.path.startswith(root)


def _normal(path: str) -> str:
    return posixpath.normpath(re.sub("/+", "/", path))


@dataclass
class DocumentAccess:
    """The roots below which records may name their documents.

    Args:
        roots: Addresses of directories, for example ``s3://conn_id@bucket/invoices/``; none: everything
            that a record names is refused.
    """

    roots: Iterable[str] = ()
    _places: list[_Place] = field(init=False, default_factory=list)

    def __post_init__(self) -> None:
        self.allow(self.roots)

    def allow(self, roots: Iterable[str]) -> None:
        """Allow more roots.

        Raises:
            ValueError: For a root that is no address.
        """
        for root in roots:
            place = _Place.of(root)
            if place is None:
                raise ValueError(f"documents_from: {root!r} is no address of a directory")
            self._places.append(place)

    def check(self, address: str) -> None:
        """Let a place pass that lies below a root.

        Raises:
            RefusedPlaceError: For any other.
        """
        place = _Place.of(address)
        if place is not None and any(root.holds(place) for root in self._places):
            if _has_dots(address) and place.scheme != "file":
                # On an object store such a key is another one than its normal form.
                raise RefusedPlaceError("the address of a document has no '.' or '..' in its path")
            return
        if not self._places:
            raise RefusedPlaceError(
                "records of this source may name no files; list the directories that they may name in "
                "documents_from=['s3://conn_id@bucket/folder/'] on the operator"
            )
        raise RefusedPlaceError(
            "it lies outside of the directories that records may name, which are those of documents_from on "
            "the operator, else those of the source; the connection is part of the address"
        )

    def read_local(self, path: str, most: int) -> bytes:
        """A file on this machine's disk, whole or its first ``most`` bytes and one more.

        Args:
            path: Absolute; it has passed :meth:`check`. Where its links lead must lie below a root too.
            most: Bytes that are wanted at the most.

        Raises:
            RefusedPlaceError: Where a link leads out of the roots.
            NotRegularFileError: For a device, a pipe or a socket.
        """
        real = os.path.realpath(path)
        local = (place.path for place in self._places if place.scheme == "file")
        roots = [_Place("file", "", os.path.realpath(root)) for root in local]
        if not any(root.holds(_Place("file", "", real)) for root in roots):
            raise RefusedPlaceError("a link in its path leads out of the directories that records may name")
        kind = Path(real).stat().st_mode
        if stat.S_ISDIR(kind):
            raise IsADirectoryError(real)
        if not stat.S_ISREG(kind):  # to open a device may already do something
            raise NotRegularFileError("it is no regular file")
        # Not blocking: to open a pipe waits for its writer. Without following: the links are resolved.
        descriptor = os.open(real, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_NOFOLLOW", 0))
        with os.fdopen(descriptor, "rb") as file:
            return file.read(most + 1)


def _has_dots(address: str) -> bool:
    return any(name in (".", "..") for name in address.split("/"))


def directory_of(address: str, file_suffixes: Iterable[str]) -> str:
    """The directory that an address of files stands in: itself, or where its file or glob lies.

    Args:
        address: A file, a glob or a directory.
        file_suffixes: How the names of files end; ``.gz`` may follow.
    """
    before = address
    while any(character in before for character in _GLOB):
        before = posixpath.dirname(before)
    if before == address and address.lower().removesuffix(".gz").endswith(tuple(file_suffixes)):
        before = posixpath.dirname(address)
    return before
