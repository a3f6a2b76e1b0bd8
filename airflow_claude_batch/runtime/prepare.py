"""What is settled about a stored job before any of it is sent: its cost, its way, and who may deliver it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_claude_batch.batches.errors import BudgetExceededError
from airflow_claude_batch.batches.job.job import Job
from airflow_claude_batch.batches.job.part import PartState
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.submission.estimate import Estimate, estimate
from airflow_claude_batch.common.xcoms import ESTIMATE
from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
from airflow_claude_batch.runtime.budgets import Budgets
from airflow_claude_batch.runtime.spending import prices_of
from airflow_claude_batch.runtime.submit_input import SubmitInput, prompt_version

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.job.ledger import Ledger

log = logging.getLogger(__name__)


def prepare_for_results(
    given: SubmitInput,
    context: Context,
    job: Job,
    hook: ClaudeBatchHook,
    warnings: list[str] | None = None,
) -> Budgets:
    """Record what the results step needs to know, and say what the job will cost.

    The tokens of a sample are counted by the API where a limit depends on them.

    Args:
        given: What the task was given.
        context: Airflow's.
        job: Stored.
        hook: Of its connection.
        warnings: Takes why the job would be refused; None to refuse it.

    Returns:
        The budgets that the job is subject to.

    Raises:
        BudgetExceededError: When the job is estimated to cost more than a budget allows one.
    """
    ledger = job.ledger
    if any(part.batch_id or part.intent_at for part in ledger.parts):
        _show_estimate(context, ledger)
        return _budgets_as_they_are_now(given, job)
    ledger.tags = given.tags
    budgets = Budgets.of(given.budget, ledger)
    ledger.max_usd = min(budgets.of_job, default=None)
    result = _estimate(given, job, hook, budgets)
    log.info("Estimated cost: %s", result)
    schema = None if given.output_schema is None else OutputSchema.of(given.output_schema).json_schema
    with job.change():
        ledger.estimate, ledger.output_schema = result.as_dict(), schema
        ledger.prompt_version = given.prompt_version or prompt_version(given)
    _show_estimate(context, ledger)
    _check_budgets(result, budgets, ledger, warnings)
    return budgets


def _estimate(given: SubmitInput, job: Job, hook: ClaudeBatchHook, budgets: Budgets) -> Estimate:
    expected = given.budget.expected_output_tokens
    return estimate(
        job,
        prices_of(hook),
        api=hook.batches if budgets.exist else None,
        expected_output=None if expected is None else int(expected),
    )


def _show_estimate(context: Context, ledger: Ledger) -> None:
    if ledger.estimate:
        context["ti"].xcom_push(key=ESTIMATE, value={"job": ledger.job, **ledger.estimate})


def _check_budgets(result: Estimate, budgets: Budgets, ledger: Ledger, warnings: list[str] | None) -> None:
    for limit in budgets.of_job:
        try:
            result.check(limit, direct=not ledger.batch_parts)
        except BudgetExceededError as error:
            if warnings is None:
                budgets.tell_too_dear(ledger, limit, str(error))
                raise
            warnings.append(str(error))


def _budgets_as_they_are_now(given: SubmitInput, job: Job) -> Budgets:
    """Those of a job that was begun with others, perhaps: raised for a later round."""
    budgets = Budgets.of(given.budget, job.ledger)
    if (most := min(budgets.of_job, default=None)) != job.ledger.max_usd:
        with job.change() as ledger:
            ledger.max_usd = most
    return budgets


def has_batches(job: Job) -> bool:
    """Whether a batch of the job exists, or may exist."""
    states = {part.state for part in job.ledger.parts}
    return not states.isdisjoint((PartState.SUBMITTED, PartState.UNCERTAIN))


def answer_directly_if_small(job: Job, direct_below: int, *, trial: bool) -> None:
    """Choose single calls for a trial, or a job of few requests, as long as nothing of it was sent."""
    parts = job.ledger.batch_parts
    requests = sum(part.request_count for part in parts)
    if has_batches(job) or not requests or not (trial or requests < direct_below):
        return
    with job.change():
        for part in parts:
            part.way = "direct"
    log.info("%s requests are answered by single calls: %s", requests, "a trial" if trial else "they are few")


def answer_by_batches(job: Job) -> None:
    """Take back that a job of which nothing was sent is answered by single calls."""
    if direct := [part for part in job.ledger.live_parts if part.way == "direct"]:
        with job.change():
            for part in direct:
                part.way = "batch"


def share(job: Job, dag_ids: list[str]) -> None:
    """Record which other DAGs may deliver the job."""
    if job.ledger.shared_with != dag_ids:
        with job.change() as ledger:
            ledger.shared_with = dag_ids
