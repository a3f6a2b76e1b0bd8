"""300 kills at random and chosen instants, over many jobs side by side; `benchmarks.faults` runs longer."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.faults.count import FAULTS

KILLS = 300


def logs_of_jobs(said: str, kept: Path) -> str:
    """What the processes of the jobs that are named have logged."""
    jobs = {f"{deployment}-{name}" for deployment, name in re.findall(r"(ours|theirs) (j\d+)", said)}
    return "".join(f"\n{job}:\n{(kept / 'logs' / f'{job}.log').read_text()}" for job in sorted(jobs))


@pytest.mark.timeout(400)  # a minute where nothing else runs
def test_kills_freezes_late_writes_and_strangers_cost_no_money_and_no_row(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.faults", "--kills", str(KILLS), "--limit", "300"]
    command += ["--keep", str(tmp_path / "kept")]
    (tmp_path / "kept").mkdir()
    run = subprocess.run(command, check=False, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:] + logs_of_jobs(run.stdout, tmp_path / "kept")
    figures = json.loads(run.stdout.splitlines()[-1])
    assert {kind: figures[kind] for kind in FAULTS} == dict.fromkeys(FAULTS, 0)
    assert figures["kills"] >= KILLS
    assert min(figures[name] for name in ("freezes", "late PUTs", "strangers")) > 0
