"""The processes of a job: one executes the operator, one runs its trigger.

Each is a fork of the harness, on a machine of its own as far as the engine can tell: with a host name and
a clock of its own. What it comes to goes through a pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import os
import socket
import ssl
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, Literal

from benchmarks.faults.instants import set_trap
from benchmarks.faults.plan import Fate, Spec
from benchmarks.faults.s3 import S3
from benchmarks.faults.s3 import warm_up as warm_up_s3

MODEL = "claude-haiku-4-5"
RETRIES = 1000
GRACE_SECONDS, STALE_SECONDS, RENEW_SECONDS = 5.0, 1.5, 0.3
"""A create that the API accepts later than the grace is paid twice; now and then all wait for the processor.

Two seconds were too few once in CI. With creates that take three, four requests of 201 kills are paid twice,
and none with a grace of five.
"""
POLL_SECONDS, LOOK_SECONDS, ANOTHER_SECONDS = 0.4, 0.5, 0.5
PAUSE_FACTOR = 0.05
CONNECTION = "AIRFLOW_CONN_ANTHROPIC_DEFAULT"

Step = Literal["execute", "wait", "resume"]


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one process is to do."""

    spec: Spec
    step: Step
    argument: Any
    """Of ``wait``: class path and arguments of the trigger; of ``resume``: the event."""
    try_number: int
    generation: int
    """First try number since the last clear."""
    clock: float = 0.0


class TaskInstance:
    """As much of one as ``execute`` looks at; its XComs live in the process."""

    dag_id, task_id, map_index = "faults", "job", -1

    def __init__(self, task: Task) -> None:
        self.run_id, self.try_number = task.spec.name, task.try_number
        self.max_tries = task.generation - 1 + RETRIES
        self._xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any, **_: Any) -> None:
        json.dumps(value)
        self._xcoms[key] = value

    def xcom_pull(self, key: str = "return_value", **_: Any) -> Any:
        return self._xcoms.get(key)


@dataclass(frozen=True, kw_only=True)
class Process:
    """A process that was started."""

    pid: int
    pipe: int
    """Gets ``b`` when the work begins, and at its end one JSON object."""


def prepare(url: str, home: str) -> None:
    """Import and scale everything, once, before the forks."""
    os.environ |= {
        "AIRFLOW_HOME": home,
        "AIRFLOW__CORE__UNIT_TEST_MODE": "True",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "0",
        "AIRFLOW__CLAUDE_BATCH__RECONCILE_GRACE_SECONDS": str(GRACE_SECONDS),
        CONNECTION: json.dumps({"conn_type": "anthropic", "password": "warm", "host": url}),
    }
    for name in ("anthropic", "genai_prices", "httpx2", "pyarrow.parquet", "s3fs", "time_machine"):
        importlib.import_module(name)
    from airflow_claude_batch.batches.job import lease
    from airflow_claude_batch.batches.submission import submit
    from airflow_claude_batch.batches.waiting import poller, wait
    from airflow_claude_batch.runtime import deliver
    from airflow_claude_batch.triggers import claude_batch, connection, pause  # noqa: F401

    lease.STALE_SECONDS, lease.RENEW_SECONDS = STALE_SECONDS, RENEW_SECONDS
    submit.LOOK_SECONDS = wait.SHORTEST_SECONDS = LOOK_SECONDS
    vars(poller)["SHORTEST_SECONDS"] = LOOK_SECONDS
    deliver.OWNED_BY_ANOTHER_SECONDS = ANOTHER_SECONDS
    connection._import()
    # No connection here is encrypted, and to load the certificates is half of what a process costs.
    context = ssl.create_default_context()
    ssl.create_default_context = lambda *_, **__: context  # type: ignore[assignment]


