"""Faults on demand: what the client sees, and what really happened."""

from __future__ import annotations

import base64
import json
import threading
from concurrent.futures import ThreadPoolExecutor

import anthropic
import httpx
import pytest

from airflow_claude_batch.emulator.testing import (
    CANCEL,
    CREATE,
    RESULTS,
    RETRIEVE,
    EmulatorError,
    start_emulator,
)
from tests.emulator.conftest import prompt
from tests.harness.processes import wait_until


@pytest.fixture
def web(emulator):
    with httpx.Client(base_url=emulator.url, headers={"x-api-key": "k"}, trust_env=False) as http:
        yield http


@pytest.fixture
def ended(emulator, submit):
    """The results path of an ended batch of 40 requests."""
    batch = submit(*[f"r-{n}" for n in range(40)])
    emulator.end(batch.id)
    return f"/v1/messages/batches/{batch.id}/results"


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 413, 429, 500, 503, 504, 529])
def test_any_status_can_be_answered_and_nothing_is_created(emulator, client, submit, status):
    emulator.fault("status", status=status, method="POST", path=CREATE)
    with pytest.raises(anthropic.APIStatusError) as error:
        submit("a")
    assert error.value.status_code == status
    assert error.value.type is not None
    assert error.value.request_id.startswith("req_")
    assert emulator.batches() == []
    submit("a")


def test_a_status_can_have_its_own_type_message_code_and_headers(emulator, client):
    emulator.fault(
        "status",
        status=429,
        type="rate_limit_error",
        message="slow down",
        details={"error_code": "ramp_limit_exceeded"},
        headers={"retry-after": "3"},
    )
    with pytest.raises(anthropic.RateLimitError, match="slow down") as error:
        client.messages.batches.list()
    assert error.value.error_code == "ramp_limit_exceeded"
    assert error.value.response.headers["retry-after"] == "3"


def test_a_gateway_can_answer_html(emulator, client):
    emulator.fault("status", status=503, body="<html>down</html>")
    with pytest.raises(anthropic.ServiceUnavailableError) as error:
        client.messages.batches.list()
    assert error.value.response.text == "<html>down</html>"


def test_a_connection_dropped_before_processing_leaves_nothing_behind(emulator, submit):
    emulator.fault("drop_before", method="POST", path=CREATE)
    with pytest.raises(anthropic.APIConnectionError):
        submit("a")
    assert emulator.batches() == []


@pytest.mark.parametrize("kind", ["drop_after", "status_after"])
def test_an_answer_lost_after_processing_leaves_a_batch_behind(emulator, client, submit, kind):
    emulator.fault(kind, method="POST", path=CREATE)
    expected = anthropic.APIConnectionError if kind == "drop_after" else anthropic.InternalServerError
    with pytest.raises(expected):
        submit("a", "b")
    (entry,) = emulator.journal(method="POST")
    assert entry["status"] == ("dropped" if kind == "drop_after" else 500)
    (orphan,) = client.messages.batches.list().data
    assert orphan.id == entry["batch_id"]
    assert emulator.custom_ids(orphan.id) == ["a", "b"]


@pytest.mark.parametrize(("when", "left"), [("before", 0), ("after", 1)])
def test_a_hang_runs_into_the_clients_timeout(emulator, client, submit, when, left):
    emulator.fault("hang", seconds=60, when=when, method="POST", path=CREATE)
    with pytest.raises(anthropic.APITimeoutError):
        submit("a", timeout=0.3)
    emulator.wait_for("POST", CREATE)
    assert len(emulator.batches()) == left


def test_a_hang_ends_with_a_cut_connection(emulator, client):
    emulator.fault("hang", seconds=0.1)
    with pytest.raises(anthropic.APIConnectionError):
        client.messages.batches.list()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_late_answer_is_a_right_answer(emulator, client, when):
    emulator.fault("delay", seconds=0.2, when=when)
    assert client.messages.batches.list().data == []
    assert emulator.journal()[0]["seconds"] >= 0.19  # a timer may come some microseconds early


def test_a_create_whose_client_gave_up_can_still_be_accepted_late(emulator, submit):
    emulator.fault("delay", seconds=0.4, method="POST", path=CREATE)
    with pytest.raises(anthropic.APITimeoutError):
        submit("a", timeout=0.1)
    emulator.wait_for("POST", CREATE)
    assert len(emulator.batches()) == 1


def test_rules_skip_count_and_end(emulator, client):
    emulator.fault("status", status=500, skip=1, times=2)
    codes = []
    for _ in range(5):
        try:
            client.messages.batches.list()
            codes.append(200)
        except anthropic.APIStatusError as error:
            codes.append(error.status_code)
    assert codes == [200, 500, 500, 200, 200]
    (rule,) = emulator.faults()
    assert (rule["matched"], rule["hits"]) == (5, 2)


