"""The arguments of the operators and of ``@task.claude_batch``, declared once.

Editors and type checkers read them here, Airflow (for ``default_args`` and ``partial``) through the signature
that `declared` derives from them.
"""

# No `from __future__ import annotations`: Python could not tell which keys are required.
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from inspect import Parameter, Signature
from typing import Any, Literal, TypedDict, TypeVar

from airflow_claude_batch.common.scalars import as_text, check_form, is_path, records_source, scalar
from airflow_claude_batch.options import (
    AnswerPolicy,
    BadRecords,
    Budget,
    Limits,
    PromptCache,
    Recovery,
    Resubmission,
    Reuse,
    Trial,
    is_open,
)

F = TypeVar("F", bound=Callable[..., None])


class RequestArguments(TypedDict, total=False):
    """What is sent, and how."""

    prompt: str | None
    """Jinja template over a record's columns, for records that are no requests yet. All columns are data
    then; they come back beside the answer. ``{{ record['Order No.'] }}`` is a column of any name, and
    ``{{ airflow.ds }}`` what a template knows elsewhere in Airflow."""
    custom_id: str | None
    """Column that names a record, a key of any form; None for the record's own ``custom_id``, or a hash of
    its content where it has none."""
    model: str | None
    """Model of requests that do not name one; else the connection's ``model``."""
    max_tokens: int | str | None
    """Output limit, in tokens, of requests that do not set one."""
    system: str | list[dict[str, Any]] | None
    """System prompt of requests that have none: text, blocks, or the address of a text file (a URI, or an
    absolute path that ends like a file's name or is one word). A template."""
    prompt_version: str | None
    """Names the prompt in each record, so that runs can be compared; None for a hash of ``prompt``,
    ``system`` and ``output_schema``."""
    message_params: Mapping[str, Any] | None
    """Any other Messages API parameters, as defaults for every request; ``betas``, as in the SDK, are the
    beta features of the batches."""
    cache: PromptCache | str | None
    """Cache the prefix that all requests share: ``5m``, ``1h`` or a ``PromptCache``."""
    limits: Limits | None
    """Bounds of a batch and of the queue, a ``Limits``."""
    budget: Budget | float | str | None
    """Most US dollars that the job may cost by the estimate, or a ``Budget``."""
    tags: Mapping[str, str] | None
    """Names and values that the costs are booked under: ``{"team": "growth"}``; on top of ``[claude_batch]
    tags``. Templates."""
    recovery: Recovery | None
    """What happens after kills, clears and lost answers, a ``Recovery``."""
    reuse: Reuse | bool | None
    """Deliver the answers of earlier jobs instead of asking the same again, and keep this one's: True, or a
    ``Reuse``. Needs the extra ``parquet``."""
    documents: str | None
    """Column that holds a record's documents, where ``prompt`` is a template. Without a template records say
    it themselves, under the key ``documents``."""
    documents_from: list[str] | None
    """Directories that records may name documents in, connections included:
    ``["s3://conn_id@bucket/invoices/"]``. None: those of the files that the records come from."""

    trial: Trial | int | str | None
    """Send so many records only, by single calls, to see answers and real costs first; or a ``Trial``."""
    dry_run: bool | str
    """Validate and store the whole input, send nothing, and return a plan: requests, batches, cost, models,
    warnings, and where rendered requests lie. The DAG-run conf key ``claude_batch_dry_run`` does the same."""
    direct_below: int | str | None
    """A job of fewer requests is answered by single calls at the standard price, in this task, so that it
    does not wait for a batch. None or 0: never."""
    deadline: str | timedelta | datetime | None
    """When the answers are needed: a time of day in the DAG's time zone (``"06:00"``), a timedelta from the
    run's start, or a moment. What no batch has answered by then is dealt with as ``on_deadline`` says."""
    on_deadline: Literal["direct", "deliver", "fail"]
    """``direct``: cancel the batches, keep what they have finished, and ask the rest by single calls at the
    standard price; ``deliver`` without the rest; or ``fail``."""
    direct_minutes: float | str | None
    """How many minutes before the deadline to begin with that; None for the pace of the job's own single
    calls, or 20."""
    bad_records: BadRecords | float | str | None
    """Records that break a rule, or whose document cannot be sent: ``fail`` sends nothing and says how many
    they are and what is wrong with the first twenty; ``errored`` puts them among the errored records, unpaid,
    and sends the others, as long as no more than a tenth is bad; a ``BadRecords`` says another share."""
    on_empty: str
    """Where the source has no records: ``fail``; ``skip`` the task; or ``succeed`` with an empty output."""


