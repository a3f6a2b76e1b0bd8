"""Results that exist and never come: an error until a person accepts that; then the others come whole."""

from __future__ import annotations

import logging
import re
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airflow_claude_batch.batches.api import client
from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import ConfigurationError, IncompleteResultsError, UnreadResultsError
from airflow_claude_batch.batches.job.identity import root_relative
from airflow_claude_batch.batches.job.job import open_job, read_ledger
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.results import download, unread
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.part_delivery import Sent
from airflow_claude_batch.batches.results.resubmission import choose, resubmit_cancelled, spool_next
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import RESULTS, Emulator
from airflow_claude_batch.results import read_errored, read_succeeded
from tests.batches.crashing import in_child, kill_at, trapped
from tests.batches.delivering import deliver, delivery_to, read_both, submit_all
from tests.batches.helpers import MARK, api_at, creates, records, sent_ids

HOW = ("omit", "half", "garbled", "without_id", "other_id", "torn")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(client, "KNOWN_SHORTEST_SECONDS", 0.01)


def damage(emulator: Emulator, *custom_ids: str, how: str = "half", times: int | None = None) -> None:
    """Let the results of these requests never come, or so often not."""
    kind = {"kind": "omit"} if how == "omit" else {"kind": "damage_lines", "how": how}
    emulator.fault(**kind, times=times, custom_ids=list(custom_ids))


def ledger_of(root: Folder, url: str) -> Ledger:
    return read_ledger(root_relative(root, url))


def accept(root: Folder, url: str) -> None:
    """A person's word on all that was noted."""
    with open_job(root, url) as job:
        unread.accept(job, {part.unread_file for part in job.ledger.parts if part.unread})


def downloads(emulator: Emulator) -> int:
    return len(emulator.journal(method="GET", path=RESULTS))


@pytest.mark.parametrize("format", ["jsonl", "parquet", "raw"])
@pytest.mark.parametrize("how", HOW)
def test_once_a_person_accepts_it_the_others_come_whole_and_nothing_is_sent_again(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, format: Any, how: str
) -> None:
    url = submit_all(root, api, records(30))

    def delivered(name: str) -> dict[str, Any]:
        output = open_directory(Folder.at((tmp_path / name).as_uri()), format=format)
        return deliver(root, url, delivery_to(Path(), api, output=output, resubmit_rounds=3), emulator)

    undisturbed = {record["custom_id"]: record for record in read_succeeded(delivered("undisturbed"))}
    damage(emulator, "r-7", how=how)
    for _ in range(2):
        with pytest.raises(UnreadResultsError, match=f"claude-batch accept {re.escape(url)} --part 0`"):
            delivered("out")
    accept(root, url)
    before = downloads(emulator)
    summary = delivered("out")
    assert downloads(emulator) == before + 1, "what is there is not asked for again"
    counts = {"total": 30, "succeeded": 29, "errored": 1, "missing": 0}
    assert summary["counts"] | counts == summary["counts"]
    assert (summary["errors"], summary["resubmitted"]) == ({"unreadable_result": 1}, 0)
    assert "1 results never came" in " ".join(summary["warnings"])
    del undisturbed["r-7"]
    assert {record["custom_id"]: record for record in read_succeeded(summary)} == undisturbed
    [record] = read_errored(summary)
    assert record["custom_id"] == "r-7"
    if format == "raw":
        assert record["result"]["type"] == "errored"
        assert record["result"]["error"]["error"]["type"] == "unreadable_result"
    else:
        told = record["outcome"], record["error_type"], record["retryable"], record["input"]
        assert told == ("errored", "unreadable_result", False, {"n": 7})
    assert creates(emulator) == 1


@pytest.mark.parametrize("how", [how for how in HOW if how != "omit"])
def test_what_is_damaged_is_named_by_its_place_never_by_what_it_holds(
    root: Folder,
    api: BatchesApi,
    emulator: Emulator,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    how: str,
) -> None:
    url = submit_all(root, api, records(2000, prompt="canary"))
    damage(emulator, "r-7", how=how)
    with pytest.raises(UnreadResultsError, match="1 of 2000 results") as failed:
        deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    with api.results(emulator.batches()[0]["id"]) as blocks:
        data = b"".join(blocks)
    places = re.findall(r"line (\d+) \(bytes (\d+) to (\d+)\)", str(failed.value))
    assert len(places) == (2 if how == "torn" else 1)
    for number, start, end in (map(int, place) for place in places):
        line = data.split(b"\n")[number - 1]
        assert data[start:end] == line
        assert b'"custom_id":"r-' not in line or how in ("half", "torn")
    accept(root, url)
    with caplog.at_level(logging.DEBUG):
        deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert f"line {places[0][0]} (bytes" in caplog.text
    assert "1 of 2000 results" in caplog.text
    assert "canary" not in caplog.text + str(failed.value)


