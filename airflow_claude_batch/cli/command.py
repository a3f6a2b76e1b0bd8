"""What a command is: plain data, from which both parsers are made, ours and Airflow's.

A function is named, not imported, so that reading the command line loads no engine and no Airflow.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

DONE, NO, WRONG, PASSING, INTERRUPTED = 0, 1, 2, 3, 130
"""Exit codes; see the package's docstring."""
EARLIEST = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
"""Before there were message batches."""
LONGEST_DAYS = 36_500
ROOM = "airflow_claude_batch.cli"

_SPAN = re.compile(r"(\d+)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class NothingFoundError(Exception):
    """There is no such job or batch."""


@dataclass(frozen=True)
class Argument:
    """One argument, as ``add_argument`` takes it."""

    flags: tuple[str, ...]
    options: dict[str, Any]


def argument(*flags: str, **options: Any) -> Argument:
    """An argument of a command."""
    return Argument(flags, options)


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command."""

    name: str
    function: str
    """``module:function`` in this room; the function takes the arguments and returns the exit code."""
    help: str
    """One line."""
    more: str = ""
    """What else is to be known."""
    arguments: tuple[Argument, ...] = ()
    needs_airflow: bool = True

    def load(self) -> Callable[[argparse.Namespace], int]:
        """Import the function."""
        module, _, name = self.function.partition(":")
        function: Callable[[argparse.Namespace], int] = getattr(
            importlib.import_module(f"{ROOM}.{module}"), name
        )
        return function


def moment(text: str) -> datetime.datetime:
    """A date, a time, or a span back from now (``7d``, ``12h``), for ``argparse``."""
    if span := _SPAN.fullmatch(text):
        try:
            back = datetime.timedelta(**{_UNITS[span[2]]: int(span[1])})
            return max(datetime.datetime.now(datetime.UTC) - back, EARLIEST)
        except OverflowError:
            return EARLIEST
    try:
        at = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no date (2026-11-28), time, or span back from now (7d, 12h)"
        ) from None
    return max(at if at.tzinfo else at.replace(tzinfo=datetime.UTC), EARLIEST)


def natural(text: str) -> int:
    """A whole number that is not negative, for ``argparse``."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0")
    return int(text)


def days(text: str) -> int:
    """A span of whole days, for ``argparse``."""
    number = natural(text)
    if number > LONGEST_DAYS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of days from 0 to {LONGEST_DAYS}")
    return number


def positive(text: str) -> int:
    """A whole number of at least 1, for ``argparse``."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1")
    return int(text)


def share(text: str) -> float:
    """A number from 0 to 1, for ``argparse``."""
    number = _number(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; it is a number from 0 to 1")
    return number


def amount(text: str) -> float:
    """A number that is not negative, for ``argparse``: seconds, dollars."""
    number = _number(text)
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0")
    return number


def interval(text: str) -> float:
    """Seconds between two looks, for ``argparse``."""
    number = _number(text)
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def named_value(text: str) -> tuple[str, str]:
    """``name=value``, for ``argparse``."""
    name, separator, value = text.partition("=")
    if not name or not separator:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value")
    return name, value
