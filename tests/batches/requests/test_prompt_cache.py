from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.job.job import Input, Later, start_job
from airflow_claude_batch.batches.job.spool import Limits
from airflow_claude_batch.batches.requests.prompt_cache import mark_prefix, minimum_prefix, read_system
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.submit import Submission
from airflow_claude_batch.common.settings import open_folder
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.helpers import IDENTITY, QUICK, creates, records, sent_ids

LONG = "You are careful. " * 2000
DEFAULTS: dict[str, Any] = {"model": "claude-haiku-4-5", "max_tokens": 100}
HOUR = {"type": "ephemeral", "ttl": "1h"}


def test_the_system_prompt_is_marked_at_its_end() -> None:
    marked = mark_prefix({**DEFAULTS, "system": LONG}, "1h")
    assert marked["system"] == [{"type": "text", "text": LONG, "cache_control": HOUR}]


def test_of_several_blocks_the_last_one_is_marked_and_the_users_own_stay_as_they_are() -> None:
    blocks = [{"type": "text", "text": "a"}, {"type": "text", "text": LONG}]
    marked = mark_prefix({**DEFAULTS, "system": blocks}, "5m")["system"]
    assert "cache_control" not in marked[0]
    assert marked[1]["cache_control"]["ttl"] == "5m"
    assert "cache_control" not in blocks[1]


def test_without_a_system_prompt_the_tools_are_the_prefix() -> None:
    tools = [{"name": "a", "input_schema": {}}, {"name": "b", "input_schema": {}}]
    assert mark_prefix({**DEFAULTS, "tools": tools}, "1h")["tools"][1]["cache_control"] == HOUR


def test_a_cache_without_anything_to_share_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no system prompt and no tools"):
        mark_prefix(DEFAULTS, "1h")


def test_another_lifetime_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'5m' or '1h'"):
        mark_prefix({**DEFAULTS, "system": LONG}, "2h")


def test_a_prefix_too_short_for_the_model_gives_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        mark_prefix({**DEFAULTS, "system": LONG}, "1h")
        assert not caplog.records
        mark_prefix({**DEFAULTS, "system": "Be brief."}, "1h")
    [warning] = caplog.records
    assert "claude-haiku-4-5 caches none below 4096" in warning.getMessage()


@pytest.mark.parametrize(
    ("model", "tokens"),
    [
        ("claude-opus-5-5", 512),
        ("claude-opus-5", 1024),
        ("claude-opus-4-5-20251101", 4096),
        ("claude-sonnet-4-6", 1024),
        ("some-model-of-tomorrow", 1024),
    ],
)
def test_each_model_has_its_own_minimum(model: str, tokens: int) -> None:
    assert minimum_prefix(model) == tokens


def test_a_system_prompt_may_lie_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "handbook.md").write_text("# Rules")
    assert read_system(f"file://{tmp_path}/handbook.md", Folder.at) == "# Rules"
    assert read_system("Read file://x first", Folder.at) == "Read file://x first"
    assert read_system(None, Folder.at) is None


@pytest.mark.parametrize("written", ["file:{0}/a.md", "file://{0}/a.md", " {0}/a.md\n"])
def test_a_system_prompt_may_be_named_in_each_form_of_a_path(tmp_path: Path, written: str) -> None:
    (tmp_path / "a.md").write_text("# Rules")
    assert read_system(written.format(tmp_path), open_folder) == "# Rules"


@pytest.mark.parametrize(
    "text",
    ["/opt/prompts/system", "/opt/prompts/", "dbfs:/prompts/a.md", "s3:/b/system", "C:/prompts/system"],
)
def test_an_address_in_one_word_is_not_sent_as_the_system_prompt(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"not there|cannot be opened"):
        read_system(text, open_folder)


@pytest.mark.parametrize(
    "text", ["/help", "/nothink Be brief.", "/ and //", "Be brief: /opt/prompts/system", "a:/b"]
)
def test_a_system_prompt_may_have_slashes(text: str) -> None:
    assert read_system(text, open_folder) == text


@pytest.mark.parametrize("path", ["./prompts/a.md", "../a.md", "~/a.md"])
def test_a_path_that_is_not_absolute_is_not_sent_as_the_system_prompt(path: str) -> None:
    with pytest.raises(ConfigurationError, match="absolute path or a URI"):
        read_system(path, Folder.at)


@pytest.mark.parametrize(
    "text", ["../ goes up.", "~/.bashrc is a file of shells", "... and so on", "file: a.md"]
)
def test_a_system_prompt_may_begin_with_dots(text: str) -> None:
    assert read_system(text, Folder.at) == text


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "not there"), (b"\xff\xfe", "UTF-8"), (b" \n", "empty")]
)
def test_a_system_prompt_that_cannot_be_read_is_refused(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    if content is not None:
        (tmp_path / "handbook.md").write_bytes(content)
    with pytest.raises(ConfigurationError, match=reason):
        read_system(f"file://{tmp_path}/handbook.md", Folder.at)


def step(root: Folder, api: BatchesApi, count: int = 5, per_part: int = 2) -> tuple[list[str], Later | None]:
    """One attempt of a task with a warm cache."""
    source = Input(
        records=lambda: records(count),
        defaults=mark_prefix({**DEFAULTS, "system": LONG}, "1h"),
        limits=Limits(requests=per_part, first_alone=True),
    )
    with start_job(root, IDENTITY, source, generation=1) as (job, _):
        later = Submission(job=job, api=api, policy=QUICK).run()
        return job.ledger.batch_ids, later


def test_the_others_are_submitted_when_the_first_request_has_ended(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.settings(duration="manual")
    [first], later = step(root, api)
    assert later is not None
    assert later.batch_id == first
    assert sent_ids(emulator, first) == {"r-0"}

    assert step(root, api)[0] == [first]  # a look in between changes nothing
    assert creates(emulator) == 1

    emulator.end(first)
    batch_ids, later = step(root, api)
    assert later is None
    assert batch_ids[0] == first
    sent = [sent_ids(emulator, batch_id) for batch_id in batch_ids]
    assert sorted(len(ids) for ids in sent) == [1, 2, 2]
    assert sorted(custom_id for ids in sent for custom_id in ids) == [f"r-{number}" for number in range(5)]


def test_a_job_of_one_request_warms_nothing(root: Folder, api: BatchesApi, emulator: Emulator) -> None:
    emulator.settings(duration="manual")
    batch_ids, later = step(root, api, count=1)
    assert (len(batch_ids), later) == (1, None)


def test_a_look_that_fails_does_not_send_the_others_early(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    emulator.settings(duration="manual")
    [first], _ = step(root, api)
    emulator.hide(first, lookups=20)
    _, later = step(root, api)
    assert later is not None
    assert creates(emulator) == 1


def test_after_a_warm_start_every_request_reads_the_prefix(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    from airflow_claude_batch.batches.api.result_lines import read_lines

    emulator.settings(duration="manual")
    [first], _ = step(root, api)
    emulator.end(first)
    batch_ids, _ = step(root, api)
    written = read = 0
    for batch_id in batch_ids:
        emulator.end(batch_id) if batch_id != first else None
        with api.results(batch_id) as answers:
            for row in read_lines(b"".join(answers))[0].rows:
                usage = _usage(row.result.message)
                written += usage["cache_creation_input_tokens"] > 0
                read += usage["cache_read_input_tokens"] > 0
    assert (written, read) == (1, 4)


def _usage(message: Any) -> dict[str, int]:
    import msgspec

    usage: dict[str, int] = msgspec.json.decode(message.usage)
    return usage
