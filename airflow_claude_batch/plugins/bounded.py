"""A folder that is read for so long and so far only: what lies there may be huge, or the store may hang."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import IO, Any, cast

from airflow_claude_batch.batches.storage import Folder


class EnoughError(Exception):
    """As much was read as may be."""


@dataclass(kw_only=True)
class Allowance:
    """How much may still be read, of all files of a folder together."""

    bytes: int
    end: float
    """By :func:`time.monotonic`."""

    @classmethod
    def of(cls, *, bytes: int, seconds: float) -> Allowance:
        """From now on."""
        return cls(bytes=bytes, end=time.monotonic() + seconds)

    @property
    def is_spent(self) -> bool:
        """Whether nothing more may be read."""
        return self.bytes < 0 or time.monotonic() > self.end

    def take(self, size: int) -> None:
        """Note what was read.

        Raises:
            EnoughError: When that was too much, or took too long.
        """
        self.bytes -= size
        if self.is_spent:
            raise EnoughError


@dataclass(frozen=True, kw_only=True)
class BoundedFolder(Folder):
    """A folder whose files are read within an allowance."""

    allowance: Allowance

    @classmethod
    def around(cls, folder: Folder, allowance: Allowance) -> BoundedFolder:
        """The same folder."""
        return cls(fs=folder.fs, path=folder.path, url=folder.url, allowance=allowance)

    def child(self, *names: str) -> BoundedFolder:
        """The folder below this one, within the same allowance."""
        return self.around(super().child(*names), self.allowance)

    def open_read(self, name: str) -> IO[bytes]:
        """Open for streaming; counts what comes out of it, uncompressed."""
        return cast("IO[bytes]", _Metered(super().open_read(name), self.allowance))


class _Metered:
    def __init__(self, file: IO[bytes], allowance: Allowance) -> None:
        self._file = file
        self._allowance = allowance

    def read(self, size: int = -1) -> bytes:
        # One byte more than allowed tells that there is more.
        most = self._allowance.bytes + 1
        data = self._file.read(most if size < 0 else min(size, most))
        self._allowance.take(len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _Metered:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
