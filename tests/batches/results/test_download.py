from __future__ import annotations

import base64
import logging
from pathlib import Path
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from airflow_claude_batch.batches.api import client
from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.api.result_lines import read_lines, whole_lines
from airflow_claude_batch.batches.errors import IncompleteResultsError, ResultsGoneError
from airflow_claude_batch.batches.job.identity import root_relative
from airflow_claude_batch.batches.job.job import open_job, read_ledger
from airflow_claude_batch.batches.results import download
from airflow_claude_batch.batches.results.answer_policy import Reading
from airflow_claude_batch.batches.results.download import Download
from airflow_claude_batch.batches.results.line_sources import BatchResults
from airflow_claude_batch.batches.results.output.directory import open_directory
from airflow_claude_batch.batches.results.sent_requests import Ids, Inputs
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import RESULTS, RETRIEVE, Emulator
from tests.batches.delivering import contents, deliver, delivery_to, read_both, submit_all
from tests.batches.helpers import creates, records


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(client, "KNOWN_SHORTEST_SECONDS", 0.01)


def answer_with(emulator: Emulator, text: bytes, usage: bytes = b"{}") -> bytes:
    """Let the answer to r-1 be this JSON text; returns its line."""
    message = b'{"content":[{"type":"text","text":"%b"}],"model":"claude-haiku-4-5","usage":%b}' % (
        text,
        usage,
    )
    line = b'{"custom_id":"r-1","result":{"type":"succeeded","message":%b}}' % message
    lines = [{"base64": base64.b64encode(line).decode()}]
    emulator.fault("raw_lines", times=None, lines=lines, position="start")
    return line


def test_a_line_of_too_many_levels_is_read_as_far_as_its_id_unless_it_is_cut_off() -> None:
    deep = b'{"custom_id":"a","result":{"type":"succeeded","message":{"x":"]","y":%b%b}}}\n'
    whole = read_lines(deep % (b"[" * 100_000, b"]" * 100_000))
    assert [(row.custom_id, row.result.message) for row in whole.lines.rows] == [("a", None)]
    assert read_lines(deep % (b"[" * 100_000, b"]" * 99_999)).damaged == [0]


@pytest.fixture
def undisturbed(root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path) -> tuple[str, Path]:
    """A delivered job of 1,000 requests: what a disturbed delivery must come to as well."""
    url = submit_all(root, api, records(1000))
    deliver(root, url, delivery_to(tmp_path / "undisturbed", api), emulator)
    return url, tmp_path / "undisturbed"


@pytest.mark.parametrize("mid_line", [True, False])
@pytest.mark.parametrize("clean_end", [True, False])
def test_a_download_cut_at_half_three_times_gives_the_same_bytes(
    root: Folder,
    api: BatchesApi,
    emulator: Emulator,
    undisturbed: tuple[str, Path],
    tmp_path: Path,
    mid_line: bool,
    clean_end: bool,
) -> None:
    url, expected = undisturbed
    times = 2 if clean_end else 3
    emulator.fault("cut_results", times=times, fraction=0.5, mid_line=mid_line, clean_end=clean_end)
    summary = deliver(root, url, delivery_to(tmp_path / "again", api), emulator)
    assert summary["counts"]["succeeded"] == 1000
    assert contents(tmp_path / "again") == contents(expected)


@pytest.mark.parametrize("format", ["jsonl", "parquet", "raw"])
def test_lines_that_come_twice_are_delivered_once(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, format: Any
) -> None:
    failures = {"custom_ids": ["r-3", "r-300", "r-999"], "error_type": "api_error"}
    emulator.settings(outcomes={"failures": [failures]})
    url = submit_all(root, api, records(1000))

    def delivered(name: str) -> dict[str, bytes]:
        output = open_directory(Folder.at((tmp_path / name).as_uri()), format=format)
        deliver(root, url, delivery_to(tmp_path / name, api, output=output), emulator)
        return contents(tmp_path / name)

    undisturbed = delivered("undisturbed")
    emulator.fault("duplicate_lines", times=None, count=200)
    emulator.fault("cut_results", times=2, fraction=0.6)
    assert delivered("again") == undisturbed


