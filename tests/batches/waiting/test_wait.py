"""The policy by itself: no clock, no network."""

from __future__ import annotations

import datetime
from typing import Any

import httpx2
import pytest

from airflow_claude_batch.batches.api.client import Batch, RequestCounts
from airflow_claude_batch.batches.waiting.status_fetcher import PAGE_COST, worth_a_page
from airflow_claude_batch.batches.waiting.wait import DEADLINE_GRACE, PATIENCE, Wait

START = datetime.datetime(2026, 11, 22, 12, tzinfo=datetime.UTC)
DAY = datetime.timedelta(hours=24)


def after(**span: float) -> datetime.datetime:
    return START + datetime.timedelta(**span)


def batch(batch_id: str = "b1", status: str = "in_progress") -> Batch:
    return Batch(
        id=batch_id,
        processing_status=status,
        request_counts=RequestCounts(processing=3),
        created_at=START,
        expires_at=START + DAY,
    )


def waiting(*ids: str, **options: Any) -> Wait:
    return Wait(batch_ids=list(ids or ["b1"]), started_at=START, **options)


class ApiError(Exception):
    """As the SDK's: a status and a response."""

    def __init__(self, status: int, headers: dict[str, str] | None = None) -> None:
        self.status_code = status
        self.response = httpx2.Response(status, headers=headers or {})


OUTAGES = [
    ApiError(500),
    ApiError(529),
    ApiError(429),
    ApiError(503),
    ConnectionError("no route"),
    ApiError(408),
]


def test_it_is_over_when_the_last_batch_has_ended() -> None:
    wait = waiting("b1", "b2")
    wait.saw(batch("b1", "ended"))
    assert wait.verdict(START) is None
    wait.saw(batch("b2", "ended"))
    assert wait.verdict(START) == "ended"


def test_an_answer_that_arrives_late_does_not_reopen_an_ended_batch() -> None:
    wait = waiting()
    wait.saw(batch(status="ended"))
    assert not wait.saw(batch(status="in_progress"))
    assert wait.verdict(START) == "ended"


@pytest.mark.parametrize("error", OUTAGES, ids=str)
def test_an_outage_ends_no_wait_before_the_deadline(error: Exception) -> None:
    wait = waiting()
    wait.saw(batch())
    for minute in range(24 * 60):
        wait.failed(error, after(minutes=minute), "b1")
        assert wait.verdict(after(minutes=minute)) is None


def test_404_on_a_known_batch_ends_no_wait_before_the_deadline() -> None:
    wait = waiting()
    for minute in range(24 * 60):
        wait.failed(ApiError(404), after(minutes=minute), "b1")
        assert wait.verdict(after(minutes=minute)) is None


def test_404_from_the_first_look_on_for_minutes_means_an_unknown_batch_if_no_ledger_knows_it() -> None:
    wait = waiting(known=False)
    wait.failed(ApiError(404), START, "b1")
    assert "a wrong id, or a connection to another workspace?" in wait.describe(START)
    assert wait.in_doubt
    assert wait.verdict(after(minutes=4)) is None
    wait.failed(ApiError(404), START + PATIENCE, "b1")
    assert wait.verdict(START + PATIENCE) == "unknown"
    assert "does not know b1" in wait.explain("unknown", "my_conn", START)
    assert "'my_conn'" in wait.explain("unknown", "my_conn", START)


def test_one_404_and_an_outage_do_not_make_an_unknown_batch() -> None:
    wait = waiting(known=False)
    wait.failed(ApiError(404), START, "b1")
    wait.failed(ApiError(503), after(hours=1), "b1")
    assert wait.verdict(after(hours=1)) is None


def test_404_on_a_batch_that_was_seen_before_passes_even_if_no_ledger_knows_it() -> None:
    wait = waiting(known=False)
    wait.saw(batch())
    for minute in range(60):
        wait.failed(ApiError(404), after(minutes=minute), "b1")
    assert wait.verdict(after(hours=1)) is None


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_must_persist_for_minutes_and_the_message_names_the_connection(status: int) -> None:
    wait = waiting()
    wait.failed(ApiError(status), START)
    assert wait.verdict(after(minutes=4)) is None
    wait.failed(ApiError(status), after(minutes=5))
    assert wait.verdict(after(minutes=5)) == "refused"
    message = wait.explain("refused", "my_conn", after(minutes=5))
    assert "'my_conn' was refused for 5 min" in message
    assert f"HTTP {status}" in message


