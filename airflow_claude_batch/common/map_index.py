"""What the user's function gives to the name of a mapped task instance (``map_index_template``).

Airflow renders that template when a task has ended, from the context of its last process. Variables that the
function has set in the context are known to the process that called it: its job remembers them, through
deferrals and retries, in which the function is not called again. ``output_path`` may use the same variables.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, meta

from airflow_claude_batch.batches.errors import ConfigurationError

if TYPE_CHECKING:
    from airflow.sdk import Context


def variables_of(template: Any) -> set[str]:
    """The names that a template takes from the context."""
    if not isinstance(template, str) or "{" not in template:
        return set()

    return meta.find_undeclared_variables(Environment().parse(template))  # noqa: S701  # only parsed


def names_to_come(context: Context) -> set[str]:
    """Variables that the ``map_index_template`` asks for and that the function has still to set."""
    return {name for name in variables_of(context.get("map_index_template")) if name not in context}


def names_given(context: Context, wanted: set[str]) -> dict[str, Any]:
    """Those of the wanted variables that are there by now, as they can be stored."""
    variables: Mapping[str, Any] = context  # type: ignore[assignment]  # a function may add any
    return {
        name: variables[name] if isinstance(variables[name], (int, float)) else str(variables[name])
        for name in sorted(wanted)
        if name in variables
    }


def require_names(path: Any, context: Context) -> None:
    """See that the function has set what the output path takes from it.

    Raises:
        ConfigurationError: Where it has not.
    """
    missing = sorted(variables_of(path) & names_to_come(context))
    if not missing:
        return

    raise ConfigurationError(
        f"output_path and map_index_template ask for {', '.join(missing)}, which the function has not set: "
        f'get_current_context()["{missing[0]}"] = …, before its last record. Nothing was sent.'
    )