def test_probability_hits_a_share_and_rules_can_be_removed(emulator, web):
    number = emulator.fault("status", status=529, times=None, probability=0.3, seed=1)
    codes = [web.get("/v1/messages/batches").status_code for _ in range(100)]
    assert 15 < codes.count(529) < 45
    emulator.clear_faults(number)
    assert emulator.faults() == []


def test_rules_match_by_path_method_and_key(emulator, client, submit):
    emulator.fault("status", path=CANCEL)
    emulator.fault("status", method="DELETE", path=RETRIEVE)
    emulator.fault("status", api_key="another-key")
    batch = submit("a")
    client.messages.batches.retrieve(batch.id)
    with pytest.raises(anthropic.InternalServerError):
        client.messages.batches.cancel(batch.id)
    with pytest.raises(anthropic.InternalServerError):
        client.messages.batches.delete(batch.id)
    with pytest.raises(anthropic.InternalServerError):
        client.with_options(api_key="another-key").messages.batches.list()


def test_a_batch_can_be_hidden_for_its_first_lookups_or_seconds(emulator, client, submit):
    emulator.settings(not_found_lookups=2)
    batch = submit("a")
    for _ in range(2):
        with pytest.raises(anthropic.NotFoundError):
            client.messages.batches.retrieve(batch.id)
    client.messages.batches.retrieve(batch.id)
    emulator.hide(batch.id, seconds=60)
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(batch.id)
    assert [b.id for b in client.messages.batches.list()] == [batch.id]
    emulator.advance(61)
    client.messages.batches.retrieve(batch.id)


def test_a_download_can_end_cleanly_at_a_lines_end(emulator, web, ended):
    emulator.fault("cut_results", fraction=0.5, clean_end=True)
    assert len([json.loads(line) for line in web.get(ended).text.splitlines()]) == 20
    assert len(web.get(ended).text.splitlines()) == 40


def test_a_download_can_end_cleanly_in_the_middle_of_a_line(emulator, web, ended):
    emulator.fault("cut_results", fraction=0.5, mid_line=True, clean_end=True)
    *whole, last = web.get(ended).text.split("\n")
    assert len(whole) == 20
    assert last.startswith("{")
    with pytest.raises(ValueError, match=r"."):
        json.loads(last)


@pytest.mark.parametrize("mid_line", [True, False])
def test_a_download_can_drop(emulator, web, ended, mid_line):
    emulator.fault("cut_results", fraction=0.5, mid_line=mid_line)
    received: list[bytes] = []
    with web.stream("GET", ended) as response, pytest.raises(httpx.RemoteProtocolError):
        received.extend(response.iter_raw())
    body = b"".join(received)
    assert body.count(b"\n") == 20
    assert body.endswith(b"\n") is not mid_line
    assert emulator.journal(path=RESULTS)[-1]["status"] == 200


def test_lines_can_be_doubled_left_out_and_added(emulator, web, ended):
    emulator.fault("duplicate_lines", custom_ids=["r-3"])
    emulator.fault("omit", custom_ids=["r-4"])
    unknown = '{"custom_id":"r-5","result":{"type":"postponed"}}'
    lines = [{"text": unknown}, {"base64": base64.b64encode(b"\xff\xfe").decode()}, {"size": 1_000_000}]
    emulator.fault("raw_lines", lines=lines, position="spread")
    received = web.get(ended).content.splitlines()
    assert unknown.encode() in received
    assert b"\xff\xfe" in received
    foreign = [line for line in received if b"not-in-this-batch" in line]
    assert len(json.loads(foreign[0])["result"]["message"]["content"][0]["text"]) == 1_000_000
    ids = [
        json.loads(line)["custom_id"] for line in received if line.startswith(b"{") and line not in foreign
    ]
    assert (ids.count("r-3"), ids.count("r-4"), ids.count("r-5")) == (2, 0, 2)


@pytest.mark.parametrize(
    ("how", "unreadable", "lines"),
    [
        ("half", 1, 40),
        ("garbled", 1, 40),
        ("without_id", 0, 40),
        ("other_id", 0, 40),
        ("torn", 2, 41),
        ("joined", 1, 39),
    ],
)
def test_a_line_can_be_damaged(emulator, web, ended, how, unreadable, lines):
    whole = web.get(ended).content
    damaged = json.loads(whole.splitlines()[0])["custom_id"]
    emulator.fault("damage_lines", custom_ids=[damaged], how=how, times=2)
    first, second, third = (web.get(ended).content for _ in range(3))
    assert first == second != third == whole
    read = [json_or_none(line) for line in first.split(b"\n")[:-1]]
    assert (len(read), read.count(None)) == (lines, unreadable)
    assert damaged not in {line.get("custom_id") for line in read if line is not None}


