"""What an operator's arguments make of its records: the engine's input."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.operators.source import read_records

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.api import BatchesApi
    from airflow_claude_batch.batches.estimate import Estimate
    from airflow_claude_batch.batches.jobs import Input, Job
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
    from airflow_claude_batch.operators.submit import ClaudeBatchSubmitOperator

log = logging.getLogger(__name__)


def build_input(operator: ClaudeBatchSubmitOperator, context: Context, hook: ClaudeBatchHook) -> Input:
    """The input that the operator's arguments describe; nothing is read yet."""
    from airflow_claude_batch.batches.documents import DocumentReader
    from airflow_claude_batch.batches.jobs import Input
    from airflow_claude_batch.batches.preflight import Models
    from airflow_claude_batch.batches.preparation import Recipe
    from airflow_claude_batch.batches.spool import MAX_BYTES, MAX_REQUESTS, Limits
    from airflow_claude_batch.settings import compress_spool, open_folder

    models = Models(api=hook.batches, betas=operator.betas or [])
    recipe = Recipe(
        prompt=operator.prompt,
        custom_id=operator.custom_id,
        documents=DocumentReader(locate=open_folder),
        on_unreadable=operator.on_unreadable_document,
    )
    return Input(
        records=partial(read_records, operator.requests, context),
        defaults={
            **(operator.message_params or {}),
            "output_config": _output_config(operator),
            "model": operator.model or hook.connection_model,
            "max_tokens": operator.max_tokens,
            "system": operator.system,
        },
        limits=Limits(
            requests=operator.max_requests_per_batch or MAX_REQUESTS,
            bytes=operator.max_bytes_per_batch or MAX_BYTES,
            first_alone=operator.warm_cache,
        ),
        compress=compress_spool(),
        betas=operator.betas or [],
        recipe=recipe,
        complete=partial(_complete, cache=operator.cache, models=models),
        check=partial(models.check, recipe.needs),
    )


def _complete(source: Input, *, cache: str | None, models: Any) -> Input:
    """Read the system prompt where it is a file, mark it, and ask about the model before the data is read."""
    from airflow_claude_batch.batches.caching import mark_prefix, read_system
    from airflow_claude_batch.settings import open_folder

    defaults = {**source.defaults, "system": read_system(source.defaults["system"], open_folder)}
    if cache is not None:
        defaults = mark_prefix(defaults, cache)
    model = models.look_up(defaults["model"]) if defaults["model"] else None
    if model is not None and source.recipe.documents is not None:
        source.recipe.documents.context_window = model.max_input_tokens
    return replace(source, defaults=defaults)


def _output_config(operator: ClaudeBatchSubmitOperator) -> dict[str, Any] | None:
    """The parameter of that name, with the output schema in it where there is one."""
    given = dict((operator.message_params or {}).get("output_config") or {})
    if operator.output_schema is not None:
        from airflow_claude_batch.batches.output_schema import OutputSchema

        given |= OutputSchema.of(operator.output_schema).output_config()
    return given or None


def prepare_for_results(
    operator: ClaudeBatchSubmitOperator, context: Context, job: Job, api: BatchesApi
) -> None:
    """Record what the results step needs to know, and say what the job will cost.

    The tokens of a sample are counted by the API where a limit depends on them.

    :raises BudgetExceededError: when the job is estimated to cost more than ``max_cost_usd``
    """
    ledger = job.ledger
    if not any(part.batch_id or part.intent_at for part in ledger.parts):
        result = _estimate(operator, job, api)
        log.info("Estimated cost: %s", result)
        schema = None
        if operator.output_schema is not None:
            from airflow_claude_batch.batches.output_schema import OutputSchema

            schema = OutputSchema.of(operator.output_schema).json_schema
        with job.change():
            ledger.estimate, ledger.output_schema = result.as_dict(), schema
        context["ti"].xcom_push(key="estimate", value={"job": ledger.job, **ledger.estimate})
        if operator.max_cost_usd is not None:
            result.check(operator.max_cost_usd)
    elif ledger.estimate:
        context["ti"].xcom_push(key="estimate", value={"job": ledger.job, **ledger.estimate})


def _estimate(operator: ClaudeBatchSubmitOperator, job: Job, api: BatchesApi) -> Estimate:
    import datetime

    from airflow_claude_batch.batches.cost import PriceBook
    from airflow_claude_batch.batches.estimate import estimate
    from airflow_claude_batch.settings import price_factor

    prices = PriceBook(datetime.datetime.now(datetime.UTC), price_factor())
    counting = api if operator.max_cost_usd is not None else None
    return estimate(job, prices, api=counting, expected_output=operator.expected_output_tokens)
