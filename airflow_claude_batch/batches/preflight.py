"""Pre-flight: what can be known to be wrong before a batch is paid for.

The API checks the parameters of a request only when it processes it, and tells when the whole batch
has ended. The models endpoint says at once whether a model exists, what it can do and how long its
answers may be; a request sent by itself says at once whether its parameters are right.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.batches.errors import ConfigurationError, SubmissionError
from airflow_claude_batch.batches.needs import Need, Needs
from airflow_claude_batch.batches.retrying import Kind, classify
from airflow_claude_batch.batches.spool import read_requests

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api import BatchesApi
    from airflow_claude_batch.batches.jobs import Job

log = logging.getLogger(__name__)

EXTENDED_OUTPUT_BETA = "output-300k-2026-03-24"
EXTENDED_OUTPUT_TOKENS = 300_000


class _Support(msgspec.Struct, frozen=True):
    supported: bool = True


class _Capabilities(msgspec.Struct, frozen=True):
    batch: _Support = _Support()
    image_input: _Support = _Support()
    pdf_input: _Support = _Support()


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

    :param betas: beta features of the batches
    """

    api: BatchesApi
    betas: list[str] = field(default_factory=list)
    _known: dict[str, Model | None] = field(default_factory=dict)

    def look_up(self, name: str) -> Model | None:
        """The model of this id or alias; None where the API does not say.

        :raises ConfigurationError: where there is none
        """
        if name not in self._known:
            self._known[name] = self._ask(name)
        return self._known[name]

    def check(self, needs: Needs) -> None:
        """Refuse what cannot work.

        :raises ConfigurationError: with everything that is wrong
        """
        problems = [problem for name, need in needs.models.items() for problem in self._problems(name, need)]
        if problems:
            raise ConfigurationError("Nothing was sent: " + "; ".join(problems) + ".")

    def _problems(self, name: str, need: Need) -> Iterator[str]:
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
        if limit is not None and need.max_tokens > limit:
            yield f"max_tokens = {need.max_tokens}: {name} answers with {limit} tokens at the most"
        if need.images and not can.image_input.supported:
            yield f"{name} takes no images"
        if need.pdfs and not can.pdf_input.supported:
            yield f"{name} takes no PDFs"

    def _ask(self, name: str) -> Model | None:
        try:
            model = decode_model(self.api.model(name))
        except Exception as error:  # no answer is no verdict; the batch itself will tell
            if _names_the_model(error, name):
                raise ConfigurationError(
                    f"Nothing was sent: the API knows no model {name!r}. Check its spelling and the key."
                ) from error
            log.info("The models endpoint does not answer (%s); %s is not checked beforehand", error, name)
            return None
        if model.lifecycle == "deprecated":
            when = f" and retires on {model.retires_at[:10]}" if model.retires_at else ""
            log.warning("%s is deprecated%s", name, when)
        return model


def _names_the_model(error: Exception, name: str) -> bool:
    """Whether a 404 is about the model, not about an endpoint that a gateway does not have."""
    if getattr(error, "status_code", None) != 404:
        return False
    return getattr(error, "type", None) == "not_found_error" and name in str(error)


def probe(job: Job, api: BatchesApi) -> None:
    """Send the job's first request by itself, at the full price of one request, to see whether it is valid.

    :raises SubmissionError: where the API refuses it; nothing else was sent then
    """
    if job.ledger.probed or job.ledger.batch_ids:
        return
    if EXTENDED_OUTPUT_BETA in job.ledger.betas:
        log.info("No probe: %s exists in batches only", EXTENDED_OUTPUT_BETA)
        return
    part = job.ledger.live_parts[0]
    request = next(read_requests(job.folder, part.requests, part.inputs))
    params: dict[str, Any] = msgspec.json.decode(request.line)["params"]
    try:
        api.send_one(params, job.ledger.betas)
    except Exception as error:  # classify() knows them all
        failure = classify(error, api.conn_id)
        if failure.kind not in (Kind.FINAL, Kind.TOO_LARGE):
            log.warning("The probe had no answer (%s); going on without", failure.reason)
            return
        kind = failure.error if failure.kind is Kind.FINAL else SubmissionError
        raise kind(
            f"The probe of request {request.custom_id} was refused: {failure.reason}. No batch was submitted."
        ) from error
    log.info("The probe of request %s was answered", request.custom_id)
    with job.change() as ledger:
        ledger.probed = True
