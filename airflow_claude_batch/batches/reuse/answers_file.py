"""Reading an answers file: its own damage is told apart from a store that does not answer."""

from __future__ import annotations

from types import TracebackType
from typing import IO, Any

from airflow_claude_batch.batches.reuse.store import (
    DamagedError,
    answers_name,
    answers_schema,
    check_columns,
    need_pyarrow,
)
from airflow_claude_batch.batches.storage import Folder


class AnswersFile:
    """The answers of a pair, read some row groups at a time.

    Args:
        folder: Of the store.
        id_: Of the pair.

    Raises:
        FileNotFoundError: Where it is gone.
        DamagedError: Where it is not what was written.
        Exception: The store's own, where it cannot be read for another reason.
    """

    def __init__(self, folder: Folder, id_: str) -> None:
        _, pq = need_pyarrow()
        self._name = answers_name(id_)
        # Each read is one request to an object store: pyarrow knows best what it needs.
        self._file = Watched(folder.fs.open(folder.locate(self._name), "rb", cache_type="none"))
        try:
            parquet = pq.ParquetFile(self._file)
            check_columns(parquet, answers_schema().names)
            self._metadata = parquet.metadata
        except Exception as error:  # noqa: BLE001  # pyarrow has many for a damaged file
            self._file.close()
            self._fail(error)

    def __enter__(self) -> AnswersFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    @property
    def group_rows(self) -> list[int]:
        """Answers in each row group."""
        metadata = self._metadata
        return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    def read(self, groups: list[int], columns: list[str] | None = None) -> Any:
        """A table of some row groups; see the class for what is raised."""
        _, pq = need_pyarrow()
        try:
            # Anew each time: what one has read in advance it holds as long as it lives.
            parquet = pq.ParquetFile(
                self._file, metadata=self._metadata, pre_buffer=True, page_checksum_verification=True
            )
            return parquet.read_row_groups(groups, columns=columns, use_threads=False)
        except Exception as error:  # noqa: BLE001  # likewise
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        if self._file.error is not None:
            raise self._file.error from None
        raise DamagedError(self._name, error) from None


class Watched:
    """A file that remembers whether it was the one that failed."""

    closed = False

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: Exception | None = None
        self.seek = file.seek
        self.tell = file.tell

    def read(self, size: int = -1) -> bytes:
        try:
            return self._file.read(size)
        except Exception as error:
            self.error = error
            raise

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def flush(self) -> None:
        """Nothing is written."""

    def close(self) -> None:
        self.closed = True
        self._file.close()
