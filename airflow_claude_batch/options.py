"""Settings that belong together: the rarer arguments of the operators, grouped.

Values are checked where they are made, so that a typing error fails the DAG file and not the night. Any field
may be a template (``Budget(max_usd="{{ params.max_usd }}")``) or another task's output; it is checked when
Airflow renders it, just before the task runs.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from airflow.sdk import XComArg

# The only way to have Airflow replace a value when it renders it, rather than change it: ours are frozen.
from airflow.sdk.definitions._internal.mixins import ResolveMixin

from airflow_claude_batch.batches.requests.addresses import is_address

if TYPE_CHECKING:
    from airflow.sdk import Context

Metadata = dict[str, Callable[[str, Any], Any]]
"""Of a field: ``check`` takes its name and value, and returns the value in the field's own type."""
Group = TypeVar("Group", bound="Options")
TEMPLATE = ("{{", "{%")
NOTHING = ("", "None")
"""What a template makes of no value."""


class Options(ResolveMixin):
    """What all groups of settings have in common: checked when made, rendered by Airflow, readable."""

    plain: ClassVar[str] = ""
    """The field that a plain value in place of the group stands for."""

    @classmethod
    def of(cls: type[Group], value: Any) -> Group:
        """A group of settings from what an operator was given: the group, a plain value, or None.

        Raises:
            TypeError: For a plain value where it is not plain what is meant.
        """
        if isinstance(value, cls):
            return value
        if value is None:
            return cls()
        if not cls.plain:
            raise TypeError(f"{cls.__name__}(…) is wanted, not {value!r}")
        return cls(**{cls.plain: value})

    def __post_init__(self) -> None:
        for setting in fields(self):  # type: ignore[arg-type]  # each group is a dataclass
            value = getattr(self, setting.name)
            if not is_open(value):
                name = f"{type(self).__name__}.{setting.name}"
                object.__setattr__(self, setting.name, setting.metadata["check"](name, value))

    def __repr__(self) -> str:
        changed = [
            f"{setting.name}={_shown(getattr(self, setting.name))}"
            for setting in fields(self)  # type: ignore[arg-type]
            if getattr(self, setting.name) != setting.default
        ]
        return f"{type(self).__name__}({', '.join(changed)})"

    def iter_references(self) -> Iterable[Any]:
        """Other tasks whose output is a value here; Airflow runs them first."""
        for setting in fields(self):  # type: ignore[arg-type]
            yield from XComArg.iter_xcom_references(getattr(self, setting.name))

    def resolve(self, context: Context) -> Any:
        """The same with its templates rendered; called by Airflow."""
        render: Any = context["task"].render_template
        values = {setting.name: getattr(self, setting.name) for setting in fields(self)}  # type: ignore[arg-type]
        return replace(self, **{name: render(value, context) for name, value in values.items()})  # type: ignore[type-var]


def _shown(value: Any) -> str:
    """The address of a function is another in each process: Airflow would see another DAG each time."""
    return str(getattr(value, "__qualname__", repr(value)))


def is_open(value: Any) -> bool:
    """Whether Airflow has something to do before the value is known."""
    if isinstance(value, str):
        return any(mark in value for mark in TEMPLATE)
    if isinstance(value, (list, tuple)):
        return any(map(is_open, value))
    return isinstance(value, ResolveMixin)


