from __future__ import annotations

import json

import pytest

from airflow_claude_batch.emulator.testing import Emulator


@pytest.fixture
def emulator(claude_batch_emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> Emulator:
    """The emulator, with the default connection leading to it."""
    connection = {"conn_type": "anthropic", "password": "test-key", "host": claude_batch_emulator.url}
    monkeypatch.setenv("AIRFLOW_CONN_ANTHROPIC_DEFAULT", json.dumps(connection))
    return claude_batch_emulator
