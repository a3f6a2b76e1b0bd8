"""Reading what a results task delivered, in the tasks after it.

    @task
    def totals(summary):
        for record in read_succeeded(summary):
            ...

``summary`` is the results task's output, or the address of its ``output_path``. JSON lines, gzip, zstd,
Parquet and the records in XCom read alike, one record after the other, so that a million of them need no
more memory than one. What a record holds is in ``airflow_claude_batch.batches.results.output_records``;
with ``output_format="raw"`` it is the API's own line.

Addresses may hold a connection (``s3://conn_id@bucket/reports``): it is Airflow that reads them. Tools that
know no connections take ``succeeded_uri`` and ``errored_uri`` of the summary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import msgspec

from airflow_claude_batch.batches.errors import ResultsError, missing_package
from airflow_claude_batch.common.handle import read_back
from airflow_claude_batch.common.scalars import as_text

if TYPE_CHECKING:
    from airflow_claude_batch.batches.storage import Folder

Set: TypeAlias = Literal["succeeded", "errored"]


def read_succeeded(summary_or_path: Any) -> Iterator[dict[str, Any]]:
    """The records of requests that were answered.

    Args:
        summary_or_path: Output of the results task (or of ``@task.claude_batch``); or the output directory,
            as ``ObjectStoragePath`` understands it, its ``summary.json``, or its ``succeeded`` directory

    Raises:
        ResultsError: Where there are no records, or a delivery has not ended
    """
    return _read(summary_or_path, "succeeded")


def read_errored(summary_or_path: Any) -> Iterator[dict[str, Any]]:
    """The records of requests without a usable answer.

    Args:
        summary_or_path: Output of the results task (or of ``@task.claude_batch``); or the output directory,
            as ``ObjectStoragePath`` understands it, its ``summary.json``, or its ``errored`` directory

    Raises:
        ResultsError: Where there are no records, or a delivery has not ended
    """
    return _read(summary_or_path, "errored")


def to_arrow(summary_or_path: Any, records: Set = "succeeded") -> Any:
    """The records of one set as a ``pyarrow.Table``; they are all in memory.

    Parquet files keep their types. Those of other formats are inferred over all records: objects are structs,
    mixed types are JSON text.

    Args:
        summary_or_path: As for :func:`read_succeeded`
        records: Which set

    Raises:
        ConfigurationError: Where pyarrow is not installed
        ResultsError: Where there are no records, or a delivery has not ended
    """
    from airflow_claude_batch.batches.results.output.read_records import need_pyarrow, read_table, table_of

    pa = need_pyarrow("to_arrow")
    found = _find(summary_or_path, records)
    if not isinstance(found, list):
        return read_table(found)
    lines = msgspec.json.Encoder().encode_lines(found)
    return table_of(lambda: iter([lines]), pa)


def to_pandas(summary_or_path: Any, records: Set = "succeeded") -> Any:
    """The records of one set as a ``pandas.DataFrame``; they are all in memory.

    Objects are spread over columns, named as ``pandas.json_normalize`` does: ``input.team``,
    ``usage.output_tokens``, ``output.address.city``. Lists stay lists. Whole numbers and truth values have
    pandas' nullable types, so that a missing value makes no fraction of a long id.

    Args:
        summary_or_path: As for :func:`read_succeeded`
        records: Which set

    Raises:
        ConfigurationError: Where pandas or pyarrow is not installed
        ResultsError: Where there are no records, or a delivery has not ended
    """
    try:
        import pandas as pd
        import pyarrow as pa
    except ImportError as error:
        raise missing_package("to_pandas", "pandas and pyarrow", "pandas") from error

    table = to_arrow(summary_or_path, records)
    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    nullable = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    return table.to_pandas(types_mapper=nullable.get)


def _read(summary_or_path: Any, set_: Set) -> Iterator[dict[str, Any]]:
    """Found now, read later: an address that is wrong fails where it is given."""
    from airflow_claude_batch.batches.results.output.read_records import read_records

    found = _find(summary_or_path, set_)
    return iter(found) if isinstance(found, list) else read_records(found)


def _find(summary_or_path: Any, set_: Set) -> list[dict[str, Any]] | Folder:
    """The records themselves, or the folder that holds them."""
    from airflow_claude_batch.batches.results.output.directory import SUMMARY
    from airflow_claude_batch.batches.results.output.read_records import find_set
    from airflow_claude_batch.common.settings import open_folder

    given = as_text(summary_or_path)
    if isinstance(given, str):
        given = read_back(given.strip())
    if not isinstance(given, Mapping):
        if not isinstance(given, str) or given in ("", "None"):
            kind = repr(given) if isinstance(given, str) else f"a {type(given).__name__}"
            raise ResultsError(
                f"The summary is {kind}; it is the output of one results task (the XCom 'return_value'), or "
                "the address of its output_path. Of several tasks read one after the other."
            )
        return find_set(open_folder(given.removesuffix(f"/{SUMMARY}")), set_)
    path, records = given.get(f"{set_}_path"), given.get(set_)
    if path:
        return find_set(open_folder(path), set_)
    if records is None:
        raise ResultsError(
            f"The summary has neither {set_}_path nor {set_} records. Give the output of the results task "
            "as it is (the XCom 'return_value'), or the address of its output_path."
        )
    return list(records)
