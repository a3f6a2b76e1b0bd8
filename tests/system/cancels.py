"""What the API was asked to cancel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_claude_batch.emulator.testing import CANCEL

if TYPE_CHECKING:
    from airflow_claude_batch.emulator.testing import Emulator


def cancel_calls(emulator: Emulator) -> list[str]:
    """Batches that exist, once a call, answered or not; runs of earlier tests may still cancel theirs."""
    known = {batch["id"] for batch in emulator.batches()}
    calls = emulator.journal(method="POST", path=CANCEL)
    return [call["batch_id"] for call in calls if call["batch_id"] in known]
