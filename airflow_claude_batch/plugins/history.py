"""The jobs of the last days as sums need them: what each asked for, what became of it, and what it cost.

One definition everywhere: a job belongs to the day on which it was last announced, which is when it was
submitted. A job that was paid for counts, whatever became of it: where no results say what it cost, its
estimate does, and money for jobs that a clear has replaced is in ``paid_before``.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from sqlalchemy.orm import Session

from airflow_claude_batch.common.xcoms import SUMMARY, XCOM_KEY
from airflow_claude_batch.plugins import shapes
from airflow_claude_batch.plugins.queries import bulk
from airflow_claude_batch.plugins.queries.rows import Block, BlockValue, Stamp

_NO_MONEY = shapes.Money()
MOST_WEIGHT = 500_000
"""Remembered, in batches: some 100 MB at most."""
PORTION = 2_000
"""Jobs that are read at once: a statement must end in time, and what one has read stays known."""


@dataclass(slots=True)
class Past:
    """One job."""

    row: Stamp
    announcement: shapes.Brief
    unfinished: bool = False
    """Whether its run is still at it, and its task has not failed."""
    outcome: shapes.Outline | None = None
    delivered_at: datetime.datetime | None = None
    estimate: float | None = None
    unreadable: bool = False

    @property
    def in_flight(self) -> bool:
        """Whether results are still to come; the same rule as the queries'."""
        return self.unfinished and self.outcome is None and not self.unreadable

    @property
    def failed(self) -> bool:
        """Whether it is over, and no request succeeded."""
        if self.outcome is None:
            return not self.in_flight and not self.unreadable
        return self.outcome.counts.succeeded == 0 and self.outcome.counts.total > 0

    @property
    def sent(self) -> bool:
        """Whether a batch of it is known: then money was, or will be, paid."""
        return bool(self.announcement.batch_ids)

    def is_late(self, now: datetime.datetime, longest: datetime.timedelta) -> bool:
        """Whether results came, or are still to come, later than wanted, or than the longest time."""
        if self.outcome is not None and isinstance(self.outcome.on_time, bool):
            return not self.outcome.on_time
        said = self.announcement.deadline or (self.outcome and self.outcome.deadline)
        due = (shapes.moment(said) if said else None) or self.row.at + longest
        return (self.delivered_at or (now if self.in_flight and self.sent else self.row.at)) > due

    @property
    def requests(self) -> int:
        """How many it holds."""
        return self.outcome.counts.total if self.outcome else self.announcement.request_count or 0

    @property
    def cost(self) -> tuple[float | None, float | None]:
        """What it cost and would have cost at standard prices; None where that is not known."""
        money = (self.outcome.cost if self.outcome else None) or _NO_MONEY
        return money.total_usd, money.standard_usd


class Mark(NamedTuple):
    """What is known of the jobs since a time before they are read; another one where any has changed."""

    since: datetime.datetime
    blocks: tuple[Block, ...]
    unfinished: frozenset[tuple[int, int, str]]


def mark(session: Session, dag_ids: Collection[str], since: datetime.datetime) -> Mark:
    """Of all jobs since then."""
    return Mark(since, tuple(bulk.blocks(session, dag_ids, since)), bulk.unfinished(session, dag_ids))


def past_jobs(session: Session, known: Mark) -> list[Past]:
    """All jobs that were marked, oldest first."""
    found: list[Past] = []
    for past in _memory.jobs(session, known):
        unfinished = (past.row.dag_run_id, past.row.map_index, past.row.task_id) in known.unfinished
        awaited = past.outcome is None and past.sent
        # What is remembered is shared, and stays as it is.
        found.append(dataclasses.replace(past, unfinished=unfinished) if unfinished or awaited else past)
    found.sort(key=lambda past: past.row.at)
    found = found[-bulk.HISTORY_LIMIT :]
    _add_estimates(session, [past for past in found if past.outcome is None and past.sent])
    return found


