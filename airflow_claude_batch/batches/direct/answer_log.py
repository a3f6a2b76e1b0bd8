"""Answers on their way into the job's folder: each is stored durably, some at a time, before it counts.

While a file is written the next answers gather, so that one write takes many where answers come fast. Small
files are merged as they become many; a kill in the middle leaves a line twice, and the first one counts.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial

from airflow_claude_batch.batches.api.foreign_text import foreign_text
from airflow_claude_batch.batches.api.result_lines import read_custom_ids
from airflow_claude_batch.batches.errors import SubmissionError
from airflow_claude_batch.batches.job.answers import answer_file, answer_files, answer_number
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.persist import persist
from airflow_claude_batch.batches.storage import iter_blocks

log = logging.getLogger(__name__)

MERGED_AT = 64
"""Files of a size class that are merged into one."""
LARGEST_MERGED = 4 << 20
"""Bytes of a file that is merged with others."""
TRIES = 4
"""How many names of a file are tried where other processes take them, too."""
LINGER_SHARE, LONGEST_LINGER = 0.03, 0.25
"""Answers are gathered for this share of the time that a call takes, and no longer than so many seconds."""


@dataclass(kw_only=True)
class AnswerLog:
    """The stored answers of one part, which this process adds to."""

    job: Job
    part: int
    """Its position in the ledger."""
    answered: set[str] = field(default_factory=set)
    """custom_ids of requests that have their line."""
    usual_seconds: float = 0.0
    """How long a call takes, on average."""
    _next: int = 0
    _classes: dict[int, list[tuple[str, int]]] = field(default_factory=lambda: defaultdict(list))
    """Name and size of files, by how often they were merged."""
    _waiting: list[tuple[bytes, asyncio.Future[None]]] = field(default_factory=list)
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def read(self) -> None:
        """Learn what is answered already."""
        folder, seen = self.job.folder, set[str]()
        while new := [name for name in answer_files(folder, self.part) if name not in seen]:
            for name in new:
                # Gone: whoever was at work here has put it into another file, which the next look shows.
                with contextlib.suppress(FileNotFoundError), folder.open_read(name) as file:
                    self.answered.update(read_custom_ids(iter_blocks(file)))
                    self._classes[0].append((name, folder.size(name)))
            seen.update(new)
            self._next = answer_number(new[-1]) + 1

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """Store what is added, for the time of the block and until all of it is stored."""
        writer = asyncio.create_task(self._write_all())
        try:
            yield
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer

    async def add(self, line: bytes) -> None:
        """Store a result line; returns when it would outlive this process.

        Raises:
            LostOwnershipError: When another process has the job.
            SubmissionError: When the store fails again and again.
        """
        stored: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((line, stored))
        self._news.set()
        await stored

    async def _write_all(self) -> None:
        while True:
            await self._news.wait()
            await asyncio.sleep(min(self.usual_seconds * LINGER_SHARE, LONGEST_LINGER))
            self._news.clear()
            taken, self._waiting = self._waiting, []
            try:
                await asyncio.to_thread(self._store, b"".join(line for line, _ in taken))
            except Exception as error:  # noqa: BLE001  # whoever waits for it raises it
                for _, stored in taken:
                    if not stored.done():
                        stored.set_exception(error)
            else:
                for _, stored in taken:
                    if not stored.done():
                        stored.set_result(None)
                try:
                    await asyncio.to_thread(self._merge_where_many)
                except Exception as error:  # noqa: BLE001  # all lines are where they were, or in both places
                    log.warning("Files of answers were not merged: %s", foreign_text(error))

    def _store(self, data: bytes) -> None:
        self._classes[0].append((self._create(data), len(data)))
        self.job.check_next()  # who has lost the job begins no more calls

    def _merge_where_many(self) -> None:
        for level in range(len(self._classes)):
            if len(self._classes[level]) >= MERGED_AT:
                self._merge(level)

    def _merge(self, level: int) -> None:
        """Put the small files of a class into one."""
        folder, files = self.job.folder, self._classes[level]
        small = [name for name, size in files if size <= LARGEST_MERGED]
        self._classes[level] = []
        if len(small) < 2:
            return
        data = b"".join(map(folder.read, small))
        self._classes[level + 1].append((self._create(data), len(data)))
        for name in small:
            folder.remove_file(name)

    def _create(self, data: bytes) -> str:
        """Create the next file."""
        url = self.job.folder.url
        for _ in range(TRIES):
            name = answer_file(self.part, self._next)
            created = persist(
                partial(self.job.folder.create, name, data),
                trouble="Cannot store answers",
                loss=lambda reason: (
                    f"Answers that are paid for cannot be stored in {url} ({reason}). A retry asks for them "
                    "again."
                ),
            )
            self._next += 1
            if created:
                return name
            self.job.check()  # another process writes here: one that has the job, or one that had it
        raise SubmissionError(f"Other processes keep writing answers to {url}.")
