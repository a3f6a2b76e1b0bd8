"""A store of answers: pairs of Parquet files in one folder, each written once.

::

    {storage_path}/answers/{scope}/
        answers-{id}.parquet                                 answers, in the order they were delivered
        index-{newest}-{oldest}-{rows}-{id}.parquet          their keys, sorted, and where each one lies
        max-age-{seconds}                                    how long a user of the store wants them kept

The index is written after the answers: without it they are not there. Files are never changed; a compaction
writes a new pair and removes the old ones. What it leaves behind when it is killed is there twice, which
does no harm. ``newest`` and ``oldest`` say, in milliseconds since 1970, when the answers were given.

Why two files: answers that were given together are asked for together on the next night, so they stay side
by side and are read in sequence, while the index alone, 12 bytes an answer, is what a look-up reads. Both
are plain Parquet, with a checksum for each page: DuckDB and pandas read ``answers-*.parquet``.
"""

from __future__ import annotations

import datetime
import importlib.util
import logging
import re
import secrets
import sys
from array import array
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from airflow_claude_batch.batches.errors import StoreError, missing_package
from airflow_claude_batch.batches.job.identity import folder_name
from airflow_claude_batch.batches.results.output.arrow_arrays import integer
from airflow_claude_batch.batches.reuse.fingerprint import CHECK_BYTES, DIGEST_BYTES, KEY_BYTES
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

ROW_GROUP = 4_096
"""Answers in a row group of an answers file, at the most."""
LOOKS = 5
"""How often the folder is listed again when files go while they are read."""
ANSWERS = "answers"
"""Folder of the stores under ``storage_path``."""
SCOPES = ("task", "dag", "connection")
INDEX_COLUMNS = ("key", "row", "at")

_INDEX = re.compile(r"index-(\d{13})-(\d{13})-(\d{9})-([0-9a-f]{20})\.parquet")
_MAX_AGE = re.compile(r"max-age-(\d+|none)")


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Who shares answers."""

    name: str
    """``task``, ``dag``, ``connection``, or a name of one's own."""
    dag_id: str
    task_id: str
    conn_id: str

    @property
    def path(self) -> tuple[str, ...]:
        """Names of the folders below ``answers``."""
        whose = {
            "task": (self.dag_id, self.task_id),
            "dag": (self.dag_id,),
            "connection": (self.conn_id,),
        }
        kind = self.name if self.name in SCOPES else "shared"
        return (kind, *map(folder_name, whose.get(self.name, (self.name,))))


@dataclass(frozen=True, order=True, kw_only=True)
class Pair:
    """Two files of a store, as the index's name tells of them."""

    newest: int
    """When its newest answer was given, in milliseconds since 1970."""
    oldest: int
    rows: int
    id: str

    @property
    def index(self) -> str:
        """Name of the index."""
        return f"index-{self.newest:013d}-{self.oldest:013d}-{self.rows:09d}-{self.id}.parquet"

    @property
    def answers(self) -> str:
        """Name of the file with the answers."""
        return answers_name(self.id)


def answers_name(id_: str) -> str:
    """Of an answers file."""
    return f"answers-{id_}.parquet"


def new_id() -> str:
    """For a pair."""
    return secrets.token_hex(10)


