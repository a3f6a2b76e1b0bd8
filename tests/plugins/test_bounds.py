"""The page with ten thousand jobs: what it asks the database, and how much work that is.

Time is the processor's, not the clock's: SQLite works in this process, and other processes' work is not ours.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.plugins.seeding import PAGE_REQUESTS, Seed, many, seed

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

JOBS = 10_000
SECONDS = 0.5
"""For each request of the first page; 0.3 on an idle machine, but busy neighbours slow the processor."""
TRIES = 7


def best(call: Any) -> float:
    """Shortest of several calls in seconds of work; stops early once it is short enough."""
    shortest = float("inf")
    for _ in range(TRIES):
        start = time.process_time()
        response = call()
        shortest = min(shortest, time.process_time() - start)
        assert response.status_code == 200
        if shortest < SECONDS / 2:
            break
    return shortest


@pytest.mark.timeout(240)
def test_the_first_page_of_ten_thousand_jobs_takes_less_than_500_ms(client_of: Any, session: Session) -> None:
    seed(session, many(JOBS))
    client = client_of("admin", "admin")
    took = {path: best(lambda path=path: client.get(f"/claude-batches/api/{path}")) for path in PAGE_REQUESTS}
    print("\nwork:", {path: f"{1000 * seconds:.0f} ms" for path, seconds in took.items()})
    assert {path: seconds for path, seconds in took.items() if seconds >= SECONDS} == {}


@pytest.mark.timeout(240)
def test_ten_thousand_mapped_jobs_of_one_run_are_no_slower(client_of: Any, session: Session) -> None:
    """Every job of such a run shares the run with all the others' XComs and task instances."""
    seed(
        session,
        [
            Seed(number=number, run=1, map_index=number, stage="delivered" if number % 2 else "waiting")
            for number in range(JOBS)
        ],
    )
    client = client_of("admin", "admin")
    place = f"dag_id=nightly_report&run_id={Seed(run=1).run_id}"
    for path in ("jobs?view=in_flight", "jobs?view=recent", f"run?{place}&task_id=wait&map_index=77"):
        assert best(lambda path=path: client.get(f"/claude-batches/api/{path}")) < 4 * SECONDS, path


def test_a_page_costs_the_same_number_of_queries_however_many_jobs_it_has(
    client_of: Any, session: Session
) -> None:
    from airflow import settings
    from sqlalchemy import event

    client = client_of("admin", "admin")

    def queries(path: str) -> int:
        seen: list[str] = []

        def note(*args: Any) -> None:
            seen.append(args[2])

        event.listen(settings.engine, "before_cursor_execute", note)
        try:
            assert client.get(f"/claude-batches/api/{path}").status_code == 200
        finally:
            event.remove(settings.engine, "before_cursor_execute", note)
        return len([statement for statement in seen if statement.lstrip().startswith("SELECT")])

    seed(session, many(6))
    few = queries("jobs?view=recent&limit=100")
    seed(session, [Seed(number=1000 + number) for number in range(200)])
    assert queries("jobs?view=recent&limit=100") <= few + 2
