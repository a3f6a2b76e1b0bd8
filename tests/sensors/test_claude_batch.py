from __future__ import annotations

import datetime
import json
import time
from configparser import ConfigParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.exceptions import AirflowRescheduleException
from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    TaskDeferred,
)

from airflow_claude_batch.batches.job.claims import Claim, claim
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import CANCEL, CREATE, RETRIEVE, Emulator
from airflow_claude_batch.sensors.claude_batch import ClaudeBatchSensor
from airflow_claude_batch.triggers.claude_batch import ClaudeBatchTrigger
from tests import supervisor
from tests.batches.waits import create

NOW = datetime.datetime.now(datetime.UTC)


class TaskInstance(supervisor.TaskInstance):
    """What the sensor asks of Airflow's."""

    def __init__(self, rescheduled_since: datetime.datetime | None = None) -> None:
        self.rescheduled_since = rescheduled_since
        self.xcoms: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    def get_first_reschedule_date(self, context: Any) -> datetime.datetime | None:
        return self.rescheduled_since


def handle(*ids: str) -> dict[str, Any]:
    return {"job": "file:///jobs/j", "batch_ids": list(ids), "request_count": len(ids)}


def claimed(root: Folder, ids: list[str], dag_id: str = "d") -> list[str]:
    """The same batches, which claims now give to a job of the DAG (the tests' own is ``d``)."""
    for number, batch_id in enumerate(ids):
        job = f"{root.url}/jobs/{dag_id}/r/submit/job-1"
        claim(root, batch_id, Claim(job=job, part=number, sent_id=f"{batch_id}-mark", dag_id=dag_id))
    return ids


def sensor(batch: Any, **options: Any) -> ClaudeBatchSensor:
    return ClaudeBatchSensor(task_id="wait", batch=batch, **options)


def execute(one: ClaudeBatchSensor, ti: TaskInstance | None = None) -> Any:
    context: Any = {"ti": ti or TaskInstance()}
    return one.execute(context)


def deferral(one: ClaudeBatchSensor, ti: TaskInstance | None = None) -> ClaudeBatchTrigger:
    with pytest.raises(TaskDeferred) as deferred:
        execute(one, ti)
    assert deferred.value.method_name == "execute_complete"
    assert isinstance(deferred.value.trigger, ClaudeBatchTrigger)
    return deferred.value.trigger


def event(status: str, *open_ids: str) -> dict[str, Any]:
    return {"status": status, "message": "why", "open_batch_ids": list(open_ids)}


def test_what_has_ended_is_not_deferred_for_and_the_handle_goes_on(emulator: Emulator) -> None:
    ids = create(emulator, 2)
    for batch_id in ids:
        emulator.end(batch_id)
    assert execute(sensor(handle(*ids))) == handle(*ids)
    assert len(emulator.journal(path=RETRIEVE)) == 2


def test_it_looks_once_then_defers_and_shows_its_progress(emulator: Emulator, root: Folder) -> None:
    ids, ti = claimed(root, create(emulator, 3)), TaskInstance()
    emulator.end(ids[0])
    trigger = deferral(sensor(handle(*ids), timeout=3600), ti)
    assert trigger.batch_ids == ids
    assert trigger.known
    assert (trigger.cancel_on_kill, trigger.unproved) == (True, [])
    assert len(emulator.journal(path=RETRIEVE)) == 3
    assert (ti.xcoms["progress"]["ended"], ti.xcoms["progress"]["batches"]) == (1, 3)


def test_an_outage_at_the_first_look_only_defers(emulator: Emulator) -> None:
    ids = create(emulator, 3)
    emulator.fault("status", status=529, times=None, headers={"retry-after": "1"})
    deferral(sensor(handle(*ids)))
    assert len(emulator.journal(path=RETRIEVE)) <= 3


def test_batches_given_by_id_are_not_cancelled_on_a_kill_unless_that_is_asked_for(emulator: Emulator) -> None:
    [batch_id] = create(emulator)
    assert not deferral(sensor(batch_id)).cancel_on_kill
    assert deferral(sensor(batch_id, cancel_on_kill=True)).cancel_on_kill
    assert not deferral(sensor(handle(batch_id), cancel_on_kill=False)).cancel_on_kill


def test_the_end_of_the_wait_passes_the_handle_on() -> None:
    context: Any = {"ti": TaskInstance()}
    assert sensor(handle("b1")).execute_complete(context, event("ended")) == handle("b1")


@pytest.mark.parametrize("status", ["unknown", "refused", "gone"])
def test_what_a_retry_cannot_mend_fails_for_good(status: str) -> None:
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(AirflowFailException, match="why"):
        sensor(handle("b1")).execute_complete(context, event(status))


@pytest.mark.parametrize("status", ["unknown", "refused", "gone", "timeout", "overdue", "nonsense"])
def test_soft_fail_skips_whatever_the_reason(status: str) -> None:
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(AirflowSkipException, match="why"):
        sensor(handle("b1"), soft_fail=True).execute_complete(context, event(status))


