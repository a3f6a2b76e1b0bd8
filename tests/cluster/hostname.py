"""Names the components as if each were a machine; Airflow calls this for `[core] hostname_callable`."""

from __future__ import annotations

import os


def component() -> str:
    """The component that this process belongs to."""
    return os.environ["CLUSTER_COMPONENT"]
