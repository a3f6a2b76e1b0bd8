"""Where a summary goes besides XCom: asset events and metrics; and what a submission says of itself.

======================================  =======  ===================================================
metric                                  type     what it counts
======================================  =======  ===================================================
``claude_batch.requests.<outcome>``     counter  delivered requests by outcome
``claude_batch.requests.reused``        counter  delivered requests that were not asked
``claude_batch.tokens.<kind>``          counter  tokens by kind, named as in the API's usage
``claude_batch.cost_microusd``          counter  cost of the answers, in millionths of a dollar
``claude_batch.unpriced_requests``      counter  answers of models without a known price
``claude_batch.ways.<way>``             counter  delivered requests by how they were answered
``claude_batch.direct_extra_microusd``  counter  what single calls have cost more than batches would
``claude_batch.late``                   counter  deliveries that were complete after their deadline
======================================  =======  ===================================================

All carry the tag ``conn_id``, and the job's own tags. No prompt or answer is in any of this.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import Asset, AssetAlias

from airflow_claude_batch.batches.results.output.writers import SETS
from airflow_claude_batch.batches.results.output_records import OUTCOMES
from airflow_claude_batch.common.metrics import AirflowMetrics
from airflow_claude_batch.common.xcoms import SUMMARY, VERSION, XCOM_KEY

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.job.ledger import Ledger

log = logging.getLogger(__name__)

PATHS = ("succeeded_path", "errored_path", "summary_path")
EXTRA = ("job", "tags", "counts", "deadline", "on_time", "cost", "usage", *PATHS)
"""What an asset event carries of the summary."""
REUSE = ("reused", "asked", "saved_by_reuse_usd")
"""The same, of a job that reuses answers."""


def report(summary: dict[str, Any], context: Context, *, conn_id: str, outlets: Iterable[Any]) -> None:
    """Tell of a delivery; called before the verdict, so that failed tasks are reported too."""
    slim = {key: value for key, value in summary.items() if key not in SETS}
    context["ti"].xcom_push(key=SUMMARY, value=slim)
    _add_to_asset_events(slim, outlets, context)
    _count(slim, conn_id)


def tell(summary: Mapping[str, Any]) -> None:
    """The closing line of a delivery, and what deserves a look."""
    counts, cost = summary["counts"], summary["cost"]["total_usd"]
    parts = [f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if counts[outcome]]
    price = "cost unknown" if cost is None else f"${cost:.4f}, ${summary['cost']['saved_usd']:.4f} saved"
    where = summary["summary_path"] or "XCom"
    log.info("Delivered %s requests: %s; %s; %s", counts["total"], ", ".join(parts), price, where)
    if "reused" in summary:
        log.info("%s were asked, %s had their answer already", summary["asked"], summary["reused"])
    for warning in summary["warnings"]:
        log.warning("%s", warning)


def _add_to_asset_events(summary: dict[str, Any], outlets: Iterable[Any], context: Context) -> None:
    events: Any = context.get("outlet_events")
    extra: dict[str, Any] = {"claude_batch": _chosen(summary)}
    for outlet in outlets if events is not None else ():
        if isinstance(outlet, Asset):
            events[outlet].extra.update(extra)
        elif isinstance(outlet, AssetAlias) and summary["summary_path"]:
            directory = summary["summary_path"].rpartition("/")[0]
            events[outlet].add(Asset(directory), extra=extra)


def _chosen(summary: dict[str, Any]) -> dict[str, Any]:
    keys = EXTRA + REUSE if "reused" in summary else EXTRA
    return {key: summary[key] for key in keys}


def _count(summary: dict[str, Any], conn_id: str) -> None:
    metrics = AirflowMetrics(conn_id, summary["tags"])
    numbers = {f"requests.{outcome}": n for outcome, n in summary["counts"].items() if outcome != "total"}
    numbers |= {f"tokens.{kind}": n for kind, n in summary["usage"].items() if kind.endswith("_tokens")}
    cost = summary["cost"]
    numbers["cost_microusd"] = round((cost["total_usd"] or 0) * 1e6)
    numbers["unpriced_requests"] = cost["unpriced_requests"]
    numbers |= {f"ways.{way}": told["requests"] for way, told in summary["ways"].items()}
    numbers["direct_extra_microusd"] = round((summary["direct_extra_usd"] or 0) * 1e6)
    numbers["late"] = int(summary["on_time"] is False)
    numbers["requests.reused"] = summary.get("reused", 0)
    for name, number in numbers.items():
        if number:
            metrics.incr(name, number)


def announce(
    context: Context,
    *,
    conn_id: str,
    model: str | None,
    ledger: Ledger | None = None,
    pause: dict[str, str] | None = None,
    paid_before: dict[str, Any] | None = None,
) -> None:
    """Say that this task instance has a job, and how far its submission is.

    Args:
        model: Of requests that do not name one.
        ledger: The job, once its input is stored.
        pause: Why submission waits, and until when: ``{"reason", "until"}``.
        paid_before: What the task instance's earlier jobs cost.
    """
    ti = context["ti"]
    if ledger is None and ti.xcom_pull(task_ids=ti.task_id, key=XCOM_KEY, map_indexes=ti.map_index):
        return  # a resumed task: what it said before is more than this
    value: dict[str, Any] = {"version": VERSION, "conn_id": conn_id, "model": model, "batch_ids": []}
    if ledger is not None:
        sent = [part.submitted_at for part in ledger.live_parts if part.submitted_at]
        value |= ledger.handle
        value["tags"] = ledger.tags
        value["deadline"] = ledger.on_time.at.isoformat() if ledger.on_time is not None else None
        value["submitted_at"] = min(sent).isoformat() if sent else None
    if pause is not None:
        value["pause"] = pause
    if paid_before is not None:
        value["paid_before"] = paid_before
    ti.xcom_push(key=XCOM_KEY, value=value)