def warm_up(folder: str, s3: S3 | None) -> None:
    """Do one job in this process, so that no fork has to load what work loads."""
    if s3 is not None:
        warm_up_s3(s3.url)
    store, output = f"file://{folder}/store-warm", f"file://{folder}/out-warm"
    spec = Spec(name="warm", deployment="warm", requests=20, store=store, output=output, format="parquet")
    task = Task(spec=spec, step="execute", argument=None, try_number=1, generation=1)
    host, connection = socket.gethostname, os.environ[CONNECTION]
    out, err = os.dup(1), os.dup(2)
    _log_to(f"{folder}/warm.log")
    try:
        # Not its triggers: they leave threads behind, which forks lack.
        while work(task, None)["kind"] != "done":
            time.sleep(0.1)
    finally:
        os.dup2(out, 1)
        os.dup2(err, 2)
    socket.gethostname, os.environ[CONNECTION] = host, connection
    gc.collect()
    gc.freeze()


def start(task: Task, fate: Fate, s3: S3 | None, log: str) -> Process:
    """Fork a process that does a task."""
    r, w = os.pipe()
    pid = os.fork()
    if pid:
        os.close(w)
        return Process(pid=pid, pipe=r)
    status = 1
    try:
        os.close(r)
        gc.disable()
        _log_to(log)
        print(
            f"--- {os.getpid()} {task.step} try {task.try_number} clock {task.clock:+.0f} {fate}", flush=True
        )
        set_trap(fate)
        os.write(w, b"b")
        os.write(w, json.dumps(_outcome(task, s3)).encode())
        status = 0
    finally:
        sys.stdout.flush()
        os._exit(status)


def _log_to(path: str) -> None:
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)


def _outcome(task: Task, s3: S3 | None) -> dict[str, Any]:
    try:
        return work(task, s3)
    except BaseException as error:  # noqa: BLE001  # the harness is told
        traceback.print_exc()
        return {"kind": type(error).__name__, "message": str(error)[:500]}


def work(task: Task, s3: S3 | None) -> dict[str, Any]:
    """Body of a process; the kind of what comes out is ``done``, ``deferred``, ``event`` or an error's."""
    host = f"host-{os.getpid()}"
    socket.gethostname = lambda: host
    connection = json.loads(os.environ[CONNECTION])
    os.environ[CONNECTION] = json.dumps({**connection, "password": task.spec.deployment})
    if s3 is not None:
        s3.attach()
    with _wrong_clock(task.clock):
        return asyncio.run(_first_event(*task.argument)) if task.step == "wait" else _execute(task)


def _execute(task: Task) -> dict[str, Any]:
    from airflow.sdk.exceptions import TaskDeferred

    from airflow_claude_batch import ClaudeBatchOperator

    spec = task.spec
    operator = ClaudeBatchOperator(
        task_id="job",
        requests=[{"custom_id": custom_id, "prompt": prompt} for custom_id, prompt in spec.rows.items()],
        model=MODEL,
        max_tokens=100,
        output_path=spec.output,
        output_format=spec.format,
        storage_path=spec.store,
        resubmission=2,
        poll_interval=POLL_SECONDS,
        retries=RETRIES,
    )
    context: Any = {"ti": TaskInstance(task), "dag_run": SimpleNamespace(conf={})}
    try:
        if task.step == "resume":
            operator.execute_complete(context, task.argument)
        else:
            operator.execute(context)
    except TaskDeferred as deferred:
        return {"kind": "deferred", "trigger": deferred.trigger.serialize()}
    return {"kind": "done"}


async def _first_event(path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    module, _, name = path.rpartition(".")
    if name == "PauseTrigger":
        arguments["seconds"] *= PAUSE_FACTOR
    trigger = getattr(importlib.import_module(module), name)(**arguments)
    events = trigger.run()
    event = await anext(events)
    await events.aclose()
    return {"kind": "event", "event": event.payload}


@contextlib.contextmanager
def _wrong_clock(seconds: float) -> Iterator[None]:
    if not seconds:
        yield
        return
    import time_machine

    with time_machine.travel(time.time() + seconds, tick=True):
        yield
