"""All commands, in the order of the help. A new one is an entry here and a function in a module."""

from __future__ import annotations

from airflow_claude_batch.cli.command import (
    Argument,
    Command,
    amount,
    argument,
    days,
    interval,
    moment,
    named_value,
    natural,
    positive,
    share,
)
from airflow_claude_batch.emulator.arguments import ARGUMENTS

CONN_ID = argument(
    "--conn-id", metavar="ID", help="Airflow connection (default: the job's, else anthropic_default)"
)
STORAGE_PATH = argument("--storage-path", metavar="URI", help="instead of the setting storage_path")
VERBOSE = argument("-v", "--verbose", action="store_true", help="say more of what is done, on standard error")
YES = argument("-y", "--yes", action="store_true", help="do not ask")

_FORMATS = ("table", "json", "yaml", "plain")
OUTPUT = argument(
    "-o",
    "--output",
    choices=_FORMATS,
    default="table",
    metavar="FORMAT",
    help="table (default), json, yaml, plain",
)
SHOWN_AS = argument(
    "-o",
    dest="shown_as",
    choices=_FORMATS,
    default="table",
    metavar="FORMAT",
    help="how the summary is shown: table (default), json, yaml, plain",
)

_COMMON = (CONN_ID, STORAGE_PATH, VERBOSE)
_RECORDS = (
    argument(
        "--format",
        choices=("jsonl", "parquet", "raw"),
        help="of the records (default: jsonl); raw: the API's own lines",
    ),
    argument("--compression", choices=("gzip", "zstd"), help="of the records' files (default: none)"),
    argument("--overwrite", action="store_true", help="replace what another job has delivered there"),
)
_POLL = argument(
    "--poll-interval",
    type=interval,
    metavar="SECONDS",
    help="between two looks (default: growing from 15 s to 5 min)",
)
_CHECK = argument("--check", metavar="FILE.py:FUNCTION", help="function that judges each answer, as `check=`")
_JOB = argument("job", metavar="JOB", help="as `list` names it, or its URL, or one of its batches")
_TASK: tuple[Argument, ...] = (
    argument("--dag", metavar="DAG_ID", help="DAG of the task"),
    argument("--run", metavar="RUN_ID", help="its run"),
    argument("--task", metavar="TASK_ID", help="the task that submits"),
    argument("--map-index", type=natural, default=-1, metavar="N", help="of a mapped task"),
)

