"""Jobs whose batches exist at the emulator, and whose ledger and claims lie under a ``storage_path``."""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anthropic

from airflow_claude_batch.batches.job import ledger as ledgers
from airflow_claude_batch.batches.job.claims import Claim, claim
from airflow_claude_batch.batches.job.identity import Identity
from airflow_claude_batch.batches.job.ledger import Ledger
from airflow_claude_batch.batches.job.part import Part
from tests.plugins.seeding import Seed

if TYPE_CHECKING:
    from airflow_claude_batch.batches.storage import Folder


def submit(url: str, count: int = 1) -> list[str]:
    """Batches that go on until they are told to end."""
    client = anthropic.Anthropic(api_key="any-key", base_url=url)
    params: Any = {
        "model": "claude-haiku-4-5",
        "max_tokens": 10,
        "messages": [{"role": "user", "content": "Hi"}],
    }
    return [
        client.messages.batches.create(requests=[{"custom_id": "one", "params": params}]).id
        for _ in range(count)
    ]


@dataclass(kw_only=True)
class Stored(Seed):
    """A job as its task leaves it on storage, too."""

    url: str = ""
    """Of the job's folder; empty before it is stored."""
    ids: list[str] = field(default_factory=list)

    @property
    def job(self) -> str:
        """The job that is announced."""
        return self.url or super().job

    @property
    def batch_ids(self) -> list[str]:
        """The batches that are announced."""
        return self.ids or super().batch_ids

    def store(self, root: Folder, ids: list[str], *, conn_id: str = "anthropic_default") -> None:
        """Write ledger and claims, and announce them."""
        identity = Identity(
            dag_id=self.dag_id, run_id=self.run_id, task_id="submit", map_index=self.map_index
        )
        folder = identity.folder(root).child("job-1")
        parts = [
            Part(requests=f"r-{n}", inputs=f"i-{n}", request_count=1, bytes=1, batch_id=batch_id)
            for n, batch_id in enumerate(ids)
        ]
        ledger = Ledger(
            version=ledgers.VERSION,
            job=folder.url,
            dag_id=self.dag_id,
            run_id=self.run_id,
            task_id="submit",
            map_index=self.map_index,
            conn_id=conn_id,
            created_at=datetime.datetime.now(datetime.UTC),
            spooled=True,
            parts=parts,
        )
        ledgers.save(folder, ledger)
        for number, batch_id in enumerate(ids):
            mine = Claim(job=folder.url, part=number, sent_id=f"{batch_id}-mark", dag_id=self.dag_id)
            claim(root, batch_id, mine)
        self.url, self.ids = folder.url, ids
