"""Airflow's configuration section ``[claude_batch]`` and Airflow's object storage, for the operators."""

from __future__ import annotations

import json
import os
import re
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import conf
from airflow.sdk import ObjectStoragePath

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.common.scalars import scalar

SECTION = "claude_batch"
_KEPT = {9: 0xF0009, 10: 0xF000A, 13: 0xF000D}
_BACK = {private: character for character, private in _KEPT.items()}
_AZURES_OWN = re.compile(r"(?:abfss?|wasbs?|az)://([^@/]+)@([^./]+)\.(?:dfs|blob)\.core\.[^/]+/?(.*)", re.S)
"""An address as Azure prints it: its ``@`` stands behind the container, not behind a connection."""
SINGLE_MACHINE_EXECUTORS = {"LocalExecutor", "SequentialExecutor", "DebugExecutor"}


def open_folder(url: str) -> Folder:
    """A folder through ``ObjectStoragePath``: ``s3://conn_id@bucket/key``, ``file:///…`` and so on.

    Raises:
        ConfigurationError: For a kind of store that this Airflow does not know, and Azure's own addresses.
    """
    if (own := _AZURES_OWN.fullmatch(url)) is not None:
        raise ConfigurationError(
            f"{url} is an address as Azure writes it; Airflow names a connection before the @. Write "
            f"abfs://CONN_ID@{own[1]}/{own[3]} with a connection of type adls to the account {own[2]}."
        )
    try:
        # Parsing takes tabs and ends of lines out of addresses; in names of files they are characters.
        path = ObjectStoragePath(url.translate(_KEPT))
        fs = path.fs
    except ValueError as error:  # "Unsupported filesystem", "No filesystem registered for scheme"
        raise ConfigurationError(
            f"{url} cannot be opened: {error}. Check the address, or install the provider of that store."
        ) from None
    if hasattr(fs, "s3_additional_kwargs") and (wanted := s3_additional_kwargs()):
        fs.s3_additional_kwargs = {**fs.s3_additional_kwargs, **wanted}
    return Folder(fs=fs, path=path.path.translate(_BACK).rstrip("/") or "/", url=url.rstrip("/"))


def storage_root(override: str | None = None) -> Folder:
    """Where ledgers and spooled requests live.

    Args:
        override: ``storage_path`` of the operator.

    Raises:
        ConfigurationError: When it is not set and workers may run on several machines.
    """
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
    # Not through a URI: what is special there, a blank or an accent, stands for itself in a path.
    folder = home / SECTION
    return Folder(fs=ObjectStoragePath("file:///").fs, path=str(folder), url=f"file://{folder}")


def max_inline_bytes() -> int:
    """The most that records may take up in XCom."""
    return conf.getint(SECTION, "max_inline_bytes", fallback=1_000_000)


def compress_spool() -> bool:
    """Whether spooled requests are stored gzipped."""
    return bool(conf.get(SECTION, "compression", fallback="none") == "gzip")


def reconcile_grace_seconds() -> float:
    """How long a batch may take to appear in the API's list after an interrupted POST."""
    return conf.getfloat(SECTION, "reconcile_grace_seconds", fallback=60.0)


def unreachable_seconds() -> float:
    """How long a task that has sent nothing waits for an API that cannot be reached."""
    return conf.getfloat(SECTION, "unreachable_seconds", fallback=1800.0)


def deliver_every_seconds() -> float:
    """How often at the most parts are delivered while others wait for their batches; 0 for at the end."""
    return max(conf.getfloat(SECTION, "deliver_every_seconds", fallback=300.0), 0.0)


def max_direct_concurrency() -> int:
    """How many single calls of a task may be under way at one time."""
    return max(conf.getint(SECTION, "max_direct_concurrency", fallback=8), 1)


def probe_above_usd() -> float:
    """Estimated cost of a job above which its first request is tried by itself."""
    return conf.getfloat(SECTION, "probe_above_usd", fallback=5.0)


