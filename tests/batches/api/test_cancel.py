from __future__ import annotations

import logging

from airflow_claude_batch.batches.api.cancel import cancel_all
from airflow_claude_batch.emulator.testing import CANCEL, Emulator
from tests.batches.helpers import api_at
from tests.batches.waits import create


def test_each_batch_is_cancelled_for_itself_and_the_answer_says_what_became_of_it(emulator: Emulator) -> None:
    running, ended, gone, refused, broken = create(emulator, 5)
    emulator.end(ended)
    emulator.end(gone)
    emulator.delete(gone)
    emulator.fault("status", path=f"{refused}/cancel", status=403, times=None)
    emulator.fault("status", path=f"{broken}/cancel", status=500, times=None)

    answers = cancel_all(api_at(emulator.url, max_retries=0), [running, ended, gone, refused, broken])

    assert [(one.status, one.goes_on, one.problem[:8]) for one in answers] == [
        ("canceling", False, ""),
        ("ended", False, ""),
        (None, True, "HTTP 404"),
        (None, True, "HTTP 403"),
        (None, True, "HTTP 500"),
    ]
    assert str(answers[0]) == f"batch {running} is being cancelled"
    assert str(answers[1]) == f"batch {ended} had ended before"
    assert str(answers[2]).startswith(f"batch {gone} could not be cancelled and may go on (HTTP 404")
    assert [one.level for one in answers] == [logging.INFO] * 2 + [logging.WARNING] * 3
    assert len(emulator.journal(path=CANCEL)) == 5
