"""Answering parts of a job by single calls.

A request counts as answered when its result line is stored; who takes the job up asks only what has none. A
call keeps its place until its answer is stored, so a kill can cost no more than the calls under way: the API
knows no idempotency key, and what it has accepted is paid for.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from airflow_claude_batch.batches.api.messages import MessagesApi
from airflow_claude_batch.batches.direct.answer_log import AnswerLog
from airflow_claude_batch.batches.direct.call import (
    Caller,
    Health,
    OutageError,
    StoredRequest,
    decode_request,
)
from airflow_claude_batch.batches.direct.pace import Pace
from airflow_claude_batch.batches.errors import LostOwnershipError, SubmissionError, UnreachableError
from airflow_claude_batch.batches.job.job import Job, Later
from airflow_claude_batch.batches.job.part import Part, PartState
from airflow_claude_batch.batches.storage import iter_lines

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 30.0
"""An outage is sat out for so long; then the task comes back later, without a worker slot meanwhile."""
OUTAGE_SECONDS, LONGEST_OUTAGE_SECONDS = 60.0, 600.0
"""When it comes back, where the API does not say; and where it says more."""
GIVEN_UP_AFTER = datetime.timedelta(hours=24)
OUTAGE_STRIDE = 5
"""After an outage so many times the calls at one time are put off."""
CHECK_SECONDS = 2.0
"""Before a call it is looked whether the job is still this process's, unless that was done so lately."""
KILL_SECONDS = 3.0
"""How long calls under way may still be answered after a kill; Airflow sends SIGKILL 5 s after SIGTERM."""
LAST_CALLS_SECONDS = 60.0
"""The same where a failure ends the work."""
REPORT_SECONDS = 15.0
FEW = 20
"""Answers that are too few to tell a pace by."""


class StoppedError(SubmissionError):
    """The task was told to stop; what is answered is stored."""


@dataclass(kw_only=True)
class DirectCalls:
    """Answers the parts of a job whose way is ``direct``."""

    job: Job
    connect: Callable[[], MessagesApi]
    """Makes a client; it belongs to the event loop that first uses it."""
    concurrency: int = 8
    """Calls at one time at the most."""
    patience_seconds: float = PATIENCE_SECONDS
    tell: Callable[[int, int], None] | None = None
    """Told now and then how many of the requests are answered, and of how many; called in another thread."""
    _stopping: bool = False
    _loop: asyncio.AbstractEventLoop | None = None
    _over: asyncio.Event | None = None

    def run(self) -> Later | None:
        """Ask what is not answered yet.

        Returns:
            None when all is answered, otherwise when to come back, because the API answers nobody.

        Raises:
            LostOwnershipError: When another process has taken the job over.
            StoppedError: After :meth:`stop`.
            Final: Where the account is refused.
        """
        parts = [
            (number, part)
            for number, part in enumerate(self.job.ledger.parts)
            if part.way == "direct" and part.state is PartState.UNBATCHED and not part.answered
        ]
        if not parts:
            return None
        client = self.connect()
        return _run_apart(lambda: asyncio.run(self._answer_all(parts, client)))

    def stop(self) -> None:
        """Begin no more calls; a signal handler or another thread may call this."""
        self._stopping = True
        loop, over = self._loop, self._over
        if loop is not None and over is not None:
            loop.call_soon_threadsafe(over.set)

    async def _answer_all(self, parts: list[tuple[int, Part]], api: MessagesApi) -> Later | None:
        self._over, self._loop = asyncio.Event(), asyncio.get_running_loop()
        pace, health = Pace(most=self.concurrency), Health(patience_seconds=self.patience_seconds)
        try:
            for number, part in parts:
                work = _Work(self.job, number, api, pace, health, self._over, self._report)
                if self._stopping:
                    self._over.set()
                await work.run()
                with self.job.change() as ledger:
                    part.answered = True
                    ledger.direct_outages, ledger.direct_outage_at = 0, None
                    ledger.direct_per_second = work.per_second or ledger.direct_per_second
        except OutageError as error:
            return self._sit_out(error, answered=health.answers > 0)
        finally:
            self._loop = None
            await api.close()
        return None

    async def _report(self, done: int) -> None:
        """Say how many requests are answered, with those of the part that is worked on."""
        if self.tell is not None:
            direct = [part for part in self.job.ledger.live_parts if part.way == "direct"]
            before = sum(part.request_count for part in direct if part.answered)
            requests = sum(part.request_count for part in direct)
            await asyncio.to_thread(self.tell, before + done, requests)

    def _sit_out(self, error: OutageError, *, answered: bool) -> Later:
        """When to come back.

        Raises:
            UnreachableError: When nobody has been answered for as long as the API lets a batch take.
        """
        now = datetime.datetime.now(datetime.UTC)
        reason = f"the API does not answer single calls: {error.reason}"
        with self.job.change() as ledger:
            began = now if answered or ledger.direct_outage_at is None else ledger.direct_outage_at
            ledger.direct_outages, ledger.direct_outage_at = ledger.direct_outages + 1, began
        if now - began >= GIVEN_UP_AFTER:
            raise UnreachableError(f"Given up: for a day {reason}. A retry asks what is not answered yet.")
        seconds = min(error.seconds or OUTAGE_SECONDS, LONGEST_OUTAGE_SECONDS)
        return Later(at=now + datetime.timedelta(seconds=seconds), reason=reason)


