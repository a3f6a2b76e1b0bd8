"""What a test sees of the API that its DAG talks to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.emulator.testing import Emulator

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import BatchesApi
    from airflow_claude_batch.emulator.control.emulation import Emulation


@dataclass(frozen=True, kw_only=True)
class SentRequest:
    """A request as the API has received it."""

    custom_id: str
    """As the DAG wrote it."""
    params: dict[str, Any]
    batch_id: str

    @property
    def prompt(self) -> str:
        """The text of its last message."""
        content = self.params["messages"][-1]["content"]
        if isinstance(content, str):
            return content
        return "\n".join(block["text"] for block in content if block.get("type") == "text")


Answer = str | Mapping[str, Any] | list[Any] | None
"""A text, or what becomes JSON; None: one that the emulator makes up."""
Answers = Mapping[str, Answer] | Callable[[SentRequest], Answer]
"""By custom_id, or a function of the request."""


class ClaudeBatches(Emulator):
    """The Message Batches API of one test: what was sent, what it cost, and what is answered.

    All that `Emulator` can do is here, too: faults, settings, the journal of all calls.
    """

    def __init__(self, url: str, emulation: Emulation, answers: Answers) -> None:
        super().__init__(url)
        self._emulation = emulation
        self._answers = answers
        self._failures: list[dict[str, Any]] = []
        self.problems: list[Exception] = []
        """What the function that answers has raised."""
        emulation.store.answer = self._answer

    @property
    def sent(self) -> list[SentRequest]:
        """Every request of every batch, in the order in which they were sent."""
        return [
            SentRequest(custom_id=name, params=msgspec.json.decode(params), batch_id=batch.id)
            for batch in self._emulation.store.all()
            for name, params in zip(batch.names, batch.params, strict=True)
        ]

    @property
    def paid_usd(self) -> float:
        """What all answers so far cost, at batch prices; answers of models without a price are left out."""
        from airflow_claude_batch.batches.cost.prices import cost_summary
        from airflow_claude_batch.batches.results.answer_policy import Reading
        from airflow_claude_batch.batches.results.classify import process_results
        from airflow_claude_batch.batches.results.download import Download
        from airflow_claude_batch.batches.results.line_sources import BatchResults

        api, spendings = self._api(), []
        for batch in api.list_since(api.now().replace(year=2000)):
            if batch.ended and batch.archived_at is None:
                download = Download(source=BatchResults(api=api, batch=batch))
                tally = process_results(download, None, reading=Reading())
                spendings += tally.spending
        return float(cost_summary(spendings)["total_usd"] or 0.0)

    def fail(self, custom_id: str, error_type: str = "api_error", *, times: int | None = None) -> None:
        """Let a request fail.

        Args:
            custom_id: As the DAG writes it.
            error_type: The API's, or ``expired``, ``canceled``, ``refusal`` or ``max_tokens``.
            times: How often it fails before it is answered; None for always.
        """
        failure: dict[str, Any] = {"custom_ids": [custom_id], "tries": times}
        if error_type in ("expired", "canceled", "refusal", "max_tokens"):
            failure["outcome"] = error_type
        else:
            failure |= {"outcome": "errored", "error_type": error_type}
        self._failures.append(failure)
        self.settings(outcomes={"failures": self._failures})

    def _answer(self, custom_id: str, params: dict[str, Any]) -> str | None:
        """What the test wants to be answered; called in the emulator's thread."""
        answers = self._answers
        try:
            if callable(answers):
                answer = answers(SentRequest(custom_id=custom_id, params=params, batch_id=""))
            else:
                answer = answers.get(custom_id)
        except Exception as error:  # noqa: BLE001  # told when the test is over
            self.problems.append(error)
            return None
        return answer if answer is None or isinstance(answer, str) else json.dumps(answer)

    def _api(self) -> BatchesApi:
        import anthropic

        from airflow_claude_batch.batches.api.client import BatchesApi

        return BatchesApi(anthropic.Anthropic(api_key="test", base_url=self.url))