class Memory:
    """Blocks that were read in this process: most are those that the last request saw, too.

    A block is known by how many XComs it holds and when they were written. What somebody writes past Airflow,
    without a new time, is seen when the process starts again.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[Block, list[Past]] = OrderedDict()
        self._weight = 0
        self._lock = threading.Lock()

    def jobs(self, session: Session, marked: Mark) -> Iterator[Past]:
        """All jobs of the blocks; only those of blocks that are not known yet are read."""
        with self._lock:
            known = {block: self._known[block] for block in marked.blocks if block in self._known}
            for block in known:
                self._known.move_to_end(block)
        new = [block for block in marked.blocks if block not in known]
        for some in _portions(new):
            known |= self._read(session, some, marked.since)
        for block in marked.blocks:
            yield from known[block]

    def _read(self, session: Session, new: list[Block], since: datetime.datetime) -> dict[Block, list[Past]]:
        values: defaultdict[tuple[str, int, int], list[BlockValue]] = defaultdict(list)
        for value in bulk.block_values(session, new, since):
            values[value[:3]].append(value)
        found = {block: _joined(values[block[:3]]) for block in new}
        with self._lock:
            for block, jobs in found.items():
                if block not in self._known:
                    self._known[block] = jobs
                    self._weight += _weight(jobs)
            while self._weight > MOST_WEIGHT:
                self._weight -= _weight(self._known.popitem(last=False)[1])
        return found


_memory = Memory()


def _portions(blocks: Iterable[Block]) -> Iterator[list[Block]]:
    """Blocks of neighbouring runs, of some :data:`PORTION` jobs each."""
    portion: list[Block] = []
    jobs = 0
    for _, same_runs in itertools.groupby(sorted(blocks, key=_first_run), key=_first_run):
        for block in same_runs:
            portion.append(block)
            jobs += block.announced.number
        if jobs >= PORTION:
            yield portion
            portion, jobs = [], 0
    if portion:
        yield portion


def _first_run(block: Block) -> int:
    return block.first_run


def _weight(jobs: list[Past]) -> int:
    """How much memory they take, in batches."""
    return 1 + sum(
        1 + len(past.announcement.batch_ids) + len(past.outcome.batch_seconds if past.outcome else ())
        for past in jobs
    )


Deliveries = dict[tuple[int, int, str], tuple[shapes.Outline | None, datetime.datetime]]


def _joined(values: list[BlockValue]) -> list[Past]:
    """The jobs that a block announces, with what the newest summary of each says."""
    delivered: Deliveries = {}
    for value in values:
        if value.key == SUMMARY:
            outcome = shapes.read(shapes.Outline, value.value)
            job = outcome.job if outcome else shapes.owner(value.value)
            if job is not None:
                delivered[value.dag_run_id, value.map_index, job] = outcome, value.at
    return [_join(value, delivered) for value in values if value.key == XCOM_KEY]


def _join(value: BlockValue, delivered: Deliveries) -> Past:
    row = Stamp(value.dag_run_id, value.map_index, value.task_id, value.dag_id, value.at)
    announcement = shapes.read(shapes.Brief, value.value)
    if announcement is None:
        return Past(row=row, announcement=shapes.Brief(), unreadable=True)
    past = Past(row=row, announcement=announcement)
    place = row.dag_run_id, row.map_index
    found = delivered.get((*place, announcement.job or "-")) or delivered.get((*place, shapes.UNKNOWN))
    if found is not None:
        past.outcome, past.delivered_at, past.unreadable = *found, found[0] is None
    return past


def _add_estimates(session: Session, wanted: list[Past]) -> None:
    if not wanted:
        return
    rows = bulk.estimates(session, {past.row.dag_run_id for past in wanted})
    known = {(row.dag_run_id, row.map_index, row.task_id): row.value for row in rows}
    for past in wanted:
        text = known.get((past.row.dag_run_id, past.row.map_index, past.row.task_id))
        money = shapes.read(shapes.Money, text)
        past.estimate = money.total_usd if money else None


def usual_seconds(
    deliveries: Iterable[tuple[str, datetime.datetime, datetime.datetime]],
) -> dict[str, tuple[float, float]]:
    """Median and 95 % of the last deliveries of each DAG, for those that have enough.

    Args:
        deliveries: DAG, submission and delivery of jobs, the newest delivery first.
    """
    by_dag: dict[str, list[float]] = {}
    for dag_id, announced_at, delivered_at in deliveries:
        seconds = by_dag.setdefault(dag_id, [])
        if len(seconds) < USUAL_OF:
            seconds.append((delivered_at - announced_at).total_seconds())
    return {
        dag_id: (percentile(seconds, 0.5), percentile(seconds, 0.95))
        for dag_id, seconds in by_dag.items()
        if len(seconds) >= USUAL_FROM
    }


def deliveries(
    history: Iterable[Past], dag_ids: Collection[str]
) -> list[tuple[str, datetime.datetime, datetime.datetime]]:
    """Those of these DAGs, as :func:`usual_seconds` wants them."""
    found = [
        (past.row.dag_id, past.row.at, past.delivered_at)
        for past in history
        if past.row.dag_id in dag_ids and past.delivered_at is not None
    ]
    return sorted(found, key=lambda one: one[2], reverse=True)


USUAL_OF = 20
"""Deliveries that say what is usual."""
USUAL_FROM = 5
"""Fewer say nothing."""


def batch_seconds(history: Collection[Past]) -> Iterator[float]:
    """How long each delivered batch took."""
    for past in history:
        if past.outcome is not None:
            yield from past.outcome.batch_seconds


def percentile(values: Collection[float], share: float) -> float:
    """The smallest value that at least this share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[max(-int(-share * len(ordered) // 1) - 1, 0)]
