"""Running the jobs: what Airflow's scheduler does, and what hits the processes, from one thread."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import select
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmarks.faults.plan import Fate, Phase, Spec, draw_fate
from benchmarks.faults.s3 import S3
from benchmarks.faults.worker import Process, Step, Task, start
from benchmarks.faults.world import World

OPEN_JOBS = 48
BUSY_PROCESSES = 12
"""Executing ones at the same time; those that run a trigger mostly sleep."""
KILLS_A_JOB = 8
"""What a job takes on average; no job gets more than twice as many."""
WAITS_STRUCK, OTHERS_STRUCK = 0.15, 0.85
"""Shares of the processes that something befalls."""
CLEARED = 0.25
"""Share of the jobs on local disk that are cleared after delivery; those on S3 all are."""
STUCK_SECONDS = 240.0
"""A job whose processes have run for so long, undisturbed, and that has not delivered, never will."""
LONGEST_FREEZE = 8.0
TICK_SECONDS = 0.02
LOOK_SECONDS = 1.0
"""Between two looks at the journal and at late PUTs."""

_FINAL = "AirflowFailException"


@dataclass(kw_only=True)
class Running:
    """A process of a job."""

    process: Process
    fate: Fate
    task: Task
    attempt: int
    phase: Phase
    started_at: float
    began_at: float | None = None
    struck: bool = False
    wake_at: float | None = None
    """Set while it is stopped, and afterwards: its job goes on without it."""
    said: bytes = b""

    @property
    def given_up(self) -> bool:
        """Whether Airflow has taken it for dead."""
        return self.wake_at is not None


@dataclass(kw_only=True)
class Job:
    """A job under way."""

    spec: Spec
    step: Step = "execute"
    argument: Any = None
    try_number: int = 1
    generation: int = 1
    attempt: int = 0
    reported: int = 0
    """The last attempt that has come to something."""
    next_at: float = 0.0
    quiet_since: float = 0.0
    """When it was last disturbed."""
    quiet_seconds: float = 0.0
    """How long its ended processes have run since; it may have waited for its turn much longer."""
    running: list[Running] = field(default_factory=list)
    waits: int = 0
    kills: int = 0
    cleared: bool = False
    delivered: bool = False
    failed: str = ""
    over: bool = False


@dataclass(kw_only=True)
class Run:
    """All jobs, until so many kills have hit a process amid its work, and all that began are over."""

    world: World
    specs: Iterator[list[Spec]]
    wanted: int
    chance: random.Random
    s3: S3 | None
    logs: str
    jobs: list[Job] = field(default_factory=list)
    kills: collections.Counter[str] = field(default_factory=collections.Counter)
    """By phase and instant: those that hit a process amid its work."""
    missed: int = 0
    """Kills that came before the work began or after it had ended."""
    freezes: int = 0
    processes: int = 0
    cpu_seconds: float = 0.0
    _late: list[str] = field(default_factory=list)
    _look_at: float = 0.0

    @property
    def hits(self) -> int:
        """Kills that count."""
        return sum(self.kills.values())

    def run(self, deadline: float) -> bool:
        """Drive the jobs; returns whether all are over before the deadline."""
        try:
            while True:
                open_jobs = [job for job in self.jobs if self._is_open(job)]
                self._begin_jobs(open_jobs)
                if not open_jobs and self.hits >= self.wanted:
                    return True
                now = time.monotonic()
                if now > deadline:
                    return False
                self._look_around(now)
                for job in open_jobs:
                    self._serve(job, now)
                    self._settle(job)
                self._start_due(open_jobs, now)
                pipes = [one.process.pipe for job in open_jobs for one in job.running]
                select.select(pipes, [], [], TICK_SECONDS)
        finally:
            self._end_all()

    # Jobs

    def _begin_jobs(self, open_jobs: list[Job]) -> None:
        expected = sum(max(KILLS_A_JOB - job.kills, 1) for job in open_jobs)
        while len(open_jobs) < OPEN_JOBS and self.hits + expected < self.wanted:
            for spec in next(self.specs):
                job = Job(spec=spec, quiet_since=time.monotonic())
                self.jobs.append(job)
                open_jobs.append(job)
                expected += KILLS_A_JOB

    @staticmethod
    def _is_open(job: Job) -> bool:
        return bool(job.running) or not (job.failed or job.over)

    def _settle(self, job: Job) -> None:
        """A job that has delivered is over when no PUT of it is under way, and perhaps after a clear."""
        if job.running or job.failed or not job.delivered or self._has_late_puts(job):
            return
        if not job.cleared and ("s3" in job.spec.tags or self.chance.random() < CLEARED):
            self._clear(job)
        else:
            job.over = True

    def _clear(self, job: Job) -> None:
        """As a person may: the same requests come again, and nothing of them may be paid again."""
        job.cleared = True
        job.delivered = False
        job.generation = job.try_number = job.try_number + 1
        job.step, job.argument = "execute", None
        _disturb(job, time.monotonic())

    def _has_late_puts(self, job: Job) -> bool:
        spec = job.spec
        if "s3" in spec.tags and self._look_at - LOOK_SECONDS < job.next_at:
            return True  # perhaps: nobody has looked since it delivered
        return any(f"-{spec.deployment}/" in path and f"/{spec.name}/" in path for path in self._late)

    def _look_around(self, now: float) -> None:
        if now < self._look_at:
            return
        self._look_at = now + LOOK_SECONDS
        self.world.watch()
        if self.s3 is not None:
            self._late = self.s3.pending()

    def _start_due(self, open_jobs: list[Job], now: float) -> None:
        busy = sum(one.task.step != "wait" and not one.given_up for job in self.jobs for one in job.running)
        due = [job for job in open_jobs if self._is_due(job, now)]
        for job in sorted(due, key=lambda job: job.next_at):
            if job.step == "wait":
                self._start(job, now)
            elif busy < BUSY_PROCESSES:
                busy += self._start(job, now)

    @staticmethod
    def _is_due(job: Job, now: float) -> bool:
        unheard = not job.delivered and not job.failed and job.next_at <= now
        return unheard and all(one.given_up for one in job.running)

    # Processes

    def _start(self, job: Job, now: float) -> int:
        """Start what is next for a job; returns how many processes that took."""
        tags, chance = job.spec.tags, self.chance
        if "stranger" in tags and job.step != "wait" and chance.random() < 0.2:
            self.world.add_stranger(job.spec)
        job.attempt += 1
        several = "twins" in tags and job.step == "execute" and chance.random() < 0.3
        for _ in range(2 if several else 1):
            job.running.append(self._start_process(job, now))
        return 2 if several else 1

    def _start_process(self, job: Job, now: float) -> Running:
        spec = job.spec
        phase: Phase = "wait" if job.step == "wait" else "deliver" if job.waits else "submit"
        share = WAITS_STRUCK if phase == "wait" else OTHERS_STRUCK
        struck = self.hits < self.wanted and job.kills < 2 * KILLS_A_JOB and self.chance.random() < share
        fate = draw_fate(self.chance, spec, phase) if struck else Fate()
        task = Task(
            spec=spec,
            step=job.step,
            argument=job.argument,
            try_number=job.try_number,
            generation=job.generation,
            clock=spec.clock if self.chance.random() < 0.6 else 0.0,
        )
        s3 = self.s3 if "s3" in spec.tags else None
        process = start(task, fate, s3, f"{self.logs}/{spec.deployment}-{spec.name}.log")
        self.processes += 1
        return Running(
            process=process, fate=fate, task=task, attempt=job.attempt, phase=phase, started_at=now
        )

    def _serve(self, job: Job, now: float) -> None:
        for one in list(job.running):
            self._strike_or_wake(job, one, now)
            self._listen(one, now)
            pid, status, usage = os.wait4(one.process.pid, os.WNOHANG | os.WUNTRACED)
            if not pid:
                continue
            if os.WIFSTOPPED(status):
                self._stopped(job, one, now)
                continue
            self.cpu_seconds += usage.ru_utime + usage.ru_stime
            self._listen(one, now)
            os.close(one.process.pipe)
            job.running.remove(one)
            job.quiet_seconds += now - max(one.started_at, job.quiet_since)
            self._ended(job, one, status, now)
        if not job.running and not job.delivered and _is_stuck(job, now):
            job.failed = job.failed or f"nothing came of it in {STUCK_SECONDS:.0f} undisturbed seconds"

    def _strike_or_wake(self, job: Job, one: Running, now: float) -> None:
        due = None if one.began_at is None or one.fate.after is None else one.began_at + one.fate.after
        if due is not None and now >= due and not one.struck:
            one.struck = True
            os.kill(one.process.pid, signal.SIGSTOP if one.fate.stop else signal.SIGKILL)
        if _is_stuck(job, now):
            os.kill(one.process.pid, signal.SIGKILL)
        elif one.wake_at is not None and now >= one.wake_at:
            one.wake_at = float("inf")
            _disturb(job, now)
            os.kill(one.process.pid, signal.SIGCONT)

    @staticmethod
    def _listen(one: Running, now: float) -> None:
        while select.select([one.process.pipe], [], [], 0)[0]:
            data = os.read(one.process.pipe, 1 << 16)
            if not data:
                return
            one.said += data
            one.began_at = one.began_at or now

    def _stopped(self, job: Job, one: Running, now: float) -> None:
        """It hangs: Airflow takes it for dead, and tries again."""
        self.freezes += 1
        one.wake_at = now + self.chance.uniform(0.3, LONGEST_FREEZE)
        _disturb(job, now)
        if job.reported < one.attempt and all(other.given_up for other in job.running):
            self._try_again(job, now)

    def _ended(self, job: Job, one: Running, status: int, now: float) -> None:
        out = json.loads(one.said[1:]) if len(one.said) > 1 else None
        if os.WIFSIGNALED(status):
            self._count_kill(job, one, amid=one.began_at is not None and out is None, now=now)
        elif out is None:
            raise RuntimeError(f"a process of {job.spec} ended with status {status} and said nothing")
        if one.given_up or job.reported >= one.attempt:
            return
        if out is not None and self._goes_on(job, out):
            job.reported = one.attempt
            job.next_at = now
        elif not any(other.attempt == one.attempt and not other.given_up for other in job.running):
            self._try_again(job, now)

    def _count_kill(self, job: Job, one: Running, *, amid: bool, now: float) -> None:
        if not amid or _is_stuck(job, now):
            self.missed += 1
            return
        instant = one.fate.instant
        self.kills[f"{one.phase}, {f'{instant.call} {instant.when}' if instant else 'random'}"] += 1
        job.kills += 1
        _disturb(job, now)
        if "stranger" in job.spec.tags and self.chance.random() < 0.3:
            self.world.add_stranger(job.spec)

    @staticmethod
    def _goes_on(job: Job, out: dict[str, Any]) -> bool:
        """Take up what a process came to; False for a failure that a retry may cure."""
        match out["kind"]:
            case "done":
                job.delivered = True
            case "deferred":
                job.step, job.argument = "wait", out["trigger"]
                job.waits += 1
            case "event":
                job.step, job.argument = "resume", out["event"]
            case kind if kind == _FINAL:
                job.failed = out["message"]
            case _:
                return False
        return True

    @staticmethod
    def _try_again(job: Job, now: float) -> None:
        job.next_at = now + 0.05
        if job.step != "wait":  # a wait only gets another triggerer
            job.try_number += 1
            job.step, job.argument = "execute", None

    def _end_all(self) -> None:
        for job in self.jobs:
            for one in job.running:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one.process.pid, signal.SIGKILL)
                os.waitpid(one.process.pid, 0)
                os.close(one.process.pipe)
            job.running.clear()


def _disturb(job: Job, now: float) -> None:
    job.quiet_since, job.quiet_seconds = now, 0.0


def _is_stuck(job: Job, now: float) -> bool:
    running = [now - max(one.started_at, job.quiet_since) for one in job.running]
    return job.quiet_seconds + max(running, default=0.0) > STUCK_SECONDS
