"""Fault rules: what the emulator does wrong on purpose, to which requests, how often.

A rule matches by method, path and key; ``skip``, ``times`` and ``probability`` say which of the matching
requests it hits. At most one rule decides how a request is answered (the first that hits); all rules that
hit change the lines of a results download.
"""

from __future__ import annotations

import random
import re
from typing import Any, Literal

import msgspec


class Status(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="status"):
    """Answer this error and process nothing."""

    status: int = 500
    type: str | None = None
    message: str | None = None
    details: dict[str, Any] | None = None
    headers: dict[str, str] = {}
    body: str | None = None
    """Sent as it is instead of the API's envelope (a gateway's HTML page, for example)."""


class StatusAfter(Status, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="status_after"):
    """Process the request, then answer this error."""


class DropBefore(msgspec.Struct, forbid_unknown_fields=True, tag_field="kind", tag="drop_before"):
    """Read the request, process nothing, cut the connection."""


class DropAfter(msgspec.Struct, forbid_unknown_fields=True, tag_field="kind", tag="drop_after"):
    """Process the request (a batch is created), then cut the connection without an answer."""


class Hang(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="hang"):
    """Hold the request for real seconds, then cut the connection; ``when="after"`` has processed it first."""

    seconds: float
    when: Literal["before", "after"] = "before"


class Delay(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="delay"):
    """Answer rightly, but real seconds late; processed also if the client has left meanwhile."""

    seconds: float
    when: Literal["before", "after"] = "before"


class CutResults(
    msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="cut_results"
):
    """End a results download after a fraction of its lines."""

    fraction: float = 0.5
    mid_line: bool = False
    clean_end: bool = False
    """True: the body ends as if complete; false: the connection drops."""


class DuplicateLines(
    msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="duplicate_lines"
):
    """Send some result lines twice: those of ``custom_ids``, or the first ``count``."""

    custom_ids: list[str] = []
    count: int = 1


class RawLine(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An extra line: text, base64 of any bytes, or a succeeded line with an answer of ``size`` bytes."""

    text: str | None = None
    base64: str | None = None
    size: int | None = None
    custom_id: str = "not-in-this-batch"


class RawLines(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="raw_lines"):
    """Add lines to a results download."""

    lines: list[RawLine]
    position: Literal["start", "spread", "end"] = "end"


class Omit(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="omit"):
    """Leave out the result lines of these custom_ids; the counts still hold them."""

    custom_ids: list[str]


class DamageLines(
    msgspec.Struct, kw_only=True, forbid_unknown_fields=True, tag_field="kind", tag="damage_lines"
):
    """Damage the result lines of these custom_ids; the counts still hold them."""

    custom_ids: list[str]
    how: Literal["half", "garbled", "without_id", "other_id", "joined", "torn"] = "half"
    """Cut in the middle; not JSON; without a custom_id; with one that nobody sent; without its line end;
    with a line end in its middle."""


AnswerFault = Status | StatusAfter | DropBefore | DropAfter | Hang | Delay
ResultsFault = CutResults | DuplicateLines | RawLines | Omit | DamageLines
Action = AnswerFault | ResultsFault


class Match(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Which requests a rule is about; nothing set: all of the API."""

    method: str | None = None
    path: str | None = None
    """Regular expression, found anywhere in the path (``re.search``)."""
    api_key: str | None = None


class Rule(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One fault: ``skip`` matching requests, then hit ``times`` (``null``: all), each by ``probability``."""

    action: Action
    match: Match = msgspec.field(default_factory=Match)
    skip: int = 0
    times: int | None = None
    probability: float = 1.0
    seed: int = 0


class _ActiveRule:
    def __init__(self, number: int, rule: Rule) -> None:
        self.number = number
        self.rule = rule
        self.matched = 0
        self.hits = 0
        self._path = re.compile(rule.match.path or "")
        self._random = random.Random(rule.seed)

    def is_about(self, method: str, path: str, api_key: str) -> bool:
        match = self.rule.match
        if isinstance(self.rule.action, ResultsFault) and not path.endswith("/results"):
            return False
        return (
            match.method in (None, method)
            and match.api_key in (None, api_key)
            and self._path.search(path) is not None
        )

    def hit(self) -> bool:
        self.matched += 1
        rule = self.rule
        if self.matched <= rule.skip or (rule.times is not None and self.hits >= rule.times):
            return False
        if rule.probability < 1.0 and self._random.random() >= rule.probability:
            return False
        self.hits += 1
        return True


class Faults:
    """The rules in force."""

    def __init__(self) -> None:
        self._rules: list[_ActiveRule] = []
        self._last_number = 0

    def add(self, rule: Rule) -> int:
        """Put a rule in force and return its number; raises ``re.error`` for a bad path."""
        active = _ActiveRule(self._last_number + 1, rule)
        self._last_number = active.number
        self._rules.append(active)
        return active.number

    def remove(self, number: int | None = None) -> None:
        """Remove the rule of this number, or all."""
        self._rules = [] if number is None else [r for r in self._rules if r.number != number]

    def describe(self) -> list[dict[str, Any]]:
        """The rules in force with how often each matched and hit."""
        return [
            {"number": r.number, "matched": r.matched, "hits": r.hits, **msgspec.to_builtins(r.rule)}
            for r in self._rules
        ]

    def pick(self, method: str, path: str, api_key: str) -> tuple[AnswerFault | None, list[ResultsFault]]:
        """What goes wrong with this request; counts as a match of every rule that is about it."""
        answer: AnswerFault | None = None
        lines: list[ResultsFault] = []
        for active in self._rules:
            if not active.is_about(method, path, api_key):
                continue
            action = active.rule.action
            if isinstance(action, ResultsFault):
                if active.hit():
                    lines.append(action)
            elif answer is None and active.hit():
                answer = action
        return answer, lines
