"""Airflow's configuration section ``[claude_batch]`` and Airflow's object storage, for the operators."""

from __future__ import annotations

import os
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_claude_batch.batches.storage import Folder

SECTION = "claude_batch"
SINGLE_MACHINE_EXECUTORS = {"LocalExecutor", "SequentialExecutor", "DebugExecutor"}


def open_folder(url: str) -> Folder:
    """A folder through ``ObjectStoragePath``: ``s3://conn_id@bucket/key``, ``file:///…`` and so on.

    :raises ConfigurationError: for a kind of store that this Airflow does not know
    """
    from airflow.sdk import ObjectStoragePath

    from airflow_claude_batch.batches.errors import ConfigurationError
    from airflow_claude_batch.batches.storage import Folder

    try:
        path = ObjectStoragePath(url)
        fs = path.fs
    except ValueError as error:  # "Unsupported filesystem", "No filesystem registered for scheme"
        raise ConfigurationError(
            f"{url} cannot be opened: {error}. Check the address, or install the provider of that store."
        ) from None
    return Folder(fs=fs, path=path.path.rstrip("/") or "/", url=url.rstrip("/"))


def storage_root(override: str | None = None) -> Folder:
    """Where ledgers and spooled requests live.

    :param override: ``storage_path`` of the operator
    :raises ConfigurationError: when it is not set and workers may run on several machines
    """
    from airflow.providers.common.compat.sdk import conf

    from airflow_claude_batch.batches.errors import ConfigurationError

    configured = override or conf.get(SECTION, "storage_path", fallback="")
    if configured:
        return open_folder(configured)
    executors = {name.strip().rpartition(".")[2] for name in conf.get("core", "executor").split(",")}
    if not executors <= SINGLE_MACHINE_EXECUTORS:
        raise ConfigurationError(
            f"[{SECTION}] storage_path is not set, and with {', '.join(sorted(executors))} a retry may run "
            "on another machine. Set it to a folder that all workers reach, for example "
            f"AIRFLOW__CLAUDE_BATCH__STORAGE_PATH=s3://conn_id@bucket/{SECTION}"
        )
    home = Path(os.environ.get("AIRFLOW_HOME") or "~/airflow").expanduser().resolve()
    return open_folder(f"{home.as_uri()}/claude_batch")


def max_inline_bytes() -> int:
    """The most that records may take up in XCom."""
    from airflow.providers.common.compat.sdk import conf

    return conf.getint(SECTION, "max_inline_bytes", fallback=1_000_000)


def compress_spool() -> bool:
    """Whether spooled requests are stored gzipped."""
    from airflow.providers.common.compat.sdk import conf

    return bool(conf.get(SECTION, "compression", fallback="none") == "gzip")


def reconcile_grace_seconds() -> float:
    """How long a batch may take to appear in the API's list after an interrupted POST."""
    from airflow.providers.common.compat.sdk import conf

    return conf.getfloat(SECTION, "reconcile_grace_seconds", fallback=60.0)


def retention_days() -> int:
    """Age in days from which ``claude-batch purge`` deletes jobs."""
    from airflow.providers.common.compat.sdk import conf

    return conf.getint(SECTION, "retention_days", fallback=29)


def price_factor() -> Decimal:
    """A negotiated discount, as a factor on list prices.

    :raises ConfigurationError: when it is not a number from 0 to 1
    """
    from airflow.providers.common.compat.sdk import conf

    from airflow_claude_batch.batches.errors import ConfigurationError

    text = str(conf.get(SECTION, "price_factor", fallback="1"))
    try:
        factor = Decimal(text)
    except InvalidOperation:
        factor = Decimal("NaN")
    if factor.is_nan() or not 0 <= factor <= 1:
        raise ConfigurationError(f"[{SECTION}] price_factor is {text!r}; it is a number from 0 to 1.")
    return factor
