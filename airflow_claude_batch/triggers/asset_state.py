"""What a watcher remembers in the state stores of the assets that it is for (Airflow 3.3 and later)."""

from __future__ import annotations

import hashlib
from typing import Any


class AssetMemory:
    """A mapping kept under one key in the state of every asset that a trigger is for.

    Airflow runs one trigger for all assets that are watched with the same arguments.

    Args:
        trigger: The trigger; before Airflow 3.3 it has no state, and nothing is remembered.
        kind: Tells the memories of different triggers apart.
        arguments: The trigger's own, as text: an asset may have several watchers, each with its memory.
    """

    def __init__(self, trigger: Any, kind: str, arguments: str) -> None:
        self._trigger = trigger
        self._key = f"claude_batch_{kind}_{hashlib.sha256(arguments.encode()).hexdigest()[:16]}"

    async def read(self) -> list[dict[str, Any]]:
        """What the assets remember."""
        values = [await store.aget(self._key) for store in self._stores()]
        return [value for value in values if isinstance(value, dict)]

    async def write(self, value: dict[str, Any]) -> None:
        """Let all of them remember the same."""
        for store in self._stores():
            await store.aset(self._key, value)

    def _stores(self) -> list[Any]:
        store = getattr(self._trigger, "asset_state_store", None)
        if store is None:
            return []
        # Airflow's own way to all of them wants their names, which it does not tell the trigger.
        by_name, by_uri = getattr(store, "_by_name", {}), getattr(store, "_by_uri", {})
        return [*by_name.values(), *by_uri.values()] or [store]
