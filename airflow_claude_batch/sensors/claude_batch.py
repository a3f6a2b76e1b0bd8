"""Waiting for batches as a task of its own."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from configparser import ConfigParser
from datetime import UTC, datetime
from threading import Thread
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowSkipException, conf
from airflow.sdk import BaseSensorOperator, PokeReturnValue

from airflow_claude_batch.common.final_errors import no_retry_when_final
from airflow_claude_batch.common.handle import Handle
from airflow_claude_batch.common.scalars import scalar
from airflow_claude_batch.common.xcoms import note_try
from airflow_claude_batch.links.claude_batch import ClaudeConsoleLink
from airflow_claude_batch.operators.arguments import SensorArguments, declared, split
from airflow_claude_batch.operators.deferral import finish

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Unpack

    from airflow.sdk import Context

    from airflow_claude_batch.runtime.sensor import SensorWait

GOES_ON = ("ended", "due")
"""Ends of a wait after which the results step goes on: with all batches, or without those that are late."""
KILL_SECONDS = 4.0
"""How long ``on_kill`` may ask why: a worker is killed five seconds after it was told to stop."""


class ClaudeBatchSensor(BaseSensorOperator):
    """Wait until all batches have ended, and pass the handle on.

    Deferrable unless told otherwise: no worker slot is held. Batches that have ended already are not waited
    for. ``mode="poke"`` and ``mode="reschedule"`` need ``deferrable=False``. The log and the XCom
    ``progress`` say how far the wait has come. Without a ``timeout`` the batches' own deadline ends the wait:
    the API ends them after 24 hours.

    Args:
        arguments: See ``airflow_claude_batch.operators.arguments.SensorArguments``.

    Returns:
        The handle: ``{"job", "batch_ids", "request_count"}``.
    """

    template_fields: Sequence[str] = (
        "batch",
        "conn_id",
        "storage_path",
        "poll_interval",
        "deferrable",
        "on_timeout",
        "cancel_on_kill",
    )
    ui_color = "#f5e8df"
    operator_extra_links: tuple[Any, ...] = (ClaudeConsoleLink(),)
    batch: Any
    conn_id: str
    storage_path: str | None
    poll_interval: float | None
    on_timeout: str
    cancel_on_kill: bool | None
    _limit: float | None = None
    """``timeout`` while Airflow is told that there is none."""
    _started_at: datetime | None = None
    _wait: SensorWait | None = None

    @declared(SensorArguments)
    def __init__(self, **arguments: Unpack[SensorArguments]) -> None:
        own, airflows = split(SensorArguments, arguments)
        if isinstance(own["poll_interval"], (int, float)):
            airflows.setdefault("poke_interval", own["poll_interval"])
        super().__init__(**airflows)
        for name, value in own.items():
            setattr(self, name, value)
        self.deferrable = default_deferrable() if own["deferrable"] is None else own["deferrable"]

    def execute(self, context: Context) -> Any:
        """Look once; defer if there is something to wait for."""
        self._settle()
        if not self.deferrable:
            self._started_at = datetime.now(UTC)
            return self._look_until_it_ends(context)
        note_try(context)
        result = self.poke(context)
        if self._wait is not None and not result:
            return finish(self, self.conn_id, self._wait.pause(context), context)
        return result.xcom_value

    def _look_until_it_ends(self, context: Context) -> Any:
        """In poke or reschedule mode. Airflow's own look at the time after a poke knows no ``on_timeout``."""
        self._limit, self.timeout = self.timeout, math.inf
        try:
            return super().execute(context)
        finally:
            self.timeout, self._limit = self._limit, None

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The trigger has fired."""
        self._settle()
        from airflow_claude_batch.runtime.waiting import push_progress

        push_progress(context, event.get("progress"))
        open_ids = event.get("open_batch_ids", [])
        self._conclude(context, event.get("status"), event.get("message", ""), open_ids)
        return Handle.parse(self.batch).as_dict()

    def _settle(self) -> None:
        """Give the arguments, which are rendered now, their types."""
        with no_retry_when_final():
            for name in ("conn_id", "storage_path", "poll_interval", "on_timeout", "cancel_on_kill"):
                setattr(self, name, scalar(name, getattr(self, name)))
            wanted = scalar("deferrable", self.deferrable)
            self.deferrable = default_deferrable() if wanted is None else wanted
        if self.poll_interval is not None:
            self.poke_interval = self.poll_interval

    def poke(self, context: Context) -> PokeReturnValue:
        """Look at every open batch once."""
        from airflow_claude_batch.runtime.sensor import SensorInput, SensorWait

        with no_retry_when_final():
            handle = Handle.parse(self.batch)
            if self._wait is None:
                given = SensorInput(
                    batch=handle,
                    conn_id=self.conn_id,
                    storage_path=self.storage_path,
                    poll_interval=self.poll_interval,
                    timeout=self.timeout if self._limit is None else self._limit,
                    cancel_on_kill=self.cancel_on_kill,
                    reschedule=self.reschedule and not self.deferrable,
                )
                self._wait = SensorWait(given, context, self._started_at)
            verdict, message = self._wait.look()
        if verdict is not None:
            self._conclude(context, verdict, message, self._wait.open_ids)
        return PokeReturnValue(is_done=verdict in GOES_ON, xcom_value=handle.as_dict())

    def on_kill(self) -> None:
        """Cancel what nobody wants any more; not when the worker is only shut down."""
        if self._wait is None:
            return
        # A thread, because this runs in a signal handler, perhaps amidst a call to the supervisor.
        thread = Thread(target=self._wait.cancel_if_unwanted, daemon=True)
        thread.start()
        thread.join(KILL_SECONDS)

    def _get_next_poke_interval(
        self, started_at: datetime | float, run_duration: Callable[[], float], poke_count: int
    ) -> float:
        """Airflow asks this between two looks in poke and reschedule mode."""
        assert self._wait is not None
        return self._wait.seconds_to_next_look()

    def _conclude(self, context: Context, status: str | None, message: str, open_ids: list[str]) -> None:
        """Raise what the end of the wait means, unless what comes next can go on."""
        if status in GOES_ON:
            return
        from airflow_claude_batch.runtime.sensor import give_up, unproved
        from airflow_claude_batch.runtime.waiting import raise_unless_ended

        if status == "timeout":
            cancel, dag_id, left_alone = self.on_timeout == "cancel", context["ti"].dag_id, list[str]()
            if cancel:
                batch = Handle.parse(self.batch)
                given_by_id = batch.job is None
                left_alone = unproved(batch.batch_ids, dag_id, self.storage_path, given_by_id=given_by_id)
            message = f"{message} {give_up(self.conn_id, open_ids, cancel=cancel, left_alone=left_alone)}"
        if self.soft_fail:
            raise AirflowSkipException(message)
        if status == "timeout":
            raise AirflowSensorTimeout(message)
        with no_retry_when_final():
            raise_unless_ended(status, message)


def default_deferrable() -> bool:
    """Whether tasks wait in the triggerer: ``[operators] default_deferrable`` where the user has set it.

    Airflow's own default is False, which asks for a worker slot for up to a day; ours is True. What Airflow
    answers for an unset option is its default, so this looks where users set options.
    """
    section, option = "operators", "default_deferrable"
    in_environment = f"AIRFLOW__{section}__{option}".upper() in os.environ
    # Past Airflow's method of that name, which finds Airflow's defaults, too.
    if in_environment or ConfigParser.has_option(conf, section, option):
        return conf.getboolean(section, option)
    return True