class _Work:
    """The work on one part."""

    def __init__(
        self,
        job: Job,
        number: int,
        api: MessagesApi,
        pace: Pace,
        health: Health,
        over: asyncio.Event,
        report: Callable[[int], Awaitable[None]],
    ) -> None:
        self._job = job
        self._part = job.ledger.parts[number]
        self._answers = AnswerLog(job=job, part=number)
        self._health = health
        self._over = over
        self._report = report
        self._caller = Caller(
            api=api, betas=job.ledger.betas, pace=pace, health=health, before=self._before, over=over
        )
        self._slots = asyncio.Semaphore(pace.most)
        self._tasks: set[asyncio.Task[None]] = set()
        self._failure: Exception | None = None
        self._count = 0
        self._began = self._reported = self._checked = time.monotonic()
        self._checking = asyncio.Lock()

    async def run(self) -> None:
        """Answer the part."""
        await asyncio.to_thread(self._answers.read)
        left = self._part.request_count - len(self._answers.answered)
        log.info("Asking %s requests directly, at most %s at a time", left, self._caller.pace.most)
        await self._report(len(self._answers.answered))
        self._began = self._reported = time.monotonic()
        over = asyncio.create_task(self._over.wait())
        async with self._answers.writing():
            feeding = asyncio.create_task(self._feed())
            try:
                await asyncio.wait({feeding, over}, return_when=asyncio.FIRST_COMPLETED)
                while self._tasks and not over.done():
                    await asyncio.wait({*self._tasks, over}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                over.cancel()
                feeding.cancel()
                await self._end()
        if self._failure is not None:
            raise self._failure
        if self._over.is_set():
            raise StoppedError(f"The task was told to stop; {self._count} answers of this try are stored.")
        feeding.result()

    @property
    def per_second(self) -> float:
        """Answers a second; 0 for too few to say."""
        seconds = time.monotonic() - self._began
        return self._count / seconds if self._count >= FEW and seconds > 0 else 0.0

    async def _feed(self) -> None:
        for request in self._in_turn():
            await self._slots.acquire()
            task = asyncio.create_task(self._one(request))
            self._tasks.add(task)
            task.add_done_callback(self._done)

    def _in_turn(self) -> Iterator[StoredRequest]:
        """What has no answer yet; after an outage others come first, for it may lie in the first ones."""
        ledger, width = self._job.ledger, self._caller.pace.most
        left = self._part.request_count - len(self._answers.answered)
        first = ledger.direct_outages * OUTAGE_STRIDE * width % max(left, 1)
        yield from islice(self._unanswered(), first, None)
        yield from islice(self._unanswered(), first)

    def _unanswered(self) -> Iterator[StoredRequest]:
        """What had no answer when this began, under the user's own custom_ids."""
        part, answered = self._part, self._answers.answered
        with self._job.folder.open_read(part.requests) as file:
            for line in iter_lines(file):
                request = decode_request(line)
                if request.custom_id == part.stored_id:
                    request.custom_id = part.marked
                if request.custom_id not in answered:
                    yield request

    async def _one(self, request: StoredRequest) -> None:
        line = await self._caller.result_line(request.custom_id, bytes(request.params))
        self._answers.usual_seconds = self._health.usual_seconds
        await self._answers.add(line)
        self._count += 1
        if time.monotonic() - self._reported >= REPORT_SECONDS:
            self._reported = time.monotonic()
            done = len(self._answers.answered) + self._count
            log.info("%s of %s requests are answered directly", done, self._part.request_count)
            await self._report(done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._caller.paid.discard(task)
        self._slots.release()
        error = None if task.cancelled() else task.exception()
        if isinstance(error, Exception) and not isinstance(error, StoppedError):
            self._failure = self._failure or error
            self._over.set()

    async def _before(self) -> None:
        """See that calls may begin, and that the job is still this process's: it may have been frozen."""
        if time.monotonic() - self._checked > CHECK_SECONDS:
            async with self._checking:
                if time.monotonic() - self._checked > CHECK_SECONDS:
                    await asyncio.to_thread(self._job.check)
                    self._checked = time.monotonic()
        if self._over.is_set():
            raise StoppedError("The task was told to stop.")

    async def _end(self) -> None:
        """Let calls that have begun be answered, within bounds; end the others."""
        for task in self._tasks - self._caller.paid:
            task.cancel()
        seconds = KILL_SECONDS if self._failure is None else LAST_CALLS_SECONDS
        if self._tasks and not isinstance(self._failure, LostOwnershipError):
            await asyncio.wait(self._tasks, timeout=seconds)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


def _run_apart(work: Callable[[], Later | None]) -> Later | None:
    """Run an event loop, in a thread of its own where this one has a loop already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return work()
    with ThreadPoolExecutor(1, "claude-batch-direct") as pool:
        return pool.submit(work).result()
