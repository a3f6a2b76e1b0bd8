"""What ships is what the source says, and nothing that Airflow's page has already."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import airflow_claude_batch.plugins

PLUGINS = Path(airflow_claude_batch.plugins.__file__).parent
UI = PLUGINS / "ui"
BUNDLE = (PLUGINS / "static" / "main.js").read_text()


def test_the_committed_bundle_was_built_from_the_committed_source() -> None:
    """When this fails: `make ui-build`, and commit `plugins/static` too."""
    names = ["package-lock.json", "vite.config.ts", *(f"src/{file.name}" for file in (UI / "src").iterdir())]
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(f"{name}\n".encode())
        digest.update((UI / name).read_bytes())
    assert f"built from {digest.hexdigest()}" in BUNDLE


def test_react_and_chakra_stay_with_the_host() -> None:
    assert len(BUNDLE) < 200_000  # React and Chakra UI would be a million
    assert "(React, ReactJSXRuntime" in BUNDLE or "ReactJSXRuntime" in BUNDLE
    for word in ("createRoot", "useInsertionEffect", "emotion", "eval(", "innerHTML"):
        assert word not in BUNDLE
    assert "import(" not in BUNDLE


def test_the_lock_file_names_no_place_to_download_from() -> None:
    lock = (UI / "package-lock.json").read_text()
    assert "resolved" not in lock
    assert "https://" not in "".join(
        json.dumps(package.get("version", "")) for package in json.loads(lock)["packages"].values()
    )


def test_the_plugin_is_registered_without_loading_a_web_framework() -> None:
    """Every component loads plugins; only the API server needs this one's application."""
    code = """
import importlib.metadata, sys
[entry] = [e for e in importlib.metadata.entry_points(group="airflow.plugins") if e.name == "claude_batches"]
plugin = entry.load()
assert {app["destination"] for app in plugin.react_apps} == {
    "nav", "dashboard", "dag", "dag_run", "task_instance"
}
assert not [n for n in sys.modules if n.startswith(("fastapi", "anthropic", "airflow_claude_batch.batches"))]
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_the_bundle_is_served_below_the_base_url_under_an_address_that_changes_with_it(monkeypatch) -> None:
    from airflow_claude_batch.plugins.bundle import bundle_url

    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://data.example.org/team/airflow/")
    path, _, version = bundle_url().partition("?v=")
    assert path == "/team/airflow/claude-batches/static/main.js"
    assert len(version) == 12