class DeliveryArguments(TypedDict, total=False):
    """What is done with the answers."""

    output_path: str | None
    """Directory on object storage for ``succeeded/``, ``errored/`` and ``summary.json``; None puts the
    records into XCom, up to ``[claude_batch] max_inline_bytes``. The instances of a mapped task that share
    one path write to a subdirectory named by their map index, unless the path has ``map_index`` in it. It may
    use what ``map_index_template`` asks for, variables that the function sets included."""
    output_format: Literal["jsonl", "parquet", "raw"]
    """``jsonl``; ``parquet`` (extra ``parquet``); or ``raw``, the API's own lines."""
    compression: Literal["gzip", "zstd"] | None
    """None, ``gzip`` or ``zstd``; ``zstd`` needs the extra ``parquet``."""
    resubmission: Resubmission | int | str | None
    """How often requests that failed for a passing reason are sent again (once), or a ``Resubmission``."""
    answer_policy: AnswerPolicy | None
    """Which answers count as failed, how many may, and what is kept of them, an ``AnswerPolicy``."""
    check: Callable[[dict[str, Any]], str | None] | None
    """Called with each succeeded record; a text that it returns says what is wrong with the answer, and the
    record goes to ``errored`` as ``invalid``."""
    overwrite: bool
    """Replace the results of another job in ``output_path``, which is refused otherwise."""
    poll_interval: float | None
    """Seconds between two looks while waiting; None for 15 s growing to 5 min."""
    timeout: float | timedelta | None
    """How long a try may take, its waits included, in seconds; None for the batches' own 24 hours. Like
    ``execution_timeout`` it holds over all deferrals of the try."""
    on_timeout: Literal["leave", "cancel"]
    """What becomes of the batches when giving up (``timeout``, ``execution_timeout``)."""


class SharedArguments(TypedDict, total=False):
    """What both steps need to know."""

    output_schema: Any
    """Pydantic model or JSON Schema of the answers. The API is asked for that shape, and the results step
    checks it, bounds included; there, None means the one that the submit step was given, as a JSON Schema:
    validators of a pydantic model count only where the results step is given the model itself."""
    conn_id: str
    """Connection of type ``anthropic``; ``anthropic_default`` unless told otherwise."""
    storage_path: str | None
    """Where the job is recorded, instead of ``[claude_batch] storage_path``."""


class Requests(TypedDict):
    """Where the records come from."""

    requests: Any
    """Records as a list, the output of an upstream task (mapped ones too), a table (pandas, polars, Arrow), a
    callable that returns or yields them, addresses of files (as ``Files`` takes them), or a source:
    ``Files``, ``Documents``, ``Sql``, ``Answers``. A callable gets the context entries that it names as
    arguments; what it yields is a record, a table, or a list of mappings: a chunk of records."""


class Batch(TypedDict):
    """Which batches are meant."""

    batch: Any
    """Output of the submit task or of the sensor, a batch id, or a list of ids."""


class WaitArguments(TypedDict, total=False):
    """How the sensor waits."""

    conn_id: str
    """Connection of type ``anthropic``; ``anthropic_default`` unless told otherwise."""
    storage_path: str | None
    """Where the job is recorded, instead of ``[claude_batch] storage_path``. A job's batches are cancelled
    only if it says there that they are this DAG's."""
    poll_interval: float | None
    """Seconds between two looks; None for 15 s growing to 5 min."""
    deferrable: bool | None
    """Wait in the triggerer. None for ``[operators] default_deferrable`` where that is set, else True."""
    on_timeout: Literal["leave", "cancel"]
    """What becomes of the batches when giving up (``timeout``, ``execution_timeout``)."""
    cancel_on_kill: bool | None
    """Cancel the batches when a person ends the task (mark as failed, success or skipped). None: those of a
    job, not those that were given by id and something else submitted. While deferred this needs Airflow 3.3;
    before, the batches go on. With ``mode="reschedule"`` they go on, too, unless a look is under way: between
    two looks there is no process to be told."""


class TaskArguments(TypedDict, total=False):
    """What any Airflow task takes; see Airflow's ``BaseOperator``."""

    owner: str
    email: Any
    email_on_retry: bool
    email_on_failure: bool
    retries: int | None
    retry_delay: Any
    retry_exponential_backoff: float
    max_retry_delay: Any
    retry_policy: Any
    start_date: Any
    end_date: Any
    depends_on_past: bool
    ignore_first_depends_on_past: bool
    wait_for_past_depends_before_skipping: bool
    wait_for_downstream: bool
    dag: Any
    params: Any
    default_args: dict[str, Any] | None
    priority_weight: int
    weight_rule: Any
    queue: str
    pool: str | None
    pool_slots: int
    sla: Any
    execution_timeout: Any
    on_execute_callback: Any
    on_failure_callback: Any
    on_success_callback: Any
    on_retry_callback: Any
    on_skipped_callback: Any
    pre_execute: Any
    post_execute: Any
    trigger_rule: str
    resources: dict[str, Any] | None
    run_as_user: str | None
    map_index_template: str | None
    max_active_tis_per_dag: int | None
    max_active_tis_per_dagrun: int | None
    executor: str | None
    executor_config: dict[str, Any] | None
    do_xcom_push: bool
    multiple_outputs: bool
    inlets: Any
    outlets: Any
    task_group: Any
    doc: str | None
    doc_md: str | None
    doc_json: str | None
    doc_yaml: str | None
    doc_rst: str | None
    task_display_name: str | None
    logger_name: str | None
    allow_nested_operators: bool
    render_template_as_native_obj: bool | None


