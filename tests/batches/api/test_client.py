from __future__ import annotations

import datetime
import time

import anthropic
import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.emulator.testing import CANCEL, CREATE, RETRIEVE, Emulator
from tests.batches.helpers import api_at
from tests.batches.waits import create


@pytest.mark.parametrize("status", [429, 500, 529])
def test_a_look_that_fails_for_a_moment_is_taken_again(
    emulator: Emulator, api: BatchesApi, status: int
) -> None:
    [batch_id] = create(emulator)
    emulator.fault("status", path=RETRIEVE, status=status, times=2)
    assert api.retrieve(batch_id).id == batch_id
    assert len(emulator.journal(path=RETRIEVE)) == 3


def test_a_short_retry_after_is_waited_for(emulator: Emulator, api: BatchesApi) -> None:
    [batch_id] = create(emulator)
    emulator.fault("status", path=RETRIEVE, status=429, headers={"retry-after": "2"})
    began = time.monotonic()
    assert api.retrieve(batch_id).id == batch_id
    assert time.monotonic() - began >= 2


def test_no_worker_sleeps_for_a_retry_after_of_an_hour(emulator: Emulator, api: BatchesApi) -> None:
    [batch_id] = create(emulator)
    emulator.fault("status", status=429, times=None, headers={"retry-after": "3600"})
    began = time.monotonic()
    calls = [
        lambda: api.retrieve(batch_id),
        lambda: api.cancel(batch_id),
        lambda: list(api.list_since(datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))),
    ]
    for call in calls:
        with pytest.raises(anthropic.RateLimitError):
            call()
    assert time.monotonic() - began < 10
    for path in (RETRIEVE, CANCEL, CREATE):
        assert len([call for call in emulator.journal(path=path) if call["status"] == 429]) == 1


def test_what_a_second_try_cannot_mend_is_not_tried_again(emulator: Emulator, api: BatchesApi) -> None:
    with pytest.raises(anthropic.NotFoundError):
        api.retrieve("msgbatch_unknown")
    assert len(emulator.journal(path=RETRIEVE)) == 1


def test_the_connections_own_number_of_retries_holds(emulator: Emulator) -> None:
    [batch_id] = create(emulator)
    emulator.fault("status", path=RETRIEVE, status=500, times=None)
    with pytest.raises(anthropic.InternalServerError):
        api_at(emulator.url, max_retries=0).retrieve(batch_id)
    assert len(emulator.journal(path=RETRIEVE)) == 1


def test_a_lost_connection_is_tried_again(emulator: Emulator, api: BatchesApi) -> None:
    [batch_id] = create(emulator)
    emulator.fault("drop_before", path=RETRIEVE)
    assert api.retrieve(batch_id).id == batch_id


@pytest.mark.parametrize("form", ["./{}", "{}/cancel?x=", "{}#"])
def test_what_is_no_batch_id_reaches_no_batch(emulator: Emulator, api: BatchesApi, form: str) -> None:
    [batch_id] = create(emulator)
    with pytest.raises(anthropic.NotFoundError):
        api.cancel(form.format(batch_id))
    [batch] = emulator.batches()
    assert batch["processing_status"] == "in_progress"
