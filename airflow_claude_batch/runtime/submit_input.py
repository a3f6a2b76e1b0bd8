"""From an operator's arguments to the engine's input; the engine calls what reads, when it stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from airflow_claude_batch.batches.api.reach import check_reachable
from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.job.job import Input
from airflow_claude_batch.batches.job.ledger import short_hash
from airflow_claude_batch.batches.job.spool import MAX_BYTES, MAX_REQUESTS
from airflow_claude_batch.batches.job.spool import Limits as PartLimits
from airflow_claude_batch.batches.requests.builder import Recipe
from airflow_claude_batch.batches.requests.document_access import DocumentAccess
from airflow_claude_batch.batches.requests.documents import DocumentReader
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.requests.parameters import check_defaults
from airflow_claude_batch.batches.requests.prompt_cache import mark_prefix, read_system
from airflow_claude_batch.common.scalars import scalar, scalars
from airflow_claude_batch.common.settings import compress_spool, default_tags, open_folder
from airflow_claude_batch.runtime.records import read_records
from airflow_claude_batch.runtime.trying import sample_of
from airflow_claude_batch.sources import Documents, Source

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.submission.preflight import Models
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook
    from airflow_claude_batch.options import BadRecords, Budget, Limits, PromptCache, Recovery, Reuse, Trial
    from airflow_claude_batch.runtime.on_time import Deadline


@dataclass(frozen=True, kw_only=True)
class SubmitInput:
    """What a submit step was given, rendered; see ``SubmitArguments`` for the fields."""

    requests: Any
    prompt: str | None
    custom_id: str | None
    model: str | None
    max_tokens: int | None
    system: Any
    message_params: Mapping[str, Any]
    betas: list[str]
    output_schema: Any
    cache: PromptCache
    limits: Limits
    budget: Budget
    tags: dict[str, str]
    recovery: Recovery
    reuse: Reuse | None
    bad_records: BadRecords
    on_empty: str
    trial: Trial
    dry_run: bool | None
    direct_below: int | None
    deadline: Deadline | None
    on_deadline: str
    direct_minutes: float | None
    documents: str | None
    documents_from: list[str]
    conn_id: str
    storage_path: str | None
    prompt_version: str | None
    retries: int
    """Of the task, which tells a retry from a clear."""

    @classmethod
    def of(cls, operator: Any, *, requests: Any, system: Any) -> SubmitInput:
        """What an operator was given.

        Args:
            operator: One whose template fields are rendered.
            requests: Its records, wherever they come from.
            system: Its system prompt.
        """
        hidden = ("requests", "system")
        given = scalars(operator, [one.name for one in fields(cls) if one.name not in hidden])
        params = dict(given["message_params"] or {})
        given |= {
            "requests": requests,
            "betas": list(params.pop("betas", None) or ()),
            "message_params": params,
            "system": scalar("system", system),
            "documents_from": given["documents_from"] or [],
            "tags": default_tags() | (given["tags"] or {}),
            "on_empty": given["on_empty"] or "fail",
            "on_deadline": given["on_deadline"] or "direct",
            "retries": operator.retries or 0,
        }
        return cls(**given)


def build_input(given: SubmitInput, context: Context, hook: ClaudeBatchHook, models: Models) -> Input:
    """The engine's input; nothing is read yet."""
    check_defaults(given.message_params, given.betas)
    sample = sample_of(given.trial)
    left_out: Counter[str] = Counter()
    recipe = Recipe(
        prompt=given.prompt,
        custom_id=given.custom_id,
        documents=DocumentReader(locate=open_folder, access=DocumentAccess(given.documents_from)),
        documents_column=given.documents,
        surroundings={"airflow": context},
        betas=bool(given.betas),
    )
    records = partial(
        read_records,
        given.requests,
        context,
        partial(_prepare, recipe, left_out, own_roots=not given.documents_from),
    )
    return Input(
        records=records if sample is None else lambda: sample.of(records()),
        sample=sample,
        defaults={
            **given.message_params,
            "output_config": _output_config(given),
            "model": given.model or hook.connection_model,
            "max_tokens": given.max_tokens,
            "system": given.system,
        },
        limits=PartLimits(
            requests=int(given.limits.requests or MAX_REQUESTS),
            bytes=int(given.limits.bytes or MAX_BYTES),
            first_alone=bool(given.cache.warm),
        ),
        compress=compress_spool(),
        betas=given.betas,
        bad_fraction=float(given.bad_records.max_fraction),
        may_be_empty=given.on_empty == "succeed",
        left_out=left_out,
        recipe=recipe,
        complete=partial(_complete, ttl=given.cache.ttl, models=models),
        check=partial(models.check, recipe.requirements),
    )


def _prepare(recipe: Recipe, left_out: Counter[str], source: Source, *, own_roots: bool) -> None:
    """Let records name documents where their source lies, unless the author listed directories.

    What the source leaves out is counted in ``left_out``.
    """
    source.left_out = left_out
    if recipe.documents is not None and own_roots:
        recipe.documents.access.allow(source.roots())
    if recipe.documents is not None and isinstance(source, Documents):
        recipe.documents.converters = source.convert
    recipe.documents_column = recipe.documents_column or source.documents_column


def _complete(source: Input, *, ttl: str | None, models: Models) -> Input:
    """See that there is an API, read the system prompt where it is a file, mark it, and ask about the model.

    All of it before the data is read.
    """
    check_reachable(models.api)
    defaults = {**source.defaults, "system": read_system(source.defaults["system"], open_folder)}
    if ttl is not None:
        defaults = mark_prefix(defaults, ttl)
    model = models.look_up(defaults["model"]) if defaults["model"] else None
    if model is not None and source.recipe.documents is not None:
        source.recipe.documents.context_window = model.max_input_tokens
    return replace(source, defaults=defaults)


def _output_config(given: SubmitInput) -> dict[str, Any] | None:
    """The parameter of that name, with the output schema in it where there is one.

    Raises:
        ConfigurationError: For two schemas.
    """
    config = dict(given.message_params.get("output_config") or {})
    if given.output_schema is not None:
        if config.get("format") is not None:
            raise ConfigurationError(
                "There are two schemas, output_schema and message_params['output_config']['format']; leave "
                "one out. Nothing was sent."
            )
        config |= OutputSchema.of(given.output_schema).output_config()
    return config or None


def prompt_version(given: SubmitInput) -> str | None:
    """A hash of template, system prompt and schema; None where the operator has none of them."""
    schema = given.output_schema
    shape = OutputSchema.of(schema).json_schema if schema is not None else None
    system = read_system(given.system, open_folder)
    if given.prompt is None and system is None and shape is None:
        return None
    return short_hash(msgspec.json.encode([given.prompt, system, shape], order="sorted").decode())
