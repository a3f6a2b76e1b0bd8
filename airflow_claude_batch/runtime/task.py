"""What Airflow says of the task instance that runs."""

from __future__ import annotations

from typing import Any


def generation_of(ti: Any, retries: int) -> int:
    """First try number of the task instance's generation: the same for its retries, another after a clear.

    Args:
        ti: The task instance.
        retries: Of its task.
    """
    return max((ti.max_tries or 0) - retries + 1, 1)
