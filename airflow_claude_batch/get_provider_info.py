"""What Airflow's ``airflow providers`` and configuration learn about this package.

Airflow reads this through the ``apache_airflow_provider`` entry point at every start of every component,
so it is plain data. The connection type ``anthropic`` belongs to ``apache-airflow-providers-anthropic``.
"""

from __future__ import annotations

from typing import Any

INTEGRATION = "Claude Message Batches"
_API_DOCUMENTATION = "https://platform.claude.com/docs/en/build-with-claude/batch-processing"


def get_provider_info() -> dict[str, Any]:
    """The provider's description, in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-claude-batch",
        "name": "Claude Batch",
        "description": (
            f"Claude's `Message Batches API <{_API_DOCUMENTATION}>`__"
            " from a DAG: submits each request once, waits without a worker slot,"
            " and delivers succeeded and errored records to object storage."
            # Airflow shows an address only where the package's metadata has one; there is none yet.
            " Documentation: the folder docs of the source distribution."
            " Changelog: share/doc/airflow-claude-batch/CHANGELOG.md of the Python environment.\n"
        ),
        "integrations": [
            {"integration-name": INTEGRATION, "external-doc-url": _API_DOCUMENTATION, "tags": ["ai"]},
        ],
        "hooks": [_modules("airflow_claude_batch.hooks.claude_batch")],
        "operators": [
            _modules(
                "airflow_claude_batch.operators.claude_batch",
                "airflow_claude_batch.operators.submit",
                "airflow_claude_batch.operators.results",
            )
        ],
        "sensors": [_modules("airflow_claude_batch.sensors.claude_batch")],
        "triggers": [
            _modules(
                "airflow_claude_batch.triggers.claude_batch",
                "airflow_claude_batch.triggers.batch_ended",
                "airflow_claude_batch.triggers.budget_alert",
            )
        ],
        "task-decorators": [
            {
                "name": "claude_batch",
                "class-name": "airflow_claude_batch.decorators.claude_batch.claude_batch_task",
            }
        ],
        "extra-links": [
            "airflow_claude_batch.links.claude_batch.ClaudeConsoleLink",
            "airflow_claude_batch.links.claude_batch.OutputFolderLink",
        ],
        "cli": ["airflow_claude_batch.cli.airflow_commands.get_commands"],
        "config": {"claude_batch": _CONFIG_SECTION},
    }


def _modules(*names: str) -> dict[str, Any]:
    return {"integration-name": INTEGRATION, "python-modules": list(names)}


_CONFIG_SECTION: dict[str, Any] = {
    "description": "Settings of the Claude batch operators (package ``airflow-claude-batch``).",
    "options": {
        "storage_path": {
            "description": (
                "Directory that holds each job's ledger and spooled requests: any URI that\n"
                "``ObjectStoragePath`` understands. Every worker must be able to read and write it.\n"
                "Empty means ``$AIRFLOW_HOME/claude_batch`` with an executor that runs tasks on the\n"
                "scheduler's machine; with any other executor tasks fail until it is set.\n"
            ),
            "version_added": "0.1.0",
            "type": "string",
            "example": "s3://aws_default@my-bucket/airflow/claude_batch",
            "default": "",
        },
        "max_inline_bytes": {
            "description": (
                "Largest result, in bytes of JSON, that a task without ``output_path`` may put into XCom.\n"
                "A larger one fails the task and asks for an ``output_path``.\n"
            ),
            "version_added": "0.1.0",
            "type": "integer",
            "example": None,
            "default": "1000000",
        },
        "price_factor": {
            "description": (
                "A negotiated discount, as a factor on list prices. ``price_factor`` in the extra of a\n"
                "connection goes before it.\n"
            ),
            "version_added": "0.1.0",
            "type": "float",
            "example": "0.85",
            "default": "1",
        },
        "tags": {
            "description": (
                "Tags that the costs of all jobs are booked under, as a JSON object. What a task's own\n"
                "``tags`` say goes before it.\n"
            ),
            "version_added": "0.1.0",
            "type": "string",
            "example": '{"company": "acme"}',
            "default": "",
        },
        "budgets": {
            "description": (
                "What may be spent, as a JSON list. Each item has the fields of ``Budget``: ``max_usd`` (US\n"
                "dollars), ``per`` (job, day, month), ``scope`` (all, dag, connection, tag:NAME),\n"
                "``on_exceeded`` (fail, wait), ``warn_at``, ``on_budget_exceeded`` (package.module.name).\n"
            ),
            "version_added": "0.1.0",
            "type": "string",
            "example": '[{"max_usd": 500, "per": "month", "scope": "tag:team"}]',
            "default": "",
        },
        "budget_timezone": {
            "description": (
                "Time zone whose days and months budgets and costs are about. Empty: that of\n"
                "``[core] default_timezone``.\n"
            ),
            "version_added": "0.1.0",
            "type": "string",
            "example": "Europe/Berlin",
            "default": "",
        },
        "reservation_hours": {
            "description": (
                "Hours after which what was reserved for a job counts no more against a budget, if the job\n"
                "has sent nothing: its process is dead, and there was no retry. What was sent counts until\n"
                "its results are delivered.\n"
            ),
            "version_added": "0.1.0",
            "type": "float",
            "example": None,
            "default": "24",
        },
        "compression": {
            "description": (
                "How spooled requests are stored: ``none`` or ``gzip``, which trades CPU time for space.\n"
            ),
            "version_added": "0.1.0",
            "type": "string",
            "example": "gzip",
            "default": "none",
        },
        "reconcile_grace_seconds": {
            "description": (
                "How long a batch may take to appear in the API's list after its creation was interrupted.\n"
                "Only after this time is a part without a batch submitted again.\n"
            ),
            "version_added": "0.1.0",
            "type": "float",
            "example": None,
            "default": "60",
        },
        "unreachable_seconds": {
            "description": (
                "How long a task that has sent nothing yet waits, without a worker slot, for an API that\n"
                "cannot be reached. Then it fails and may be retried. With something sent it goes on.\n"
            ),
            "version_added": "0.1.0",
            "type": "float",
            "example": None,
            "default": "1800",
        },
        "deliver_every_seconds": {
            "description": (
                "How often at the most, in seconds, a task that waits for a job's batches comes back to\n"
                "deliver parts whose batch has ended before the others. 0: all of them at the end.\n"
            ),
            "version_added": "0.1.0",
            "type": "float",
            "example": None,
            "default": "300",
        },
        "max_direct_concurrency": {
            "description": (
                "How many single calls a task makes at the same time at the most, where it answers requests\n"
                "directly (``direct_below``, ``deadline``). The API's rate limits may allow fewer.\n"
            ),
            "version_added": "0.1.0",
            "type": "integer",
            "example": None,
            "default": "8",
        },
        "probe_above_usd": {
            "description": (
                "Jobs that are estimated to cost more, in US dollars, have their first request sent by\n"
                "itself before the batch, at its full price, so that a wrong parameter shows in seconds.\n"
                "An operator's Budget(probe=...) decides otherwise.\n"
            ),
            "version_added": "0.1.0",
            "type": "float",
            "example": None,
            "default": "5",
        },
        "allow_unsafe_storage": {
            "description": (
                "Whether jobs are recorded on a store that replaces a file which was to be created only if\n"
                "there is none (S3-compatible stores that ignore ``If-None-Match``). Two workers on one\n"
                "task may then submit it twice; set it where nothing but one worker at a time ever runs.\n"
            ),
            "version_added": "0.1.0",
            "type": "boolean",
            "example": None,
            "default": "False",
        },
        "s3_additional_kwargs": {
            "description": (
                "What each call to S3 carries besides, as a JSON object of boto3's arguments, for buckets\n"
                "that demand it: server-side encryption with a key of yours, or ``RequestPayer``. Calls\n"
                "that do not know an argument go without it.\n"
            ),
            "version_added": "0.1.0",
            "type": "string",
            "example": '{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/reports"}',
            "default": None,
        },
        "console_url": {
            "description": (
                "Address of a batch in the Claude Console, for links in Airflow's UI; ``{batch_id}`` stands\n"
                "for the batch. Name your workspace in it where it is not the default one. Empty: no links.\n"
            ),
            "version_added": "0.1.0",
            "type": "string",
            "example": "https://platform.claude.com/settings/workspaces/wrkspc_01/batches/{batch_id}",
            "default": "https://platform.claude.com/settings/workspaces/default/batches/{batch_id}",
            "is_template": True,  # or Airflow 3.1 expands the braces itself, and no command starts any more
        },
        "share_jobs_between_dags": {
            "description": (
                "Whether a results task may deliver a job that another DAG has submitted. Without it only\n"
                "those may that the job's own ``Recovery(shared_with=[...])`` names: a handle is an XCom,\n"
                "and who may edit the XComs of one DAG need not see another's answers.\n"
            ),
            "version_added": "0.1.0",
            "type": "boolean",
            "example": None,
            "default": "False",
        },
        "show_columns_in_ui": {
            "description": (
                "Columns of the user's own, separated by commas, that the page Claude Batches shows of\n"
                "failed records, to whoever may read the DAG's XComs. Empty: none. Prompts and answers are\n"
                "never shown.\n"
            ),
            "version_added": "0.1.0",
            "type": "string",
            "example": "account_id, region",
            "default": "",
        },
        "retention_days": {
            "description": (
                "Age in days from which ``claude-batch purge`` deletes a job's ledger and spooled requests\n"
                "from ``storage_path``. Anthropic keeps a batch's results for 29 days.\n"
            ),
            "version_added": "0.1.0",
            "type": "integer",
            "example": None,
            "default": "29",
        },
    },
}
