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
# What is published does not depend on the environment, and test_packaging makes one itself.
UNIT = ("-m", "not system", "tests", "--ignore=tests/test_packaging.py")
INTEGRATION = ("tests/system/test_nightly_report.py", "tests/system/test_submission.py")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """One column of the matrix."""

    python: str
    airflow: str
    """Requirement of Airflow itself."""
    install: tuple[str, ...] = ()
    """Further arguments of `uv pip install`."""
    runs: tuple[tuple[str, ...], ...] = (UNIT, INTEGRATION)
    """Arguments of pytest, a run each."""


MATRIX = {
    "oldest": Environment(python="3.11", airflow="apache-airflow==3.1.*"),
    "newest": Environment(python="3.13", airflow="apache-airflow==3.3.*"),
    "lowest": Environment(
        python="3.11",
        airflow="apache-airflow",
        # Airflow 3.1.0 does not start with a later structlog.
        install=("--resolution", "lowest-direct", "structlog==25.4.0"),
        runs=(UNIT,),
    ),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(MATRIX)}; default: all")
    names = parser.parse_args().names or list(MATRIX)
    if unknown := set(names) - set(MATRIX):
        parser.error(f"no such environment: {', '.join(sorted(unknown))}")
    failed = [name for name in names if not run(name, MATRIX[name])]
    if failed:
        print(f"matrix: failed on {', '.join(failed)}", flush=True)
    return 1 if failed else 0


def run(name: str, environment: Environment) -> bool:
    """Make the environment and run its tests; True when all passed."""
    python = VENVS / name / "bin" / "python"
    if subprocess.run(["uv", "python", "find", "--no-project", environment.python], executable=find_uv_bin(),
                      capture_output=True, env=offline()).returncode:  # fmt: skip
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
    codes = [
        subprocess.run(
            [python, "-m", "pytest", "-p", "no:cacheprovider", *arguments], cwd=REPOSITORY
        ).returncode
        for arguments in environment.runs
    ]
    print(f"matrix: {name}: {time.monotonic() - started:.0f} s", flush=True)
    return not any(codes)


def uv(*arguments: str) -> None:
    subprocess.run([find_uv_bin(), *arguments], cwd=REPOSITORY, env=offline(), check=True)


def offline() -> dict[str, str]:
    """uv takes the interpreters that are there and downloads none."""
    return os.environ | {"UV_PYTHON_DOWNLOADS": "never"}


if __name__ == "__main__":
    sys.exit(main())