def test_two_results_in_one_line_are_both_unreadable_and_no_other(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(30))
    damage(emulator, *[f"r-{number}" for number in range(10)], how="joined")
    with pytest.raises(UnreadResultsError, match="cannot be read"):
        deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    with api.results(emulator.batches()[0]["id"]) as blocks:
        lines = b"".join(blocks).decode().splitlines()
    ids = [[MARK.sub("", name) for name in re.findall(r'"custom_id":"([^"]+)"', line)] for line in lines]
    accept(root, url)
    deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    succeeded, errored = read_both(tmp_path / "out")
    assert set(succeeded) == {name for names in ids if len(names) == 1 for name in names}
    assert set(errored) == {name for names in ids if len(names) > 1 for name in names}


def test_only_what_a_person_has_accepted_is_done_without(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url, delivery = submit_all(root, api, records(30)), delivery_to(tmp_path / "out", api)
    damage(emulator, "r-7")
    with pytest.raises(UnreadResultsError, match="1 of 30"):
        deliver(root, url, delivery, emulator)
    accept(root, url)
    damage(emulator, "r-8", times=3)
    with pytest.raises(UnreadResultsError, match="2 of 30"):
        deliver(root, url, delivery, emulator)
    assert deliver(root, url, delivery, emulator)["errors"] == {"unreadable_result": 1}
    assert list(read_both(tmp_path / "out")[1]) == ["r-7"]


def test_a_result_that_comes_after_all_is_delivered(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url, delivery = submit_all(root, api, records(30)), delivery_to(tmp_path / "out", api)
    damage(emulator, "r-7")
    with pytest.raises(UnreadResultsError):
        deliver(root, url, delivery, emulator)
    accept(root, url)
    emulator.clear_faults()
    assert deliver(root, url, delivery, emulator)["counts"]["succeeded"] == 30


def test_a_part_without_a_result_keeps_no_other_part_back(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url, delivery = submit_all(root, api, records(40), per_part=10), delivery_to(tmp_path / "out", api)
    damage(emulator, "r-7", "r-19")
    with pytest.raises(UnreadResultsError, match=r"--part 0.* of 1 more part"):
        deliver(root, url, delivery, emulator)
    parts = ledger_of(root, url).parts
    assert [part.delivery is not None for part in parts] == [False, False, True, True]
    assert [part.unread for part in parts] == [1, 1, 0, 0]
    accept(root, url)
    summary = deliver(root, url, delivery, emulator)
    assert (summary["counts"]["succeeded"], summary["errors"]) == (38, {"unreadable_result": 2})


def test_a_gateway_that_always_cuts_at_the_same_place_is_accepted_too(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url, delivery = submit_all(root, api, records(30)), delivery_to(tmp_path / "out", api)
    emulator.fault("cut_results", times=None, fraction=0.9, mid_line=True)
    with pytest.raises(UnreadResultsError, match="3 of 30"):
        deliver(root, url, delivery, emulator)
    accept(root, url)
    summary = deliver(root, url, delivery, emulator)
    assert summary["counts"] | {"succeeded": 27, "errored": 3} == summary["counts"]


@pytest.mark.parametrize("known", [True, False])
def test_of_batches_by_their_ids_a_person_may_take_what_comes(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, known: bool
) -> None:
    url = submit_all(root, api, records(10))
    [batch] = emulator.batches()
    emulator.end(batch["id"])
    damage(emulator, "r-7")
    ledger = ledger_of(root, url)
    own = Sent(folder=root_relative(root, url), ledger=ledger, part=ledger.parts[0])
    sent = {batch["id"]: own} if known else {}
    delivery = delivery_to(tmp_path / "out", api)
    with pytest.raises(UnreadResultsError, match="fetch … --incomplete`"):
        delivery.deliver_batches([batch["id"]], sent)
    summary = delivery.deliver_batches([batch["id"]], sent, incomplete=True)
    assert (summary["counts"]["succeeded"], summary["counts"]["errored"]) == (9, int(known))
    assert "1 results never came" in " ".join(summary["warnings"])
    assert list(read_both(tmp_path / "out")[1]) == ["r-7"] * known


def test_an_outage_is_nothing_to_accept(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(3))
    emulator.fault("status", path=RESULTS, times=None, status=503)
    with pytest.raises(IncompleteResultsError) as failed:
        deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert "accept" not in str(failed.value)
    ids = [batch["id"] for batch in emulator.batches()]
    with pytest.raises(IncompleteResultsError):
        delivery_to(tmp_path / "other", api).deliver_batches(ids, incomplete=True)
    assert ledger_of(root, url).parts[0].unread == 0


def test_a_connection_that_breaks_behind_the_last_line_costs_nothing(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(30))
    emulator.fault("cut_results", times=None, fraction=1.0)
    assert deliver(root, url, delivery_to(tmp_path / "out", api), emulator)["counts"]["succeeded"] == 30


def test_what_was_accepted_is_sent_again_only_where_a_person_asks_for_it(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    """Neither a clear of both tasks nor rounds send it; `retry` does, and the line may stay away."""
    url = submit_all(root, api, records(30))
    delivery = delivery_to(tmp_path / "out", api, resubmit_rounds=2)
    damage(emulator, "r-7")
    with pytest.raises(UnreadResultsError):
        deliver(root, url, delivery, emulator)
    accept(root, url)
    for generation in (1, 2):
        summary = deliver(root, url, delivery, emulator, generation=generation)
        assert summary["errors"] == {"unreadable_result": 1}
    assert creates(emulator) == 1

    with open_job(root, url) as job:
        [part] = job.ledger.parts
        assert choose(api, job, part, lambda record: record.outcome == "errored", Reading()) == 1
        spool_next(job)
    emulator.clear_faults()
    damage(emulator, "r-7", how="omit", times=1)  # the first batch's alone
    summary = deliver(root, url, delivery, emulator, generation=2)
    assert summary["counts"]["succeeded"] == 30
    assert sent_ids(emulator, emulator.batches()[-1]["id"]) == {"r-7"}


def test_the_rest_of_a_cancelled_batch_is_sent_again_without_what_was_accepted(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(cancel_finished_share=0.5)
    url = submit_all(root, api, records(40))
    [batch] = emulator.batches()
    api.cancel(batch["id"])
    emulator.end(batch["id"])
    damage(emulator, "r-7")
    with open_job(root, url) as job:
        resubmit_cancelled(job, api, 1)
        with pytest.raises(UnreadResultsError, match="claude-batch accept"):
            resubmit_cancelled(job, api, 2)
    accept(root, url)
    with open_job(root, url) as job:
        assert resubmit_cancelled(job, api, 2) is None
    canceled = api.retrieve(batch["id"]).request_counts.canceled
    moved = ledger_of(root, url).parts[0].moved
    assert canceled - 1 <= moved <= canceled
    summary = deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert summary["counts"] | {"succeeded": 39, "errored": 1} == summary["counts"]


def test_a_word_on_what_has_changed_meanwhile_counts_for_nothing(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url, delivery = submit_all(root, api, records(30)), delivery_to(tmp_path / "out", api)
    damage(emulator, "r-7")
    with pytest.raises(UnreadResultsError):
        deliver(root, url, delivery, emulator)
    seen = ledger_of(root, url).parts[0].unread_file
    damage(emulator, "r-8")
    with pytest.raises(UnreadResultsError, match="2 of 30"):
        deliver(root, url, delivery, emulator)
    with open_job(root, url) as job, pytest.raises(ConfigurationError, match="Nothing was changed"):
        unread.accept(job, {seen})
    assert ledger_of(root, url).parts[0].accepted_file == ""


def test_a_kill_at_any_instant_changes_nothing(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    """kill -9 before and after every change to the storage by a delivery that fails, and by the next."""
    url = submit_all(root, api, records(20))
    emulator.end(emulator.batches()[0]["id"])
    damage(emulator, "r-7")

    def failing(where: Folder) -> None:
        with pytest.raises(UnreadResultsError):
            deliver(where, url, delivery_to(tmp_path / "out", api_at(emulator.url)), emulator)

    def accepted(where: Folder) -> None:
        accept(where, url)
        deliver(where, url, delivery_to(tmp_path / "out", api_at(emulator.url)), emulator)

    for step in (failing, accepted):
        status, instant = -signal.SIGKILL, 0
        while status == -signal.SIGKILL:
            status = in_child(lambda step=step, instant=instant: step(trapped(root, kill_at(instant))))
            assert all(part.moved == 0 for part in ledger_of(root, url).parts)
            instant += 4
        assert (status, instant > 8) == (0, True)
        step(root)
    summary = msgspec.json.decode((tmp_path / "out" / "summary.json").read_bytes())
    assert (summary["counts"]["succeeded"], summary["errors"]) == (19, {"unreadable_result": 1})
    assert list(read_both(tmp_path / "out")[1]) == ["r-7"]
    assert creates(emulator) == 1
