"""Which jobs there are, and what is to befall their processes. Equal seeds make equal plans."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

Format: TypeAlias = Literal["jsonl", "parquet", "raw"]
FORMATS: tuple[Format, ...] = ("jsonl", "parquet", "raw")
SHARES = {"freeze": 0.5, "twins": 0.4, "clock": 0.4, "stranger": 0.5, "deployment": 0.25}
"""How likely a job has a tag."""
S3_EVERY = 6
TAGS = ("s3", *SHARES)
"""What a job may have besides kills: see `draw_specs`."""
SKEW_SECONDS = 600.0
LATEST_SECONDS = 30.0
"""How late a PUT arrives at most."""

FILES = {
    "create": {"ledger-": 4, "/batches/": 1, "/intents/": 1, "/leases/": 1, "": 8},
    "replace": {"/leases/": 2, "part-": 2, "summary.": 1, "": 4},
    "remove": {"ledger-": 2, "/intents/": 1, "": 4},
}
"""Files whose changes are chosen instants, and how many times a process changes them; "" stands for all."""
FIRST_FILES = {"current-": 1, "requests-": 1, "inputs-": 1, "exclusive-create": 1}
"""More of them that are written, by a job that has not been submitted yet."""

Phase: TypeAlias = Literal["submit", "wait", "deliver"]
When: TypeAlias = Literal["before", "amid", "checked", "after", "late", "given up"]


@dataclass(frozen=True, kw_only=True)
class Spec:
    """One job, and the conditions that it runs under."""

    name: str
    deployment: str
    """Whose it is: two deployments share the workspace, and run the same DAG with the same custom_ids."""
    requests: int
    store: str
    """``storage_path``"""
    output: str
    """``output_path``"""
    format: Format = "jsonl"
    tags: frozenset[str] = frozenset()
    clock: float = 0.0
    """Seconds by which some of its processes' clocks are wrong."""

    @property
    def rows(self) -> dict[str, str]:
        """Prompts by custom_id; the prompt is this job's alone, the custom_id is not."""
        return {f"{self.name}-{n}": f"{self.deployment} {self.name} asks {n}." for n in range(self.requests)}


@dataclass(frozen=True, kw_only=True)
class Instant:
    """A chosen moment of a process: the n-th call of a kind."""

    call: str
    """``create``, ``replace``, ``remove``: of a file; ``put``: any PUT to S3; ``api``: a call of the API."""
    name: str
    """Part of the file's path, or of method and path of the API's call."""
    number: int
    when: When
    """``amid``: when the first block of a body is read, ``checked``: the last; ``late``: the PUT arrives
    after the kill; ``given up``: its client is told that it has failed."""
    seconds: float = 0.0
    """How late the PUT is."""


@dataclass(frozen=True, kw_only=True)
class Fate:
    """What befalls one process."""

    stop: bool = False
    """Whether it is stopped instead of killed, and goes on some seconds later."""
    after: float | None = None
    """Seconds from the beginning of its work."""
    instant: Instant | None = None


@dataclass(frozen=True, kw_only=True)
class Places:
    """Where jobs lie: URLs."""

    local: str
    s3: str


def draw_specs(seed: int, only: frozenset[str], places: Places) -> Iterator[list[Spec]]:
    """Jobs without end; those of a list start together, one for each deployment."""
    number = 0
    while True:
        chance = random.Random(f"{seed} {number}")
        drawn = {tag for tag, share in SHARES.items() if chance.random() < share}
        if number % S3_EVERY == 1:  # drawn, it may be so few of a run's jobs that no PUT comes late
            drawn.add("s3")
        tags = frozenset(tag for tag in TAGS if tag in drawn and (not only or tag in only))
        root, requests = places.s3 if "s3" in tags else places.local, chance.randint(10, 20)
        clock = chance.choice((-1, 1)) * chance.uniform(0.2, 1) * SKEW_SECONDS if "clock" in tags else 0.0
        yield [
            Spec(
                name=f"j{number}",
                deployment=deployment,
                requests=requests,
                store=f"{root}/store-{deployment}",
                output=f"{root}/out-{deployment}/j{number}",
                format=FORMATS[number % len(FORMATS)],
                tags=tags,
                clock=clock,
            )
            for deployment in (("ours", "theirs") if "deployment" in tags else ("ours",))
        ]
        number += 1


def draw_fate(chance: random.Random, spec: Spec, phase: Phase) -> Fate:
    """What befalls a process of a job that has come to a phase."""
    stop = "freeze" in spec.tags and chance.random() < 0.25
    if phase == "wait" or chance.random() < 0.3:
        return Fate(stop=stop, after=chance.uniform(0, chance.choice((0.1, 0.4, 1.5))))
    instant = _api_instant(chance) if chance.random() < 0.4 else _file_instant(chance, spec, phase)
    return Fate(stop=stop and instant.when != "late", instant=instant)


def _api_instant(chance: random.Random) -> Instant:
    name = chance.choice(("POST /v1/messages/batches", "POST /v1/messages/batches", "/results", ""))
    whens: tuple[When, ...] = ("before", "after")
    if "POST" in name:
        whens = (*whens, "amid", "checked")
    number = 1 if name else chance.randint(1, 5)
    return Instant(call="api", name=name, number=number, when=chance.choice(whens))


def _file_instant(chance: random.Random, spec: Spec, phase: Phase) -> Instant:
    call = chance.choice(tuple(FILES))
    if "s3" in spec.tags and chance.random() < 0.5:
        call = "put"
    numbers = FILES[call] if call in FILES else FILES["create"] | FILES["replace"]
    if phase == "submit" and call != "remove":
        numbers = numbers | FIRST_FILES
    name = "" if call == "put" and chance.random() < 0.5 else chance.choice(tuple(numbers))
    number = chance.randint(1, numbers[name])
    if call != "put":
        return Instant(call=call, name=name, number=number, when=chance.choice(("before", "after")))
    # Most are soon after the kill; some are late by all of the half minute.
    seconds = LATEST_SECONDS * chance.random() ** 2
    when: When = chance.choice(("late", "late", "given up"))
    return Instant(call=call, name=name, number=number, when=when, seconds=seconds)
