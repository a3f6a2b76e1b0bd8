"""The command line: a run, its figures, and the verdict as exit status."""

from __future__ import annotations

import argparse
import contextlib
import json
import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import benchmarks.faults
from benchmarks.faults.count import Count, count
from benchmarks.faults.drive import Job, Run
from benchmarks.faults.plan import TAGS, Places, draw_specs
from benchmarks.faults.s3 import BUCKET, S3, start_s3
from benchmarks.faults.worker import prepare, warm_up
from benchmarks.faults.world import DEPLOYMENTS, spoil, start_world

NO_VERDICT = 2


@dataclass(kw_only=True)
class Outcome:
    """Of a whole run."""

    run: Run
    found: Count
    seconds: float
    finished: bool
    late_puts: int

    @property
    def status(self) -> int:
        """Exit status."""
        if not self.found.clean:
            return 1
        return 0 if self.finished and self.run.hits >= self.run.wanted else NO_VERDICT

    @property
    def figures(self) -> dict[str, Any]:
        """What is reported, by name."""
        run = self.run
        return {
            "kills": run.hits,
            "jobs": len(run.jobs),
            **self.found.figures,
            "freezes": run.freezes,
            "late PUTs": self.late_puts,
            "strangers": len(run.world.strangers),
            "seconds": round(self.seconds, 1),
        }

    def report(self) -> str:
        """For people; the last line is for machines."""
        run = self.run
        lines = [f"{tag:10} {_describe([job for job in run.jobs if tag in job.spec.tags])}" for tag in TAGS]
        for phase in ("submit", "wait", "deliver"):
            kinds = {name: n for name, n in run.kills.items() if name.startswith(phase)}
            instants = ", ".join(f"{name.partition(', ')[2]} {kinds[name]}" for name in sorted(kinds))
            lines.append(f"{phase:10} {sum(kinds.values())} kills: {instants}")
        cpu = run.cpu_seconds / max(run.processes, 1)
        lines.append(f"{run.processes} processes, {cpu:.2f} s of CPU each; {run.missed} kills hit no work")
        lines += [f"! {note}" for note in self.found.notes]
        if not self.finished:
            lines.append("! the time was up before all jobs were over: no verdict")
        lines.append(", ".join(f"{name} {value}" for name, value in self.figures.items()))
        return "\n".join([*lines, json.dumps(self.figures)])


def _describe(jobs: list[Job]) -> str:
    return f"{len(jobs):4} jobs {sum(job.kills for job in jobs):5} kills"


def measure(seed: int, kills: int, only: frozenset[str], limit: float, folder: str) -> Outcome:
    """Do a run.

    Args:
        seed: Of the plan.
        kills: How many are to hit a process amid its work.
        only: Tags that jobs may have; all if empty.
        limit: Seconds after which there is no verdict.
        folder: An empty one.
    """
    with contextlib.ExitStack() as stack:
        world = stack.enter_context(start_world(seed))
        s3 = stack.enter_context(start_s3()) if not only or "s3" in only else None
        prepare(world.emulator.url, f"{folder}/airflow")
        warm_up(folder, s3)
        spoil(world.emulator, seed)
        Path(folder, "logs").mkdir()
        places = Places(local=f"file://{folder}", s3=f"s3://{BUCKET}")
        begun = time.monotonic()
        run = Run(
            world=world,
            specs=draw_specs(seed, only, places),
            wanted=kills,
            chance=random.Random(seed),
            s3=s3,
            logs=f"{folder}/logs",
        )
        finished = run.run(begun + limit)
        found = _count(run, folder)
        return Outcome(
            run=run,
            found=found,
            seconds=time.monotonic() - begun,
            finished=finished,
            late_puts=s3.late_puts() if s3 else 0,
        )


def _count(run: Run, folder: str) -> Count:
    delivered = [job.spec for job in run.jobs if job.delivered and not job.failed]
    stuck = {job.spec: job.failed for job in run.jobs if job.failed}
    return count(
        delivered,
        stuck,
        run.world,
        {spec.output: _local_copy(spec.output, folder, run.s3) for spec in delivered},
        _claims(folder, run.s3),
    )


def _local_copy(url: str, folder: str, s3: S3 | None) -> Path:
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    assert s3 is not None
    copy = Path(folder, "from-s3", url.removeprefix("s3://"))
    with contextlib.suppress(FileNotFoundError):
        s3.shared.get(url.removeprefix("s3://") + "/", f"{copy}/", recursive=True)
    return copy


def _claims(folder: str, s3: S3 | None) -> set[str]:
    """Batches that the deployments' stores say are their own."""
    names: set[str] = set()
    for deployment in DEPLOYMENTS:
        names |= {path.name for path in Path(folder, f"store-{deployment}", "batches").glob("*")}
        if s3 is not None:
            with contextlib.suppress(FileNotFoundError):
                paths = s3.shared.ls(f"{BUCKET}/store-{deployment}/batches", detail=False)
                names |= {path.rpartition("/")[2] for path in paths}
    return names


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults",
        description=benchmarks.faults.__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help=f"what jobs may have, of {','.join(TAGS)}; all")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds")
    parser.add_argument("--keep", help="an empty directory for stores, output and logs")
    options = parser.parse_args()
    only = frozenset(filter(None, options.only.split(",")))
    if not only <= set(TAGS):
        parser.error(f"--only takes some of {','.join(TAGS)}")
    with contextlib.ExitStack() as stack:
        folder = options.keep or stack.enter_context(tempfile.TemporaryDirectory())
        Path(folder).mkdir(parents=True, exist_ok=True)
        if any(Path(folder).iterdir()):  # an earlier run's jobs would be resumed
            parser.error(f"{folder} is not empty")
        outcome = measure(options.seed, options.kills, only, options.limit, str(Path(folder).resolve()))
    print(outcome.report())
    return outcome.status


if __name__ == "__main__":
    sys.exit(main())
