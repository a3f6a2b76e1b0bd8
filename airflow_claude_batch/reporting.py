"""Where a summary goes besides XCom: asset events, metrics, OpenLineage.

=========================================  =======  ====================================================
metric                                     type     what it counts
=========================================  =======  ====================================================
``claude_batch.requests.<outcome>``        counter  delivered requests by outcome
``claude_batch.tokens.<kind>``             counter  tokens by kind, named as in the API's usage
``claude_batch.cost_microusd``             counter  cost of the answers, in millionths of a dollar
``claude_batch.unpriced_requests``         counter  answers of models without a known price
=========================================  =======  ====================================================

All carry the tag ``conn_id``. No prompt or answer is in any of this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

RECORDS = ("succeeded", "errored")
EXTRA = ("job", "counts", "cost", "usage", "succeeded_path", "errored_path", "summary_path")
"""What an asset event carries of the summary."""


def report(summary: dict[str, Any], operator: Any, context: Context) -> None:
    """Tell of a delivery; called before the verdict, so that failed tasks are reported too."""
    slim = {key: value for key, value in summary.items() if key not in RECORDS}
    context["ti"].xcom_push(key="summary", value=slim)
    _add_to_asset_events(slim, operator, context)
    _count(slim, operator.conn_id)


def _add_to_asset_events(summary: dict[str, Any], operator: Any, context: Context) -> None:
    from airflow.sdk import Asset, AssetAlias

    events: Any = context.get("outlet_events")
    extra: dict[str, Any] = {"claude_batch": {key: summary[key] for key in EXTRA}}
    for outlet in (operator.outlets or ()) if events is not None else ():
        if isinstance(outlet, Asset):
            events[outlet].extra.update(extra)
        elif isinstance(outlet, AssetAlias) and summary["summary_path"]:
            directory = summary["summary_path"].rpartition("/")[0]
            events[outlet].add(Asset(directory), extra=extra)


def _count(summary: dict[str, Any], conn_id: str) -> None:
    from airflow_claude_batch.metrics import AirflowMetrics

    metrics = AirflowMetrics(conn_id)
    numbers = {f"requests.{outcome}": n for outcome, n in summary["counts"].items() if outcome != "total"}
    numbers |= {f"tokens.{kind}": n for kind, n in summary["usage"].items() if kind.endswith("_tokens")}
    cost = summary["cost"]
    numbers["cost_microusd"] = round((cost["total_usd"] or 0) * 1e6)
    numbers["unpriced_requests"] = cost["unpriced_requests"]
    for name, number in numbers.items():
        if number:
            metrics.incr(name, number)


def lineage(summary: dict[str, Any] | None) -> Any:
    """The OpenLineage event's inputs and outputs; None where there are none, or no provider."""
    try:
        from airflow.providers.common.compat.openlineage.facet import (
            Dataset,
            OutputDataset,
            OutputStatisticsOutputDatasetFacet,
        )
        from airflow.providers.openlineage.extractors import OperatorLineage
    except ImportError:
        return None
    if not summary:
        return None
    succeeded = summary["counts"]["succeeded"]
    rows = {"succeeded_path": succeeded, "errored_path": summary["counts"]["total"] - succeeded}
    outputs = []
    for key, count in rows.items():
        if summary[key]:
            facets: dict[str, Any] = {"outputStatistics": OutputStatisticsOutputDatasetFacet(rowCount=count)}
            namespace, name = _dataset(summary[key])
            outputs.append(OutputDataset(namespace=namespace, name=name, outputFacets=facets))
    inputs = []
    if summary["job"]:
        namespace, name = _dataset(summary["job"])
        inputs.append(Dataset(namespace=namespace, name=name))
    return OperatorLineage(inputs=inputs, outputs=outputs)


def _dataset(url: str) -> tuple[str, str]:
    """OpenLineage's namespace and name of an object storage URL; no connection id in it."""
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    host = host.rpartition("@")[2]
    if scheme == "file":
        return "file", f"/{path}"
    return f"{scheme}://{host}", path