@dataclass(frozen=True)
class Store:
    """One scope's answers."""

    folder: Folder

    @classmethod
    def of(cls, scope: Scope, root: Folder, answers: Folder | None = None) -> Store:
        """The store of a scope.

        Args:
            scope: Who shares it.
            root: ``storage_path``.
            answers: Where stores lie; None for ``answers`` under ``storage_path``.
        """
        return cls((answers or root.child(ANSWERS)).child(*scope.path))

    def pairs(self) -> list[Pair]:
        """All that is there, what holds the newest answers last."""
        found = []
        for name in self.folder.names():
            if match := _INDEX.fullmatch(name):
                newest, oldest, rows, id_ = match.groups()
                found.append(Pair(newest=int(newest), oldest=int(oldest), rows=int(rows), id=id_))
        return sorted(found)

    def read_index(self, pair: Pair, columns: Collection[str] = INDEX_COLUMNS) -> Any:
        """The index of a pair, or some columns of it, as a table.

        Raises:
            FileNotFoundError: Where a compaction or a purge has removed it.
            DamagedError: Where it is not what was written.
        """
        pa, pq = need_pyarrow()
        data = self.folder.read(pair.index)
        try:
            file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
            check_columns(file, columns)
            return file.read(columns=list(columns), use_threads=False)
        except Exception as error:  # noqa: BLE001  # pyarrow has many for a damaged file
            raise DamagedError(pair.index, error) from None

    def over_indexes(
        self,
        visit: Callable[[Pair, Any], None],
        *,
        not_before: int | None = None,
        columns: Collection[str] = INDEX_COLUMNS,
    ) -> None:
        """Show every index to ``visit``, those with the newest answers last.

        A damaged one is left out with a warning. Where one goes meanwhile its answers are in a newer one.

        Args:
            visit: Gets each pair and its index.
            not_before: Leave out what was answered earlier, in milliseconds since 1970.
            columns: What of an index is wanted.
        """
        seen: set[str] = set()
        for _ in range(LOOKS):
            gone = False
            for pair in self.pairs():
                if pair.id in seen or pair.newest < (not_before or 0):
                    continue
                aged = not_before is not None and pair.oldest < not_before
                try:
                    table = self.read_index(pair, {*columns, "at"} if aged else columns)
                except FileNotFoundError:
                    gone = True
                    continue
                except DamagedError as error:
                    self.warn(error)
                else:
                    visit(pair, since(table, not_before) if not_before is not None and aged else table)
                seen.add(pair.id)
            if not gone:
                return

    def warn(self, error: DamagedError) -> None:
        """Say that a file is left out."""
        log.warning(
            "%s/%s is damaged (%s); it is left out, and what it held is asked again. Delete it.",
            self.folder.url,
            error.name,
            error.reason,
        )

    def want_kept(self, max_age: datetime.timedelta | None) -> None:
        """Say how long a user of the store wants answers kept; the longest counts."""
        name = "max-age-none" if max_age is None else f"max-age-{int(max_age.total_seconds())}"
        if name not in self.folder.names():
            self.folder.create(name, b"")

    def not_before(self, now: datetime.datetime) -> int | None:
        """What was answered earlier nobody wants, in milliseconds since 1970; None where all is wanted."""
        ages = [match[1] for name in self.folder.names() if (match := _MAX_AGE.fullmatch(name))]
        if not ages or "none" in ages:
            return None
        return milliseconds(now - datetime.timedelta(seconds=max(map(int, ages))))

    def remove(self, pair: Pair) -> None:
        """Delete a pair, what makes it count first."""
        self.folder.remove_file(pair.index)
        self.folder.remove_file(pair.answers)


class DamagedError(Exception):
    """A file of a store is not what was written."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(name)
        self.name = name
        self.reason = type(error).__name__


def check_columns(file: Any, columns: Collection[str]) -> None:
    """See that a Parquet file is of its kind: what it lacks pyarrow leaves out without a word.

    Raises:
        KeyError: Where it lacks a column.
    """
    if missing := set(columns) - set(file.schema_arrow.names):
        raise KeyError(*sorted(missing))


def since(table: Any, not_before: int) -> Any:
    """Of an index, what was answered then or later."""
    pa, _ = need_pyarrow()
    import pyarrow.compute as pc

    return table.filter(pc.greater_equal(table["at"], integer(not_before, pa.int64())))


def milliseconds(moment: datetime.datetime) -> int:
    """Since 1970."""
    return int(moment.timestamp() * 1000)


def check_pyarrow() -> None:
    """Refuse to go on where pyarrow is not installed; to import it takes time, and an empty store needs none.

    Raises:
        ConfigurationError: Where that is so.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise missing_package("reuse", "pyarrow", "parquet")


def need_pyarrow() -> tuple[Any, Any]:
    """``pyarrow`` and ``pyarrow.parquet``.

    Raises:
        ConfigurationError: Where it is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise missing_package("reuse", "pyarrow", "parquet") from error
    return pa, pq


def answers_schema() -> Any:
    """Of answers files."""
    pa, _ = need_pyarrow()
    return pa.schema(
        [
            pa.field("digest", pa.binary(DIGEST_BYTES), nullable=False),
            pa.field("check", pa.binary(CHECK_BYTES), nullable=False),
            pa.field("answered_at", pa.timestamp("ms", tz="UTC"), nullable=False),
            pa.field("batch_id", pa.string()),
            pa.field("custom_id", pa.string(), nullable=False),
            pa.field("model", pa.string()),
            pa.field("message", pa.string(), nullable=False),
        ]
    )


def index_schema() -> Any:
    """Of indexes: the first bytes of the digest as a number, and the number of the answer's row."""
    pa, _ = need_pyarrow()
    return pa.schema([("key", pa.uint64()), ("row", pa.uint32()), ("at", pa.int64())])


def key_of(fingerprint: bytes) -> int:
    """What an index is sorted by."""
    return int.from_bytes(fingerprint[:KEY_BYTES], "little")


def keys_of(digests: memoryview) -> array[int]:
    """The keys of digests that lie side by side."""
    keys = array("Q")
    keys.frombytes(digests.cast("B").cast("Q")[:: DIGEST_BYTES // KEY_BYTES].tobytes())
    if sys.byteorder == "big":
        keys.byteswap()
    return keys


def unreachable(store: str, error: Exception) -> StoreError:
    """What to raise where a store does not answer."""
    return StoreError(
        f"The store of answers {store} cannot be reached ({type(error).__name__}); nothing was sent. A retry "
        "tries again; Reuse(on_store_error='ask') goes on without it and asks everything."
    )
