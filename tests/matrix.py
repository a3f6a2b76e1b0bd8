"""`make test-matrix`: the tests on other versions of Airflow, Python and the direct dependencies.

Each environment is a virtual environment of its own under `.venvs`, made by uv with an interpreter that this
machine has; one whose interpreter is missing is left out, and that is said.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

REPOSITORY = Path(__file__).parents[1]
VENVS = REPOSITORY / ".venvs"
TESTS = Path("tests")
# What is published does not depend on the environment, and `make test-cluster` has its own.
LEFT_OUT = {TESTS / name for name in ("cluster", "system", "test_packaging.py")}
INTEGRATION = (TESTS / "system/test_nightly_report.py", TESTS / "system/test_submission.py")
FOLDERS = ("decorators", "operators", "plugins", "sensors", "triggers")
NEAREST = {TESTS / name for name in (*FOLDERS, "test_metrics.py", "test_package.py")}
"""Tests of what has most to do with Airflow itself."""
SLOW = {TESTS / f"plugins/test_{name}.py" for name in ("bounds", "canary", "hostile_xcoms")}
"""Of these, those that take longest and ask least of an Airflow's version."""


OURS = (
    *("anthropic", "apache-airflow-providers-anthropic", "apache-airflow-providers-common-compat"),
    *("genai-prices", "httpcore2", "httpx2", "typing-extensions"),
)
"""Newer than the oldest Airflow: what we depend on directly, and what that depends on."""


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One column of the matrix."""

    python: str
    airflow: str
    """Requirement of Airflow itself."""
    install: tuple[str, ...] = ()
    """Further arguments of `uv pip install`."""
    integration: bool = True
    """Whether to run tests on running Airflow, too."""


MATRIX = {
    "oldest": Environment(python="3.11", airflow="apache-airflow==3.1.*"),
    "newest": Environment(python="3.13", airflow="apache-airflow==3.3.*"),
    "lowest": Environment(
        python="3.11",
        airflow="apache-airflow",
        # Airflow 3.1.7 does not work with all that came after it, so what it depends on is of its time.
        install=(
            *("--resolution", "lowest-direct", "structlog==25.4.0", "--exclude-newer", "2026-02-20"),
            *(f"--exclude-newer-package={name}=2099-12-31" for name in OURS),
        ),
        integration=False,
    ),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(MATRIX)}; default: all")
    parser.add_argument(
        "--airflow-only",
        action="store_true",
        help="only what has most to do with Airflow itself",
    )
    options = parser.parse_args()
    names = options.names or list(MATRIX)
    if unknown := set(names) - set(MATRIX):
        parser.error(f"no such environment: {', '.join(sorted(unknown))}")
    found = {file.relative_to(REPOSITORY) for file in (REPOSITORY / TESTS).iterdir() if is_tests(file)}
    tests = NEAREST if options.airflow_only else found - LEFT_OUT
    ignored = SLOW if options.airflow_only else set()
    failed = [name for name in names if not run(name, MATRIX[name], tests, ignored)]
    if failed:
        print(f"matrix: failed on {', '.join(failed)}", flush=True)
    return 1 if failed else 0


def run(name: str, environment: Environment, tests: set[Path], ignored: set[Path]) -> bool:
    """Make the environment and run its tests; True when all passed."""
    python = VENVS / name / "bin" / "python"
    find = [find_uv_bin(), "python", "find", "--no-project", environment.python]
    if subprocess.run(find, capture_output=True, env=interpreters()).returncode:
        print(f"matrix: {name} left out: this machine has no Python {environment.python}", flush=True)
        return True
    started = time.monotonic()
    uv("venv", "--quiet", "--clear", "--python", environment.python, str(VENVS / name))
    uv(
        *("pip", "install", "--quiet", "--python", str(python)),
        *("--group", "test", "--editable", ".[emulator,parquet]", environment.airflow),
        *environment.install,
    )
    version = subprocess.check_output(
        [python, "-c", "import importlib.metadata as m; print(m.version('apache-airflow'))"], text=True
    ).strip()
    print(f"matrix: {name}: Airflow {version}, Python {environment.python}", flush=True)
    chosen = sorted(tests) + list(INTEGRATION if environment.integration else ())
    options = (
        "-p",
        "no:cacheprovider",
        "--numprocesses",
        "2",
        *(f"--ignore={file}" for file in sorted(ignored)),
    )
    code = subprocess.run([python, "-m", "pytest", *options, *chosen], cwd=REPOSITORY).returncode
    print(f"matrix: {name}: {time.monotonic() - started:.0f} s", flush=True)
    return code == 0


def is_tests(file: Path) -> bool:
    """Whether this is a file or folder with tests."""
    return file.name.startswith("test_") or (file.is_dir() and any(file.glob("test_*.py")))


def uv(*arguments: str) -> None:
    subprocess.run([find_uv_bin(), *arguments], cwd=REPOSITORY, env=interpreters(), check=True)


def interpreters() -> dict[str, str]:
    """For uv: it takes the interpreters that are there, pyenv's too, and downloads none."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    places = [*map(str, sorted(pyenv.glob("versions/*/bin"))), os.environ["PATH"]]
    return os.environ | {"UV_PYTHON_DOWNLOADS": "never", "PATH": os.pathsep.join(places)}


if __name__ == "__main__":
    sys.exit(main())