def test_a_download_that_never_gets_further_fails_and_says_so(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(100))
    emulator.fault("cut_results", times=None, fraction=0.5)
    with pytest.raises(IncompleteResultsError, match="50 of 100 results"):
        deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert set(contents(tmp_path / "out")) == {"_delivery.json"}

    emulator.clear_faults()
    assert deliver(root, url, delivery_to(tmp_path / "out", api), emulator)["counts"]["succeeded"] == 100


def test_a_404_on_results_that_exist_passes(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(5))
    emulator.end(emulator.batches()[0]["id"])
    emulator.fault("status", path=RETRIEVE, method="GET", times=2, status=404, type="not_found_error")
    emulator.fault("status", path=RESULTS, times=2, status=404, type="not_found_error")
    assert deliver(root, url, delivery_to(tmp_path / "out", api), emulator)["counts"]["succeeded"] == 5


@pytest.mark.parametrize("fault", [{"kind": "omit", "custom_ids": ["r-123"]}, {"kind": "cut_results"}])
def test_a_result_that_the_counts_hold_is_never_sent_again_and_a_retry_delivers_it(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, fault: dict[str, Any]
) -> None:
    url = submit_all(root, api, records(1000))
    how = {"fraction": 0.5, "clean_end": True} if fault["kind"] == "cut_results" else {}
    emulator.fault(**{**fault, **how, "times": 9})
    delivery = delivery_to(tmp_path / "out", api, resubmit_rounds=3)
    for _ in range(3):
        with pytest.raises(IncompleteResultsError, match="1000 that exist"):
            deliver(root, url, delivery, emulator)
        assert set(contents(tmp_path / "out")) == {"_delivery.json"}
        assert read_ledger(root_relative(root, url)).parts[0].moved == 0
    summary = deliver(root, url, delivery, emulator)
    assert (summary["counts"]["succeeded"], summary["resubmitted"]) == (1000, 0)
    assert creates(emulator) == 1


