from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anthropic
import pytest

from airflow_claude_batch.emulator.testing import Emulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def client(emulator: Emulator) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(
        api_key="test-key-1234", base_url=emulator.url, _strict_response_validation=True, max_retries=0
    ) as sdk:
        yield sdk


@pytest.fixture
def submit(client: anthropic.Anthropic) -> Callable[..., Any]:
    """Create a batch of requests; each is a custom_id, or a custom_id with parameters."""

    def create(*requests: str | tuple[str, dict[str, Any]], **options: Any) -> Any:
        pairs = [(r, {}) if isinstance(r, str) else r for r in requests]
        return client.messages.batches.create(
            requests=[{"custom_id": i, "params": {**prompt(i), **extra}} for i, extra in pairs], **options
        )

    return create


def prompt(text: str) -> dict[str, Any]:
    return {
        "model": "claude-haiku-4-5",
        "max_tokens": 1024,
        "messages": [{"role": "user", "content": f"Say something about {text}."}],
    }


@pytest.fixture
def results_of(emulator: Emulator, client: anthropic.Anthropic) -> Callable[[str], dict[str, Any]]:
    """End a batch and return its results by custom_id, each validated against the SDK's types."""

    def collect(batch_id: str) -> dict[str, Any]:
        from anthropic.types.messages import MessageBatchIndividualResponse

        emulator.end(batch_id)
        lines = client.get(f"/v1/messages/batches/{batch_id}/results", cast_to=str).splitlines()
        parsed = [MessageBatchIndividualResponse.model_validate_json(line) for line in lines]
        return {line.custom_id: line.result for line in parsed}

    return collect
