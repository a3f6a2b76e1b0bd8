"""A result that never comes, of a request that others of the job repeat."""

from __future__ import annotations

import pytest

from airflow_claude_batch.batches.errors import UnreadResultsError
from airflow_claude_batch.batches.job.job import open_job
from airflow_claude_batch.batches.results import download, unread
from tests.batches.reuse.nights import Nights, rows


def test_what_was_accepted_is_not_asked_again_by_those_who_repeat_it(
    nights: Nights, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PAUSE_SECONDS", 0.01)
    url = nights.submit(1, [*rows(range(4)), {**rows([2])[0], "custom_id": "again"}])
    nights.emulator.fault("omit", times=None, custom_ids=["r-2"])
    with pytest.raises(UnreadResultsError):
        nights.deliver(1, url)
    with open_job(nights.root, url) as job:
        unread.accept(job, {part.unread_file for part in job.ledger.parts if part.unread})
    summary = nights.deliver(1, url, resubmit_rounds=2)
    assert summary["errors"] == {"unreadable_result": 2}
    succeeded, errored = nights.records(1)
    assert (sorted(succeeded), sorted(errored)) == (["r-0", "r-1", "r-3"], ["again", "r-2"])
    assert nights.asked == [f"r-{number}" for number in range(4)]
