"""The life of a batch, seen through the SDK with strict validation."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from datetime import UTC, datetime, timedelta
from functools import partial

import anthropic
import pytest

from airflow_claude_batch.emulator.testing import start_emulator
from tests.harness.processes import wait_until

FIELDS = {
    "id",
    "type",
    "processing_status",
    "request_counts",
    "created_at",
    "expires_at",
    "ended_at",
    "cancel_initiated_at",
    "archived_at",
    "results_url",
}


def test_a_new_batch_is_in_progress_and_counts_everything_as_processing(submit):
    batch = submit("a", "b", "c")
    assert set(batch.to_dict(mode="json", exclude_unset=True)) == FIELDS
    assert batch.processing_status == "in_progress"
    assert batch.request_counts.to_dict() == {
        "processing": 3,
        "succeeded": 0,
        "errored": 0,
        "canceled": 0,
        "expired": 0,
    }
    assert batch.results_url is None


def test_created_at_is_wall_time_and_expires_at_is_a_day_later(submit):
    batch = submit("a")
    assert abs(datetime.now(UTC) - batch.created_at) < timedelta(seconds=5)
    assert batch.expires_at - batch.created_at == timedelta(hours=24)


def test_an_ended_batch_has_counts_and_results(emulator, client, submit, results_of):
    batch = submit("a", "b", ("c", {"max_tokens": 0}))
    assert {i: r.type for i, r in results_of(batch.id).items()} == {
        "a": "succeeded",
        "b": "succeeded",
        "c": "errored",
    }
    ended = client.messages.batches.retrieve(batch.id)
    assert ended.processing_status == "ended"
    assert (ended.request_counts.succeeded, ended.request_counts.errored) == (2, 1)
    assert ended.results_url == f"{emulator.url}/v1/messages/batches/{batch.id}/results"
    assert {line.custom_id for line in client.messages.batches.results(batch.id)} == {"a", "b", "c"}


def test_results_come_in_another_order_but_the_same_each_time(emulator, client, submit):
    ids = [f"r-{n}" for n in range(50)]
    batch = submit(*ids)
    emulator.end(batch.id)
    first = [line.custom_id for line in client.messages.batches.results(batch.id)]
    assert first != ids
    assert sorted(first) == sorted(ids)
    assert [line.custom_id for line in client.messages.batches.results(batch.id)] == first


def test_results_before_the_end_are_refused(client, submit):
    batch = submit("a")
    with pytest.raises(anthropic.BadRequestError):
        client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=str)


def test_a_cancelled_batch_is_canceling_until_it_ends_with_canceled_requests(emulator, client, submit):
    batch = submit("a", "b")
    canceling = client.messages.batches.cancel(batch.id)
    assert canceling.processing_status == "canceling"
    assert canceling.cancel_initiated_at is not None
    assert canceling.request_counts.processing == 2
    assert client.messages.batches.cancel(batch.id).cancel_initiated_at == canceling.cancel_initiated_at
    emulator.end(batch.id)
    ended = client.messages.batches.retrieve(batch.id)
    assert (ended.processing_status, ended.request_counts.canceled) == ("ended", 2)
    with pytest.raises(anthropic.BadRequestError, match="already ended"):
        client.messages.batches.cancel(batch.id)


def test_a_cancelled_batch_keeps_what_had_finished(emulator, client, submit):
    emulator.settings(cancel_finished_share=0.5)
    batch = submit(*[f"r-{n}" for n in range(200)])
    client.messages.batches.cancel(batch.id)
    emulator.end(batch.id)
    counts = client.messages.batches.retrieve(batch.id).request_counts
    assert counts.succeeded + counts.canceled == 200
    assert 60 < counts.succeeded < 140


def test_only_ended_batches_can_be_deleted(emulator, client, submit):
    batch = submit("a")
    with pytest.raises(anthropic.BadRequestError, match="cannot be deleted"):
        client.messages.batches.delete(batch.id)
    emulator.end(batch.id)
    assert client.messages.batches.delete(batch.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError) as error:
        client.messages.batches.retrieve(batch.id)
    assert error.value.request_id.startswith("req_")
    assert [b["deleted"] for b in emulator.batches()] == [True]


def test_after_a_day_the_unfinished_requests_expire(emulator, client, submit):
    batch = submit("a", "b")
    emulator.advance(24 * 3600 + 1)
    ended = client.messages.batches.retrieve(batch.id)
    assert (ended.processing_status, ended.request_counts.expired) == ("ended", 2)
    assert ended.ended_at == ended.expires_at


def test_results_are_gone_29_days_after_creation(emulator, client, submit):
    batch = submit("a")
    emulator.end(batch.id)
    emulator.advance(29 * 24 * 3600)
    archived = client.messages.batches.retrieve(batch.id)
    assert archived.archived_at is not None
    assert archived.results_url is None
    assert archived.request_counts.succeeded == 1
    with pytest.raises(anthropic.NotFoundError, match="no longer available"):
        client.get(f"/v1/messages/batches/{batch.id}/results", cast_to=str)


def test_the_clock_ends_batches_when_their_duration_has_passed(emulator, client, submit):
    emulator.settings(duration=100)
    batch = submit("a")
    emulator.advance(50)
    assert client.messages.batches.retrieve(batch.id).processing_status == "in_progress"
    emulator.advance(51)
    ended = client.messages.batches.retrieve(batch.id)
    assert ended.processing_status == "ended"
    assert ended.ended_at - ended.created_at == timedelta(seconds=100)


def test_speed_shortens_processing_and_leaves_expires_at_alone():
    with start_emulator(speed=1000) as fast, anthropic.Anthropic(api_key="k", base_url=fast.url) as client:
        batch = client.messages.batches.create(requests=[{"custom_id": "a", "params": {}}])
        assert batch.expires_at - batch.created_at == timedelta(hours=24)
        retrieve = partial(client.messages.batches.retrieve, batch.id)
        ended = wait_until(
            lambda: batch if (batch := retrieve()).processing_status == "ended" else None,
            10,
            "the end of the batch",
            poll=0,
        )
        took = ended.ended_at - ended.created_at
        assert abs(took - timedelta(seconds=0.06)) < timedelta(milliseconds=1)


def test_an_expired_batch_keeps_the_share_that_had_finished(emulator, client, submit):
    batch = submit(*[f"r-{n}" for n in range(200)])
    emulator.expire(batch.id, finished_share=0.5)
    counts = client.messages.batches.retrieve(batch.id).request_counts
    assert counts.succeeded + counts.expired == 200
    assert counts.succeeded
    assert counts.expired


def test_lists_page_newest_first_in_both_directions(emulator, client, submit):
    ids = [submit("a").id for _ in range(7)][::-1]
    page = client.messages.batches.list(limit=3)
    assert ([b.id for b in page.data], page.has_more) == (ids[:3], True)
    assert (page.first_id, page.last_id) == (ids[0], ids[2])
    assert [b.id for b in client.messages.batches.list(limit=3)] == ids
    before = client.messages.batches.list(limit=2, before_id=ids[4])
    assert ([b.id for b in before.data], before.has_more) == (ids[2:4], True)
    emulator.delete(ids[1])
    assert [b.id for b in client.messages.batches.list(limit=2)] == [ids[0], *ids[2:]]


@pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 1001}, {"after_id": "a", "before_id": "b"}])
def test_wrong_paging_is_refused(client, query):
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.list(**query)


def test_an_empty_workspace_lists_nothing(client):
    page = client.messages.batches.list()
    assert (page.data, page.has_more, page.first_id, page.last_id) == ([], False, None, None)


@pytest.mark.parametrize("header", [{"x-api-key": "secret"}, {"authorization": "Bearer secret"}])
def test_both_authentication_headers_work(emulator, header):
    emulator.settings(api_key="secret")
    request = urllib.request.Request(f"{emulator.url}/v1/messages/batches", headers=header)
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as response:
        assert json.load(response)["data"] == []
        assert response.headers["request-id"].startswith("req_")


def test_a_wrong_key_is_refused_until_the_key_is_changed_back(emulator, client):
    emulator.settings(api_key="another")
    with pytest.raises(anthropic.AuthenticationError) as error:
        client.messages.batches.list()
    assert (error.value.type, error.value.status_code) == ("authentication_error", 401)
    emulator.settings(api_key="test-key-1234")
    client.messages.batches.list()


def test_the_beta_endpoints_and_the_asynchronous_client_work_alike(emulator, client):
    request = {"custom_id": "a", "params": {"model": "claude-haiku-4-5", "max_tokens": 500, "messages": []}}
    request["params"]["messages"] = [{"role": "user", "content": "Hello?"}]
    batch = client.beta.messages.batches.create(requests=[request], betas=["output-300k-2026-03-24"])
    emulator.end(batch.id)
    (line,) = client.beta.messages.batches.results(batch.id)
    assert line.result.type == "succeeded"
    assert emulator.batches()[0]["betas"] == ["output-300k-2026-03-24"]

    async def listed():
        async with anthropic.AsyncAnthropic(
            api_key="k", base_url=emulator.url, _strict_response_validation=True
        ) as asynchronous:
            return [b.id async for b in asynchronous.messages.batches.list(limit=1)]

    assert asyncio.run(listed()) == [batch.id]
