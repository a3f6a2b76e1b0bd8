"""The place of a job's answers: whether they can and may go there, seen before anything is sent."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.errors import ResultsError
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.requests.output_schema import OutputSchema
from airflow_claude_batch.batches.results.citations import check_quotes
from airflow_claude_batch.batches.results.output.directory import check_free
from airflow_claude_batch.common.map_index import variables_of
from airflow_claude_batch.common.scalars import check_form, scalar, scalars
from airflow_claude_batch.common.settings import open_folder, storage_root
from airflow_claude_batch.common.xcoms import xcom_place
from airflow_claude_batch.runtime.trying import conf_of, is_dry_run

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_claude_batch.batches.storage import Folder

_OF_THE_RUN = frozenset(
    (
        *("ds", "ds_nodash", "ts", "ts_nodash", "ts_nodash_with_tz", "logical_date", "run_id"),
        *("data_interval_start", "data_interval_end", "dag", "dag_run", "params", "var"),
    )
)
"""Variables of templates that are the same in all tasks of a run."""


def check_output(operator: Any, names: list[str], context: Context) -> None:
    """See that the answers of a task's job will have a place: a marker is written and removed.

    Args:
        operator: With the arguments of a results step, rendered.
        names: Of these arguments.
        context: Airflow's, of this try.

    Raises:
        ConfigurationError: For an argument of another type than it should be, or a place that holds another
            job's results.
        ResultsError: For an ``output_path`` that cannot be written.
    """
    given = scalars(operator, names)
    check_form(given)
    schema = scalar("output_schema", operator.output_schema)
    if schema is not None:
        check_quotes(given["answer_policy"].quotes, OutputSchema.of(schema).json_schema)
    dry = is_dry_run(scalar("dry_run", operator.dry_run), conf_of(context))
    if given["output_path"] and not dry:
        folder = output_folder(given["output_path"], context, of_map_index=operator.folder_per_map_index)
        _check_place(folder, None if given["overwrite"] else _home(operator, context))


def check_later_outputs(submit: Any, tasks: Iterable[Any], context: Context) -> None:
    """The same for the results tasks of a submit task's job, as far as is known by now where they write.

    Args:
        submit: The submit task's operator, rendered.
        tasks: The results tasks' operators, as they were declared.
        context: Airflow's, of this try of the submit task.

    Raises:
        ConfigurationError: For a place that holds another job's results.
        ResultsError: For an ``output_path`` that cannot be written.
    """
    if context["ti"].map_index not in (None, -1):  # nobody knows which of its instances goes where
        return
    for task in tasks:
        path, overwrite = task.output_path, task.overwrite
        if isinstance(path, str) and overwrite in (False, None):
            folder = None
            with contextlib.suppress(Exception):  # the results task says what is wrong with its template
                if variables_of(path) <= _OF_THE_RUN:
                    folder = open_folder(scalar("output_path", submit.render_template(path, context)))
            if folder is not None:
                _check_place(folder, _home(submit, context))


def output_folder(output_path: str, context: Context, *, of_map_index: bool) -> Folder:
    """The directory of a task instance's records."""
    folder, map_index = open_folder(output_path), context["ti"].map_index
    if of_map_index and map_index is not None and map_index >= 0:
        return folder.child(str(map_index))
    return folder


def _home(operator: Any, context: Context) -> Folder:
    root = storage_root(scalar("storage_path", operator.storage_path))
    return Identity(**xcom_place(context["ti"])).folder(root)


def _check_place(folder: Folder, home: Folder | None) -> None:
    """See that a directory can be written, and that what it holds, if anything, is of the job at ``home``."""
    marker = f"_writable-{secrets.token_hex(8)}"
    try:
        folder.write(marker, b"")
        folder.remove_file(marker)
    except Exception as error:  # noqa: BLE001  # each store has its own
        reason = describe_error(error)
    else:
        if home is not None:
            check_free(folder, home)
        return
    # Outside the except block: a traceback would show what the store says as it is.
    raise ResultsError(f"output_path {folder.url} cannot be written ({reason}). This try has sent nothing.")
