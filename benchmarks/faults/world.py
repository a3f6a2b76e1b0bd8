"""The workspace that all jobs share: the API with its faults, and strangers."""

from __future__ import annotations

import contextlib
import json
import re
import urllib.request
from collections.abc import Iterable, Iterator
from typing import Any

from airflow_claude_batch.emulator.testing import CREATE, RESULTS, RETRIEVE, Emulator, start_emulator
from benchmarks.faults.plan import Spec
from benchmarks.faults.worker import MODEL

BATCH_SECONDS = 2.0
"""How long a batch lives: long enough to be cancelled by a worker that waits for the processor."""
LATE_SECONDS = 0.5
"""How late the API reads or answers a create; well within the grace."""
DEPLOYMENTS = ("ours", "theirs")
STRANGER = "stranger"

_BATCHES = "/v1/messages/batches"
_MARK = re.compile(r"_[a-z2-7]{10}$")
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class World:
    """The workspace, as the harness and its strangers see it."""

    def __init__(self, emulator: Emulator) -> None:
        self.emulator = emulator
        self.strangers: list[str] = []
        """Ids of batches that are nobody's here."""
        self.touched: set[str] = set()
        """Ids of batches that somebody has tried to cancel or delete."""
        self._seen = 0
        self._sent: dict[str, list[str]] = {}

    def post(self, prompts: dict[str, str], key: str = STRANGER) -> str:
        """Make a batch of such prompts by custom_id, and return its id."""
        requests = [
            {
                "custom_id": custom_id,
                "params": {
                    "model": MODEL,
                    "max_tokens": 100,
                    "messages": [{"role": "user", "content": prompt}],
                },
            }
            for custom_id, prompt in prompts.items()
        ]
        batch: dict[str, Any] = json.loads(self._call("POST", _BATCHES, key, {"requests": requests}))
        return str(batch["id"])

    def add_stranger(self, spec: Spec) -> None:
        """A batch with the custom_ids of the job's newest one, or of all of it where there is none."""
        ids: Iterable[str] = spec.rows
        for batch in reversed(self.emulator.batches()):
            sent = self._sent_ids(batch["id"])
            if batch["id"] not in self.strangers and not spec.rows.keys().isdisjoint(sent):
                ids = sent
                break
        self.strangers.append(self.post({custom_id: f"A stranger asks {custom_id}." for custom_id in ids}))

    def _sent_ids(self, batch_id: str) -> list[str]:
        """custom_ids of a batch without its mark."""
        if batch_id not in self._sent:
            self._sent[batch_id] = [_MARK.sub("", one) for one in self.emulator.custom_ids(batch_id)]
        return self._sent[batch_id]

    def watch(self) -> None:
        """Note whose batches somebody wants to cancel or delete; call it often, the journal is bounded."""
        entries = self.emulator.journal(since=self._seen, path=r"/batches/[^/]+(/cancel)?$")
        for entry in entries:
            if entry["method"] in ("POST", "DELETE"):
                self.touched.add(entry["path"].split("/batches/")[1].partition("/")[0])
            self._seen = max(self._seen, entry["n"])

    def results(self, batch_id: str) -> list[dict[str, Any]]:
        """Result lines of a batch, which is ended for that."""
        self.emulator.end(batch_id)
        lines = self._call("GET", f"{_BATCHES}/{batch_id}/results", "checker")
        return [json.loads(line) for line in lines.splitlines()]

    def _call(self, method: str, path: str, key: str, body: Any = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"x-api-key": key, "anthropic-version": "2023-06-01", "content-type": "application/json"}
        request = urllib.request.Request(self.emulator.url + path, data, headers, method=method)
        with _DIRECT.open(request, timeout=60) as answer:
            text: bytes = answer.read()
        return text


@contextlib.contextmanager
def start_world(seed: int) -> Iterator[World]:
    """Run the API for the block; some requests fail for passing reasons, so that there are rounds."""
    outcomes = {"errored": {"overloaded_error": 0.3, "api_error": 0.1}, "expired": 0.15, "seed": seed}
    with start_emulator(
        duration=BATCH_SECONDS, outcomes=outcomes, cancel_duration=0.1, cancel_finished_share=0.0
    ) as emulator:
        yield World(emulator)


def spoil(emulator: Emulator, seed: int) -> None:
    """Faults of the API, now and then, for the deployments only."""
    for key in DEPLOYMENTS:
        post: dict[str, Any] = {
            "method": "POST",
            "path": CREATE,
            "api_key": key,
            "times": None,
            "seed": seed,
        }
        emulator.fault("drop_after", probability=0.05, **post)
        emulator.fault("status", status=500, probability=0.05, **post)
        emulator.fault("status_after", status=500, probability=0.05, **post)
        emulator.fault("status_after", status=504, probability=0.05, **post)
        emulator.fault("delay", seconds=LATE_SECONDS, when="before", probability=0.15, **post)
        emulator.fault("delay", seconds=LATE_SECONDS, when="after", probability=0.15, **post)
        get: dict[str, Any] = {"method": "GET", "api_key": key, "times": None, "seed": seed}
        emulator.fault("status", status=404, path=RETRIEVE, probability=0.05, **get)
        emulator.fault("status", status=500, path=RETRIEVE, probability=0.03, **get)
        emulator.fault("cut_results", path=RESULTS, probability=0.1, clean_end=True, **get)
        emulator.fault("cut_results", path=RESULTS, probability=0.1, mid_line=True, **get)
