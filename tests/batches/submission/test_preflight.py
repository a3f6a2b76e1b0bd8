from __future__ import annotations

import datetime
import json
import logging
import re
from typing import Any

import pytest

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.cost.prices import PriceBook
from airflow_claude_batch.batches.errors import AccessError, ConfigurationError, RejectedError
from airflow_claude_batch.batches.requests.builder import Recipe
from airflow_claude_batch.batches.requests.model_requirements import ModelRequirement, ModelRequirements
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.batches.submission.preflight import Models, probe
from airflow_claude_batch.emulator.testing import Emulator
from tests.batches.helpers import creates, records, started

PRICES = PriceBook(datetime.datetime.now(datetime.UTC))

HAIKU = "claude-haiku-4-5"
MODELS = "/v1/models/"


def needs(model: str, **need: Any) -> ModelRequirements:
    return ModelRequirements({model: ModelRequirement(**{"max_tokens": 100, **need})})


def test_an_unknown_model_is_refused_by_name(api: BatchesApi) -> None:
    with pytest.raises(ConfigurationError, match="no model 'claude-haiku-45'"):
        Models(api=api).look_up("claude-haiku-45")


def test_a_retired_model_is_refused_with_the_date(api: BatchesApi) -> None:
    with pytest.raises(ConfigurationError, match="claude-3-5-haiku-20241022 is retired since 2026-02-19"):
        Models(api=api).check(needs("claude-3-5-haiku-20241022"))


def test_more_tokens_than_the_model_answers_with_are_refused(api: BatchesApi) -> None:
    with pytest.raises(ConfigurationError, match="max_tokens = 70000: claude-haiku-4-5 answers with 64000"):
        Models(api=api).check(needs(HAIKU, max_tokens=70_000))
    Models(api=api, betas=["output-300k-2026-03-24"]).check(needs(HAIKU, max_tokens=70_000))


def test_a_model_that_can_do_all_of_it_passes(api: BatchesApi) -> None:
    Models(api=api).check(needs(HAIKU, images=True, pdfs=True, shapes=True))


def test_what_a_model_cannot_do_is_refused_altogether(api: BatchesApi, emulator: Emulator) -> None:
    no = {"supported": False}
    info = {
        "id": HAIKU,
        "capabilities": {"batch": no, "image_input": no, "pdf_input": no, "structured_outputs": no},
    }
    emulator.fault("status", path=MODELS, status=200, body=json.dumps(info))
    with pytest.raises(ConfigurationError) as caught:
        Models(api=api).check(needs(HAIKU, images=True, pdfs=True, shapes=True))
    said = ("cannot be used in message batches", "takes no images", "takes no PDFs", "takes no output schema")
    for problem in said:
        assert problem in str(caught.value)


def test_each_model_is_asked_for_once(api: BatchesApi, emulator: Emulator) -> None:
    models = Models(api=api)
    for _ in range(3):
        models.look_up(HAIKU)
        models.check(needs(HAIKU))
    assert len(emulator.journal(method="GET", path=MODELS)) == 1


@pytest.mark.parametrize("status", [404, 403, 500])
def test_where_the_endpoint_is_not_there_the_check_is_left_out_with_a_line_in_the_log(
    api: BatchesApi, emulator: Emulator, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    emulator.fault("status", path=MODELS, status=status, body='{"detail": "Not Found"}', times=None)
    with caplog.at_level(logging.INFO):
        Models(api=api).check(needs("any-model", max_tokens=10**9))
    assert "any-model is not checked beforehand" in caplog.text


def test_a_deprecated_model_gives_a_warning(api: BatchesApi, caplog: pytest.LogCaptureFixture) -> None:
    Models(api=api).check(needs("claude-sonnet-4-5"))
    words = r"claude-sonnet-4-5 is deprecated and retires on 2026-11-30: \d+ days are left"
    assert re.search(words, caplog.text)


def test_needs_are_the_most_that_any_request_asks(root: Folder) -> None:
    image = {"type": "image", "source": {"type": "file", "file_id": "f"}}
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "x"}}
    rows = [
        {"custom_id": "a", "prompt": "x", "max_tokens": 500},
        {"custom_id": "b", "prompt": [image, {"type": "text", "text": "x"}]},
        {"custom_id": "c", "model": "other", "messages": [{"role": "user", "content": [pdf]}]},
    ]
    recipe = Recipe()
    with started(root, rows, recipe=recipe):
        assert recipe.requirements.models == {
            HAIKU: ModelRequirement(max_tokens=500, images=True),
            "other": ModelRequirement(max_tokens=100, pdfs=True),
        }


def test_a_refused_job_is_not_kept_so_that_a_clear_checks_again(root: Folder, api: BatchesApi) -> None:
    recipe = Recipe()

    def check() -> None:
        Models(api=api).check(recipe.requirements)

    rows = [{"custom_id": "a", "prompt": "x", "model": "claude-3-5-haiku-latest"}]
    for generation in (1, 2):
        with (
            pytest.raises(ConfigurationError, match="retired"),
            started(root, rows, generation=generation, recipe=recipe, check=check),
        ):
            pass


def rows_with(**params: Any) -> list[dict[str, Any]]:
    return [{**row, **params} for row in records(3)]


def test_a_probe_sends_the_first_request_and_only_once_and_says_what_it_cost(
    root: Folder, api: BatchesApi, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for _ in range(2):
        with started(root, records(3)) as job:
            probe(job, api, PRICES)
    [line] = [text for text in caplog.messages if "probe of request r-0 was answered" in text]
    assert 0 < float(line.rpartition("$")[2]) < 0.01
    assert len(emulator.journal(method="POST", path="/v1/messages$")) == 1
    assert creates(emulator) == 0


def test_an_invalid_request_fails_before_anything_is_submitted(
    root: Folder, api: BatchesApi, emulator: Emulator
) -> None:
    rows = rows_with(thinking={"type": "enormous"})
    with (
        started(root, rows) as job,
        pytest.raises(RejectedError, match=r"probe of request r-0 was refused.*thinking"),
    ):
        probe(job, api, PRICES)
    assert creates(emulator) == 0


def test_a_wrong_key_fails_the_probe(root: Folder, api: BatchesApi, emulator: Emulator) -> None:
    emulator.fault("status", path="/v1/messages$", status=401, type="authentication_error", message="no")
    with started(root, records(1)) as job, pytest.raises(AccessError, match="anthropic_default"):
        probe(job, api, PRICES)


def test_a_busy_api_does_not_fail_the_probe(
    root: Folder, api: BatchesApi, emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    headers = {"retry-after": "0"}
    emulator.fault("status", path="/v1/messages$", status=529, headers=headers, times=None)
    with started(root, records(1)) as job:
        probe(job, api, PRICES)
    assert "going on without" in caplog.text