def test_a_key_that_works_again_is_no_refused_key() -> None:
    wait = waiting()
    wait.failed(ApiError(401), START)
    wait.saw(batch())
    wait.failed(ApiError(401), after(minutes=30))
    assert wait.verdict(after(minutes=30)) is None


def test_the_deadline_is_the_servers_own_and_grace() -> None:
    wait = waiting()
    wait.saw(batch())
    deadline = START + DAY + DEADLINE_GRACE
    assert wait.verdict(deadline - datetime.timedelta(seconds=1)) is None
    assert wait.verdict(deadline) == "overdue"
    assert "left alone" in wait.explain("overdue", "c", deadline)


def test_a_batch_that_answers_404_until_its_deadline_is_gone() -> None:
    wait = waiting()
    wait.saw(batch())
    wait.failed(ApiError(404), after(hours=3), "b1")
    deadline = START + DAY + DEADLINE_GRACE
    wait.failed(ApiError(404), deadline, "b1")
    assert wait.verdict(deadline) == "gone"
    assert "has answered 404 for b1 since 2026-11-22 15:00" in wait.explain("gone", "c", deadline)


def test_the_users_timeout_comes_first_if_it_is_shorter() -> None:
    wait = waiting(timeout_at=after(hours=1))
    wait.saw(batch())
    assert wait.verdict(after(minutes=59)) is None
    assert wait.verdict(after(hours=1)) == "timeout"


def test_the_interval_grows_from_15_seconds_to_5_minutes() -> None:
    wait = waiting()
    wait.saw(batch())
    assert wait.next_look(START) == 15
    assert wait.next_look(after(minutes=10)) == 60
    assert wait.next_look(after(hours=10)) == 300


def test_a_fixed_interval_stays_and_ends_with_the_timeout() -> None:
    wait = waiting(poll_interval=120.0, timeout_at=after(minutes=3))
    assert wait.next_look(START) == 120
    assert wait.next_look(after(minutes=2)) == 60


def test_after_a_failure_the_next_look_comes_sooner_then_later_and_later() -> None:
    wait = waiting(poll_interval=60.0)
    seconds = []
    for _ in range(6):
        wait.failed(ConnectionError(), START)
        seconds.append(wait.next_look(START))
    assert seconds == [5, 10, 20, 40, 60, 60]


@pytest.mark.parametrize(("asked", "kept"), [("120", 120), ("7200", 300)])
def test_retry_after_is_honoured_up_to_five_minutes(asked: str, kept: float) -> None:
    wait = waiting(poll_interval=10.0)
    wait.failed(ApiError(429, {"retry-after": asked}), START)
    assert wait.next_look(START) == kept


def test_people_are_told_of_trouble_once_and_when_it_is_over() -> None:
    wait = waiting()
    wait.saw(batch())
    assert [wait.failed(ApiError(503), START) for _ in range(5)] == [False, False, True, False, False]
    assert "the last 5 looks failed (HTTP 503), waiting goes on" in wait.describe(START)
    assert wait.saw(batch())
    assert "failed" not in wait.describe(START)


def test_the_log_line_says_what_is_waited_for_how_much_has_ended_and_how_long_it_may_take() -> None:
    wait = waiting("b1", "b2", "b3")
    wait.saw(batch("b1", "ended"))
    assert (
        wait.describe(after(hours=2))
        == "1 of 3 batches ended; waited 2 h 0 min for b2, b3; the API ends them within 22 h 0 min"
    )


def test_progress_changes_only_when_a_batch_does() -> None:
    wait = waiting("b1", "b2")
    wait.saw(batch("b1"))
    wait.saw(batch("b2"))
    before = wait.progress
    wait.saw(batch("b1"))
    assert wait.progress == before
    wait.saw(batch("b1", "ended"))
    assert (wait.progress["ended"], wait.progress["batches"]) == (1, 2)


# List or retrieve


def test_few_batches_are_asked_for_one_by_one() -> None:
    assert not worth_a_page([1.0] * PAGE_COST, None)
    assert worth_a_page([1.0] * (PAGE_COST + 1), None)


def test_one_old_batch_among_many_young_ones_is_not_searched_for_in_the_list() -> None:
    hour = 3600.0
    assert worth_a_page([hour] * 500 + [20 * hour], hour)
    assert not worth_a_page([20 * hour], hour)


def test_batches_that_lie_far_down_a_busy_list_are_asked_for_one_by_one() -> None:
    seconds_a_page = 60.0
    assert not worth_a_page([100 * seconds_a_page] * 200, seconds_a_page)
    assert worth_a_page([10 * seconds_a_page] * 200, seconds_a_page)