class SensorTaskArguments(TaskArguments, total=False):
    """What any Airflow sensor takes; see Airflow's ``BaseSensorOperator``."""

    poke_interval: Any
    timeout: Any
    soft_fail: bool
    mode: str
    exponential_backoff: bool
    max_wait: Any
    silent_fail: bool
    never_fail: bool


class Named(TypedDict):
    """An operator has a name; a decorated function is its own."""

    task_id: str


class SubmitArguments(Named, Requests, RequestArguments, SharedArguments, TaskArguments, total=False):
    """Of ``ClaudeBatchSubmitOperator``."""


class ResultsArguments(Named, Batch, DeliveryArguments, SharedArguments, TaskArguments, total=False):
    """Of ``ClaudeBatchResultsOperator``."""


class BatchArguments(
    Named, Requests, RequestArguments, DeliveryArguments, SharedArguments, TaskArguments, total=False
):
    """Of ``ClaudeBatchOperator``."""


class DecoratorArguments(RequestArguments, DeliveryArguments, SharedArguments, TaskArguments, total=False):
    """Of ``@task.claude_batch``."""

    task_id: str


class SensorArguments(Named, Batch, WaitArguments, SensorTaskArguments, total=False):
    """Of ``ClaudeBatchSensor``."""


DEFAULTS: Mapping[str, Any] = {
    "conn_id": "anthropic_default",
    "on_empty": "fail",
    "output_format": "jsonl",
    "overwrite": False,
    "on_timeout": "leave",
    "on_deadline": "direct",
    "dry_run": False,
}
"""Of arguments whose default is not None."""
GROUPS: Mapping[str, Callable[[Any], Any]] = {
    "cache": PromptCache.of,
    "limits": Limits.of,
    "budget": Budget.of,
    "recovery": Recovery.of,
    "reuse": Reuse.wanted,
    "bad_records": BadRecords.of,
    "trial": Trial.of,
    "resubmission": Resubmission.of,
    "answer_policy": AnswerPolicy.of,
}
"""Arguments that are a group of settings."""


def own_arguments(declaration: type) -> list[str]:
    """The arguments of a declaration that are this package's, not Airflow's."""
    waits = "poke_interval" in declaration.__annotations__  # a sensor's timeout is Airflow's
    airflows = {*Named.__annotations__, *(SensorTaskArguments if waits else TaskArguments).__annotations__}
    return [name for name in declaration.__annotations__ if name not in airflows]


def declared(declaration: type) -> Callable[[F], F]:
    """Give an operator's ``__init__`` the signature that a declaration stands for."""

    def decorate(init: F) -> F:
        required: frozenset[str] = declaration.__required_keys__  # type: ignore[attr-defined]
        own = [
            Parameter(
                name,
                Parameter.KEYWORD_ONLY,
                default=Parameter.empty if name in required else DEFAULTS.get(name),
                annotation=declaration.__annotations__[name],
            )
            for name in own_arguments(declaration)
        ]
        parameters = [
            Parameter("self", Parameter.POSITIONAL_OR_KEYWORD),
            *own,
            Parameter("task", Parameter.VAR_KEYWORD),
        ]
        init.__signature__ = Signature(parameters)  # type: ignore[attr-defined]
        return init

    return decorate


def split(declaration: type, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments as given, sorted into our own, with defaults and groups made, and Airflow's.

    Raises:
        ConfigurationError: For a value that is of no use, so that a typing error fails the DAG file and not
            the night. A template is checked when it is rendered, before anything is sent.
        TypeError: For a ``check`` that is no function.
    """
    given = {name: arguments.get(name, DEFAULTS.get(name)) for name in own_arguments(declaration)}
    own = {name: as_text(value) for name, value in given.items()}
    if is_path(given.get("system")) and own["system"].startswith("/"):  # as text it might be a prompt
        own["system"] = f"file://{own['system']}"
    for name in own.keys() - GROUPS.keys():
        if not is_open(own[name]):
            scalar(name, given[name])
    if "requests" in own and not is_open(own["requests"]):
        records_source(own["requests"])
    if "output_path" in own and not is_open(own["output_path"]):
        check_form({name: value for name, value in own.items() if not is_open(value)})
    if own.get("check") is not None and not callable(own["check"]):
        raise TypeError(f"check is {own['check']!r}; it is a function of a record")
    for name in own.keys() & GROUPS.keys():
        try:
            own[name] = GROUPS[name](own[name])
        except (TypeError, ValueError) as error:
            raise type(error)(f"{name}: {error}") from None
    rest = {name: value for name, value in arguments.items() if name not in own}
    return own, rest