def test_what_the_api_counts_as_failed_is_sent_again_only_once_its_line_is_there(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    failure = {"custom_ids": ["r-3"], "outcome": "expired", "tries": 1}
    emulator.settings(outcomes={"failures": [failure]})
    url = submit_all(root, api, records(10))
    emulator.fault("omit", times=3, custom_ids=["r-3"])
    delivery = delivery_to(tmp_path / "out", api, resubmit_rounds=1)
    with pytest.raises(IncompleteResultsError):
        deliver(root, url, delivery, emulator)
    assert creates(emulator) == 1
    assert deliver(root, url, delivery, emulator)["counts"]["succeeded"] == 10
    [sent] = emulator.custom_ids(emulator.batches()[-1]["id"])
    assert sent.partition("_")[0] == "r-3", "behind it is the part's mark"


def test_only_a_request_that_the_api_counts_nowhere_is_missing(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    """The batch holds one request less than was sent."""
    url = submit_all(root, api, records(10))
    params = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    ids = [name for name in emulator.custom_ids(emulator.batches()[0]["id"]) if name != "r-3"]
    body = msgspec.json.encode({"requests": [{"custom_id": name, "params": params} for name in ids]})
    batch = api.create([body], len(body), [])
    with open_job(root, url) as job, job.change() as ledger:
        ledger.parts[0].batch_id = batch.id
    summary = deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert summary["counts"] | {"total": 10, "succeeded": 9, "missing": 1} == summary["counts"]
    record = read_both(tmp_path / "out")[1]["r-3"]
    assert (record["outcome"], record["retryable"], record["input"]) == ("missing", True, {"n": 3})

    summary = deliver(
        root, url, delivery_to(tmp_path / "out", api, resubmit_rounds=1), emulator, generation=2
    )
    assert summary["counts"]["succeeded"] == 10
    [sent] = emulator.custom_ids(emulator.batches()[-1]["id"])
    assert sent.partition("_")[0] == "r-3", "behind it is the part's mark"


def test_a_short_download_of_batches_that_something_else_submitted_fails_too(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    submit_all(root, api, records(10))
    [batch] = emulator.batches()
    emulator.end(batch["id"])
    emulator.fault("omit", times=3, custom_ids=["r-3"])
    delivery = delivery_to(tmp_path / "out", api)
    with pytest.raises(IncompleteResultsError, match="1 of 10 results"):
        delivery.deliver_batches([batch["id"]])
    assert delivery.deliver_batches([batch["id"]])["counts"]["succeeded"] == 10


def test_results_that_the_job_does_not_know_are_counted_and_kept_out(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    url = submit_all(root, api, records(10))
    emulator.fault("raw_lines", times=None, lines=[{"size": 50, "custom_id": "stranger"}], position="start")
    with caplog.at_level(logging.ERROR):
        summary = deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert (summary["counts"]["total"], summary["unknown_ids"]) == (10, 1)
    assert "belong to no request" in caplog.text
    assert "stranger" not in read_both(tmp_path / "out")[0]


def test_a_line_of_30_mb_is_delivered_like_any_other(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(answer_bytes_by_id={"r-1": 30_000_000})
    url = submit_all(root, api, records(3))
    deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert len(read_both(tmp_path / "out")[0]["r-1"]["text"]) == 30_000_000


def test_invalid_utf_8_in_an_answer_is_replaced_and_the_answer_kept(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(3))
    answer_with(emulator, b"caf\xe9")
    deliver(root, url, delivery_to(tmp_path / "out", api), emulator)
    assert read_both(tmp_path / "out")[0]["r-1"]["text"] == "caf\N{REPLACEMENT CHARACTER}"


def test_lines_that_are_carried_through_keep_even_bytes_that_are_no_utf_8(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(3))
    line = answer_with(emulator, b"caf\xe9")
    output = open_directory(Folder.at((tmp_path / "out").as_uri()), format="raw")
    summary = deliver(root, url, delivery_to(tmp_path / "out", api, output=output), emulator)
    assert summary["counts"]["succeeded"] == 3
    lines = (tmp_path / "out" / "succeeded" / "part-00000.jsonl").read_bytes().split(b"\n")
    assert line in lines


@pytest.mark.parametrize("format", ["jsonl", "parquet", "raw"])
def test_half_a_surrogate_pair_and_an_unreadable_usage_cost_no_answer(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path, format: Any
) -> None:
    url = submit_all(root, api, records(3))
    answer_with(emulator, rb"cut \ud83d", usage=b'{"input_tokens":"many"}')
    output = open_directory(Folder.at((tmp_path / "out").as_uri()), format=format)
    reading = Reading(count_as_failed=("refusal",))
    for how in (Reading(), reading):
        delivery = delivery_to(tmp_path / "out", api, output=output, reading=how)
        summary = deliver(root, url, delivery, emulator)
        assert summary["counts"]["succeeded"] == 3
    if format == "jsonl":
        assert read_both(tmp_path / "out")[0]["r-1"]["text"] == "cut \N{REPLACEMENT CHARACTER}"
    if format == "parquet":
        rows = pq.read_table(tmp_path / "out" / "succeeded").to_pylist()
        [row] = [row for row in rows if row["custom_id"] == "r-1"]
        assert (row["text"], row["usage"]) == ("cut \N{REPLACEMENT CHARACTER}", None)


def test_a_damaged_line_is_fetched_again(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(3))
    emulator.fault("raw_lines", times=None, lines=[{"text": '{"custom_id": "r-1", "res'}], position="start")
    assert deliver(root, url, delivery_to(tmp_path / "out", api), emulator)["counts"]["succeeded"] == 3


def line(custom_id: str, type_: str = "succeeded") -> bytes:
    message = {"content": [{"type": "text", "text": "a"}], "model": "claude-haiku-4-5", "usage": {}}
    return (
        msgspec.json.encode({"custom_id": custom_id, "result": {"type": type_, "message": message}}) + b"\n"
    )


def test_lines_are_told_apart_only_where_needed_and_rightly_then() -> None:
    data = b"\n" + line("a") + line("b", "errored") + b"\n \n" + line("c") + line("d", "expired") + line("e")
    lines, count, numbers, damaged = read_lines(data)
    assert (len(lines.rows), count, list(numbers), damaged) == (5, 8, [1, 2, 5, 6, 7], [])
    assert [msgspec.json.decode(text)["custom_id"] for text in lines.texts] == ["a", "b", "c", "d", "e"]
    failed = lines.select([False, True, False, True, False])
    assert [text.split() for text in failed.texts] == [
        line("b", "errored").split(),
        line("d", "expired").split(),
    ]
    assert (
        lines.select([True, False, True, False, True]).data.split()
        == (line("a") + line("c") + line("e")).split()
    )
    assert lines.select([False] * 5).data == b""


@pytest.mark.parametrize("blank", [b"", b"\n"])
def test_two_results_in_one_line_are_no_reason_to_guess(blank: bytes) -> None:
    read = read_lines(line("a").strip() + line("b") + line("c") + blank)
    assert ([row.custom_id for row in read.lines.rows], read.damaged) == (["c"], [0])
    [text] = read.lines.texts
    assert msgspec.json.decode(text)["custom_id"] == "c"


def test_archived_results_are_said_to_be_gone(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(3))
    emulator.archive(emulator.batches()[0]["id"])
    with pytest.raises(ResultsGoneError, match="29 days"):
        deliver(root, url, delivery_to(tmp_path / "out", api), emulator)


def test_a_deleted_batch_is_said_to_be_gone(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(3))
    emulator.delete(emulator.batches()[0]["id"])
    with pytest.raises(ResultsGoneError, match="deleted"):
        deliver(root, url, delivery_to(tmp_path / "out", api), emulator)


def test_results_near_their_end_are_warned_about(
    emulator: Emulator, api: BatchesApi, root: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    import datetime

    import msgspec

    submit_all(root, api, records(1))
    emulator.end(emulator.batches()[0]["id"])
    batch = api.retrieve(emulator.batches()[0]["id"])
    old = msgspec.structs.replace(batch, created_at=batch.created_at - datetime.timedelta(days=28))
    with caplog.at_level(logging.WARNING):
        list(Download(source=BatchResults(api=api, batch=old)).arrivals())
    assert "24 hours are left" in caplog.text


def test_the_key_goes_to_the_clients_own_host_only(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    emulator.settings(results_url_base="http://results.invalid")
    url = submit_all(root, api, records(3))
    assert deliver(root, url, delivery_to(tmp_path / "out", api), emulator)["counts"]["succeeded"] == 3


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 18])
def test_lines_are_the_same_whatever_the_blocks(size: int) -> None:
    data = '{"a":"é"}\n\n{"b":1}\n{"long":"' + "x" * 300 + '"}\nlast'
    encoded = data.encode()
    blocks = [encoded[start : start + size] for start in range(0, len(encoded), size)]
    *whole, last = whole_lines(blocks, size=32)
    assert b"".join([*whole, last]) == encoded
    assert all(block.endswith(b"\n") for block in whole)
    assert whole


def test_columns_too_large_for_memory_are_read_back_from_disk(root: Folder, api: BatchesApi) -> None:
    rows: list[dict[str, Any]] = [
        {"custom_id": f"r-{n}", "prompt": "x", **({"blob": f"{n}" * 2000} if n % 3 else {})}
        for n in range(5000)
    ]
    url = submit_all(root, api, rows)
    folder = root.child(*url.removeprefix(root.url).strip("/").split("/"))
    inputs = Inputs(folder, "inputs-00000.jsonl")
    assert inputs._file is not None
    first, last, again = inputs.take(["r-0", "r-4999", "r-0"])
    assert first is not None
    assert bytes(first.columns) == b""
    assert last is not None
    assert bytes(last.columns) == b'{"blob":"' + b"4999" * 2000 + b'"}'
    assert first.digest
    assert first.digest == last.digest  # the same was asked
    assert again is None
    assert len(list(inputs.unanswered())) == len(inputs) == 4998
    assert [inputs.was_sent(name) for name in ("r-0", "r-1", "s-1")] == [True, True, False]

    ids = Ids(folder, "inputs-00000.jsonl")
    assert [own is None for own in ids.take(["r-2", "r-0", "s-1", "r-0"])] == [False, False, True, True]
    assert [custom_id for custom_id, _ in ids.unanswered()][:3] == ["r-1", "r-3", "r-4"]
    assert [ids.was_sent(name) for name in ("r-0", "r-1", "s-1")] == [True, True, False]
    inputs.close()


def test_a_download_comes_back_when_the_api_asks_it_to(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    url = submit_all(root, api, records(5))
    emulator.end(emulator.batches()[0]["id"])
    emulator.fault("status", path=RESULTS, status=429, type="rate_limit_error", headers={"retry-after": "1"})
    assert deliver(root, url, delivery_to(tmp_path / "out", api), emulator)["counts"]["succeeded"] == 5
    first, second = [call["time"] for call in emulator.journal(path=RESULTS)]
    assert second - first >= 1
