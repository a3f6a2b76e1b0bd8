"""Which files a location stands for: one as it is written, a glob, or what a directory holds."""

from __future__ import annotations

import logging
import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from urllib.parse import unquote

from airflow_claude_batch.batches.errors import EmptyInputError, Fault, InputError
from airflow_claude_batch.batches.requests.descriptions import shorten
from airflow_claude_batch.batches.requests.files.options import FORMATS
from airflow_claude_batch.batches.requests.files.stored import COMPRESSION_SUFFIXES
from airflow_claude_batch.batches.storage import Folder

ROW_SUFFIXES = tuple(FORMATS)
"""How the names of files with rows end; a suffix of compression may follow."""
_GLOB = "*?["

log = logging.getLogger(__name__)


def find_all(
    locations: Iterable[Folder], suffixes: tuple[str, ...], *, left_out: Counter[str], **how: bool
) -> list[Folder]:
    """The files of all locations, one after the other; one that several of them stand for is there once.

    Args:
        locations: Files, globs or directories.
        suffixes: What a file must end with.
        left_out: Counts what directories hold besides, by suffix.
        how: See :func:`find_files`.

    Raises:
        EmptyInputError: Where the directories and globs hold no file, all of them.
        InputError: Where some of them hold none, or a file is not there, or of a kind that is not known.
    """
    found: list[Folder] = []
    empty: list[Fault] = []
    for location in locations:
        try:
            found += find_files(location, suffixes, left_out=left_out, **how)
        except EmptyInputError as error:
            empty += error.faults
    if empty:
        # Where others hold files, "no records" would pass over these without a word.
        raise InputError(empty) if found else EmptyInputError(empty)
    once: dict[tuple[str, str], Folder] = {}
    for file in found:
        once.setdefault(place_of(file), file)
    if len(once) < len(found):
        log.warning("%d of the files are named more than once; each is read once", len(found) - len(once))
    return list(once.values())


def find_files(
    location: Folder,
    suffixes: tuple[str, ...],
    *,
    literal: bool = False,
    any_name: bool = False,
    left_out: Counter[str] | None = None,
) -> list[Folder]:
    """The files that a location stands for, sorted by path.

    Args:
        location: A file, a glob or a directory, opened like a folder. A name that exists as it is written is
            no glob.
        suffixes: What a file must end with; a suffix of compression may follow.
        literal: Whether ``*``, ``?`` and ``[`` are characters like any other.
        any_name: Whether names may end with anything.
        left_out: Counts what a directory holds besides, by its suffix.

    Raises:
        EmptyInputError: Where a directory or a glob has no file, or a directory is not there.
        InputError: Where there is no such file, or one of a kind that is not known.
    """
    fs = location.fs
    fs.invalidate_cache()
    path = _existing(location)
    if not literal and any(character in path for character in _GLOB) and not fs.exists(path):
        entries = fs.glob(path, detail=True).items()
        files = [name for name, info in entries if info["type"] != "directory"]
        paths = [name for name in files if not posixpath.basename(name).startswith(".")]
        _require_some(location, paths, "no file matches")
    elif fs.isdir(path):
        paths = _in_directory(location, path, () if any_name else suffixes, left_out)
        _require_some(location, paths, f"the directory holds no file with {', '.join(suffixes)}")
    else:
        paths = [path]
        if not fs.exists(path):
            # Object stores know no empty directories, and a name without a suffix is one's.
            if not posixpath.splitext(path)[1]:
                _require_some(location, [], "there is no such directory")
            raise InputError([_fault(location.url, "there is no such file")])
    unknown = [] if any_name else [name for name in paths if suffix_of(name) not in suffixes]
    if unknown:
        way_out = (
            "say format=… of Files" if ".csv" in suffixes else "say convert={suffix: function} of Documents"
        )
        rule = f"files end with {', '.join(suffixes)} here; rename it, convert it, or {way_out}"
        raise InputError([_fault(_url(location, min(unknown)), rule)])
    return [Folder(fs=fs, path=name, url=_url(location, name)) for name in sorted(paths)]


def place_of(location: Folder) -> tuple[str, str]:
    """The store of a location and its path there; one, however a place on the disk is written."""
    if location.is_local:
        return "", posixpath.normpath(location.path)
    return location.url.rstrip("/").removesuffix(location.path.rstrip("/")), location.path


def suffix_of(path: str) -> str:
    """The suffix that says what a file is; lower case, without one of compression."""
    name = posixpath.basename(path).lower()
    stem, last = posixpath.splitext(name)
    return posixpath.splitext(stem)[1] if last in COMPRESSION_SUFFIXES else last


def _existing(location: Folder) -> str:
    """The path; a ``file:`` URI may have its blanks and accents in percent signs."""
    path = location.path
    plain = unquote(path)
    if plain == path or not location.is_local or not location.url.startswith("file:"):
        return path
    start = path
    while any(character in start for character in _GLOB):
        start = posixpath.dirname(start)
    return path if location.fs.exists(start) or location.fs.exists(path) else plain


def _in_directory(
    location: Folder, path: str, suffixes: tuple[str, ...], left_out: Counter[str] | None
) -> list[str]:
    """The files below a directory; the log says which of them are left out."""
    besides: Counter[str] = Counter()
    visible = []
    for name in location.fs.find(path):
        if _hidden(name, path):
            besides["hidden"] += 1
        else:
            visible.append(name)
    # What says something about the rows lies as JSON beside them.
    others = {suffix_of(name) for name in visible} & (set(suffixes) - {".json"})
    chosen = set(suffixes) - {".json"} if others else set(suffixes)
    paths = []
    for name in visible:
        if not suffixes or suffix_of(name) in chosen:
            paths.append(name)
        else:
            besides[posixpath.splitext(name)[1].lower() or "without a suffix"] += 1
    if besides:
        log.info("%s: %d files are read; left out: %s", location.url, len(paths), describe_left_out(besides))
    if left_out is not None:
        left_out.update(besides)
    return paths


def describe_left_out(left_out: Counter[str]) -> str:
    """What a directory holds besides, for people: ``5 .docx, 3 .heic``."""
    return ", ".join(f"{count} {suffix}" for suffix, count in left_out.most_common())


def _hidden(path: str, folder: str) -> bool:
    inside = path.removeprefix(folder).split("/")
    return any(name.startswith(("_", ".")) for name in inside)


def _url(location: Folder, path: str) -> str:
    """A found file as people name it, with the connection that the location was opened through."""
    if location.url.endswith(location.path):
        return location.url.removesuffix(location.path) + path
    return str(location.fs.unstrip_protocol(path))


def _require_some(location: Folder, paths: Sequence[str], problem: str) -> None:
    if not paths:
        rule = f"{problem}; where an empty input is normal, on_empty says what it means"
        raise EmptyInputError([_fault(location.url, rule)])


def _fault(url: str, rule: str) -> Fault:
    return Fault(index=0, where="requests", value=shorten(url, 300), rule=rule)
