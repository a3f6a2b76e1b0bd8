"""Full-size batches, within bounded time."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from urllib.parse import urlsplit

import httpx
import pytest

from airflow_claude_batch.emulator.testing import CREATE

MAX_BYTES = 256_000_000


@pytest.fixture
def web(emulator):
    headers = {"x-api-key": "k", "anthropic-version": "2026-10-21"}
    with httpx.Client(base_url=emulator.url, headers=headers, timeout=60, trust_env=False) as session:
        yield session


def post(emulator, body):
    """Send a create as fast as the machine can: httpx needs seconds for this size."""
    connection = http.client.HTTPConnection(urlsplit(emulator.url).netloc, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", "/v1/messages/batches", body, {"x-api-key": "k"})
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def body_of(count, total_bytes):
    """A create of this many requests and exactly this many bytes."""
    params = '"max_tokens":1024,"messages":[{"role":"user","content":"%s"}]'
    line = '{"custom_id":"r-%06d","params":{"model":"claude-haiku-4-5",' + params + "}}"
    overhead = len('{"requests":[]}') + count - 1 + count * len(line % (0, ""))
    each, rest = divmod(total_bytes - overhead, count)
    lines = [line % (n, "x" * (each + (rest if n == 0 else 0))) for n in range(count)]
    return ('{"requests":[' + ",".join(lines) + "]}").encode()


def test_100_000_requests_of_256_mb_are_accepted_while_polls_are_answered(emulator, web):
    body = body_of(100_000, MAX_BYTES)
    assert len(body) == MAX_BYTES
    slowest = 0.0
    done = threading.Event()

    def poll():
        nonlocal slowest
        with httpx.Client(base_url=emulator.url, headers=web.headers, trust_env=False, timeout=60) as other:
            while not done.wait(0.05):
                started = time.monotonic()
                other.get("/v1/messages/batches?limit=1")
                slowest = max(slowest, time.monotonic() - started)

    poller = threading.Thread(target=poll)
    poller.start()
    status, batch = post(emulator, body)
    done.set()
    poller.join()
    assert status == 200
    assert batch["request_counts"]["processing"] == 100_000
    assert slowest < 3
    batch_id = batch["id"]
    assert emulator.end(batch_id)["billed"] == 100_000
    lines = 0
    with web.stream("GET", f"/v1/messages/batches/{batch_id}/results") as response:
        for chunk in response.iter_raw():
            lines += chunk.count(b"\n")
    assert lines == 100_000
    assert len(emulator.custom_ids(batch_id)) == 100_000


def test_one_byte_more_is_413(emulator):
    status, answer = post(emulator, body_of(10, MAX_BYTES + 1))
    assert (status, answer["error"]["type"]) == (413, "request_too_large")
    assert emulator.batches() == []


def test_one_request_more_is_400(emulator):
    requests = [{"custom_id": f"r-{n}", "params": {}} for n in range(100_001)]
    status, answer = post(emulator, json.dumps({"requests": requests}).encode())
    assert status == 400
    assert "at most 100000" in answer["error"]["message"]


def test_thousands_of_batches_are_listed_in_milliseconds(emulator, web):
    body = body_of(1, 200)
    for _ in range(2500):
        web.post("/v1/messages/batches", content=body)
    emulator.wait_for("POST", CREATE, count=2500)
    web.get("/v1/messages/batches?limit=1000")
    started = time.monotonic()
    page = web.get("/v1/messages/batches?limit=1000")
    assert time.monotonic() - started < 0.5
    assert len(page.json()["data"]) == 1000
    seen = len(page.json()["data"])
    while page.json()["has_more"]:
        page = web.get("/v1/messages/batches", params={"limit": 1000, "after_id": page.json()["last_id"]})
        seen += len(page.json()["data"])
    assert seen == 2500
