"""Everything that one running emulator holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_claude_batch.emulator.api.clock import Clock
from airflow_claude_batch.emulator.api.results import BlockCache
from airflow_claude_batch.emulator.api.store import Store
from airflow_claude_batch.emulator.control.faults import Faults
from airflow_claude_batch.emulator.control.journal import Journal

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.control.settings import Settings


class Emulation:
    """Store, journal and fault rules of one emulator, and the settings that it started with."""

    def __init__(self, settings: Settings) -> None:
        self._initial = settings
        self.faults = Faults()
        self.journal = Journal()
        self.store = Store(Clock(), settings)
        self.blocks = BlockCache()

    async def reset(self) -> None:
        """Forget batches, journal, faults, changed settings and advanced time."""
        self.faults.remove()
        self.journal.clear()
        self.blocks.clear()
        await self.store.clear(self._initial)
