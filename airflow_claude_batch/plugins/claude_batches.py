"""Registers the Claude Batches page, its tabs and its API with Airflow's API server.

Every Airflow component loads plugins, and only the API server needs this one's web application: it is
imported when that server asks for it.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_claude_batch.plugins.bundle import URL_PREFIX, bundle_url

OPERATORS = (
    "ClaudeBatchSubmitOperator",
    "ClaudeBatchSensor",
    "ClaudeBatchResultsOperator",
    "ClaudeBatchOperator",
    "@task.claude_batch",
)


def react_apps() -> list[dict[str, Any]]:
    """The page, its card and its tabs: one bundle, which sets a global component of each of these names."""
    url = bundle_url()
    return [
        {
            "name": "Claude Batches",
            "destination": "nav",
            "category": "browse",
            "url_route": "claude-batches",
            "bundle_url": url,
        },
        {"name": "Claude Batches Card", "destination": "dashboard", "bundle_url": url},
        {
            "name": "Claude Batches",
            "destination": "dag",
            "url_route": "claude-batches-dag",
            "bundle_url": url,
        },
        {
            "name": "Claude Batches",
            "destination": "dag_run",
            "url_route": "claude-batches-run",
            "bundle_url": url,
        },
        {
            "name": "Claude Batch",
            "destination": "task_instance",
            "url_route": "claude-batch",
            "bundle_url": url,
            # Airflow 3.4 shows the tab for these only; before, on every task, where it says so.
            "applies_to": {"operator_name": list(OPERATORS)},
        },
    ]


class ClaudeBatchesPlugin(AirflowPlugin):
    """Claude Batches in Airflow's UI."""

    name = "claude_batches"
    react_apps = react_apps()

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]
        """The API that the page reads, and the bundle."""
        from airflow_claude_batch.plugins.app import create_app

        return [{"name": "Claude Batches", "app": create_app(), "url_prefix": URL_PREFIX}]
