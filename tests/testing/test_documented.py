"""The page on testing, as a DAG's author uses it: its files, in a folder, and pytest."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PAGE = (REPOSITORY / "docs" / "testing.md").read_text()


def test_the_tests_of_the_page_pass_from_nothing(tmp_path: Path) -> None:
    """In a process of its own (10 s): Airflow's home and database are made by the fixtures alone."""
    files = re.findall(r'```python title="(\S+)"\n(.*?)```', PAGE, flags=re.S)
    assert [name for name, _ in files] == ["conftest.py", "test_nightly_report.py", "test_moods.py"]
    for name, text in files:
        (tmp_path / name).write_text(text)
    (tmp_path / "dags").symlink_to(REPOSITORY / "dags")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-c", os.devnull, "--rootdir", ".", "-p", "no:cacheprovider"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "2 passed" in done.stdout, done.stdout[-3000:] + done.stderr[-2000:]
    assert not (tmp_path / "home").exists()


def test_the_nightly_report_is_tested_in_ten_lines() -> None:
    body = PAGE.split("def test_the_nightly_report")[1].split("```")[0]
    assert len(body.strip().splitlines()) == 10
