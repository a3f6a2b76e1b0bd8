"""What the code declares, with its docstrings: read from the source, so that no page can say otherwise."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

ROLE = re.compile(r":[a-z:]+:`~?\.?([^`]+)`")


class UndocumentedError(Exception):
    """Something public has no docstring."""


@dataclass(frozen=True)
class Field:
    """One field of a class: an argument, a setting, a key."""

    name: str
    annotation: str
    default: str | None
    doc: str


def without_roles(text: str) -> str:
    """A docstring whose references are plain code."""
    return ROLE.sub(r"``\1``", text)


def doc_of(thing: Any) -> str:
    """A docstring.

    Raises:
        UndocumentedError: Where there is none.
    """
    text = inspect.getdoc(thing)
    if not text:
        raise UndocumentedError(f"{getattr(thing, '__qualname__', thing)} has no docstring")
    return without_roles(text)


def import_name(dotted: str) -> Any:
    """A module, or what one holds."""
    module, _, name = dotted.rpartition(".")
    try:
        return importlib.import_module(dotted)
    except ModuleNotFoundError:
        return getattr(importlib.import_module(module), name)


def fields_of(kind: type, wanted: Collection[str] | None = None) -> list[Field]:
    """The fields of a class and of those that it inherits from, each with the docstring below it.

    Args:
        kind: The class. Its source is read: a ``TypedDict`` does not know its own bases.
        wanted: Only these; others need no docstring.

    Raises:
        UndocumentedError: Where a field has none.
    """
    module = importlib.import_module(kind.__module__)
    nodes = ast.walk(ast.parse(inspect.getsource(module)))
    [node] = [one for one in nodes if isinstance(one, ast.ClassDef) and one.name == kind.__name__]
    found: dict[str, Field] = {}
    for base in node.bases:
        parent = getattr(module, base.id, None) if isinstance(base, ast.Name) else None
        if isinstance(parent, type) and parent.__module__.startswith("airflow_claude_batch"):
            found |= {field.name: field for field in fields_of(parent, wanted)}
    found |= {field.name: field for field in _own_fields(node, wanted)}
    return list(found.values())


def _own_fields(kind: ast.ClassDef, wanted: Collection[str] | None) -> list[Field]:
    fields = []
    for node, below in zip(kind.body, [*kind.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        name, annotation = node.target.id, ast.unparse(node.annotation)
        if annotation.startswith("ClassVar") or (wanted is not None and name not in wanted):
            continue
        if not (isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)):
            raise UndocumentedError(f"{kind.name}.{name} has no docstring")
        doc = without_roles(inspect.cleandoc(str(below.value.value)))
        fields.append(Field(name, annotation, _default(node.value), doc))
    return fields


def _default(value: ast.expr | None) -> str | None:
    if isinstance(value, ast.Call):
        return next((ast.unparse(given.value) for given in value.keywords if given.arg == "default"), None)
    return None if value is None else ast.unparse(value)
