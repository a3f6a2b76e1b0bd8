"""How far a task has come: done, or what it waits for. The runtime says it, the operator acts on it."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_claude_batch.batches.waiting.wait import Wait


@dataclass(frozen=True, kw_only=True)
class Done:
    """There is nothing left to do."""

    value: Any
    """What the task returns."""


@dataclass(frozen=True, kw_only=True)
class WaitFor:
    """Come back when batches have ended."""

    wait: Wait
    cancel_on_kill: bool
    """Cancel the batches when a person ends the task meanwhile."""
    unproved: list[str] = field(default_factory=list)
    """Batches that may be somebody else's; they are not cancelled."""
    also_unwanted: list[str] = field(default_factory=list)
    """Batches that are not waited for, and cancelled with those that are."""


@dataclass(frozen=True, kw_only=True)
class ComeBack:
    """Come back at a time."""

    at: datetime.datetime
    unwanted: list[str] = field(default_factory=list)
    """Batches to cancel when a person ends the task meanwhile."""


Step = Done | WaitFor | ComeBack
