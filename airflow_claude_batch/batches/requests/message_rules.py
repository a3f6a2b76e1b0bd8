"""Rules of the Messages API that hold for every model, checked before anything is sent.

A request that breaks one is a 400 when its batch has ended. Refused is only what the API certainly refuses: a
word counts as known if the installed SDK knows it. Keys that nobody here knows are sent, but for those of
``output_config`` and of messages: these the SDK has all, unless there are betas.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_claude_batch.batches.requests.content_rules import (
    problem_of_messages,
    problems_of_system,
    say_text_only,
    unknown_key,
)
from airflow_claude_batch.batches.requests.descriptions import describe
from airflow_claude_batch.batches.requests.objects import held
from airflow_claude_batch.batches.requests.sdk_words import known_to_the_sdk, named
from airflow_claude_batch.batches.requests.strict_schemas import Problem

LEAST_THINKING = 1_024
"""Tokens of ``thinking.budget_tokens`` at the least."""
MOST_BREAKPOINTS = 4
"""Blocks with ``cache_control`` in a request."""
OUTPUT_CONFIG = ("effort", "format")
EFFORTS = ("low", "medium", "high", "xhigh", "max")
CHOICES = ("auto", "any", "tool", "none")
LIFETIMES = ("5m", "1h")

_LOOKED_AT = (
    *("thinking", "max_tokens", "output_config", "tool_choice", "tools", "mcp_servers"),
    *("stop_sequences", "system", "cache_control"),
)
"""All but the messages."""
_SAME = object()
"""As in all requests."""


class MessageRules:
    """Checks requests; what a request has in common with the one before is not looked at again.

    Args:
        betas: Whether beta features are asked for, with which there may be keys that nobody here knows.
    """

    def __init__(self, *, betas: bool = False) -> None:
        self._betas = betas
        self._own: list[Any] = [None] * len(_LOOKED_AT)
        """What all requests have, which nobody changes meanwhile as they may what records have."""
        self._last: list[Any] = []
        """What was looked at last, by value."""
        self._breakpoints = 0

    def check_defaults(self, defaults: Mapping[str, Any], *, are_all: bool) -> None:
        """Refuse what the API would in the parameters of all requests.

        Args:
            defaults: Parameters that requests have.
            are_all: Whether no request has others besides its messages.

        Raises:
            ConfigurationError: Naming the place and the rule.
        """
        if (problem := next(_problems(defaults, self._betas, are_all=are_all), None)) is not None:
            raise problem.of_defaults()
        self._own = [defaults.get(name) for name in _LOOKED_AT]

    def check(self, params: Mapping[str, Any], index: int) -> None:
        """Refuse what the API would in one request.

        Args:
            params: The body of a Messages API call; its messages are known to be some.
            index: The record's position in the input, for messages.

        Raises:
            InputError: Naming the place and the rule.
        """
        found = map(params.get, _LOOKED_AT)
        given = [_SAME if one is own else one for one, own in zip(found, self._own, strict=True)]
        if given != self._last:
            if (problem := next(_problems(params, self._betas), None)) is not None:
                raise problem.of_record(index)
            self._breakpoints = sum(1 for _ in _controls_of_shared(params))
            self._last = held(given)
        if say_text_only(params["messages"]):
            return
        if (problem := problem_of_messages(params["messages"], betas=self._betas)) is not None:
            raise problem.of_record(index)
        if (problem := _problem_of_controls(_controls_of_messages(params), self._breakpoints)) is not None:
            raise problem.of_record(index)


def _problems(params: Mapping[str, Any], betas: bool, *, are_all: bool = True) -> Iterator[Problem]:
    """What is wrong with all but the messages; pairs of parameters are judged where both are known."""
    yield from _of_thinking(params, are_all=are_all)
    yield from problems_of_system(params.get("system"))
    yield from _of_output_config(params.get("output_config"), betas)
    yield from _of_tools(params.get("tools"))
    yield from _of_tool_choice(params, are_all=are_all)
    sequences = params.get("stop_sequences")
    for number, text in enumerate(sequences if isinstance(sequences, (list, tuple)) else ()):
        if not isinstance(text, str):
            yield Problem(f"stop_sequences[{number}]", describe(text), "a stop sequence is text")
    control = params.get("cache_control")
    if (problem := _problem_of_lifetime("cache_control", control)) is not None:
        yield problem
    if (problem := _problem_of_controls(_controls_of_shared(params))) is not None:
        yield problem


def _of_thinking(params: Mapping[str, Any], *, are_all: bool) -> Iterator[Problem]:
    thinking, most = params.get("thinking"), params.get("max_tokens")
    if not isinstance(thinking, Mapping):
        return
    if not isinstance(thinking.get("type"), str):
        rule = 'thinking has a type, such as {"type": "adaptive"}'
        yield Problem("thinking.type", describe(thinking.get("type")), rule)
    if thinking.get("type") != "enabled":
        return
    budget = thinking.get("budget_tokens")
    if isinstance(budget, float) and budget.is_integer():  # of a table; the API takes it, too
        budget = int(budget)
    if type(budget) is not int or budget < LEAST_THINKING:
        found = str(budget) if type(budget) is int else describe(budget)
        rule = f"the API wants a whole number of at least {LEAST_THINKING}"
        yield Problem("thinking.budget_tokens", found, rule)
    # With tools a budget may be for all of the thinking between their calls, and above max_tokens.
    elif are_all and not _has_tools(params) and type(most) is int and budget >= most:
        rule = f"it is part of max_tokens ({most}), which has to be larger"
        yield Problem("thinking.budget_tokens", str(budget), rule)


def _of_output_config(config: Any, betas: bool) -> Iterator[Problem]:
    if not isinstance(config, Mapping):
        return
    if not betas and (unknown := unknown_key(config, OUTPUT_CONFIG, "output_config")) is not None:
        rule = "it has effort and format; another key needs a newer anthropic package or betas"
        yield Problem("output_config", f"the key {named(unknown)}", rule)
    effort = config.get("effort")
    if effort is not None and effort not in EFFORTS and effort not in known_to_the_sdk()["effort"]:
        yield Problem("output_config.effort", named(effort), f"one of {', '.join(EFFORTS)}")


def _of_tools(tools: Any) -> Iterator[Problem]:
    for number, tool in enumerate(tools if isinstance(tools, (list, tuple)) else ()):
        if not isinstance(tool, Mapping):
            rule = 'a tool is a mapping such as {"name": …, "input_schema": {…}}'
            yield Problem(f"tools[{number}]", describe(tool), rule)
        elif tool.get("type") in (None, "custom"):
            for key in ("name", "input_schema"):
                if tool.get(key) is None:
                    yield Problem(f"tools[{number}].{key}", "nothing", "a tool of your own needs it")


def _of_tool_choice(params: Mapping[str, Any], *, are_all: bool) -> Iterator[Problem]:
    choice = params.get("tool_choice")
    kind = choice.get("type") if isinstance(choice, Mapping) else None
    if choice is None:
        return
    if kind not in CHOICES and kind not in known_to_the_sdk()["tool_choice"]:
        yield Problem("tool_choice.type", named(kind), f"one of {', '.join(CHOICES)}")
    elif are_all and kind in ("any", "tool") and not _has_tools(params):
        yield Problem(
            "tool_choice", named(kind), "there are no tools to choose from; give some, or leave it out"
        )


def _has_tools(params: Mapping[str, Any]) -> bool:
    return bool(params.get("tools") or params.get("mcp_servers"))


def _controls_of_shared(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every ``cache_control`` of tools and system, with its place."""
    for name in ("tools", "system"):
        yield from _controls(params.get(name), name)


