"""What Airflow's ``airflow providers`` and configuration learn about this package.

Airflow reads this through the ``apache_airflow_provider`` entry point at every start of every component,
so it is plain data. The connection type ``anthropic`` belongs to ``apache-airflow-providers-anthropic``.
"""

from __future__ import annotations

from typing import Any

INTEGRATION = "Claude Message Batches"


def get_provider_info() -> dict[str, Any]:
    """The provider's description, in the form of Airflow's ``provider_info.schema.json``."""
    return {
        "package-name": "airflow-claude-batch",
        "name": "Claude Batch",
        "description": (
            "Claude's `Message Batches API <https://platform.claude.com/docs/en/build-with-claude/batch-processing>`__"
            " from a DAG: submits each request once, waits without a worker slot,"
            " and delivers succeeded and errored records to object storage.\n"
        ),
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": (
                    "https://platform.claude.com/docs/en/build-with-claude/batch-processing"
                ),
                "tags": ["ai"],
            }
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
                "airflow_claude_batch.triggers.claude_batch", "airflow_claude_batch.triggers.batch_ended"
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
            "description": "A negotiated discount, as a factor on list prices.\n",
            "version_added": "0.1.0",
            "type": "float",
            "example": "0.85",
            "default": "1",
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