def test_a_timeout_leaves_the_batches_alone_and_says_so(emulator: Emulator) -> None:
    [batch_id] = create(emulator)
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(AirflowSensorTimeout, match="were left alone"):
        sensor(handle(batch_id)).execute_complete(context, event("timeout", batch_id))
    assert not emulator.journal(path=CANCEL)


def test_a_timeout_cancels_what_is_open_when_that_is_asked_for(emulator: Emulator, root: Folder) -> None:
    first, second = claimed(root, create(emulator, 2))
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(AirflowSensorTimeout, match="were cancelled"):
        sensor(handle(first, second), on_timeout="cancel").execute_complete(context, event("timeout", second))
    assert [call["batch_id"] for call in emulator.journal(path=CANCEL)] == [second]


def test_poke_mode_waits_by_the_same_policy(emulator: Emulator) -> None:
    emulator.settings(duration=1.0)
    ids = create(emulator, 2)
    emulator.settings(duration="manual")
    emulator.fault("status", status=500, skip=2, times=3)
    one = sensor(handle(*ids), deferrable=False, poll_interval=0.3)
    assert execute(one) == handle(*ids)


def test_poke_mode_gives_up_in_time_and_cancels_if_asked_to(emulator: Emulator, root: Folder) -> None:
    [batch_id] = claimed(root, create(emulator))
    one = sensor(handle(batch_id), deferrable=False, poll_interval=0.3, timeout=1, on_timeout="cancel")
    with pytest.raises(AirflowSensorTimeout, match="were cancelled"):
        execute(one)
    assert len(emulator.journal(path=CANCEL)) == 1


