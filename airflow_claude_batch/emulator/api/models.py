"""The models that the emulator knows, in the form of the SDK's ``ModelInfo``.

Names follow the price list in the project's notes on the API; limits are plausible, not official. Dates of
retirement are those of 2026-11-28; a test compares them with the installed SDK's (source:
https://platform.claude.com/docs/en/about-claude/model-deprecations).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from airflow_claude_batch.emulator.api.errors import ApiError

Lifecycle = Literal["active", "deprecated", "retired"]


class Model(NamedTuple):
    """One model of the catalogue; limits in tokens, dates as ``YYYY-MM-DD``."""

    id: str
    display_name: str
    line: str
    created: str
    max_tokens: int = 64_000
    max_input_tokens: int = 200_000
    cache_minimum: int = 1_024
    lifecycle: Lifecycle = "active"
    deprecated: str | None = None
    retires: str | None = None
    newest: bool = False
    structured_outputs: bool = True

    def info(self) -> dict[str, Any]:
        """The object that ``GET /v1/models/{id}`` answers."""
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.display_name,
            "created_at": f"{self.created}T00:00:00Z",
            "deprecated_at": self.deprecated and f"{self.deprecated}T00:00:00Z",
            "retires_at": self.retires and f"{self.retires}T00:00:00Z",
            "lifecycle": self.lifecycle,
            "line": self.line,
            "max_input_tokens": self.max_input_tokens,
            "max_tokens": self.max_tokens,
            "capabilities": _capabilities(self),
        }


def _supported(value: bool) -> dict[str, bool]:
    return {"supported": value}


def _capabilities(model: Model) -> dict[str, Any]:
    thinking = {
        "adaptive": _supported(model.newest),
        "between_tools": _supported(model.newest),
        "disabled": _supported(True),
        "enabled": _supported(not model.newest),
    }
    efforts = {level: _supported(model.newest) for level in ("low", "medium", "high", "xhigh", "max")}
    return {
        "batch": _supported(model.lifecycle != "retired"),
        "citations": _supported(True),
        "code_execution": _supported(model.newest),
        "context_management": {
            "supported": True,
            "clear_thinking_20251015": _supported(True),
            "clear_tool_uses_20250919": _supported(True),
            "compact_20260112": _supported(model.newest),
        },
        "effort": {"supported": model.newest, **efforts},
        "image_input": _supported(True),
        "pdf_input": _supported(True),
        "server_tools": {
            "supported": True,
            "code_execution": _supported(True),
            "web_search": _supported(True),
        },
        "structured_outputs": _supported(model.structured_outputs),
        "thinking": {"supported": True, "types": thinking},
    }


CATALOGUE = [
    Model(
        "claude-fable-5-2", "Claude Fable 5.2", "fable", "2026-10-20", 128_000, 1_000_000, 512, newest=True
    ),
    Model("claude-haiku-5-5", "Claude Haiku 5.5", "haiku", "2026-10-06", 64_000, 400_000, 1_024, newest=True),
    Model(
        "claude-sonnet-5-5", "Claude Sonnet 5.5", "sonnet", "2026-09-15", 128_000, 1_000_000, 512, newest=True
    ),
    Model("claude-opus-5-5", "Claude Opus 5.5", "opus", "2026-09-01", 128_000, 1_000_000, 512, newest=True),
    Model("claude-opus-5", "Claude Opus 5", "opus", "2026-06-02", 128_000, 1_000_000, 1_024),
    Model("claude-opus-4-8", "Claude Opus 4.8", "opus", "2026-05-05", 128_000, 1_000_000, 1_024),
    Model("claude-opus-4-7", "Claude Opus 4.7", "opus", "2026-04-14", 128_000, 1_000_000, 4_096),
    Model("claude-sonnet-4-6", "Claude Sonnet 4.6", "sonnet", "2026-02-17", 128_000, 1_000_000, 1_024),
    Model("claude-opus-4-6", "Claude Opus 4.6", "opus", "2026-02-05", 128_000, 1_000_000, 4_096),
    Model(
        "claude-opus-4-5-20251101",
        "Claude Opus 4.5",
        "opus",
        "2025-11-24",
        64_000,
        200_000,
        4_096,
        lifecycle="deprecated",
        deprecated="2026-11-22",
        retires="2027-01-22",
    ),
    Model("claude-haiku-4-5-20251001", "Claude Haiku 4.5", "haiku", "2025-10-15", 64_000, 200_000, 4_096),
    Model(
        "claude-sonnet-4-5-20250929",
        "Claude Sonnet 4.5",
        "sonnet",
        "2025-09-29",
        lifecycle="deprecated",
        deprecated="2026-09-15",
        retires="2026-11-30",
    ),
    Model(
        "claude-3-5-haiku-20241022",
        "Claude Haiku 3.5",
        "haiku",
        "2024-10-22",
        max_tokens=8_192,
        cache_minimum=2_048,
        lifecycle="retired",
        deprecated="2025-12-19",
        retires="2026-02-19",
        structured_outputs=False,
    ),
    Model(
        "claude-3-5-sonnet-20241022",
        "Claude Sonnet 3.5",
        "sonnet",
        "2024-10-22",
        max_tokens=8_192,
        lifecycle="retired",
        deprecated="2025-08-13",
        retires="2025-10-28",
        structured_outputs=False,
    ),
]

_ALIASES = {
    "claude-opus-4-5": "claude-opus-4-5-20251101",
    "claude-haiku-4-5": "claude-haiku-4-5-20251001",
    "claude-sonnet-4-5": "claude-sonnet-4-5-20250929",
    "claude-3-5-haiku-latest": "claude-3-5-haiku-20241022",
    "claude-3-5-sonnet-latest": "claude-3-5-sonnet-20241022",
}

_BY_ID = {model.id: model for model in CATALOGUE}


def find_model(name: str) -> Model:
    """The model of this id or alias; raises the API's 404."""
    model = _BY_ID.get(_ALIASES.get(name, name))
    if model is None:
        raise ApiError(404, f"model: {name}")
    return model
