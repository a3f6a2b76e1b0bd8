"""What `.ci/run` answers is what its steps have answered."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "run"
MAKE = '#!/bin/sh\necho "make $*"\ncase "$*" in {failing}) exit 2 ;; esac\n'


def run(folder: Path, failing: str) -> subprocess.CompletedProcess[str]:
    """The script where every step passes at once, but those that match a pattern of the shell."""
    for name in ("make", "chromium", "git"):
        (folder / name).write_text(MAKE.format(failing=failing))
        (folder / name).chmod(0o755)
    environment = os.environ | {"PATH": os.pathsep.join([str(folder), os.environ["PATH"]])}
    return subprocess.run([SCRIPT], env=environment, text=True, capture_output=True, timeout=60)


def test_it_passes_where_every_step_does(tmp_path: Path) -> None:
    done = run(tmp_path, failing="nothing")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "make test"


STEPS = (".venv/.installed", "docs", "lint", "test-cluster*", "test-matrix*", "test")


@pytest.mark.parametrize("step", STEPS)
def test_it_fails_where_a_step_does(tmp_path: Path, step: str) -> None:
    done = run(tmp_path, failing=step)
    assert done.returncode != 0
    assert f"make {step.rstrip('*')}" in done.stdout
