"""The command line ``claude-batch``: reading it, running a command, and what its end means."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
from collections.abc import Iterator

from airflow_claude_batch.cli.command import (
    DONE,
    INTERRUPTED,
    NO,
    PASSING,
    WRONG,
    Command,
    NothingFoundError,
)
from airflow_claude_batch.cli.commands import COMMANDS

PROGRAM = "claude-batch"
CONTEXT = "_AIRFLOW_PROCESS_CONTEXT"
DESCRIPTION = "Look after jobs and batches: what `airflow claude-batch` does, without Airflow's own commands."
STORES = ("botocore", "aiobotocore", "s3fs", "gcsfs", "google", "azure", "adlfs", "aiohttp")
EXIT_CODES = (
    "exit codes: 0 done; 1 nothing found, a check failed, or no; 2 wrong arguments, or to be mended first; "
    "3 trouble that may pass; 130 interrupted"
)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = build_parser()
    _complete(parser)
    options = parser.parse_args(arguments)
    command: Command = options.command
    return run(command, options)


class _Version(argparse.Action):
    """The version is looked up only when somebody asks for it."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from importlib.metadata import version

        print(f"{PROGRAM} {version('airflow-claude-batch')}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description=DESCRIPTION, epilog=EXIT_CODES)
    parser.add_argument("--version", action=_Version, nargs=0, help="say which version this is, and exit")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        one = commands.add_parser(
            command.name, help=command.help, description=f"{command.help}. {command.more}".strip()
        )
        one.set_defaults(command=command)
        for argument in command.arguments:
            one.add_argument(*argument.flags, **argument.options)
    return parser


def run(command: Command, options: argparse.Namespace) -> int:
    """Run a command, and make an exit code of whatever ends it."""
    try:
        if command.needs_airflow:
            _load_airflow()
        with _apart(command, options), _as_server():
            code = command.load()(options)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except NothingFoundError as error:
        print(error, file=sys.stderr)
        return NO
    except Exception as error:
        code, text = _explain(error)
        if text is None:
            raise
        print(text, file=sys.stderr)
        return code


def _explain(error: Exception) -> tuple[int, str | None]:
    """Exit code and words for an error; no words for a fault of ours, whose traceback is wanted."""
    from airflow.providers.common.compat.sdk import AirflowException

    from airflow_claude_batch.batches.api.foreign_text import describe_error, foreign_text, is_foreign
    from airflow_claude_batch.batches.api.retry import is_passing
    from airflow_claude_batch.batches.errors import ClaudeBatchError, TooManyFailuresError, Transient

    name = type(error).__name__
    if isinstance(error, TooManyFailuresError):
        return NO, f"{name}: {error}"
    if isinstance(error, ClaudeBatchError):
        return PASSING if isinstance(error, Transient) else WRONG, f"{name}: {error}"
    if is_foreign(error):
        return PASSING if is_passing(error) else WRONG, f"The API: {describe_error(error)}"
    if isinstance(error, AirflowException):
        return WRONG, f"{name}: {error}"
    if _is_stores(error):
        return PASSING if _is_connections(error) else WRONG, f"The store: {name}: {foreign_text(error)}"
    if isinstance(error, (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)):
        return WRONG, f"{name}: {foreign_text(error)}"
    if isinstance(error, OSError):
        return PASSING, f"{name}: {foreign_text(error)}"
    return NO, None


def _is_stores(error: Exception) -> bool:
    """Whether a library for object storage has raised it, which is no fault of ours."""
    return type(error).__module__.partition(".")[0] in STORES


def _is_connections(error: Exception) -> bool:
    kinds = [kind.__name__ for kind in type(error).__mro__]
    return any(word in kind for kind in kinds for word in ("Connect", "Timeout"))


@contextlib.contextmanager
def _apart(command: Command, options: argparse.Namespace) -> Iterator[None]:
    """Keep out of the output what is not the command's own; the emulator is a program of its own."""
    if not command.needs_airflow:
        yield
        return
    from airflow_claude_batch.cli.printing import output_alone

    with _logging_to_stderr(verbose=options.verbose), output_alone():
        yield


@contextlib.contextmanager
def _logging_to_stderr(*, verbose: bool) -> Iterator[None]:
    """The engine's log goes beside the output, never into it; what libraries log is of no use to a person."""
    logger, root = logging.getLogger("airflow_claude_batch"), logging.getLogger()
    before = logger.level, logger.propagate, root.level
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.INFO if verbose else logging.WARNING)
    root.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
        root.setLevel(before[2])


def _load_airflow() -> None:
    """Import Airflow now: it sets up logging when it is imported, levels too, and to standard output."""
    with contextlib.redirect_stdout(sys.stderr):
        import airflow  # noqa: F401
    for handler in logging.getLogger().handlers:  # of `airflow claude-batch`, where that was done before
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.stdout:
            handler.setStream(sys.stderr)


@contextlib.contextmanager
def _as_server() -> Iterator[None]:
    """As Airflow's own commands that need connections: else only those of the environment are found."""
    before = os.environ.get(CONTEXT)
    os.environ.setdefault(CONTEXT, "server")
    try:
        yield
    finally:
        if before is None:
            del os.environ[CONTEXT]


def _complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell that asks for completions, as Airflow does."""
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete

        argcomplete.autocomplete(parser)
