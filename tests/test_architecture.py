"""The house as it is drawn in design.md: which room may import which, read from every import there is."""

from __future__ import annotations

import ast
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = "airflow_claude_batch"
REPOSITORY = Path(__file__).parents[1]
# From the top of the house to its bottom: a room imports rooms below it, and of those only these.
MAY_IMPORT = {
    "decorators": {"operators"},
    "plugins": {"operators", "runtime", "options", "accounts", "cost", "hooks", "links", "common"}
    | {"results", "api", "job", "errors", "storage"},
    "sensors": {"operators", "runtime", "links", "common"},
    "operators": {"runtime", "triggers", "sources", "options", "links", "common"},
    "triggers": {"accounts", "hooks", "common", "waiting", "api"},
    "cli": {
        "runtime",
        "hooks",
        "sources",
        "costs",
        "common",
        "submission",
        "reuse",
        "waiting",
        "results",
        "job",
        "requests",
        "cost",
    }
    | {"api", "errors", "storage", "emulator"},
    "testing": {"emulator", "results", "cost", "api"},
    "trial": {"sources", "common", "results", "direct", "job", "requests", "api", "errors", "storage"},
    "table_sources": {"sources", "results.py", "common", "requests", "errors"},
    "costs": {"accounts", "common", "errors"},
    "results.py": {"common", "results", "errors"},
    "runtime": {"hooks", "sources", "common", "submission", "waiting", "reuse", "results", "direct", "job"}
    | {"requests", "cost", "accounts", "options", "api", "errors", "storage"},
    "hooks": {"api", "errors"},
    "links": {"common"},
    "sources": {"common", "requests", "errors"},
    "options": {"requests"},
    "common": {"requests", "api", "errors", "storage"},
    # The engine. Its stages know nothing of each other; reuse stands on the delivery.
    "reuse": {"results", "job", "requests", "api", "errors", "storage"},
    "submission": {"job", "requests", "cost", "api", "errors", "storage"},
    "waiting": {"job", "requests", "cost", "api", "errors", "storage"},
    "results": {"job", "requests", "cost", "api", "errors", "storage"},
    "direct": {"job", "requests", "cost", "api", "errors", "storage"},
    "accounts": {"job", "cost", "errors", "storage"},
    "job": {"requests", "cost", "api", "errors", "storage"},
    "requests": {"errors", "storage"},
    "cost": {"api"},
    "api": {"errors"},
    "storage": {"errors"},
    "errors": set(),
    # Beside the house: a server that shares no code with it.
    "emulator": set(),
    "get_provider_info": set(),
}
# What a type checker reads may be of a room above, or beside.
MAY_NAME = {
    "common": {"waiting"},  # a step that waits holds the wait
    "results.py": {"storage"},
    "sources": {"storage"},
    "table_sources": {"storage"},
}


def name_of(file: Path) -> str:
    parts = file.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(file): file for file in sorted((REPOSITORY / PACKAGE).rglob("*.py"))}


def room_of(module: str) -> str:
    """The first name below the package; of the engine, the second."""
    names = module.split(".")[1:] or [PACKAGE]
    if names == ["results"]:
        return "results.py"
    return names[1] if names[0] == "batches" and len(names) > 1 else names[0]


def imports(node: ast.AST, *, types: bool) -> Iterator[str]:
    """The modules that a tree imports, inside functions too.

    Args:
        types: Whether what only a type checker reads counts.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, "a relative import"
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (name if name in FILES else str(child.module) for name in names)
        elif isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING" and not types:
            yield from imports(ast.Module(child.orelse, []), types=types)
        else:
            yield from imports(child, types=types)


TREES = {module: ast.parse(file.read_text()) for module, file in FILES.items()}
NAMED = {module: set(imports(tree, types=True)) for module, tree in TREES.items()}
OURS = {module: FILES.keys() & imports(tree, types=False) for module, tree in TREES.items()}


def test_rooms_import_only_rooms_below_them_for_types_too() -> None:
    for found, may in (
        (OURS, MAY_IMPORT),
        (NAMED, {room: below | MAY_NAME.get(room, set()) for room, below in MAY_IMPORT.items()}),
    ):
        arrows = {(m, n) for m in FILES.keys() - {PACKAGE} for n in found[m] & FILES.keys()}
        assert len(arrows) > 100
        wrong = {(m, n) for m, n in arrows if room_of(n) not in {room_of(m), *may[room_of(m)]}}
        assert sorted(wrong) == []


def test_the_plan_of_the_rooms_has_no_circle_and_no_room_that_is_gone() -> None:
    list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())
    assert {room_of(module) for module in FILES if module != PACKAGE} == {*MAY_IMPORT, "batches"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    list(graphlib.TopologicalSorter(OURS).static_order())


@pytest.mark.parametrize(
    ("place", "foreign"), [("batches", {"airflow", "tests"}), ("emulator", {"airflow", "anthropic", "tests"})]
)
def test_the_engine_knows_nothing_of_airflow_and_the_emulator_nothing_of_the_sdk(
    place: str, foreign: set[str]
) -> None:
    modules = [module for module in FILES if f"{module}.".startswith(f"{PACKAGE}.{place}.")]
    assert len(modules) > 10
    for module in modules:
        assert foreign & {name.partition(".")[0] for name in NAMED[module]} == set(), module


def test_docstrings_describe_arguments_and_errors_in_one_style() -> None:
    documented = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    in_lower_case = re.compile(r"^    \*{0,2}\w+: [a-z]+(?![\w=])", re.MULTILINE)
    wrong = [
        f"{module}.{node.name}: {entry}"
        for module, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, documented)
        for entry in in_lower_case.findall(ast.get_docstring(node) or "")
    ]
    assert wrong == []
