"""Trying requests in a notebook or a script, without a running Airflow: answers in seconds, and the costs.

from airflow_claude_batch import trial

tried = trial.run(rows, prompt="Sum up: {{ body }}", model="claude-haiku-4-5", max_tokens=300)
tried["succeeded"][0]["text"], tried["trial"]["whole"]["batch_usd"]
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import anthropic


def run(
    requests: Any,
    *,
    records: int = 20,
    pick: Literal["first", "spread", "random"] = "first",
    prompt: str | None = None,
    model: str | None = None,
    max_tokens: int | None = None,
    system: str | list[dict[str, Any]] | None = None,
    message_params: Mapping[str, Any] | None = None,
    output_schema: Any = None,
    concurrency: int = 8,
    client: anthropic.Anthropic | None = None,
) -> dict[str, Any]:
    """Answer some of the requests by single calls, at the standard price; nothing is kept on disk.

    Args:
        requests: Records, a callable that returns or yields them, a source of
            ``airflow_claude_batch.sources``, or the address of files.
        records: How many are tried.
        pick: Which ones; the input is read, and counted, to its end in any case.
        prompt: Jinja template over a record's columns, for records that are no requests yet.
        model: Of requests that name none.
        max_tokens: Likewise.
        system: Likewise; text, a list of blocks, or a text file's address.
        message_params: Any other Messages API parameters, as defaults; ``betas`` are those of the calls.
        output_schema: Pydantic model or JSON Schema of the answers.
        concurrency: Calls at the same time at the most.
        client: Names the key and the address; None for the SDK's environment variables.

    Returns:
        The summary that a delivery returns, with the lists ``succeeded`` and ``errored`` and, under
        ``trial``, what the whole input will take.

    Raises:
        InputError: For records that break a rule; nothing was sent.
        ConfigurationError: For another argument that does, and where there is no key; likewise.
        UnreachableError: Where the API answers nobody.
    """
    from airflow_claude_batch.trial.answers import Trial

    trial = Trial(
        requests=requests,
        records=records,
        pick=pick,
        prompt=prompt,
        defaults={"model": model, "max_tokens": max_tokens, "system": system},
        message_params=message_params or {},
        output_schema=output_schema,
    )
    return trial.answer(client, concurrency)
