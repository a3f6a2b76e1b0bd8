"""Waiting as a sensor does it: look, say when to look again, and clean up when nobody waits any more."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.api.foreign_text import foreign_text
from airflow_claude_batch.batches.job.authority import claimed_by_others, owned_by
from airflow_claude_batch.batches.job.identity import root_relative
from airflow_claude_batch.batches.job.job import read_ledger
from airflow_claude_batch.common.handle import Handle
from airflow_claude_batch.common.settings import storage_root
from airflow_claude_batch.common.steps import WaitFor
from airflow_claude_batch.common.task_state import ended_by_a_person, task_states
from airflow_claude_batch.common.xcoms import HANDLE_KEY
from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
from airflow_claude_batch.runtime.waiting import begin_wait, cancel_batches, look, push_progress

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SensorInput:
    """What a sensor was given, rendered; see ``SensorArguments`` for the fields."""

    batch: Handle
    conn_id: str
    storage_path: str | None
    poll_interval: float | None
    timeout: float | None
    cancel_on_kill: bool | None
    reschedule: bool
    """Whether each look is a process of its own, which remembers nothing."""


class SensorWait:
    """A wait for batches, as far as one process sees it.

    Args:
        given: What the sensor was given.
        context: Airflow's, of this try.
        started_at: When this process began to wait; None for now.
    """

    def __init__(self, given: SensorInput, context: Context, started_at: datetime | None) -> None:
        self._given = given
        self._ti: Any = context["ti"]
        first = self._ti.get_first_reschedule_date(context) if given.reschedule else None
        self._wait = begin_wait(
            given.batch,
            poll_interval=given.poll_interval,
            timeout=given.timeout,
            started_at=first or started_at,
            due_at=self._due_at(),
        )
        if first is not None:
            self._wait.known = True  # The first process stayed until it had seen them, see `look`.

    def _due_at(self) -> datetime | None:
        """When the job is to go on without its batches, as its ledger says."""
        if self._given.batch.job is None:
            return None
        try:
            root = storage_root(self._given.storage_path)
            return read_ledger(root_relative(root, self._given.batch.job)).due_at
        except Exception as error:  # noqa: BLE001  # without it the results step finds out, later
            reason = f"{type(error).__name__}: {foreign_text(error)}"
            log.warning("Could not read whether the job has a deadline: %s", reason)
            return None

    @property
    def open_ids(self) -> list[str]:
        """Batches that have not ended, as far as is known."""
        return self._wait.open_ids

    def look(self) -> tuple[str | None, str]:
        """Look once, and judge: how the wait ended, and why; (None, …) while it goes on.

        With ``mode="reschedule"`` it looks as often as it takes to be sure of key and ids, because doubt must
        not outlive a process.
        """
        wait, api = self._wait, ClaudeBatchHook(self._given.conn_id).batches
        look(wait, api, log)
        while self._given.reschedule and wait.in_doubt and wait.verdict(datetime.now(UTC)) is None:
            time.sleep(wait.next_look(datetime.now(UTC)))
            look(wait, api, log)
        now = datetime.now(UTC)
        verdict = wait.verdict(now)
        return verdict, "" if verdict is None else wait.explain(verdict, self._given.conn_id, now)

    def seconds_to_next_look(self) -> float:
        """How long to wait in poke and reschedule mode: the same growing interval as in the triggerer."""
        now = datetime.now(UTC)
        log.info("%s", self._wait.describe(now))
        if self._cancel_on_kill and not self._given.reschedule:
            _ = self._unproved  # A kill has but seconds; a process of one look leaves it to that.
        return self._wait.next_look(now)

    def pause(self, context: Context) -> WaitFor:
        """Say how far the wait has come, and what it goes on with."""
        log.info("%s", self._wait.describe(datetime.now(UTC)))
        context["ti"].xcom_push(key=HANDLE_KEY, value=self._given.batch.as_dict())
        push_progress(context, self._wait.progress)
        cancel = self._cancel_on_kill
        return WaitFor(wait=self._wait, cancel_on_kill=cancel, unproved=self._unproved if cancel else [])

    def cancel_if_unwanted(self) -> None:
        """Cancel what nobody wants any more, if it was a person who ended the task."""
        ti = self._ti
        if not self._cancel_on_kill:
            return
        if ended_by_a_person(task_states(ti.dag_id, ti.run_id, ti.task_id), ti):
            unwanted = [batch_id for batch_id in self.open_ids if batch_id not in self._unproved]
            cancel_batches(ClaudeBatchHook(self._given.conn_id).batches, unwanted, log)
        else:
            log.info("This worker stops, but nobody ended the task; its batches go on")

    @property
    def _cancel_on_kill(self) -> bool:
        wanted = self._given.cancel_on_kill
        return self._given.batch.job is not None if wanted is None else wanted

    @cached_property
    def _unproved(self) -> list[str]:
        batch, dag_id = self._given.batch, self._ti.dag_id
        return unproved(batch.batch_ids, dag_id, self._given.storage_path, given_by_id=batch.job is None)


def unproved(batch_ids: list[str], dag_id: str, storage_path: str | None, *, given_by_id: bool) -> list[str]:
    """The batches that are not to be cancelled, since they may be another DAG's.

    A handle is an XCom, which anybody may have written: of a job's batches those count as the DAG's own that
    claims give to it. What is given by id, the DAG's author has named; only what is claimed by another DAG
    is left out.

    Args:
        batch_ids: What the task was given.
        dag_id: The task's DAG.
        storage_path: Of the operator.
        given_by_id: Whether they are no job's.
    """
    try:
        root = storage_root(storage_path)
        if given_by_id:
            left_out = claimed_by_others(root, batch_ids, dag_id)
        else:
            owned = owned_by(root, batch_ids, dag_id)
            left_out = [batch_id for batch_id in batch_ids if batch_id not in owned]
    except Exception as error:  # noqa: BLE001  # a wait does not fail for what only a kill needs to know
        log.warning("Could not read whose the batches are: %s: %s", type(error).__name__, foreign_text(error))
        left_out = [] if given_by_id else batch_ids
    if left_out:
        log.warning(
            "Not proved to be batches of DAG %s, so this task does not cancel them on a kill: %s. Where "
            "the job was submitted with a storage_path of its own, give it to this task, too",
            dag_id,
            ", ".join(left_out),
        )
    return left_out


def give_up(conn_id: str, open_ids: list[str], *, cancel: bool, left_alone: list[str]) -> str:
    """Do what the user wants done on a timeout; returns it in words.

    Args:
        conn_id: The connection.
        open_ids: Batches that have not ended.
        cancel: Whether to cancel them.
        left_alone: Those that are not cancelled in any case, see :func:`unproved`.
    """
    if not cancel:
        return "The batches go on and were left alone."
    unwanted = [batch_id for batch_id in open_ids if batch_id not in left_alone]
    going_on = cancel_batches(ClaudeBatchHook(conn_id).batches, unwanted, log)
    going_on += [batch_id for batch_id in open_ids if batch_id in left_alone]
    return f"Not cancelled: {', '.join(going_on)}." if going_on else "The batches were cancelled."
