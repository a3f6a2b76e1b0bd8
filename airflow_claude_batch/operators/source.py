"""How the content of requests is kept out of Airflow's database and logs."""

from __future__ import annotations

import os
from typing import Any

from airflow.sdk import ObjectStoragePath, XComArg

from airflow_claude_batch.common.scalars import as_text
from airflow_claude_batch.sources import Files, Source, is_place


class HiddenRequests:
    """A source whose text form says nothing of its content.

    Airflow stores template fields as text after rendering, and renders strings in them; prompts are
    data and want neither.
    """

    def __init__(self, value: Any) -> None:
        self.value = value

    @classmethod
    def wrap(cls, value: Any, before: Any = None, *, mapped: bool = False) -> Any:
        """Hide a value; what Airflow has to resolve or render stays as it is: XComs, and where files are.

        An address is one only where the DAG's author wrote it: what an XCom turns out to be is data.

        Args:
            value: What ``requests`` is set to.
            before: What it was so far; an XCom where Airflow has just resolved it.
            mapped: Whether a mapped instance gets it: a list may be prompts from upstream then.
        """
        if isinstance(value, (XComArg, Source, cls)):
            return value
        if isinstance(value, (os.PathLike, ObjectStoragePath)) and not isinstance(before, XComArg):
            return Files(str(value))
        if isinstance(before, XComArg):
            return cls(value)
        if isinstance(value, (list, tuple)) and any(isinstance(item, XComArg) for item in value):
            return value
        if (
            not mapped
            and isinstance(value, (list, tuple))
            and value
            and all(map(is_place, map(as_text, value)))
        ):
            return Files(*value)
        if isinstance(value, str) and (is_place(value) or "{{" in value):
            return Files(value)
        return cls(value)

    @classmethod
    def unwrap(cls, value: Any) -> Any:
        """What was hidden."""
        return value.value if isinstance(value, cls) else value

    def __str__(self) -> str:
        if callable(self.value):
            return f"<requests from {getattr(self.value, '__qualname__', type(self.value).__name__)}>"
        if isinstance(self.value, (list, tuple)):
            return f"<{len(self.value)} requests>"
        return f"<requests from a {type(self.value).__name__}>"

    __repr__ = __str__


class HiddenText:
    """A prompt whose text form says nothing of its content."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __str__(self) -> str:
        return f"<text of {len(self.text)} characters>"

    __repr__ = __str__


def hide_text(value: Any) -> Any:
    """Hide a text in which there is nothing left for Airflow to render; an address may be seen."""
    if not isinstance(value, str) or is_place(value) or "{{" in value or "{%" in value or "{#" in value:
        return value
    return HiddenText(value)


class HiddenInput:
    """Of operators that send: what is sent, of which Airflow sees where it comes from and no content."""

    @property
    def requests(self) -> Any:
        """The source; its content is never rendered, logged or stored in Airflow's database."""
        return self._requests

    @requests.setter
    def requests(self, value: Any) -> None:
        mapped = getattr(self, "_BaseOperator__from_mapped", False)  # there is no public way to know
        self._requests = HiddenRequests.wrap(value, getattr(self, "_requests", None), mapped=mapped)

    @property
    def system(self) -> Any:
        """The system prompt; hidden once it is rendered."""
        return self._system

    @system.setter
    def system(self, value: Any) -> None:
        self._system = hide_text(value)

    @property
    def shown_requests(self) -> Any:
        """The source itself."""
        return HiddenRequests.unwrap(self._requests)

    @property
    def shown_system(self) -> Any:
        """The system prompt itself."""
        return self._system.text if isinstance(self._system, HiddenText) else self._system
