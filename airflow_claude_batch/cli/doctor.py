"""``doctor``: is all there that jobs need? A line a check."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.metadata
import platform
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from airflow_claude_batch.batches.api.foreign_text import describe_error, foreign_text, is_foreign
from airflow_claude_batch.batches.api.reach import check_reachable
from airflow_claude_batch.batches.errors import AccessError, ClaudeBatchError
from airflow_claude_batch.cli.command import DONE, NO
from airflow_claude_batch.cli.places import DEFAULT_CONNECTION, storage
from airflow_claude_batch.cli.printing import print_rows

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import BatchesApi
    from airflow_claude_batch.batches.storage import Folder

PROBE_BYTES = 16 << 20
"""Bytes that are written and read to measure the store."""
PACKAGES = (
    "airflow-claude-batch",
    "apache-airflow",
    "apache-airflow-providers-anthropic",
    "anthropic",
)
ALIVE = datetime.timedelta(minutes=1)
"""A triggerer that has given no sign of life for so long is not running."""

OK, FAILED, SKIPPED = "ok", "failed", "not checked"


class FailedError(Exception):
    """A check has failed; the message says why."""


class SkippedError(Exception):
    """A check could not be made; the message says why."""


@dataclass(kw_only=True)
class _Patient:
    """What earlier checks have found, for later ones."""

    options: argparse.Namespace
    api: BatchesApi | None = None
    root: Folder | None = None

    def need_api(self) -> BatchesApi:
        if self.api is None:
            raise SkippedError("there is no usable connection")
        return self.api

    def need_root(self) -> Folder:
        if self.root is None:
            raise SkippedError("there is no usable storage_path")
        return self.root


def doctor(options: argparse.Namespace) -> int:
    """Make all checks and print them; says no where one has failed."""
    patient = _Patient(options=options)
    rows = [
        {"check": name, "result": result, "details": details} for name, result, details in _results(patient)
    ]
    print_rows(rows, options.output)
    return NO if any(row["result"] == FAILED for row in rows) else DONE


def _results(patient: _Patient) -> Iterator[tuple[str, str, str]]:
    for name, check in CHECKS.items():
        try:
            yield name, OK, check(patient)
        except SkippedError as error:
            yield name, SKIPPED, str(error)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this check's result
            yield name, FAILED, _words(error)


def _words(error: Exception) -> str:
    if isinstance(error, (ClaudeBatchError, FailedError)):
        return str(error).replace(" Nothing was sent.", "")
    return describe_error(error) if is_foreign(error) else f"{type(error).__name__}: {foreign_text(error)}"


def _versions(patient: _Patient) -> str:
    versions = [f"Python {platform.python_version()}"]
    versions += [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    return ", ".join(versions)


def _connection(patient: _Patient) -> str:
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook

    hook = ClaudeBatchHook(patient.options.conn_id or DEFAULT_CONNECTION)
    patient.api = hook.batches
    return f"{hook.conn_id}: {patient.api.address}"


def _reachable(patient: _Patient) -> str:
    api = patient.need_api()
    start = time.monotonic()
    with contextlib.suppress(AccessError):  # it has answered; the next check says what is wrong with the key
        check_reachable(api)
    return f"{api.address} answers in {time.monotonic() - start:.2f} s"


def _key(patient: _Patient) -> str:
    """A list of one batch: what a key without the right to batches, or a gateway without a list, refuses."""
    api = patient.need_api()
    newest = api.newest()
    return "it may list batches" + (
        f"; the newest is of {newest.created_at:%Y-%m-%d %H:%M}" if newest else ""
    )


def _models(patient: _Patient) -> str:
    names = [model["id"] for model in msgspec.json.decode(patient.need_api().models())["data"]]
    if not names:
        raise FailedError("the API lists no model for this key")
    return f"{len(names)}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"


def _storage(patient: _Patient) -> str:
    root = storage(patient.options)
    patient.root = root
    return root.url


def _exclusive_create(patient: _Patient) -> str:
    """As the first job under a storage_path proves it."""
    root = patient.need_root()
    with _probe(root) as name:
        if not root.create(name, b"first"):
            raise FailedError("a file could not be created")
        if root.create(name, b"second"):
            raise FailedError(
                "the store replaced a file that was to be created only if there is none: two workers would "
                "pay for the same job. Use a store with conditional writes"
            )
    return "a file is created by one of two writers"


def _speed(patient: _Patient) -> str:
    root = patient.need_root()
    data = secrets.token_bytes(PROBE_BYTES)
    with _probe(root) as name:
        begun = time.monotonic()
        with root.open_write(name) as file:
            file.write(data)
        written = time.monotonic()
        with root.open_read(name) as file:
            same = file.read() == data
        read = time.monotonic()
    if not same:
        raise FailedError("what was read is not what was written")
    megabytes = PROBE_BYTES / 1e6
    return f"{megabytes / (written - begun):.0f} MB/s written, {megabytes / (read - written):.0f} MB/s read"


@contextlib.contextmanager
def _probe(root: Folder) -> Iterator[str]:
    """A name for a file that is gone afterwards."""
    name = f"doctor-{secrets.token_hex(8)}"
    try:
        yield name
    finally:
        with contextlib.suppress(Exception):
            root.remove_file(name)


def _triggerer(patient: _Patient) -> str:
    """The one check that needs Airflow's database; a worker need not reach it."""
    try:
        beats = _heartbeats()
    except Exception as error:  # noqa: BLE001  # each database has its own
        kind = type(error).__name__
        raise SkippedError(f"Airflow's database cannot be read from here ({kind})") from None
    now = datetime.datetime.now(datetime.UTC)
    alive = [(host, now - at) for host, at in beats if now - at < ALIVE]
    if not alive:
        last = (
            f"; the last sign of life came at {max(at for _, at in beats):%Y-%m-%d %H:%M %Z}" if beats else ""
        )
        raise FailedError(
            f"no triggerer is running, and deferred tasks wait for one{last}. Start: airflow triggerer"
        )
    return ", ".join(f"{host} ({age.total_seconds():.0f} s ago)" for host, age in alive)


def _heartbeats() -> list[tuple[str, datetime.datetime]]:
    from airflow.jobs.job import Job
    from airflow.utils.session import create_session
    from sqlalchemy import select

    wanted = (
        select(Job.hostname, Job.latest_heartbeat)
        .where(Job.job_type == "TriggererJob", Job.state == "running", Job.latest_heartbeat.is_not(None))
        .order_by(Job.latest_heartbeat.desc())
        .limit(20)
    )
    with create_session() as session:
        found = session.execute(wanted)
        return [(host or "?", at.astimezone(datetime.UTC)) for host, at in found if at is not None]


CHECKS: dict[str, Callable[[_Patient], str]] = {
    "versions": _versions,
    "connection": _connection,
    "reachable": _reachable,
    "key accepted": _key,
    "models listed": _models,
    "storage_path": _storage,
    "exclusive create": _exclusive_create,
    "write and read": _speed,
    "triggerer running": _triggerer,
}