def _controls_of_messages(params: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for number, message in enumerate(params["messages"]):
        yield from _controls(message["content"], f"messages[{number}].content")


def _controls(blocks: Any, where: str) -> Iterator[tuple[str, Any]]:
    for number, block in enumerate(blocks if isinstance(blocks, (list, tuple)) else ()):
        if isinstance(block, Mapping) and block.get("cache_control") is not None:
            yield f"{where}[{number}].cache_control", block["cache_control"]


def _problem_of_controls(controls: Iterator[tuple[str, Any]], before: int = 0) -> Problem | None:
    for count, (where, control) in enumerate(controls, before + 1):
        if (problem := _problem_of_lifetime(where, control)) is not None:
            return problem
        if count > MOST_BREAKPOINTS:
            rule = f"the API takes {MOST_BREAKPOINTS} in a request, over tools, system and messages"
            return Problem(where, f"cache_control number {count}", rule)
    return None


def _problem_of_lifetime(where: str, control: Any) -> Problem | None:
    ttl = control.get("ttl") if isinstance(control, Mapping) else None
    if ttl is None or ttl in LIFETIMES or ttl in known_to_the_sdk()["ttl"]:
        return None
    return Problem(f"{where}.ttl", named(ttl), f"one of {', '.join(LIFETIMES)}")
