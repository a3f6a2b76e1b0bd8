"""What a delivery read and wrote, for OpenLineage."""

from __future__ import annotations

from typing import Any


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
