"""A folder on any fsspec store, with the three kinds of write that the job's record needs.

Whole files are replaced atomically, a file can be created by exactly one of several writers, and
large files are streamed. Object stores make a PUT visible only when it is complete, so a plain
write is atomic there; on a local disk it is a temporary file and a rename.
"""

from __future__ import annotations

import contextlib
import datetime
import gzip
import os
import posixpath
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import IO, Any, cast

BLOCK = 1 << 20
"""Bytes moved at a time when a file is streamed."""
UPLOAD_BLOCK = 8 << 20
"""Bytes that are held on their way to or from a store (S3 takes 10,000 such blocks; fsspec's are 50 MB)."""

LONGEST_LINE = 256_000_000
"""Bytes of a line that is read back: a request is stored as one, and no batch takes a longer one."""

_LOCAL = ("file", "local")
_TEMPORARY = ".tmp-"
"""In the name of a file that is being written; a kill may leave it behind."""
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

    def read_range(self, name: str, start: int, length: int) -> bytes:
        """Some bytes of the stored file."""
        return cast(bytes, self.fs.cat_file(self.locate(name), start=start, end=start + length))

    def exists(self, name: str) -> bool:
        """Whether the file is there now (listings that the file system caches are not asked)."""
        self.fs.invalidate_cache(self.path)
        return bool(self.fs.exists(self.locate(name)))

    @property
    def is_there(self) -> bool:
        """Whether it exists; on an object store, which has no folders, whether its bucket does.

        What the store raises where it does not say passes.
        """
        self.fs.invalidate_cache()
        top = self.path if self.is_local else self.path.strip("/").partition("/")[0]
        if self.fs.exists(top):
            return True
        if self.is_local:
            return False
        try:
            self.fs.info(top)  # to s3fs a store that cannot be reached has no bucket
        except FileNotFoundError:
            return False
        return True

    def names(self) -> list[str]:
        """Names directly in this folder, sorted; empty where the folder does not exist.

        What a killed writer left half written is no record and is left out.
        """
        return [name for name in self._list() if _TEMPORARY not in name]

    def unfinished(self) -> list[str]:
        """Names of files that are being written, or that a killed writer left half written."""
        return [name for name in self._list() if _TEMPORARY in name]

    def _list(self) -> list[str]:
        self.fs.invalidate_cache(self.path)
        try:
            entries = self.fs.ls(self.path, detail=False)
        except FileNotFoundError:
            return []
        return sorted(posixpath.basename(str(entry).rstrip("/")) for entry in entries)

    def find(self) -> Iterator[tuple[str, datetime.datetime | None]]:
        """Files in this folder and below, by name, and when each was last written, where the store says so.

        One listing, whatever is there: on S3 a call for 1,000 files. s3fs keeps it, so that a read of one of
        them takes one call, and a file that is written later counts as not there until `exists` is asked.
        """
        if self.is_local:  # ten times as quick as fsspec's
            yield from _find_local(self.path)
            return
        self.fs.invalidate_cache(self.path)
        top = self.fs._strip_protocol(self.path)
        found = self.fs.find(self.path, detail=True)
        for path, about in found.items():
            yield path.removeprefix(top).strip("/"), _written(about)

    def write(self, name: str, data: bytes, *, durable: bool = True) -> None:
        """Replace the file as a whole: a reader sees the old content or the new, nothing between.

        Args:
            durable: On a local disk, return only when the content would outlive a power failure.
        """
        path = self.locate(name)
        if not self.is_local:
            self.fs.pipe_file(path, data)
            return
        os.makedirs(os.path.dirname(path), exist_ok=True)
        temporary = f"{path}{_TEMPORARY}{secrets.token_hex(4)}"
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
        """Write the file if there is none, and whole: of several writers at once exactly one gets ``True``.

        Relies on the store's conditional PUT (S3, GCS, Azure); on a local disk a finished file is linked to
        the name. A writer whose first try was written although its answer was lost gets ``True``, too.

        Args:
            name: Of the file, in this folder.
            data: Its content; it has to tell the writers apart.
        """
        created = self._link(name, data) if self.is_local else self._put_if_none(name, data)
        return created or self._holds(name, data)

    def _link(self, name: str, data: bytes) -> bool:
        path = self.locate(name)
        self._make_parent(path)
        temporary = f"{path}{_TEMPORARY}{secrets.token_hex(4)}"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        return True

    def _put_if_none(self, name: str, data: bytes) -> bool:
        try:
            self.fs.pipe_file(self.locate(name), data, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            # s3fs reports a failed If-None-Match as a bare OSError with the store's wording.
            if "PreconditionFailed" in repr(error) or "pre-condition" in str(error).lower():
                return False
            raise
        return True

    def _holds(self, name: str, data: bytes) -> bool:
        try:
            return self.read(name) == data
        except FileNotFoundError:
            return False

    def open_read(self, name: str) -> IO[bytes]:
        """Open for streaming; ``.gz`` files are decompressed on the way."""
        file = self.fs.open(self.locate(name), "rb", block_size=UPLOAD_BLOCK)
        return cast("IO[bytes]", gzip.open(file) if name.endswith(".gz") else file)

    def open_write(self, name: str) -> IO[bytes]:
        """Open for streaming; ``.gz`` files are compressed on the way.

        A file cut off by an error may stay behind: for files that mean nothing until another
        file says so. Use :meth:`replace` for files that readers look for.
        """
        path = self.locate(name)
        self._make_parent(path)
        file = self.fs.open(path, "wb", block_size=UPLOAD_BLOCK)
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
        temporary = f"{path}{_TEMPORARY}{secrets.token_hex(4)}"
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
        self.fs.invalidate_cache(self.path)
        moment = self.fs.modified(self.locate(name))
        return cast(datetime.datetime, moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC))

    def remove(self) -> None:
        """Delete the folder with all that is in it, if it is there."""
        self.fs.invalidate_cache(self.path)
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm(self.path, recursive=True)

    def take(self, name: str) -> bytes | None:
        """Delete one file and return what was in it; None where there is none.

        On a local disk it is the file that was there at that very moment, whoever wrote it last.
        """
        path = self.locate(name)
        aside = f"{path}{_TEMPORARY}{secrets.token_hex(4)}" if self.is_local else path
        try:
            if self.is_local:
                os.replace(path, aside)
            data: bytes = self.fs.cat_file(aside)
            self.fs.rm_file(aside)
        except FileNotFoundError:
            return None
        return data

    def remove_file(self, name: str) -> None:
        """Delete one file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self.fs.rm_file(self.locate(name))

    def remove_files(self, names: list[str]) -> None:
        """Delete many files; those that are gone already are no error."""
        if self.is_local:
            for name in names:
                self.remove_file(name)
        elif names:
            with contextlib.suppress(FileNotFoundError):
                self.fs.rm([self.locate(name) for name in names])

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


def _find_local(top: str, below: str = "") -> Iterator[tuple[str, datetime.datetime]]:
    try:
        entries = list(os.scandir(posixpath.join(top, below)))
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        name = posixpath.join(below, entry.name)
        if entry.is_dir(follow_symlinks=False):
            yield from _find_local(top, name)
            continue
        with contextlib.suppress(FileNotFoundError):  # deleted since
            yield name, datetime.datetime.fromtimestamp(entry.stat().st_mtime, datetime.UTC)


def _written(about: Mapping[str, Any]) -> datetime.datetime | None:
    """When a file was last written, as the listings of different stores say it."""
    moment = about.get("mtime") or about.get("LastModified") or about.get("last_modified")
    if isinstance(moment, float):
        return datetime.datetime.fromtimestamp(moment, datetime.UTC)
    return moment if isinstance(moment, datetime.datetime) and moment.tzinfo else None


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


class LineTooLongError(Exception):
    """A line is longer than what the reader takes."""


def iter_lines(file: IO[bytes], size: int = BLOCK, longest: int = LONGEST_LINE) -> Iterator[bytes]:
    """Lines without their end, read in blocks.

    Iterating an S3 handle line by line takes minutes where blocks take seconds.

    Args:
        file: Open for reading.
        size: Bytes of a block.
        longest: Bytes of a line at the most; no more than that and two blocks are held.

    Raises:
        LineTooLongError: For a longer line, when the lines before it have been given out.
    """
    rest: list[bytes] = []  # of a line that goes on; joined once, so that a long one costs no square
    held = 0
    for block in iter_blocks(file, size):
        lines = block.split(b"\n")
        if len(lines) > 1:
            rest.append(lines[0])
            yield b"".join(rest)
            rest, held = [], 0
            yield from lines[1:-1]
        rest.append(lines[-1])
        held += len(lines[-1])
        if held > longest:
            raise LineTooLongError(f"a line of more than {longest} bytes")
    if held:
        yield b"".join(rest)