def json_or_none(line):
    try:
        return json.loads(line)
    except ValueError:
        return None


def test_results_url_can_name_another_host(emulator, client, submit):
    emulator.settings(results_url_base="https://elsewhere.example")
    batch = submit("a")
    emulator.end(batch.id)
    assert client.messages.batches.retrieve(batch.id).results_url.startswith("https://elsewhere.example/v1/")


def test_the_journal_tells_what_was_received(emulator, submit):
    batch = submit("a", "b")
    (entry,) = emulator.journal()
    assert (entry["method"], entry["path"], entry["status"]) == ("POST", "/v1/messages/batches", 200)
    assert (entry["batch_id"], entry["requests"], entry["key"]) == (batch.id, 2, "1234")
    assert entry["bytes"] == emulator.batches()[0]["bytes"]
    assert emulator.journal(since=entry["n"]) == []
    assert emulator.state()["counters"] == {"POST /v1/messages/batches 200": 1}


def test_a_test_can_wait_for_a_request_that_hangs(emulator, client):
    emulator.fault("hang", seconds=60)

    def ask():
        with pytest.raises(anthropic.APITimeoutError):
            client.messages.batches.list(timeout=1.0)

    thread = threading.Thread(target=ask)
    thread.start()
    (entry,) = emulator.wait_for("GET", CREATE, waiting=True, timeout=10)
    assert entry["status"] is None
    thread.join()
    assert emulator.wait_for("GET", CREATE, timeout=10)[0]["status"] == "dropped"


def test_a_wait_that_times_out_says_so(emulator):
    with pytest.raises(EmulatorError, match="0 of 1"):
        emulator.wait_for("POST", CREATE, timeout=0.05)


@pytest.mark.parametrize(
    "wrong", [{"kind": "nonsense"}, {"kind": "status", "colour": 1}, {"kind": "status", "path": "("}]
)
def test_wrong_rules_are_refused_with_the_reason(emulator, wrong):
    with pytest.raises(EmulatorError):
        emulator.fault(**wrong)
    assert emulator.faults() == []


def test_wrong_settings_are_refused_and_change_nothing(emulator):
    before = emulator.settings()
    with pytest.raises(EmulatorError, match="speeed"):
        emulator.settings(speeed=2)
    with pytest.raises(EmulatorError, match="duration"):
        emulator.settings(duration="sometimes")
    with pytest.raises(EmulatorError, match="regular expression"):
        emulator.settings(outcomes={"failures": [{"pattern": "("}]})
    assert emulator.settings() == before


def test_reset_goes_back_to_the_start(emulator, submit):
    emulator.settings(queue_limit=5)
    emulator.fault("status", path="nowhere")
    emulator.advance(100)
    submit("a")
    emulator.reset()
    state = emulator.state()
    assert (state["batches"], state["received"], state["faults"], state["advanced_seconds"]) == ({}, 0, 0, 0)
    assert emulator.settings()["queue_limit"] is None
    assert emulator.ledger()["custom_ids"] == 0


@pytest.mark.parametrize("slow", ["a single call", "a create"])
def test_what_is_under_way_at_a_reset_is_no_part_of_what_comes_after(emulator, client, submit, slow):
    emulator.settings(message_seconds=0.5)
    emulator.fault("delay", path=CREATE, seconds=0.5)
    with ThreadPoolExecutor(1) as pool:
        if slow == "a create":
            call = pool.submit(submit, "tea")
        else:
            call = pool.submit(client.messages.create, **prompt("tea"))
        emulator.wait_for(path="/v1/messages", waiting=True)
        if slow == "a single call":
            wait_until(lambda: emulator.ledger()["most_direct_at_once"], 10, "the call to be under way")
        emulator.reset()
        assert isinstance(call.exception(timeout=30), anthropic.APIConnectionError | None)
    ledger, state = emulator.ledger(), emulator.state()
    assert (ledger["direct_answers"], ledger["custom_ids"], state["batches"]) == (0, 0, {})
    assert (state["received"], state["counters"]) == (0, {})


def test_an_emulator_that_refuses_its_settings_says_so_at_once(capfd: pytest.CaptureFixture[str]) -> None:
    with (
        pytest.raises(EmulatorError, match="did not start; its standard error says why"),
        start_emulator(duration="2s"),
    ):
        pass
    assert "Invalid enum value '2s'" in capfd.readouterr().err
