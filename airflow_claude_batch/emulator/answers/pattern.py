"""Text that fits a regular expression, of those that the API takes: no look-around, no back references."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable
from re import _constants as codes  # type: ignore[attr-defined]  # there is no public way
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

_MOST_REPETITIONS = 4
_PRINTABLE = [chr(number) for number in range(32, 127)]
_CLASSES: dict[Any, Callable[[str], bool]] = {
    codes.CATEGORY_DIGIT: str.isdecimal,
    codes.CATEGORY_NOT_DIGIT: lambda one: not one.isdecimal(),
    codes.CATEGORY_SPACE: str.isspace,
    codes.CATEGORY_NOT_SPACE: lambda one: not one.isspace(),
    codes.CATEGORY_WORD: lambda one: one.isalnum() or one == "_",
    codes.CATEGORY_NOT_WORD: lambda one: not (one.isalnum() or one == "_"),
}


def text_for(pattern: str, chance: random.Random) -> str | None:
    """A text that fits the pattern; None where none was found."""
    text = _sequence(parser.parse(pattern), chance)
    return text if re.search(pattern, text) else None


def _sequence(parts: Iterable[tuple[Any, Any]], chance: random.Random) -> str:
    return "".join(_one(code, value, chance) for code, value in parts)


def _one(code: Any, value: Any, chance: random.Random) -> str:
    if code is codes.LITERAL:
        return chr(value)
    if code is codes.ANY:
        return chance.choice("abcxyz")
    if code is codes.NOT_LITERAL:
        return chance.choice([one for one in "abcxyz" if ord(one) != value])
    if code is codes.IN:
        return chance.choice(_members(value))
    if code is codes.BRANCH:
        return _sequence(chance.choice(value[1]), chance)
    if code is codes.SUBPATTERN:
        return _sequence(value[3], chance)
    if code in (codes.MAX_REPEAT, codes.MIN_REPEAT):
        low, high, inner = value
        times = chance.randint(low, min(high, max(low, _MOST_REPETITIONS)))
        return "".join(_sequence(inner, chance) for _ in range(times))
    return ""  # anchors, which have no length


def _members(parts: list[tuple[Any, Any]]) -> list[str]:
    """The characters of a set; of a very large one the printable ASCII ones."""
    negated = parts[0][0] is codes.NEGATE
    tests = parts[1:] if negated else parts
    named = [chr(value) for code, value in tests if code is codes.LITERAL]
    named += [chr(value[0]) for code, value in tests if code is codes.RANGE]
    candidates = _PRINTABLE if negated else [*_PRINTABLE, *named]
    return [one for one in candidates if any(_fits(one, *test) for test in tests) is not negated]


def _fits(one: str, code: Any, value: Any) -> bool:
    if code is codes.LITERAL:
        return bool(ord(one) == value)
    if code is codes.RANGE:
        return bool(value[0] <= ord(one) <= value[1])
    return _CLASSES[value](one)