def s3_additional_kwargs() -> dict[str, Any]:
    """What each call to S3 carries besides: server-side encryption, requester pays.

    Raises:
        ConfigurationError: When it is no JSON object.
    """
    text = conf.get(SECTION, "s3_additional_kwargs", fallback="") or "{}"
    try:
        wanted = json.loads(text)
    except ValueError:
        wanted = None
    if not isinstance(wanted, dict):
        raise ConfigurationError(
            f"[{SECTION}] s3_additional_kwargs is no JSON object; for example "
            '{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "alias/reports"}'
        )
    return wanted


def allow_unsafe_storage() -> bool:
    """Whether jobs are taken on a store that cannot create a file exclusively."""
    return conf.getboolean(SECTION, "allow_unsafe_storage", fallback=False)


def share_jobs_between_dags() -> bool:
    """Whether a task may deliver another DAG's job."""
    return conf.getboolean(SECTION, "share_jobs_between_dags", fallback=False)


def show_columns_in_ui() -> list[str]:
    """Names of the user's own columns that the page may show of failed records."""
    text = conf.get(SECTION, "show_columns_in_ui", fallback="")
    return [name for word in text.split(",") if (name := word.strip())]


def retention_days() -> int:
    """Age in days from which ``claude-batch purge`` deletes jobs."""
    return conf.getint(SECTION, "retention_days", fallback=29)


def price_factor(own: Any = None) -> Decimal:
    """A negotiated discount, as a factor on list prices.

    Args:
        own: The connection's, which goes before the setting.

    Raises:
        ConfigurationError: When it is not a number from 0 to 1.
    """
    where = f"[{SECTION}]" if own is None else "The connection's"
    text = str(conf.get(SECTION, "price_factor", fallback="1") if own is None else own)
    try:
        factor = Decimal(text)
    except InvalidOperation:
        factor = Decimal("NaN")
    if factor.is_nan() or not 0 <= factor <= 1:
        raise ConfigurationError(f"{where} price_factor is {text!r}; it is a number from 0 to 1.")
    return factor


def default_tags() -> dict[str, str]:
    """Tags of all jobs, unless their tasks say otherwise.

    Raises:
        ConfigurationError: When they are no JSON object of names and values.
    """
    return scalar("tags", _json(conf.get(SECTION, "tags", fallback=""), "tags", dict)) or {}


def configured_budgets() -> list[dict[str, Any]]:
    """Budgets of all jobs, as they are written.

    Raises:
        ConfigurationError: When they are no JSON list of objects.
    """
    found: list[Any] = _json(conf.get(SECTION, "budgets", fallback=""), "budgets", list) or []
    if not all(isinstance(one, dict) for one in found):
        raise ConfigurationError(f"[{SECTION}] budgets is no JSON list of objects. Nothing was sent.")
    return found


def budget_timezone() -> str:
    """Name of the time zone whose days and months budgets and costs are about.

    Raises:
        ConfigurationError: When there is no such zone.
    """
    own = conf.get(SECTION, "budget_timezone", fallback="")
    name = own or conf.get("core", "default_timezone", fallback="utc")
    if name.lower() == "system":
        return str(pendulum.now().timezone_name)
    try:
        return str(pendulum.timezone(name).name)
    except ValueError:
        raise ConfigurationError(
            f"[{SECTION}] budget_timezone is {name!r}; it is a name such as Europe/Berlin."
        ) from None


def reservation_hours() -> float:
    """Age from which what was reserved for a job that has sent nothing counts no more."""
    return conf.getfloat(SECTION, "reservation_hours", fallback=24.0)


def _json(text: str, name: str, kind: type) -> Any:
    if not text.strip():
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"[{SECTION}] {name} is no JSON: {error}. Nothing was sent.") from None
    if not isinstance(found, kind):
        noun = "object" if kind is dict else "list"
        raise ConfigurationError(f"[{SECTION}] {name} is no JSON {noun}. Nothing was sent.")
    return found