def _number(
    kind: Callable[[Any], Any], low: float, high: float | None = None, *, optional: bool = False
) -> Metadata:
    def check(name: str, value: Any) -> Any:
        if optional and (value is None or value in NOTHING):
            return None
        try:
            number = None if isinstance(value, bool) else kind(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        whole = number is None or isinstance(value, str) or number == value
        if number is None or not whole or not low <= number <= (number if high is None else high):
            bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
            noun = "a whole number" if kind is int else "a number"
            raise ValueError(f"{name} is {value!r}; it is {noun} {bounds}")
        return number

    return {"check": check}


def _word(*words: str, optional: bool = False) -> Metadata:
    def check(name: str, value: Any) -> Any:
        if optional and (value is None or value in NOTHING):
            return None
        if value not in words:
            raise ValueError(f"{name} is {value!r}; it is one of {', '.join(map(repr, words))}")
        return value

    return {"check": check}


def _yes_or_no(name: str, value: Any) -> bool:
    answers = {True: True, False: False, "True": True, "False": False, "true": True, "false": False}
    try:
        return answers[value]
    except (KeyError, TypeError):
        raise ValueError(f"{name} is {value!r}; it is True or False") from None


def _words(*allowed: str) -> Metadata:
    """A list of words; of these only, where there are any."""
    form = f"a list of {', '.join(allowed)}" if allowed else "a list of words"

    def check(name: str, value: Any) -> tuple[str, ...]:
        words = value if isinstance(value, (list, tuple, set, frozenset)) else [None]
        if not all(isinstance(word, str) and (not allowed or word in allowed) for word in words):
            raise ValueError(f"{name} is {value!r}; it is {form}")
        return tuple(sorted(words) if isinstance(words, (set, frozenset)) else words)

    return {"check": check}


def _yes_no_or_none(name: str, value: Any) -> bool | None:
    return None if value is None or value in NOTHING else _yes_or_no(name, value)


def _scope(name: str, value: Any) -> str:
    if not isinstance(value, str) or not _SCOPE.fullmatch(value):
        raise ValueError(
            f"{name} is {value!r}; it is all, dag, connection or tag:NAME, with a value where only one is "
            "meant: dag:nightly_report, tag:team=growth"
        )
    return value


_SCOPE = re.compile(r"all|(dag|connection)(:.+)?|tag:[^=]+(=.*)?")


def _function(name: str, value: Any) -> Any:
    if value is None or callable(value) or (isinstance(value, str) and "." in value):
        return value
    raise ValueError(f"{name} is {value!r}; it is a function of a dict, or where one is: package.module.name")


YES_OR_NO: Metadata = {"check": _yes_or_no}
YES_NO_OR_NONE: Metadata = {"check": _yes_no_or_none}
ANSWER_KINDS = ("refusal", "max_tokens", "pause_turn", "model_context_window_exceeded", "empty")
"""What ``AnswerPolicy(count_as_failed=…)`` may hold."""


@dataclass(frozen=True, kw_only=True, repr=False)
class PromptCache(Options):
    """Caching of the prefix that all requests share: the system prompt, or the tools. ``cache="1h"``."""

    ttl: str | None = field(default="5m", metadata=_word("5m", "1h", optional=True))
    """How long the API keeps the prefix: ``5m`` or ``1h``. None where the requests mark it themselves."""
    warm: bool | str = field(default=False, metadata=YES_OR_NO)
    """Submit one request first and the others when it has ended: more of them find the prefix cached, and
    all of them take longer."""

    plain: ClassVar[str] = "ttl"

    @classmethod
    def of(cls, value: Any) -> PromptCache:
        """The group, a plain ``ttl``, or None for no caching."""
        return cls(ttl=None) if value is None else super().of(value)


@dataclass(frozen=True, kw_only=True, repr=False)
class Limits(Options):
    """Bounds of what is sent at once."""

    requests: int | str | None = field(default=None, metadata=_number(int, 1, 100_000, optional=True))
    """Most requests in a batch; None for the API's 100,000."""
    bytes: int | str | None = field(default=None, metadata=_number(int, 1, 255_000_000, optional=True))
    """Most bytes in a batch; None for the API's 256 MB, less a margin."""
    in_queue: int | str | None = field(default=None, metadata=_number(int, 1, optional=True))
    """Submit only while fewer requests of the workspace are in processing; None for no such bound."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Budget(Options):
    """What may be spent, and how that is found out beforehand. ``budget=5`` is five US dollars for the job.

    ``Budget(max_usd=200, per="month", scope="tag:team")``: what all jobs with the same tag ``team`` cost in a
    month, reserved and paid, under one ``storage_path``. ``[claude_batch] budgets`` holds those for all DAGs.
    """

    max_usd: float | str | None = field(default=None, metadata=_number(float, 0, optional=True))
    """Send nothing when the job is estimated to cost more than is left, in US dollars; None for no bound."""
    per: str = field(default="job", metadata=_word("job", "day", "month"))
    """What the bound is for: one ``job``, or all of a ``day`` or ``month`` in ``[claude_batch]
    budget_timezone``."""
    scope: str = field(default="dag", metadata={"check": _scope})
    """Whose costs count in a day or month: ``dag``, ``connection``, ``tag:team`` (those of the job's own), or
    ``all``; a budget for one of them only is ``dag:nightly_report`` or ``tag:team=growth``."""
    on_exceeded: str = field(default="fail", metadata=_word("fail", "wait"))
    """What a job does that does not fit into its day or month: ``fail``, or ``wait`` for the next one,
    without a worker slot."""
    warn_at: float | str = field(default=0.8, metadata=_number(float, 0, 1))
    """Share of a day's or month's bound, 0 to 1, from which there is an alert."""
    on_budget_exceeded: Callable[[dict[str, Any]], None] | str | None = field(
        default=None, metadata={"check": _function}
    )
    """Called with what is known, a dict, when a job does not fit, or a later round or single calls of it: a
    function, or ``package.module.name``."""
    direct_max_usd: float | str | None = field(default=None, metadata=_number(float, 0, optional=True))
    """Most that single calls before a deadline may cost more than batches would have, in US dollars; beyond
    it, or beyond ``max_usd``, the job is delivered without what is not answered. None for no bound."""
    expected_output_tokens: int | str | None = field(default=None, metadata=_number(int, 1, optional=True))
    """How long answers will be on average, for the estimate; None for ``max_tokens``."""
    probe: bool | str | None = field(default=None, metadata=YES_NO_OR_NONE)
    """Send the first request by itself before the batch, at the full price of one request, so that a wrong
    parameter shows in seconds. None where the job's estimate is above ``[claude_batch] probe_above_usd``."""

    plain: ClassVar[str] = "max_usd"


def _age(name: str, value: Any) -> timedelta | None:
    if value is None or value in NOTHING:
        return None
    if isinstance(value, timedelta) and timedelta() < value <= LONGEST_AGE:
        return value
    if isinstance(value, str) and (match := _AGE.fullmatch(value)) and int(match[1]):
        return timedelta(**{_UNITS[match[2]]: int(match[1])})
    raise ValueError(f"{name} is {value!r}; it is an age such as '30d', '12h' or a timedelta, or None")


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > LONGEST_NAME:
        raise ValueError(f"{name} is {value!r}; it is task, dag, connection or a name of your own")
    return value


def _place(name: str, value: Any) -> str | None:
    if value is None or value in NOTHING:
        return None
    if not is_address(str(value)):
        raise ValueError(f"{name} is {value!r}; it is the URI of a directory on object storage")
    return str(value)


LONGEST_AGE = timedelta(weeks=9999)
"""Of ``max_age``; who wants an answer of any age says None."""
_AGE = re.compile(r"(\d{1,4})([mhdw])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
LONGEST_NAME = 100
"""Characters of a scope of one's own."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Reuse(Options):
    """Answers of earlier jobs are delivered instead of asking the same again. ``reuse=True`` is ``Reuse()``.

    What is the same, and where answers are kept: ``docs/reuse.md``.
    """

    max_age: str | timedelta | None = field(default="30d", metadata={"check": _age})
    """How old an answer may be: ``90m``, ``12h``, ``30d``, ``4w``, a ``timedelta``; None for any age."""
    scope: str = field(default="dag", metadata={"check": _name})
    """Who shares answers: ``task``, ``dag``, ``connection``, or a name that several DAGs use."""
    store: str | None = field(default=None, metadata={"check": _place})
    """Directory of the answers; None for ``answers`` under ``storage_path``."""
    on_store_error: str = field(default="fail", metadata=_word("fail", "ask"))
    """Where the answers cannot be reached: ``fail`` before anything is sent, or ``ask`` everything."""

    @classmethod
    def wanted(cls, value: Any) -> Reuse | None:
        """The group; all of its defaults for True; None where nothing is to be reused."""
        if value is None or value is False:
            return None
        return cls() if value is True else super().of(value)


@dataclass(frozen=True, kw_only=True, repr=False)
class Recovery(Options):
    """What becomes of a job when something goes another way than planned."""

    on_changed_requests: str = field(default="cancel", metadata=_word("cancel", "leave"))
    """The batches of other requests that this task instance had before a clear: ``cancel`` or ``leave``."""
    on_ambiguous: str = field(default="wait", metadata=_word("wait", "fail"))
    """Several batches could be one whose answer was lost: ``wait`` for their end and compare, or ``fail``."""
    force_new: bool | str = field(default=False, metadata=YES_OR_NO)
    """After a clear, submit anew even the same requests (they are paid again); the DAG-run conf key
    ``claude_batch_force_new`` does the same."""
    cancel_on_kill: bool | str = field(default=True, metadata=YES_OR_NO)
    """Cancel what this attempt has submitted when the task is killed; while it pauses or waits, all that the
    job has submitted, when a person ends the task (Airflow 3.3 and later)."""
    shared_with: tuple[str, ...] | list[str] = field(default=(), metadata=_words())
    """Other DAGs whose tasks may deliver this job, by their ids; else its own DAG's only."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Trial(Options):
    """Trying a job with some of its records, before the whole is paid for. ``trial=20`` is twenty records.

    The summary says what the whole input will take, from the real usage (``trial``).
    """

    records: int | str | None = field(default=None, metadata=_number(int, 1, optional=True))
    """How many; None for all of them, which is no trial. The DAG-run conf keys ``claude_batch_trial`` and
    ``claude_batch_limit`` say it for one run."""
    pick: str = field(default="first", metadata=_word("first", "spread", "random"))
    """Which ones: the ``first``, ``spread`` evenly over the input, or ``random``. The input is read, and
    counted, to its end in any case."""
    direct: bool | str = field(default=True, metadata=YES_OR_NO)
    """Ask them by single calls at the standard price, so that the answers are there in seconds."""
    asset_events: bool | str = field(default=False, metadata=YES_OR_NO)
    """Update the task's assets, so that what is scheduled on them runs on the answers of a trial."""

    plain: ClassVar[str] = "records"


def _bad_fraction(name: str, value: Any) -> float:
    word = "fail" if value is None or value in NOTHING else value
    try:
        fraction: float = _number(float, 0, 1)["check"](name, _BAD_FRACTIONS.get(word, word))
    except ValueError:
        raise ValueError(f"{name} is {value!r}; it is 'fail', 'errored', or a number from 0 to 1") from None
    return fraction


_BAD_FRACTIONS: dict[Any, float] = {"fail": 0.0, "errored": 0.1}
"""What the words that ``bad_records`` takes stand for."""


@dataclass(frozen=True, kw_only=True, repr=False)
class BadRecords(Options):
    """Records that break a rule, or whose document cannot be sent, go to ``errored``; the others are sent.

    ``bad_records="errored"`` is ``BadRecords()``; ``bad_records="fail"`` allows none.
    """

    max_fraction: float | str = field(default=0.1, metadata={"check": _bad_fraction})
    """Where a larger share of the records is bad, 0 to 1, the task fails and nothing is sent."""

    plain: ClassVar[str] = "max_fraction"

    @classmethod
    def of(cls, value: Any) -> BadRecords:
        """The group, a word, or None for ``fail``."""
        return super().of("fail" if value is None else value)


@dataclass(frozen=True, kw_only=True, repr=False)
class Resubmission(Options):
    """Sending failed requests again. ``resubmission=2`` is two rounds."""

    rounds: int | str = field(default=1, metadata=_number(int, 0))
    """How often requests that failed for a passing reason are sent again."""
    invalid: bool | str = field(default=False, metadata=YES_OR_NO)
    """Send invalid answers again, too; they are paid for each time."""

    plain: ClassVar[str] = "rounds"


@dataclass(frozen=True, kw_only=True, repr=False)
class AnswerPolicy(Options):
    """What counts as an answer, and what is kept of it."""

    count_as_failed: tuple[str, ...] | list[str] = field(default=(), metadata=_words(*ANSWER_KINDS))
    """Kinds of answers that are invalid: ``refusal``, ``max_tokens``, ``model_context_window_exceeded``,
    ``pause_turn``, ``empty``. All others are delivered as succeeded, counted, and warned of."""
    max_failed_fraction: float | str = field(default=1.0, metadata=_number(float, 0, 1))
    """The task fails, after delivery, when a larger share of the requests, 0 to 1, has not succeeded; it
    always fails when nothing has."""
    include_message: bool | str = field(default=False, metadata=YES_OR_NO)
    """Add the API's whole message to succeeded records."""
    quotes: tuple[str, ...] | list[str] = field(default=(), metadata=_words())
    """Fields of the output that quote what was sent (``total_quote``, ``items.quote``): their places are
    found and come back in the column ``citations``."""
