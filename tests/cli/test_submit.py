"""``submit``: a job without a DAG."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import RETRIEVE, Emulator
from tests.batches.delivering import read_both
from tests.batches.helpers import creates
from tests.cli.conftest import Done, Run

SCHEMA = '{"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = "".join(f"{number},Nice {number}\n" for number in range(4))
    (tmp_path / "rows.csv").write_text(f"id,text\n{rows}")
    (tmp_path / "schema.json").write_text(SCHEMA)
    return tmp_path / "rows.csv"


def submit(run: Run, file: Path, *arguments: object) -> Done:
    model = ("--model", "claude-haiku-4-5", "--max-tokens", "50")
    prompt = ("--prompt", "How is it? {{ text }}", "--custom-id", "id")
    return run("submit", file, *model, *prompt, *arguments)


def test_a_file_is_sent_waited_for_and_written(
    run: Run, emulator: Emulator, file: Path, tmp_path: Path
) -> None:
    emulator.settings(duration=0.01)
    extra = (
        "--schema",
        tmp_path / "schema.json",
        "--system",
        "Be brief.",
        "--param",
        'stop_sequences=["END"]',
    )
    wait = ("--wait", "--output", tmp_path / "out", "--poll-interval", "0.1", "--tag", "team=growth")
    done = submit(run, file, *extra, *wait, "--name", "moods")
    assert (done.code, "Estimate: $" in done.err) == (0, True), done.err
    succeeded, _ = read_both(tmp_path / "out")
    assert sorted(succeeded) == ["0", "1", "2", "3"]
    assert succeeded["3"]["output"]["mood"] in ("good", "bad")
    assert succeeded["3"]["input"]["text"] == "Nice 3"
    [row] = run("list", "--tag", "team=growth", "-o", "json").data
    assert (row["job"], row["state"]) == ("claude-batch-cli/moods/submit/job-1", "delivered")
    header, booked = run("costs", "--by", "tag:team", "--csv").out.splitlines()
    assert list(run("costs", "--by", "tag:team", "-o", "json").data[0]) == header.split(",")
    assert header.startswith("team,requests,batch_usd,direct_usd,total_usd,")
    assert booked.startswith("growth,4,")
    assert float(booked.split(",")[2]) > 0


def test_prompts_are_read_from_files_and_no_address_is_sent_as_one(
    run: Run, emulator: Emulator, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "ask.txt").write_text("How is it? {{ text }}")
    (tmp_path / "system.md").write_text("Be brief.")
    model = ("--model", "claude-haiku-4-5", "--max-tokens", "50")
    for refused in (
        ["--prompt", tmp_path / "ask.txt"],
        ["--prompt", "{{ text }}", "--system", "/no/such.md"],
    ):
        assert run("submit", file, *model, *refused).code == 2
    assert creates(emulator) == 0
    system = f"file://{tmp_path}/system.md"
    assert run("submit", file, *model, "--prompt", f"@{tmp_path}/ask.txt", "--system", system).code == 0
    [stored] = (tmp_path / "storage").rglob("requests-*")
    params = json.loads(stored.read_text().splitlines()[0])["params"]
    assert params["messages"][0]["content"] == "How is it? Nice 0"
    assert params["system"] == "Be brief."


def test_documents_that_rows_name_are_sent_with_a_template_too(
    run: Run, emulator: Emulator, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("A note.")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"id": "1", "documents": [f"file://{tmp_path}/in/a.txt"]}))
    arguments = (
        "--model",
        "claude-haiku-4-5",
        "--max-tokens",
        "50",
        "--custom-id",
        "id",
        "--prompt",
        "Read.",
    )
    refused = run("submit", rows, *arguments, "--documents-from", tmp_path / "in")
    assert (refused.code, creates(emulator)) == (2, 0)
    assert "with --prompt, --documents COLUMN says which" in refused.err
    assert run("submit", rows, *arguments, "--documents", "documents").code == 0
    [stored] = (tmp_path / "storage").rglob("requests-*")
    [message] = json.loads(stored.read_text())["params"]["messages"]
    assert [block["type"] for block in message["content"]] == ["document", "text"]


def test_a_budget_holds_for_what_is_sent_from_a_terminal_too(
    run: Run, emulator: Emulator, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    budgets = '[{"max_usd": 0.0007, "per": "day", "scope": "all"}]'
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__BUDGETS", budgets)
    assert submit(run, file, "--name", "first").code == 0
    refused = submit(run, file, "--name", "second")
    assert (refused.code != 0, "a day for all has $0.0" in refused.err) == (True, True), refused.err
    assert creates(emulator) == 1


@pytest.mark.parametrize(
    ("budgets", "arguments"),
    [("", ["--max-usd", "0.0000001"]), ('[{"max_usd": 0.0000001, "per": "job", "scope": "all"}]', [])],
)
def test_a_job_that_is_too_dear_is_not_sent_by_a_retry_either(
    run: Run,
    emulator: Emulator,
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    budgets: str,
    arguments: list[str],
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__BUDGETS", budgets)
    submitted = submit(run, file, "--name", "dear", *arguments)
    retried = run("retry", "claude-batch-cli/dear/submit/job-1", "--output", tmp_path / "out")
    for refused in (submitted, retried):
        assert (refused.code, "above max_usd=1e-07. Nothing was sent" in refused.err) == (2, True), (
            refused.err
        )
    assert creates(emulator) == 0
    monkeypatch.delenv("AIRFLOW__CLAUDE_BATCH__BUDGETS")
    assert submit(run, file, "--name", "dear", "--max-usd", "1").code == 0
    assert creates(emulator) == 1


def test_a_dry_run_checks_and_estimates_and_leaves_nothing(
    run: Run, root: Folder, emulator: Emulator, file: Path
) -> None:
    done = submit(run, file, "--dry-run")
    assert (done.code, "4 requests in 1 batch." in done.err, creates(emulator)) == (0, True, 0)
    assert not Path(root.path).exists()


def test_a_trial_sends_the_first_rows_only(run: Run, emulator: Emulator, file: Path) -> None:
    done = submit(run, file, "--trial", "2")
    assert done.code == 0
    [batch] = emulator.batches()
    assert len(emulator.custom_ids(batch["id"])) == 2


def test_a_name_is_one_job_as_long_as_its_rows_are_the_same(
    run: Run, emulator: Emulator, file: Path, tmp_path: Path
) -> None:
    for tag in (["--tag", "team=growth"], []):
        assert submit(run, file, "--name", "twice", *tag).code == 0
    assert creates(emulator) == 1
    assert len(run("list", "--tag", "team=growth", "-o", "json").data) == 1
    emulator.end(emulator.batches()[0]["id"])
    done = run("retry", "claude-batch-cli/twice/submit/job-1", "--output", tmp_path / "out")
    assert (done.code, len(read_both(tmp_path / "out")[0])) == (0, 4)
    file.write_text(file.read_text() + "9,New\n")
    assert submit(run, file, "--name", "twice").code == 0
    assert creates(emulator) == 2
    assert run("list", "--state", "replaced", "-o", "json").data[0]["job"].endswith("twice/submit/job-1")


def test_a_parameter_is_sent_whatever_flags_there_are_for_others(
    run: Run, root: Folder, file: Path, tmp_path: Path
) -> None:
    asked = ("--prompt", "How is it? {{ text }}", "--custom-id", "id", "--schema", tmp_path / "schema.json")
    given = {
        "model": "claude-haiku-4-5",
        "max_tokens": 50,
        "system": "Be brief.",
        "output_config": {"effort": "low"},
    }
    params = [word for name, value in given.items() for word in ("--param", f"{name}={_as_text(value)}")]
    assert run("submit", file, *asked, *params, "--name", "by-param").code == 0
    [stored] = Path(root.path).glob("jobs/claude-batch-cli/by-param/submit/job-1/requests-*.jsonl")
    for line in stored.read_text().splitlines():
        sent = json.loads(line)["params"]
        assert sent["output_config"].pop("format")["type"] == "json_schema"
        assert {name: sent[name] for name in given} == given
    taken = run("submit", file, *asked, *params, "--param", 'output_config={"format": {}}')
    assert (taken.code, "--param output_config=… and --schema" in taken.err) == (2, True), taken.err


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


@pytest.mark.parametrize("factor", [None, 0.5])
def test_a_connections_discount_holds_in_records_summary_and_book(
    run: Run, emulator: Emulator, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: Any
) -> None:
    emulator.settings(duration=0.01)
    wait = ("--wait", "--output", tmp_path / "out", "--poll-interval", "0.1", "-o", "json")
    connection = {"conn_type": "anthropic", "password": "k", "host": emulator.url}
    listed = submit(run, file, "--name", "list-price", *wait).data["cost"]["total_usd"]
    extra = {} if factor is None else {"price_factor": factor}
    monkeypatch.setenv("AIRFLOW_CONN_ANTHROPIC_DEFAULT", json.dumps({**connection, "extra": extra}))
    wait = ("--wait", "--output", tmp_path / "less", "--poll-interval", "0.1", "-o", "json")
    done = submit(run, file, "--name", "discounted", "--tag", "team=growth", *wait)
    fetched = run("fetch", emulator.batches()[-1]["id"], "--output", tmp_path / "fetched", "-o", "json")
    retried = run(
        "retry", "claude-batch-cli/discounted/submit/job-1", "--output", tmp_path / "again", *wait[3:]
    )
    booked = {row["team"]: row["total_usd"] for row in run("costs", "--by", "tag:team", "-o", "json").data}
    expected = pytest.approx(listed * (factor or 1))
    for summary in (done.data, fetched.data, retried.data):
        assert summary["cost"]["total_usd"] == expected
    assert booked["growth"] == expected
    assert sum(row["cost_usd"] for row in read_both(tmp_path / "less")[0].values()) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--max-usd", "0.0000001"], "BudgetExceededError"),
        (["--prompt", "{{ nothing }}"], "nothing"),
        (["--wait"], "say --output PATH"),
        (["--model", "claude-nobody"], "knows no model"),
        (["--schema", __file__], "is no JSON"),
        (["--param", "temperature"], "name=value"),
        (["--param", "model=claude-haiku-4-5"], "--param model=… and --model say the same"),
        (["--param", "max_tokens=9"], "--param max_tokens=… and --max-tokens say the same"),
        (["--param", "stop_sequence=END"], "--param stop_sequence: no parameter of the Messages API"),
        (["--param", "thinking=on"], "--param thinking: it is a mapping"),
        (["--conn-id", "nobody"], "isn't defined"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_sent(
    run: Run, emulator: Emulator, file: Path, arguments: list[str], words: str
) -> None:
    done = submit(run, file, *arguments)
    assert (done.code, words in done.err, creates(emulator)) == (2, True, 0), done


def test_a_file_that_is_not_there_is_named(run: Run, emulator: Emulator, tmp_path: Path) -> None:
    done = submit(run, tmp_path / "none.csv")
    assert (done.code, "none.csv" in done.err, creates(emulator)) == (2, True, 0)


@pytest.mark.parametrize(
    ("argument", "value", "problem"),
    [
        ("--bad-records", "7", "from 0 to 1"),
        ("--max-failed-fraction", "nan", "from 0 to 1"),
        ("--trial", "0", "whole number from 1"),
        ("--max-usd", "-1", "number from 0"),
        ("--poll-interval", "0", "number above 0"),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_by_the_parser(
    run: Run, emulator: Emulator, file: Path, argument: str, value: str, problem: str
) -> None:
    done = submit(run, file, f"{argument}={value}")
    assert (done.code, f"{argument}: '{value}' is no" in done.err, problem in done.err) == (2, True, True)
    assert creates(emulator) == 0


@pytest.mark.parametrize(
    ("check", "problem"),
    [
        ("checks", "it looks like checks.py:is_plausible"),
        ("rows.csv:f", "it looks like checks.py:is_plausible"),
        ("gone.py:f", "No such file"),
    ],
)
def test_a_check_that_cannot_be_loaded_is_an_error_before_anything_is_paid(
    run: Run, emulator: Emulator, file: Path, tmp_path: Path, check: str, problem: str
) -> None:
    done = submit(run, file, "--check", tmp_path / check, "--output", tmp_path / "out")
    assert (done.code, problem in done.err, creates(emulator)) == (2, True, 0), done.err


def test_a_directory_that_is_taken_and_tags_that_are_none_are_errors_before_anything_is_paid(
    run: Run, emulator: Emulator, file: Path, tmp_path: Path
) -> None:
    emulator.settings(duration=0.01)
    wait = ("--wait", "--output", tmp_path / "out", "--poll-interval", "0.1")
    assert submit(run, file, "--name", "first", *wait).code == 0
    for given in (wait, wait[1:3]):
        taken = submit(run, file, "--name", "second", *given)
        assert (taken.code, "holds the results of the job" in taken.err) == (2, True), taken.err
    tagged = submit(run, file, "--tag", "conn_id=mine")
    assert (tagged.code, "tags is" in tagged.err) == (2, True), tagged.err
    assert creates(emulator) == 1


def test_a_file_that_is_no_text_is_named_with_its_argument(run: Run, file: Path, tmp_path: Path) -> None:
    (tmp_path / "photo.png").write_bytes(b"\x89PNG\xff\xfe")
    for argument, value in (("--schema", tmp_path / "photo.png"), ("--system", f"@{tmp_path}/photo.png")):
        done = submit(run, file, argument, value)
        assert (done.code, f"{argument} {tmp_path}/photo.png: the file is no text" in done.err) == (2, True)


def test_the_command_that_it_names_for_later_is_one_that_works(
    run: Run, root: Folder, emulator: Emulator, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__CLAUDE_BATCH__STORAGE_PATH")
    emulator.settings(duration=0.01)
    (tmp_path / "my checks.py").write_text("def fits(record):\n    return None\n")
    given = ("--check", tmp_path / "my checks.py:fits", "--storage-path", tmp_path / "a store")
    sent = submit(run, file, *given, "--name", "a b", "--output", tmp_path / "out")
    words = shlex.split(sent.err.partition("When they have ended: ")[2])
    assert words[:2] == ["claude-batch", "retry"]
    done = run(*words[1:], "--poll-interval", "0.1")
    assert done.code == 0, done.err
    assert len(read_both(tmp_path / "out")[0]) == 4


def test_after_an_error_it_names_the_command_that_goes_on_and_pays_nothing_again(
    run: Run, emulator: Emulator, file: Path, tmp_path: Path
) -> None:
    emulator.settings(duration=0.01)
    emulator.fault("status", method="GET", path=RETRIEVE, status=401, times=1)
    failed = submit(run, file, "--wait", "--output", tmp_path / "out", "--poll-interval", "0.1")
    assert (failed.code, "HTTP 401" in failed.err) == (2, True), failed.err
    [line] = [line for line in failed.err.splitlines() if line.startswith("Go on with: ")]
    words = shlex.split(line.removeprefix("Go on with: "))
    done = run(*words[1:], "--poll-interval", "0.1")
    assert (done.code, len(read_both(tmp_path / "out")[0]), creates(emulator)) == (0, 4, 1), done.err


def test_a_replaced_job_names_the_command_that_fetches_its_answers(
    run: Run, emulator: Emulator, file: Path, tmp_path: Path
) -> None:
    emulator.settings(duration=0.01)
    assert submit(run, file, "--name", "twice").code == 0
    file.write_text(file.read_text() + "9,New\n")
    assert submit(run, file, "--name", "twice").code == 0
    refused = run("retry", "claude-batch-cli/twice/submit/job-1", "--output", tmp_path / "out")
    found = re.search(r"`claude-batch (fetch .+) PATH`", refused.err)
    assert (refused.code, found is not None) == (2, True), refused.err
    assert found is not None
    assert run(*found[1].split(), tmp_path / "out", "--wait", "--poll-interval", "0.1").code == 0
    assert len(read_both(tmp_path / "out")[0]) == 4
