"""Pre-flight: what can be known to be wrong before a batch is paid for.

The API checks the parameters of a request only when it processes it, and tells when the whole batch
has ended. The models endpoint says at once whether a model exists, what it can do and how long its
answers may be; a request sent by itself says at once whether its parameters are right.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.cost.prices import Meter
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.errors import ConfigurationError, SubmissionError
from airflow_claude_batch.batches.job.part_reader import read_requests
from airflow_claude_batch.batches.requests.model_requirements import ModelRequirement, ModelRequirements
from airflow_claude_batch.batches.submission.create_errors import Kind, classify

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import BatchesApi
    from airflow_claude_batch.batches.cost.prices import PriceBook
    from airflow_claude_batch.batches.job.job import Job

log = logging.getLogger(__name__)

EXTENDED_OUTPUT_BETA = "output-300k-2026-03-24"
EXTENDED_OUTPUT_TOKENS = 300_000


class _Support(msgspec.Struct, frozen=True):
    supported: bool = True


class _Capabilities(msgspec.Struct, frozen=True):
    batch: _Support = _Support()
    image_input: _Support = _Support()
    pdf_input: _Support = _Support()
    structured_outputs: _Support = _Support()


class Model(msgspec.Struct, frozen=True):
    """What the API says about a model, as far as it decides whether a batch can work."""

    id: str
    lifecycle: str = "active"
    max_tokens: int | None = None
    max_input_tokens: int | None = None
    retires_at: str | None = None
    capabilities: _Capabilities | None = None


decode_model = msgspec.json.Decoder(Model).decode


@dataclass(kw_only=True)
class Models:
    """The models endpoint, each model asked for once.

    Args:
        betas: Beta features of the batches.
    """

    api: BatchesApi
    betas: list[str] = field(default_factory=list)
    _known: dict[str, Model | None] = field(default_factory=dict)

    def look_up(self, name: str) -> Model | None:
        """The model of this id or alias; None where the API does not say.

        Raises:
            ConfigurationError: Where there is none.
        """
        if name not in self._known:
            self._known[name] = self._ask(name)
        return self._known[name]

    def known(self) -> list[dict[str, Any]]:
        """The models that were asked for, each with what the API says of it."""
        found = {name: model for name, model in self._known.items() if model is not None}
        return [
            {
                "model": name,
                "lifecycle": model.lifecycle,
                "retires_at": model.retires_at,
                "max_input_tokens": model.max_input_tokens,
                "max_tokens": model.max_tokens,
            }
            for name, model in found.items()
        ]

    def check(self, requirements: ModelRequirements) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigurationError: With everything that is wrong.
        """
        problems = [
            problem
            for name, required in requirements.models.items()
            for problem in self._problems(name, required)
        ]
        if problems:
            raise ConfigurationError("Nothing was sent: " + "; ".join(problems) + ".")

    def _problems(self, name: str, required: ModelRequirement) -> Iterator[str]:
        model = self.look_up(name)
        if model is None:
            return
        can = model.capabilities or _Capabilities()
        if model.lifecycle == "retired":
            yield f"{name} is retired" + (f" since {model.retires_at[:10]}" if model.retires_at else "")
        elif not can.batch.supported:
            yield f"{name} cannot be used in message batches"
        limit = model.max_tokens
        if limit is not None and EXTENDED_OUTPUT_BETA in self.betas:
            limit = max(limit, EXTENDED_OUTPUT_TOKENS)
        if limit is not None and required.max_tokens > limit:
            yield f"max_tokens = {required.max_tokens}: {name} answers with {limit} tokens at the most"
        if required.images and not can.image_input.supported:
            yield f"{name} takes no images"
        if required.pdfs and not can.pdf_input.supported:
            yield f"{name} takes no PDFs"
        if required.shapes and not can.structured_outputs.supported:
            yield f"{name} takes no output schema and no strict tools"

    def _ask(self, name: str) -> Model | None:
        try:
            model = decode_model(self.api.model(name))
        except Exception as error:  # no answer is no verdict; the batch itself will tell
            if _names_the_model(error, name):
                raise ConfigurationError(
                    f"Nothing was sent: the API knows no model {name!r}. Check its spelling and the key."
                ) from error
            why = describe_error(error)
            log.info("The models endpoint does not answer (%s); %s is not checked beforehand", why, name)
            return None
        if model.lifecycle == "deprecated":
            log.warning("%s is deprecated%s", name, _retirement(model.retires_at))
        return model


def _retirement(at: str | None) -> str:
    """When a model goes, in words, by the API's own date."""
    if not at:
        return ""
    left = (datetime.date.fromisoformat(at[:10]) - datetime.datetime.now(datetime.UTC).date()).days
    return f" and retires on {at[:10]}: {max(left, 0)} days are left"


def _names_the_model(error: Exception, name: str) -> bool:
    """Whether a 404 is about the model, not about an endpoint that a gateway does not have."""
    if getattr(error, "status_code", None) != 404:
        return False
    return getattr(error, "type", None) == "not_found_error" and name in str(error)


def probe(job: Job, api: BatchesApi, prices: PriceBook) -> None:
    """Send the job's first request by itself, at the full price of one request, to see whether it is valid.

    Args:
        job: The job, of which nothing has been sent.
        api: Where to.
        prices: For what it has cost.

    Raises:
        SubmissionError: Where the API refuses it; nothing else was sent then.
    """
    if job.ledger.probed or job.ledger.batch_ids:
        return
    if EXTENDED_OUTPUT_BETA in job.ledger.betas:
        log.info("No probe: %s exists in batches only", EXTENDED_OUTPUT_BETA)
        return
    part = next(iter(job.ledger.batch_parts), None)
    if part is None:
        return
    request = next(read_requests(job.folder, part))
    params: dict[str, Any] = msgspec.json.decode(request.line)["params"]
    try:
        answer = api.send_one(params, job.ledger.betas)
    except Exception as error:  # noqa: BLE001  # classify() knows them all
        failure = classify(error, api.conn_id, [request.line])
        if failure.kind not in (Kind.FINAL, Kind.TOO_LARGE):
            log.warning("The probe had no answer (%s); going on without", failure.reason)
            return
        kind = failure.error if failure.kind is Kind.FINAL else SubmissionError
        # Not "from error": a traceback would show the API's sentence as it is, the prompt included.
        raise kind(
            f"The probe of request {request.custom_id} was refused: {failure.reason}. No batch was submitted."
        ) from None
    [pico] = Meter(prices, "standard").add([answer.model], [answer.usage])
    cost = "an unknown sum" if pico is None else f"${pico / PICO:.6f}"
    log.info("The probe of request %s was answered; it cost %s", request.custom_id, cost)
    with job.change() as ledger:
        ledger.probed = True
