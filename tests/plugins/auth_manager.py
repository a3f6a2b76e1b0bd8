"""The simple auth manager with one more kind of user: one that may read, or edit, a single DAG."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails


class PerDagAuthManager(SimpleAuthManager):
    """A user called ``only-<dag_id>`` knows of that DAG and no other; its role says what it may do there."""

    def is_authorized_dag(
        self, *, method: Any, user: Any, access_entity: Any = None, details: DagDetails | None = None
    ) -> bool:
        """As the role allows, and for such a user only where its DAG, or none, is named."""
        allowed = super().is_authorized_dag(
            method=method, user=user, access_entity=access_entity, details=details
        )
        dag_id = details.id if details else None
        if user.username.startswith("only-") and dag_id is not None:
            return allowed and user.username == f"only-{dag_id}"
        return allowed
