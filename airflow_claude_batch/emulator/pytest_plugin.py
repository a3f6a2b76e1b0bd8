"""A fixture for your own tests: ``pytest_plugins = ["airflow_claude_batch.emulator.pytest_plugin"]``.

``claude_batch_emulator`` is one emulator process for the session, empty for every test.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from airflow_claude_batch.emulator.testing import Emulator, start_emulator

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def claude_batch_emulator_process() -> Iterator[Emulator]:
    """One emulator process for the test session; batches end when a test says so."""
    with start_emulator(duration="manual") as emulator:
        yield emulator


@pytest.fixture
def claude_batch_emulator(claude_batch_emulator_process: Emulator) -> Emulator:
    """The session's emulator, empty."""
    claude_batch_emulator_process.reset()
    return claude_batch_emulator_process
