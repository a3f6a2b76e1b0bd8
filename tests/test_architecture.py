"""The house as it is drawn in design.md: which room may import which, read from every import there is."""

from __future__ import annotations

import ast
import graphlib
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
    "options": set(),
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


def imports(node: ast.AST) -> Iterator[str]:
    """The modules that a tree imports, inside functions too; not what only a type checker reads."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert not child.level, "a relative import"
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (name if name in FILES else str(child.module) for name in names)
        else:
            yield from imports(child)


IMPORTS = {module: set(imports(ast.parse(file.read_text()))) for module, file in FILES.items()}
OURS = {module: {name for name in names if name in FILES} for module, names in IMPORTS.items()}


def test_rooms_import_only_rooms_below_them() -> None:
    arrows = {(m, n) for m, names in OURS.items() for n in names if m != PACKAGE and room_of(m) != room_of(n)}
    assert len(arrows) > 100
    assert sorted((m, n) for m, n in arrows if room_of(n) not in MAY_IMPORT[room_of(m)]) == []


def test_the_plan_of_the_rooms_has_no_circle_and_no_room_that_is_gone() -> None:
    list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())
    assert {room_of(module) for module in FILES if module != PACKAGE} == {*MAY_IMPORT, "batches"}


def test_no_modules_import_each_other_in_a_circle() -> None:
    list(graphlib.TopologicalSorter(OURS).static_order())


@pytest.mark.parametrize(
    ("place", "foreign"), [("batches", {"airflow"}), ("emulator", {"airflow", "anthropic"})]
)
def test_the_engine_knows_nothing_of_airflow_and_the_emulator_nothing_of_the_sdk(
    place: str, foreign: set[str]
) -> None:
    modules = [module for module in FILES if f"{module}.".startswith(f"{PACKAGE}.{place}.")]
    assert len(modules) > 10
    for module in modules:
        assert foreign & {name.partition(".")[0] for name in IMPORTS[module]} == set(), module