COMMANDS: tuple[Command, ...] = (
    Command(
        name="list",
        function="jobs:list_jobs",
        help="List jobs with state, batches, counts and cost",
        more="Reads storage_path only. With --strangers it asks the API for batches that no job there has.",
        arguments=(
            argument("--dag", metavar="DAG_ID", help="only this DAG's"),
            argument("--state", metavar="STATE", help="only those in this state, for example waiting"),
            argument(
                "--since",
                type=moment,
                metavar="TIME",
                help="only those created since a date, or a span ago (7d, 12h)",
            ),
            argument("--tag", type=named_value, metavar="NAME=VALUE", help="only those with this tag"),
            argument("--strangers", action="store_true", help="batches that no job has, instead of jobs"),
            OUTPUT,
            *_COMMON,
        ),
    ),
    Command(
        name="show",
        function="show:show",
        help="Show all that is known of a job, or of a batch",
        more="Parts, rounds, errors, and where files lie. Asks the API about what is not delivered yet.",
        arguments=(
            argument("job", metavar="JOB_OR_BATCH", help="as `list` names it, or its URL, or a batch id"),
            argument("--offline", action="store_true", help="do not ask the API"),
            OUTPUT,
            *_COMMON,
        ),
    ),
    Command(
        name="whose",
        function="show:whose",
        help="Say which DAG run has submitted a batch",
        arguments=(argument("batch_id", metavar="BATCH", help="its id"), OUTPUT, STORAGE_PATH, VERBOSE),
    ),
    Command(
        name="cancel",
        function="cancel:cancel",
        help="Cancel a batch, or all batches of a job that have not ended",
        more="What was answered before is billed, and can be fetched; it says how much that is.",
        arguments=(
            argument("job", metavar="JOB_OR_BATCH", help="as `list` names it, or its URL, or a batch id"),
            argument(
                "--wait",
                type=amount,
                default=30.0,
                metavar="SECONDS",
                help="how long to wait for the end, to say what was answered (default: 30)",
            ),
            OUTPUT,
            YES,
            *_COMMON,
        ),
    ),
    Command(
        name="fetch",
        function="fetch:fetch",
        help="Fetch the results of any batches as records",
        more="As the results operator writes them. Of batches that a job claims the columns come along.",
        arguments=(
            argument("batch_ids", nargs="+", metavar="BATCH", help="ids of batches that have ended"),
            argument(
                "--output", required=True, metavar="PATH", help="directory for the records: a path or a URI"
            ),
            *_RECORDS,
            argument("--include-message", action="store_true", help="the API's whole message in each record"),
            argument(
                "--incomplete",
                action="store_true",
                help="write what comes, even where results that exist never do",
            ),
            argument("--wait", action="store_true", help="wait until all have ended"),
            _POLL,
            SHOWN_AS,
            *_COMMON,
        ),
    ),
    Command(
        name="adopt",
        function="adopt:adopt",
        help="Say whose a batch is, where nothing else can tell any more",
        more="BATCH ... --dag --run --task: batches become a task's job, after their custom_ids were "
        "compared. BATCH (or --none) --job --part: which batch a part has, whose answer was lost. --job "
        "alone: write its ledger anew, where it cannot be read.",
        arguments=(
            argument("batch_ids", nargs="*", metavar="BATCH", help="ids of batches that have ended"),
            *_TASK,
            argument("--job", metavar="JOB", help="the job, as `list` or an error names it"),
            argument("--part", type=natural, metavar="N", help="the part of the job, as the error names it"),
            argument("--none", action="store_true", help="none of the batches is the part's: send it again"),
            argument(
                "--force",
                action="store_true",
                help="even if the task has another job, or a lost one claims it",
            ),
            *_COMMON,
        ),
    ),
    Command(
        name="accept",
        function="accept:accept",
        help="Accept that results of a job never come, so that the others are delivered",
        more="The way out of an UnreadResultsError on every retry: the API counts results that are in no "
        "download, or damaged in each. These requests become errored records (unreadable_result); nothing "
        "is sent again. Then clear the results task.",
        arguments=(
            _JOB,
            argument("--part", type=natural, metavar="N", help="only this part, as the error names it"),
            OUTPUT,
            YES,
            *_COMMON,
        ),
    ),
    Command(
        name="retry",
        function="retry:retry",
        help="Send failed requests of a job again, and merge the answers into its output",
        more="Without --only it goes on with what was begun. Ctrl-C is harmless.",
        arguments=(
            _JOB,
            argument(
                "--only",
                nargs="+",
                metavar="WHICH",
                help="errored, expired, canceled, invalid, missing (several, too); or: ids FILE, a "
                "custom_id a line. JOB comes before it",
            ),
            argument("--output", metavar="PATH", help="directory of the records (default: where they are)"),
            *_RECORDS,
            _CHECK,
            argument("--no-wait", action="store_true", help="send, and leave it at that"),
            _POLL,
            SHOWN_AS,
            YES,
            *_COMMON,
        ),
    ),
    Command(
        name="submit",
        function="submit:submit",
        help="Send the rows of files without a DAG",
        more="With the engine, ledger, cost and output of the operators. A --name is one job: as long as "
        "the rows are the same, nothing is sent twice.",
        arguments=(
            argument(
                "files", nargs="+", metavar="FILE", help="JSONL, JSON, CSV, Parquet, ...: paths, globs, URIs"
            ),
            argument("--model", metavar="ID", help="for rows that name none"),
            argument("--max-tokens", type=positive, metavar="N", help="for rows that name none"),
            argument(
                "--prompt",
                metavar="TEMPLATE",
                help="Jinja template over the columns of a row; @FILE reads it from a file",
            ),
            argument(
                "--system", metavar="TEXT", help="system prompt; @FILE or an address reads it from a file"
            ),
            argument("--custom-id", metavar="COLUMN", help="column that names a row"),
            argument("--schema", metavar="FILE", help="JSON Schema of the answers"),
            argument(
                "--param",
                type=named_value,
                action="append",
                default=[],
                metavar="NAME=VALUE",
                help="any parameter of the Messages API, as JSON; may be said again",
            ),
            argument(
                "--documents",
                metavar="COLUMN",
                help="column that says where a row's documents lie (default: documents, without --prompt)",
            ),
            argument(
                "--documents-from",
                action="append",
                default=[],
                metavar="PATH",
                help="directory that rows may name documents in (default: the files' own)",
            ),
            argument(
                "--bad-records", type=share, default=0.0, metavar="SHARE", help="of rows that may be bad"
            ),
            argument("--trial", type=positive, metavar="N", help="only the first N rows"),
            argument("--dry-run", action="store_true", help="check and estimate, send nothing"),
            argument("--max-usd", type=amount, metavar="USD", help="refuse what is estimated to cost more"),
            argument(
                "--expected-output-tokens", type=positive, metavar="N", help="of an answer, for the estimate"
            ),
            argument("--name", metavar="NAME", help="of the job (default: the file's and the time)"),
            argument(
                "--tag",
                type=named_value,
                action="append",
                default=[],
                metavar="NAME=VALUE",
                help="that its costs are booked under; may be said again",
            ),
            argument("--wait", action="store_true", help="wait, and write the answers"),
            argument("--output", metavar="PATH", help="directory for the records, or its URI"),
            *_RECORDS,
            _CHECK,
            argument(
                "--max-failed-fraction",
                type=share,
                default=0.5,
                metavar="SHARE",
                help="with --wait: of failed requests that is no failure (default: 0.5)",
            ),
            _POLL,
            SHOWN_AS,
            *_COMMON,
        ),
    ),
    Command(
        name="costs",
        function="costs:costs",
        help="Say what was spent, in US dollars",
        more="From the book under storage_path; days are those of the setting budget_timezone.",
        arguments=(
            argument("--by", default="dag", help="dag (default), connection, model, day, or tag:NAME"),
            argument("--since", metavar="DAY", help="the first day, 2026-11-01; default: today"),
            argument("--until", metavar="DAY", help="the last day"),
            argument("--csv", action="store_true", help="all columns, as CSV"),
            OUTPUT,
            STORAGE_PATH,
            VERBOSE,
        ),
    ),
    Command(
        name="reuse",
        function="reuse:reuse",
        help="Keep the answers of earlier jobs for reuse=",
        arguments=(
            argument("action", choices=("build",), help="from the jobs that storage_path still has"),
            argument("--dag", required=True, metavar="DAG_ID", help="whose jobs"),
            argument("--scope", default="dag", help="as in Reuse(scope=...) (default: dag)"),
            argument("--store", metavar="URI", help="as in Reuse(store=...)"),
            argument("--prompt-version", metavar="VERSION", help="that the operator is given, if any"),
            *_COMMON,
        ),
    ),
    Command(
        name="doctor",
        function="doctor:doctor",
        help="Check that all is there that jobs need",
        more="API, key, models, the store and its guarantees, the triggerer, versions. The triggerer is "
        "looked for where Airflow's database can be reached. Nothing is paid for.",
        arguments=(OUTPUT, *_COMMON),
    ),
    Command(
        name="purge",
        function="purge:purge",
        help="Delete jobs that are no longer needed, their claims and what else is stored for them",
        arguments=(
            argument(
                "--older-than",
                type=days,
                metavar="DAYS",
                help="default: the setting retention_days",
            ),
            argument(
                "--undelivered",
                action="store_true",
                help="also jobs that are sent and not delivered yet: a new try would pay for them again",
            ),
            argument("--dry-run", action="store_true", help="only count"),
            YES,
            STORAGE_PATH,
            VERBOSE,
        ),
    ),
    Command(
        name="emulator",
        function="emulator:emulator",
        help="Run a local Claude Message Batches API, for demos and tests",
        arguments=tuple(argument(flag, **options) for flag, options in ARGUMENTS.items()),
        needs_airflow=False,
    ),
)
