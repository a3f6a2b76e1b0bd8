"""What is published: built, read, and installed into an Airflow whose every version is pinned."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

REPOSITORY = Path(__file__).parents[1]
BUNDLE = "airflow_claude_batch/plugins/static/main.js"
PACKAGE = "airflow-claude-batch"
LOAD_ENTRY_POINTS = """
import importlib.metadata, json
points = importlib.metadata.distribution("airflow-claude-batch").entry_points
print(json.dumps({point.name: point.load().__module__ for point in points}))
"""

pytestmark = pytest.mark.timeout(300)  # a few seconds where uv has Airflow in its cache


def run(*command: str | Path, folder: Path) -> str:
    """Run outside the checkout, whose package would be found first, and without this run's settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    finished = subprocess.run(
        command,
        cwd=folder,
        env=environment | {"AIRFLOW_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert finished.returncode == 0, f"{command} ended with {finished.returncode}:\n{finished.stderr}"
    return finished.stdout


def uv(*arguments: str | Path, folder: Path) -> str:
    return run(find_uv_bin(), *arguments, folder=folder)


def project_url(name: str) -> str | None:
    """An address that pyproject.toml names; None as long as there is no public one."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    url: str | None = project.get("urls", {}).get(name)
    return url


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--quiet", "--out-dir", folder, REPOSITORY, folder=folder)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    return next(built.glob("*.whl"))


@pytest.fixture(scope="module")
def source(built: Path) -> Path:
    return next(built.glob("*.tar.gz"))


def test_the_wheel_has_the_package_the_page_and_the_licence_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].removesuffix(".dist-info").split("-")[0] for name in names} == {
        "airflow_claude_batch"
    }
    assert BUNDLE in names
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)
    assert not any("plugins/ui/" in name for name in names)


def test_the_source_distribution_has_the_sources_of_the_page_but_no_tests_and_no_node_modules(
    source: Path,
) -> None:
    with tarfile.open(source) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    assert {BUNDLE, "airflow_claude_batch/plugins/ui/src/main.tsx"} <= set(names)
    assert {"CHANGELOG.md", "LICENSE", "README.md"} <= set(names)
    assert not [name for name in names if name.startswith("tests") or "node_modules" in name]


def test_a_package_index_can_render_the_description(wheel: Path, source: Path) -> None:
    run(sys.executable, "-m", "twine", "check", "--strict", wheel, source, folder=wheel.parent)


def test_an_airflow_with_pinned_versions_takes_the_wheel_and_changes_none_of_them(
    wheel: Path, tmp_path: Path
) -> None:
    airflow = importlib.metadata.version("apache-airflow")
    python = tmp_path / "airflow" / "bin" / "python"
    pins = tmp_path / "constraints.txt"
    uv("venv", "--quiet", "--python", sys.executable, tmp_path / "airflow", folder=tmp_path)
    install = ("pip", "install", "--quiet", "--python", python)
    uv(*install, f"apache-airflow=={airflow}", folder=tmp_path)
    pins.write_text(uv("pip", "freeze", "--python", python, folder=tmp_path))

    uv(*install, "--constraint", pins, f"{wheel}[emulator]", folder=tmp_path)
    after = uv("pip", "freeze", "--python", python, folder=tmp_path).splitlines()
    assert set(pins.read_text().splitlines()) <= set(after)
    uv("pip", "check", "--python", python, folder=tmp_path)

    loaded = json.loads(run(python, "-c", LOAD_ENTRY_POINTS, folder=tmp_path).splitlines()[-1])
    assert loaded == {
        "provider_info": "airflow_claude_batch.get_provider_info",
        "claude_batches": "airflow_claude_batch.plugins.claude_batches",
        "claude-batch": "airflow_claude_batch.cli.parser",
        "claude-batch-emulator": "airflow_claude_batch.emulator.cli",
    }
    commands = python.parent
    provider = run(commands / "airflow", "providers", "get", PACKAGE, "--full", "-o", "json", folder=tmp_path)
    (shown,) = json.loads(provider.splitlines()[-1])
    assert shown["documentation-url"] == project_url("Documentation")
    assert "Documentation: the folder docs of the source distribution" in shown["description"]
    changelog = next(word for word in shown["description"].split() if word.endswith("CHANGELOG.md"))
    assert (python.parents[1] / changelog).read_bytes() == (REPOSITORY / "CHANGELOG.md").read_bytes()
    storage = tmp_path.as_uri()
    purged = run(commands / "claude-batch", "purge", "--dry-run", "--storage-path", storage, folder=tmp_path)
    assert purged.splitlines()[-1].startswith("would delete 0 jobs")
    assert "usage: claude-batch-emulator" in run(
        commands / "claude-batch-emulator", "--help", folder=tmp_path
    )
