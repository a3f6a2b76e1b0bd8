"""What went wrong: from the server's batches, from the files, and from the strangers' batches."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.faults.plan import Spec
from benchmarks.faults.world import World

FAULTS = ("paid twice", "wrong rows", "lost", "stuck", "strangers touched")


@dataclass
class Count:
    """Faults by their kind, and one line about each for people."""

    faults: collections.Counter[str] = field(default_factory=collections.Counter)
    notes: list[str] = field(default_factory=list)

    def add(self, kind: str, number: int, note: str) -> None:
        """Note so many faults of a kind."""
        if number:
            self.faults[kind] += number
            self.notes.append(f"{kind}: {note}")

    @property
    def clean(self) -> bool:
        """Whether nothing went wrong."""
        return not any(self.faults.values())

    @property
    def figures(self) -> dict[str, int]:
        """All kinds, those that did not happen too."""
        return {kind: self.faults[kind] for kind in FAULTS}


def count(
    delivered: Iterable[Spec],
    stuck: dict[Spec, str],
    world: World,
    folders: dict[str, Path],
    claims: set[str],
) -> Count:
    """Look at everything after a run.

    Args:
        delivered: Jobs that say that they have delivered.
        stuck: The others, and why.
        world: The workspace.
        folders: Local copies of the jobs' output, by ``output_path``.
        claims: Ids of batches that a deployment's store says are its own.
    """
    found = Count()
    paid = _count_paid(world, found)
    for spec, why in stuck.items():
        found.add("stuck", 1, f"{_describe(spec)}: {why}")
    for spec in delivered:
        try:
            _check_output(spec, folders[spec.output], paid, found)
        except Exception as error:  # noqa: BLE001  # a file that cannot be read is a fault, not the end
            found.add("wrong rows", spec.requests, f"{_describe(spec)}: unreadable ({error!r:.300})")
    world.watch()
    for batch_id in world.strangers:
        touches = {"cancelled or deleted": world.touched, "claimed": claims}
        ways = [way for way, ids in touches.items() if batch_id in ids]
        found.add("strangers touched", bool(ways), f"{batch_id}: {' and '.join(ways)}")
    return found


def _count_paid(world: World, found: Count) -> collections.Counter[str]:
    """How often each prompt was answered, strangers' aside."""
    paid: collections.Counter[str] = collections.Counter()
    by: dict[str, list[str]] = collections.defaultdict(list)
    strangers = set(world.strangers)
    for batch in world.emulator.batches():
        if batch["deleted"]:
            kind = "strangers touched" if batch["id"] in strangers else "lost"
            found.add(kind, batch["requests"], f"{batch['id']} was deleted")
        elif batch["id"] not in strangers:
            lines = world.results(batch["id"])
            prompts = [_quoted(text) for text in map(_text, lines) if text is not None]
            paid.update(prompts)
            for prompt in prompts:
                by[prompt].append(batch["id"])
    for prompt, number in paid.items():
        found.add("paid twice", number > 1, f"{prompt!r} {number} times: {', '.join(by[prompt])}")
    return paid


def _check_output(spec: Spec, folder: Path, paid: collections.Counter[str], found: Count) -> None:
    rows, records = spec.rows, list(read_output(spec.format, folder))
    seen = collections.Counter(custom_id for custom_id, _ in records)
    answers = {custom_id: text for custom_id, text in records if text is not None}
    lost = [i for i, prompt in rows.items() if i not in seen or (paid[prompt] and i not in answers)]
    wrong = [i for i, number in seen.items() if number > 1 or i not in rows]
    wrong += [i for i, text in answers.items() if i in rows and _quoted(text) != rows[i]]
    for kind, ids in (("lost", lost), ("wrong rows", wrong)):
        found.add(kind, len(ids), f"{_describe(spec)}: {ids[:3]}")
    total = json.loads((folder / "summary.json").read_text())["counts"]["total"]
    found.add("lost", abs(total - len(rows)), f"{_describe(spec)}: the summary counts {total}")


def read_output(format: str, folder: Path) -> Iterator[tuple[str, str | None]]:
    """custom_id of each record that came out, and its text; None for one that did not succeed."""
    if format == "parquet":
        import pyarrow.parquet

        for file in folder.rglob("part-*.parquet"):
            for row in pyarrow.parquet.read_table(file).to_pylist():
                yield row["custom_id"], row["text"] if "succeeded" in file.parts else None
        return
    for file in folder.rglob("part-*.jsonl"):
        for line in file.read_text().splitlines():
            row = json.loads(line)
            if format == "raw":
                yield row["custom_id"], _text(row)
            else:
                yield row["custom_id"], row["text"] if "succeeded" in file.parts else None


def _text(line: dict[str, Any]) -> str | None:
    """Of a result line; None for one that did not succeed."""
    if line["result"]["type"] != "succeeded":
        return None
    return str(line["result"]["message"]["content"][0]["text"])


def _quoted(text: str) -> str:
    return text.partition("“")[2].partition("”")[0]


def _describe(spec: Spec) -> str:
    return f"{spec.deployment} {spec.name} {spec.format} {sorted(spec.tags)}"