def test_what_is_done_at_the_timeout_is_what_on_timeout_says_even_if_airflow_sees_it_first(
    emulator: Emulator, root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Airflow looks at the time after each poke, too, and would only fail the task."""
    [batch_id] = claimed(root, create(emulator))
    fast = SimpleNamespace(monotonic=lambda: 3 * time.monotonic(), sleep=time.sleep)
    monkeypatch.setattr("airflow.sdk.bases.sensor.time", fast)
    one = sensor(handle(batch_id), deferrable=False, poll_interval=0.3, timeout=1, on_timeout="cancel")
    with pytest.raises(AirflowSensorTimeout, match="were cancelled"):
        execute(one)
    assert len(emulator.journal(path=CANCEL)) == 1
    assert one.timeout == 1


def test_reschedule_mode_comes_back_after_the_growing_interval(emulator: Emulator) -> None:
    [batch_id] = create(emulator)
    one = sensor(handle(batch_id), deferrable=False, mode="reschedule")
    with pytest.raises(AirflowRescheduleException) as rescheduled:
        execute(one)
    seconds = (rescheduled.value.reschedule_date - datetime.datetime.now(datetime.UTC)).total_seconds()
    assert 13 < seconds <= 15


def test_reschedule_mode_counts_the_timeout_from_the_first_of_its_processes(emulator: Emulator) -> None:
    [batch_id] = create(emulator)
    ti = TaskInstance(rescheduled_since=NOW - datetime.timedelta(hours=2))
    one = sensor(handle(batch_id), deferrable=False, mode="reschedule", timeout=3600)
    with pytest.raises(AirflowSensorTimeout, match=r"Gave up .* after 2 h"):
        execute(one, ti)


def test_a_rescheduled_look_that_meets_a_404_does_not_take_it_for_an_unknown_batch(
    emulator: Emulator,
) -> None:
    [batch_id] = create(emulator)
    emulator.hide(batch_id, lookups=1)
    ti = TaskInstance(rescheduled_since=NOW - datetime.timedelta(hours=2))
    one = sensor(batch_id, deferrable=False, mode="reschedule")
    with pytest.raises(AirflowRescheduleException):
        execute(one, ti)


def test_the_first_rescheduled_process_stays_until_it_has_seen_a_foreign_batch(emulator: Emulator) -> None:
    [batch_id] = create(emulator)
    emulator.hide(batch_id, lookups=3)
    one = sensor(batch_id, deferrable=False, mode="reschedule", poll_interval=0.2)
    with pytest.raises(AirflowRescheduleException):
        execute(one)
    assert len(emulator.journal(path=RETRIEVE)) == 4
    assert not emulator.journal(method="GET", path=CREATE)


def looked(batch: Any, **options: Any) -> ClaudeBatchSensor:
    """A sensor that waits in a worker and has looked once."""
    context: Any = {"ti": TaskInstance()}
    one = sensor(batch, deferrable=False, **options)
    assert not one.poke(context)
    return one


@pytest.mark.parametrize("mode", ["poke", "reschedule"])
@pytest.mark.parametrize("state", ["failed", "success", "skipped", "removed"])
def test_in_a_worker_too_a_task_that_a_person_ends_cancels_what_is_open(
    emulator: Emulator, root: Folder, monkeypatch: pytest.MonkeyPatch, mode: str, state: str
) -> None:
    first, second = claimed(root, create(emulator, 2))
    emulator.end(first)
    one = looked(handle(first, second), mode=mode)
    supervisor.Supervisor(state).install(monkeypatch)
    one.on_kill()
    assert [call["batch_id"] for call in emulator.journal(path=CANCEL)] == [second]


@pytest.mark.parametrize("state", ["running", "restarting", "scheduled", "upstream_failed"])
def test_a_worker_that_stops_though_nobody_has_ended_the_task_cancels_nothing(
    emulator: Emulator, root: Folder, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    one = looked(handle(*claimed(root, create(emulator))))
    supervisor.Supervisor(state).install(monkeypatch)
    one.on_kill()
    assert not emulator.journal(path=CANCEL)


def test_a_worker_that_cannot_learn_why_it_stops_is_not_kept_and_cancels_nothing(
    emulator: Emulator, root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = looked(handle(*claimed(root, create(emulator))))
    supervisor.Supervisor("running", seconds=6).install(monkeypatch)
    began = time.monotonic()
    one.on_kill()
    assert time.monotonic() - began < 5
    assert not emulator.journal(path=CANCEL)


def test_a_killed_worker_leaves_batches_alone_that_were_given_by_id_unless_told_otherwise(
    emulator: Emulator, root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    [batch_id] = create(emulator)
    [own] = claimed(root, create(emulator))
    supervisor.Supervisor("failed").install(monkeypatch)
    looked(batch_id).on_kill()
    looked(handle(own), cancel_on_kill=False).on_kill()
    sensor(handle(own), deferrable=False).on_kill()  # before its first look
    assert not emulator.journal(path=CANCEL)
    looked(batch_id, cancel_on_kill=True).on_kill()
    assert len(emulator.journal(path=CANCEL)) == 1


@pytest.mark.parametrize("dag_id", ["other", None])
@pytest.mark.parametrize("cancel_on_kill", [None, True])
def test_a_forged_handle_gets_no_batch_cancelled_that_is_not_proved_the_dags(
    emulator: Emulator,
    root: Folder,
    monkeypatch: pytest.MonkeyPatch,
    dag_id: str | None,
    cancel_on_kill: bool | None,
) -> None:
    """Who may write XComs of this DAG must not reach another's batches through its kills and timeouts."""
    [own], [theirs] = claimed(root, create(emulator)), create(emulator)
    if dag_id is not None:
        claimed(root, [theirs], dag_id)
    supervisor.Supervisor("failed").install(monkeypatch)

    looked(handle(theirs, own), cancel_on_kill=cancel_on_kill).on_kill()
    trigger = deferral(sensor(handle(theirs, own), cancel_on_kill=cancel_on_kill))
    with pytest.raises(AirflowSensorTimeout, match=f"Not cancelled: {theirs}"):
        sensor(handle(theirs, own), on_timeout="cancel").execute_complete(
            {"ti": TaskInstance()}, event("timeout", theirs, own)
        )

    assert trigger.unproved == [theirs]
    assert {call["batch_id"] for call in emulator.journal(path=CANCEL)} == {own}


def test_batches_that_are_given_by_id_are_cancelled_only_if_no_other_dag_claims_them(
    emulator: Emulator, root: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    [stranger, theirs] = create(emulator, 2)
    claimed(root, [theirs], "other")
    supervisor.Supervisor("failed").install(monkeypatch)
    looked([stranger, theirs], cancel_on_kill=True).on_kill()
    assert [call["batch_id"] for call in emulator.journal(path=CANCEL)] == [stranger]


def test_where_no_claim_can_be_read_a_jobs_batches_are_not_cancelled(
    emulator: Emulator, root: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [batch_id] = claimed(root, create(emulator))
    supervisor.Supervisor("failed").install(monkeypatch)
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH", "nosuchstore://bucket/folder")
    one = looked(handle(batch_id))
    one.on_kill()
    assert not emulator.journal(path=CANCEL)
    looked(handle(batch_id), storage_path=tmp_path.as_uri()).on_kill()
    assert len(emulator.journal(path=CANCEL)) == 1


def test_it_defers_unless_airflow_is_set_up_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.providers.common.compat.sdk import conf

    variable = "AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE"
    monkeypatch.delenv(variable, raising=False)
    assert sensor("b").deferrable
    monkeypatch.setenv(variable, "False")
    assert not sensor("b").deferrable
    assert sensor("b", deferrable=True).deferrable
    monkeypatch.setenv(variable, "True")
    assert sensor("b").deferrable

    monkeypatch.delenv(variable)
    if not conf.has_section("operators"):
        conf.add_section("operators")
    # Not monkeypatch.setitem, which would leave Airflow's own default behind as if it had been set.
    conf.set("operators", "default_deferrable", "False")
    try:
        assert not sensor("b").deferrable, "set in airflow.cfg"
    finally:
        ConfigParser.remove_option(conf, "operators", "default_deferrable")
    assert sensor("b").deferrable
