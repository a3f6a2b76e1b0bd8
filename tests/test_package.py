"""What Airflow and packaging tools see of this package before any task runs."""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

import airflow_claude_batch
from airflow_claude_batch.get_provider_info import get_provider_info

REPOSITORY = Path(__file__).parents[1]
HEAVY = ["anthropic", "genai_prices", "pyarrow", "airflow.providers.anthropic.hooks.anthropic"]
PARSE = """
import json, sys, time
from airflow.sdk import DAG, BaseOperator, BaseSensorOperator, task
start = time.perf_counter()
import airflow_claude_batch
for name in airflow_claude_batch.__all__:
    if "Hook" not in name and "Trigger" not in name:
        getattr(airflow_claude_batch, name)
import airflow_claude_batch.decorators.claude_batch
print(json.dumps([time.perf_counter() - start, sorted(sys.modules)]))
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

    assert conf.get("claude_batch", option) == default


def test_the_version_is_the_same_everywhere() -> None:
    assert importlib.metadata.version("airflow-claude-batch") == airflow_claude_batch.__version__


def test_the_example_dags_can_be_imported() -> None:
    for file in sorted((REPOSITORY / "dags").glob("*.py")):
        subprocess.run([sys.executable, str(file)], check=True, timeout=60)
