"""What commands print: tables, JSON, YAML and plain text as Airflow's own commands do, and questions.

Standard output has only what goes through here: what libraries print or log meanwhile goes to standard error.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any, TextIO

from airflow_claude_batch.batches.errors import ConfigurationError

Row = Mapping[str, Any]
PLAIN_FROM = 1_000
"""Rows that are printed without lines and colours: these take 2.6 ms a row."""
_OUTPUT: ContextVar[TextIO | None] = ContextVar("output", default=None)


@contextlib.contextmanager
def output_alone() -> Iterator[None]:
    """Whatever is written to standard output, but for `say` and tables, goes to standard error."""
    token = _OUTPUT.set(sys.stdout)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        _OUTPUT.reset(token)


def say(text: str, end: str = "\n") -> None:
    """Print what was asked for."""
    print(text, end=end, file=_output())


def _output() -> TextIO:
    return _OUTPUT.get() or sys.stdout


def print_rows(rows: Sequence[Row], output: str) -> None:
    """Print rows that have the same keys.

    Args:
        rows: Plain data.
        output: ``table``, ``json``, ``yaml`` or ``plain``.
    """
    if output in ("json", "yaml"):
        _print_data(list(rows), output)
    elif rows:
        _print_table(rows, output)
    else:
        print("No data found", file=sys.stderr)


def print_facts(facts: Row, tables: Mapping[str, Sequence[Row]], output: str) -> None:
    """Print one thing: its facts below each other, then tables of what belongs to it; as JSON one object."""
    if output in ("json", "yaml"):
        _print_data({**facts, **tables}, output)
        return
    _print_table([{"property": name, "value": value} for name, value in facts.items()], output)
    for title, rows in tables.items():
        if rows:
            say(f"\n{title}")
            _print_table(rows, output)


def _print_data(data: Any, output: str) -> None:
    if output == "yaml":
        # Not print_as(): it makes text of every number.
        _console().print_as_yaml(data)
    elif _output().isatty():
        _console().print_as_json(data)
    else:  # the colours of 10,000 rows take half a minute and half a gigabyte, and nobody sees them
        say(json.dumps(data))


def _print_table(rows: Sequence[Row], output: str) -> None:
    from rich.markup import escape

    texts = [{name: escape(_text(value)) for name, value in row.items()} for row in rows]
    if output == "plain" or len(rows) >= PLAIN_FROM:
        texts = [{name: _text(value) for name, value in row.items()} for row in rows]
        with contextlib.redirect_stdout(_output()):  # it uses `print`
            _console().print_as_plain_table(texts)
    else:
        _console().print_as_table(texts)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return str(value)


def _console() -> Any:
    from airflow.cli.simple_table import AirflowConsole

    class Console(AirflowConsole):  # type: ignore[misc]
        def on_broken_pipe(self) -> None:
            """Leave it to whoever has made the exit code of it; rich ends the process with 1."""
            raise  # called while a BrokenPipeError is handled

    return Console(file=_output())


def batches(number: int) -> str:
    """So many batches, in words."""
    return "1 batch" if number == 1 else f"{number} batches"


def note(text: str) -> None:
    """Say something beside the output."""
    print(text, file=sys.stderr)


def confirm(question: str, *, yes: bool) -> bool:
    """Ask the person.

    Args:
        question: What is about to be done.
        yes: Whether the answer is known.

    Raises:
        ConfigurationError: Where nobody is there to answer.
    """
    if yes:
        return True
    check_answerable(question, yes=yes)
    try:
        answer = input(f"{question} [y/N] ").strip().lower()
    except EOFError:  # Ctrl-D
        note("")
        return False
    return answer in ("y", "yes")


def check_answerable(question: str, *, yes: bool) -> None:
    """Return if the answer is known, or somebody is there to ask.

    Raises:
        ConfigurationError: Where nobody is.
    """
    if not yes and (sys.stdin is None or not sys.stdin.isatty()):
        raise ConfigurationError(f"{question} Nobody is here to answer; say --yes. Nothing was done.")


@contextlib.contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Any]:
    """A progress bar on standard error, where that is a terminal; yields a function that takes the state.

    Args:
        what: Is being done.
        total: Steps in all; None where that is not known.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)

        def update(done: int) -> None:
            bar.update(task, completed=done)

        yield update
