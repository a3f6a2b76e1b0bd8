"""A folder on any fsspec store, with the three kinds of write that the job's record needs.

Whole files are replaced atomically, a file can be created by exactly one of several writers, and
large files are streamed. Object stores make a PUT visible only when it is complete, so a plain
write is atomic there; on a local disk it is a temporary file and a rename.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import io
import os
import posixpath
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

BLOCK = 1 << 20
"""Bytes moved at a time when a file is streamed."""
UPLOAD_BLOCK = 8 << 20
"""Bytes that are held before they go to the store (S3 takes 10,000 such blocks; fsspec would hold 50 MB)."""

_LOCAL = ("file", "local")
_COMMIT_ON_CLOSE = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az")
"""Protocols of stores where an object that is streamed appears, whole, when its file is closed."""


@dataclass(frozen=True, kw_only=True)
class Folder:
    """One folder of an fsspec file system; names inside it may contain slashes."""

    fs: Any
    """The ``fsspec.AbstractFileSystem``."""
    path: str
    """Path of the folder as the file system wants it."""
    url: str
    """The same place as people and other tasks name it, for example ``s3://bucket/jobs``."""

    @classmethod
    def at(cls, url: str, **storage_options: Any) -> Folder:
        """Open a URL with plain fsspec; operators open theirs through Airflow's connections."""
        import fsspec

        fs, path = fsspec.url_to_fs(url, **storage_options)
        return cls(fs=fs, path=path, url=url)

    def child(self, *names: str) -> Folder:
        """The folder below this one; nothing is created."""
        return Folder(
            fs=self.fs,
            path=posixpath.join(self.path, *names),
            url="/".join([self.url.rstrip("/"), *names]),
        )

    @property
    def parent(self) -> Folder:
        """The folder above."""
        return Folder(
            fs=self.fs,
            path=posixpath.dirname(self.path.rstrip("/")),
            url=self.url.rstrip("/").rpartition("/")[0],
        )

    def locate(self, name: str) -> str:
        """Path of the file ``name`` as the file system wants it."""
        return posixpath.join(self.path, name)

    def read(self, name: str) -> bytes:
        """The whole file; raises ``FileNotFoundError`` where there is none."""
        return cast(bytes, self.fs.cat_file(self.locate(name)))

    def exists(self, name: str) -> bool:
        """Whether the file is there now (listings that the file system caches are not asked)."""
        self.fs.invalidate_cache(self.path)
        return bool(self.fs.exists(self.locate(name)))

    def names(self) -> list[str]:
        """Names directly in this folder, sorted; empty where the folder does not exist."""
        self.fs.invalidate_cache(self.path)
        try:
            entries = self.fs.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(str(entry).rstrip("/")) for entry in entries)

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Replace the file as a whole: a reader sees the old content or the new, nothing between.

        :param durable: on a local disk, return only when the content would outlive a power failure
        """
        path = self.locate(name)
        if not self.is_local:
            self.fs.pipe_file(path, data)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}.tmp-{secrets.token_hex(4)}"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                if durable:
                    file.flush()
                    os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    def create(self, name: str, data: bytes) -> bool:
        """Write the file if there is none. Of several writers at once exactly one gets ``True``.

        Relies on ``O_EXCL`` or on the store's conditional PUT (S3, GCS, Azure). A store that has
        neither is asked first whether the file exists.
        """
        path = self.locate(name)
        self._make_parent(path)
        if self.is_local:
            try:
                with open(path, "xb") as file:
                    file.write(data)
            except FileExistsError:
                return False
            return True
        try:
            self.fs.pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            # s3fs reports a failed If-None-Match as a bare OSError with the store's wording.
            if "PreconditionFailed" in repr(error) or "pre-condition" in str(error).lower():
                return False
            raise
        return True

    def open_read(self, name: str) -> IO[bytes]:
        """Open for streaming; ``.gz`` files are decompressed on the way."""
        file = self.fs.open(self.locate(name), "rb")
        return cast("IO[bytes]", gzip.open(file) if name.endswith(".gz") else file)

    def open_write(self, name: str) -> IO[bytes]:
        """Open for streaming; ``.gz`` files are compressed on the way.

        A file cut off by an error may stay behind: for files that mean nothing until another
        file says so. Use :meth:`replace` for files that readers look for.
        """
        path = self.locate(name)
        self._make_parent(path)
        file = self.fs.open(path, "wb")
        return cast("IO[bytes]", _GzipWriter(file) if name.endswith(".gz") else file)

    @contextlib.contextmanager
    def replace(self, name: str) -> Iterator[IO[bytes]]:
        """Stream into ``name``, which is replaced only when the block ends well."""
        path = self.locate(name)
        if self._is_of(_COMMIT_ON_CLOSE):
            file = self.fs.open(path, "wb", block_size=UPLOAD_BLOCK)
            try:
                yield file
                file.close()
            except BaseException:
                with contextlib.suppress(Exception):
                    file.discard()
                file.closed = True  # to close it would commit what is there
                raise
            return
        temporary = f"{path}.tmp-{secrets.token_hex(4)}"
        self._make_parent(path)
        try:
            with self.fs.open(temporary, "wb", block_size=UPLOAD_BLOCK) as file:
                yield file
            self.fs.mv(temporary, path)
        except BaseException:
            with contextlib.suppress(Exception):
                self.fs.rm_file(temporary)
            raise

    def size(self, name: str) -> int:
        """Size of the stored file in bytes."""
        return int(self.fs.info(self.locate(name))["size"])

    def modified(self, name: str) -> datetime.datetime:
        """When the file was last written."""
        moment = self.fs.modified(self.locate(name))
        return cast(datetime.datetime, moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC))

    def remove(self) -> None:
        """Delete the folder with all that is in it, if it is there."""
        self.fs.invalidate_cache(self.path)
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm(self.path, recursive=True)

    def remove_file(self, name: str) -> None:
        """Delete one file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.locate(name))

    @property
    def is_local(self) -> bool:
        """Whether it lies on a disk of this machine."""
        return self._is_of(_LOCAL)

    def _is_of(self, protocols: tuple[str, ...]) -> bool:
        own = self.fs.protocol
        return any(name in protocols for name in ((own,) if isinstance(own, str) else own))

    def _make_parent(self, path: str) -> None:
        # Object stores have no folders, and creating one there could try to create a bucket.
        if self.is_local:
            os.makedirs(os.path.dirname(path), exist_ok=True)


class _GzipWriter(gzip.GzipFile):
    """gzip on top of a file object, which is closed with it; no time stamp, so equal in, equal out."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        super().__init__(fileobj=file, mode="wb", compresslevel=1, mtime=0, filename="")

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._file.close()


def iter_blocks(file: IO[bytes], size: int = BLOCK) -> Iterator[bytes]:
    """The file in blocks; bounded memory whatever the file holds."""
    while block := file.read(size):
        yield block


def iter_lines(file: IO[bytes], size: int = BLOCK) -> Iterator[bytes]:
    """Lines without their end, read in blocks.

    Iterating an S3 handle line by line takes minutes where blocks take seconds.
    """
    rest = b""
    for block in iter_blocks(file, size):
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        yield from lines
    if rest:
        yield rest


def buffered(file: IO[bytes]) -> io.BufferedWriter:
    """Gather small writes into blocks before they reach the store."""
    return io.BufferedWriter(cast("io.RawIOBase", file), BLOCK)
