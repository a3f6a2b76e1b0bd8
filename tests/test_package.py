"""What Airflow and packaging tools see of this package before any task runs."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import airflow_claude_batch
from airflow_claude_batch.get_provider_info import get_provider_info

REPOSITORY = Path(__file__).parents[1]
PACKAGE = Path(airflow_claude_batch.__file__).parent
README = (REPOSITORY / "README.md").read_text()
HEAVY = ["anthropic", "genai_prices", "pyarrow", "airflow.providers.anthropic.hooks.anthropic"]
PARSE = """
import json, sys, time
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, task
start = time.process_time()  # what other processes do at the time does not count
import airflow_claude_batch
for name in airflow_claude_batch.__all__:
    if "Hook" not in name and "Trigger" not in name:
        getattr(airflow_claude_batch, name)
import airflow_claude_batch.decorators.claude_batch
print(json.dumps([time.process_time() - start, sorted(sys.modules)]))
"""


def test_a_dag_file_that_uses_the_operators_parses_as_fast_as_one_that_does_not() -> None:
    output = subprocess.check_output([sys.executable, "-c", PARSE], text=True, timeout=60)
    seconds, modules = json.loads(output.splitlines()[-1])
    assert [name for name in HEAVY if name in modules] == []
    assert seconds < 0.1


def test_the_provider_info_fits_airflows_schema_and_names_modules_that_exist() -> None:
    info = get_provider_info()
    schema_file = Path(importlib.import_module("airflow").__file__ or "").with_name(
        "provider_info.schema.json"
    )
    jsonschema.validate(info, json.loads(schema_file.read_text()))
    for kind in ("hooks", "operators", "sensors", "triggers"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                importlib.import_module(module)


def test_airflow_lists_the_provider() -> None:
    command = [
        sys.executable,
        "-m",
        "airflow",
        "providers",
        "get",
        "airflow-claude-batch",
        "--output",
        "json",
    ]
    [provider] = json.loads(subprocess.check_output(command, text=True, timeout=60))
    assert provider == {"Provider": "airflow-claude-batch", "Version": airflow_claude_batch.__version__}


@pytest.mark.parametrize(("option", "default"), [("storage_path", ""), ("max_inline_bytes", "1000000")])
def test_airflow_knows_the_settings_and_their_defaults(option: str, default: str) -> None:
    from airflow.configuration import conf
    from airflow.providers_manager import ProvidersManager

    ProvidersManager().initialize_providers_configuration()  # Airflow 3.1 does so in its own commands only
    assert conf.get("claude_batch", option) == default


def test_the_version_is_the_same_everywhere() -> None:
    assert importlib.metadata.version("airflow-claude-batch") == airflow_claude_batch.__version__


def test_the_example_dags_can_be_imported() -> None:
    files = sorted(map(str, (REPOSITORY / "dags").glob("*.py")))
    each = "import runpy, sys; [runpy.run_path(file) for file in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", each, *files], check=True, timeout=60)


def test_every_setting_is_declared_and_every_declared_one_is_read() -> None:
    declared = set(get_provider_info()["config"]["claude_batch"]["options"])
    used = set()
    for file in (REPOSITORY / "airflow_claude_batch").rglob("*.py"):
        used |= set(re.findall(r'conf\.get\w*\((?:SECTION|"claude_batch"), "(\w+)"', file.read_text()))
    assert declared == used


def test_the_readme_names_what_can_be_imported_and_that_can_be() -> None:
    said = README.partition("| I want | use |")[2].partition("All names are")[0]
    names = set(re.findall(r"`([A-Z]\w+|[a-z]+_\w+)`", said))
    assert names == set(airflow_claude_batch.__all__)
    for name in names:
        assert getattr(airflow_claude_batch, name).__name__ == name


def test_no_type_is_decoded_that_threads_may_be_the_first_to_decode() -> None:
    """In msgspec 0.22 two threads that are the first to decode a type of Struct end the process (SIGSEGV).

    A decoder at the top of a module is made once, while the module is imported.
    """
    lazily = re.compile(r"json\.decode\([^\n]*\btype=")
    files = [file for room in ("batches", "plugins", "runtime") for file in PACKAGE.glob(f"{room}/**/*.py")]
    assert len(files) > 100
    assert [str(file) for file in files if lazily.search(file.read_text())] == []
