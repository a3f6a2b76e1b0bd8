"""Prompt caching: the prefix that all requests share, marked as one.

The API caches tools, system and messages in this order, up to a block that is marked with
``cache_control``. The same marked prefix in every request is written once and read often; in batches
that is best effort, and better when one request has been answered before the others are sent.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.requests.addresses import begins_like_address
from airflow_claude_batch.batches.storage import Folder

log = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN = 3.5
"""Of English prose; only for a warning."""
MINIMUM_TOKENS = {
    "claude-fable-5": 512,
    "claude-sonnet-5": 512,
    "claude-opus-5-5": 512,
    "claude-opus-4-5": 4096,
    "claude-opus-4-6": 4096,
    "claude-opus-4-7": 4096,
    "claude-haiku-4-5": 4096,
    "claude-3-5-haiku": 2048,
}
"""Shortest prefix, in tokens, that a model caches, by how its id begins. A shorter one is not cached, and
nothing says so (source: the API's documentation of prompt caching)."""
USUAL_MINIMUM_TOKENS = 1024
LONGEST_ADDRESS = 1_024


def read_system(
    system: str | list[dict[str, Any]] | None, locate: Callable[[str], Folder]
) -> str | list[dict[str, Any]] | None:
    """The system prompt; the content of the file where it is an address.

    Raises:
        ConfigurationError: For a file that is not there or no text, and for a text that begins like an
            address and is none.
    """
    if not isinstance(system, str) or not begins_like_address(system):
        return system
    system = system.strip()
    if "\n" in system or len(system) > LONGEST_ADDRESS:
        raise ConfigurationError(
            f"system begins like an address and is none (text of {len(system)} characters). A prompt "
            "begins in another way."
        )
    if system.startswith((".", "~")):
        raise ConfigurationError(
            f"system is a path that depends on where a worker runs (text of {len(system)} characters). Write "
            "an absolute path or a URI; a prompt begins in another way."
        )
    location = locate(system)
    try:
        text: str = location.fs.cat_file(location.path).decode("utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        shown = system if not re.search(r"\s", system) else f"{system.partition('://')[0][:20]}…"
        raise ConfigurationError(
            f"The system prompt {shown} is not there (a text of {len(system)} characters that begins like an "
            "address is taken for one)."
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"The system prompt {system} is no UTF-8 text.") from None
    if not text.strip():
        raise ConfigurationError(f"The system prompt {system} is empty.")
    return text


def mark_prefix(defaults: Mapping[str, Any], lifetime: str) -> dict[str, Any]:
    """The defaults with the end of their shared prefix marked.

    Args:
        defaults: Messages API parameters of all requests.
        lifetime: ``5m`` or ``1h``; a batch usually takes longer than five minutes.

    Raises:
        ConfigurationError: For another lifetime, or where there is nothing to share.
    """
    if lifetime not in ("5m", "1h"):
        raise ConfigurationError(f"cache = {lifetime!r}: a cached prefix lives for '5m' or '1h'.")
    control = {"type": "ephemeral", "ttl": lifetime}
    marked = dict(defaults)
    system = defaults.get("system")
    if system:
        given = [{"type": "text", "text": system}] if isinstance(system, str) else system
        blocks: list[dict[str, Any]] = [dict(block) for block in given]
        blocks[-1]["cache_control"] = control
        marked["system"] = blocks
    elif defaults.get("tools"):
        tools = [dict(tool) for tool in defaults["tools"]]
        tools[-1]["cache_control"] = control
        marked["tools"] = tools
    else:
        raise ConfigurationError(
            f"cache = {lifetime!r}: there is no system prompt and no tools that the requests share. "
            "Set system to what is the same in all prompts, or leave cache out."
        )
    _warn_if_short(marked)
    return marked


def minimum_prefix(model: str) -> int:
    """Tokens below which a model caches nothing."""
    matching = [start for start in MINIMUM_TOKENS if model.startswith(start)]
    return MINIMUM_TOKENS[max(matching, key=len)] if matching else USUAL_MINIMUM_TOKENS


def _warn_if_short(defaults: Mapping[str, Any]) -> None:
    model = defaults.get("model")
    if not isinstance(model, str):
        return
    prefix = {key: defaults[key] for key in ("tools", "system") if defaults.get(key)}
    tokens = int(len(msgspec.json.encode(prefix)) / CHARACTERS_PER_TOKEN)
    if tokens < minimum_prefix(model):
        log.warning(
            "The shared prefix has about %s tokens; %s caches none below %s, so cache has no effect",
            tokens,
            model,
            minimum_prefix(model),
        )
