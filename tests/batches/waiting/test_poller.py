"""Many waits, one loop: against the emulator over HTTP, on a clock that hurries."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import gc
import itertools
import time
from typing import Any

import anthropic
import pytest

from airflow_claude_batch.batches.errors import WaitAccessError
from airflow_claude_batch.batches.waiting.poller import Poller, shared_poller
from airflow_claude_batch.batches.waiting.throttled_client import Clock
from airflow_claude_batch.emulator.testing import CANCEL, CREATE, RETRIEVE, Emulator
from tests.batches.waits import (
    Connection,
    FastClock,
    answered,
    create,
    pass_time,
    run,
    verdict_of,
    wait_for,
)


def poller_at(emulator: Emulator, clock: FastClock, **options: Any) -> Poller:
    return Poller(Connection(emulator).connect, clock=clock, **options)


def cancelled(emulator: Emulator) -> list[Any]:
    return emulator.journal(method="POST", path=CANCEL)


def test_many_waits_need_one_page_a_look_and_hear_of_the_end_within_one_interval(emulator: Emulator) -> None:
    async def test() -> None:
        clock, ids = FastClock(25), create(emulator, 200)
        poller = poller_at(emulator, clock)
        waits = [asyncio.create_task(verdict_of(poller, wait_for(clock, [i], poll_interval=10))) for i in ids]
        pages = await answered(emulator, 5, CREATE)
        elapsed = (pages[-1]["time"] - pages[0]["time"]) * clock.speed
        assert elapsed > 3 * 9  # not more than one page an interval once they are together
        for batch_id in ids:
            await asyncio.to_thread(emulator.end, batch_id)
        ended = clock.monotonic()
        assert set(await asyncio.gather(*waits)) == {"ended"}
        assert clock.monotonic() - ended < 11
        assert len(emulator.journal(path=RETRIEVE)) < 10

    run(test())


def test_a_thousand_waits_that_begin_at_once_make_no_burst(emulator: Emulator) -> None:
    async def test() -> None:
        clock, ids = FastClock(20), create(emulator, 1000)
        poller = poller_at(emulator, clock)
        waits = [asyncio.create_task(verdict_of(poller, wait_for(clock, [i]))) for i in ids]
        await answered(emulator, 2)
        assert len(emulator.journal(method="GET")) <= 5
        for task in waits:
            task.cancel()

    run(test())


def test_one_batch_is_asked_for_by_id(emulator: Emulator) -> None:
    async def test() -> None:
        clock, [batch_id] = FastClock(50), create(emulator)
        wait = asyncio.create_task(verdict_of(poller_at(emulator, clock), wait_for(clock, [batch_id])))
        await answered(emulator, 2, RETRIEVE)
        emulator.end(batch_id)
        assert await wait == "ended"
        assert not emulator.journal(method="GET", path=CREATE)

    run(test())


def test_waits_join_and_leave_at_any_time_and_the_loop_ends_with_the_last(emulator: Emulator) -> None:
    async def test() -> None:
        clock, connection = FastClock(50), Connection(emulator)
        first, second = create(emulator, 2)
        poller = shared_poller("c", connection.connect, clock=clock)
        assert shared_poller("c", connection.connect) is poller
        one = asyncio.create_task(verdict_of(poller, wait_for(clock, [first])))
        await answered(emulator, 1)
        two = asyncio.create_task(
            verdict_of(shared_poller("c", connection.connect), wait_for(clock, [second]))
        )
        emulator.end(first)
        assert await one == "ended"
        emulator.end(second)
        assert await two == "ended"
        assert poller.task is not None
        await poller.task
        assert [client.is_closed() for client in connection.clients] == [True]
        assert shared_poller("c", connection.connect) is not poller

    run(test())


def test_a_job_of_several_batches_is_told_of_each_that_ends(emulator: Emulator) -> None:
    async def test() -> None:
        clock, ids = FastClock(50), create(emulator, 5)
        wait, seen = wait_for(clock, ids), asyncio.Queue[int]()
        task = asyncio.create_task(
            verdict_of(poller_at(emulator, clock), wait, lambda: seen.put_nowait(wait.progress["ended"]))
        )
        assert await seen.get() == 0
        for number, batch_id in enumerate(ids[:-1], 1):
            await asyncio.to_thread(emulator.end, batch_id)
            assert await seen.get() == number
        emulator.end(ids[-1])
        assert await task == "ended"

    run(test())


def test_people_hear_every_ten_minutes_of_a_wait_without_news_and_no_more_often(emulator: Emulator) -> None:
    async def test() -> None:
        clock = FastClock(600)
        wait = wait_for(clock, create(emulator), poll_interval=60)
        told: list[datetime.datetime] = []
        task = asyncio.create_task(
            verdict_of(poller_at(emulator, clock), wait, lambda: told.append(clock.now()))
        )
        await pass_time(clock, 3600)
        gaps = [(later - earlier).total_seconds() for earlier, later in itertools.pairwise(told)]
        assert 3 <= len(gaps) <= 6
        assert min(gaps) > 590
        task.cancel()
        await asyncio.wait([task])

    run(test())


def test_ten_minutes_without_the_api_end_no_wait_and_cancel_nothing(emulator: Emulator) -> None:
    async def test() -> None:
        clock, ids = FastClock(200), create(emulator, 20)
        poller = poller_at(emulator, clock)
        waits = [asyncio.create_task(verdict_of(poller, wait_for(clock, [i]))) for i in ids]
        await answered(emulator, 1)
        emulator.fault("drop_before", times=None)
        before = len(emulator.journal())
        await pass_time(clock, 600)
        assert len(emulator.journal()) - before < 100
        emulator.clear_faults()
        for batch_id in ids:
            emulator.end(batch_id)
        assert set(await asyncio.gather(*waits)) == {"ended"}
        assert not cancelled(emulator)

    run(test())


def test_when_every_third_call_fails_every_wait_still_ends_well(emulator: Emulator) -> None:
    async def test() -> None:
        clock, ids = FastClock(100), create(emulator, 30)
        emulator.fault("status", status=429, probability=0.15, times=None, headers={"retry-after": "2"})
        emulator.fault("status", status=500, probability=0.18, times=None, seed=1)
        poller = poller_at(emulator, clock)
        waits = [asyncio.create_task(verdict_of(poller, wait_for(clock, [i]))) for i in ids]
        await answered(emulator, 12)
        for batch_id in ids:
            emulator.end(batch_id)
        assert set(await asyncio.gather(*waits)) == {"ended"}
        assert not cancelled(emulator)
        failed = [call["status"] for call in emulator.journal() if call["status"] in (429, 500)]
        assert failed

    run(test())


@pytest.mark.parametrize(("asked", "kept"), [(120, 120), (86_400, 300)])
def test_retry_after_silences_the_whole_connection_but_not_for_ever(
    emulator: Emulator, asked: int, kept: int
) -> None:
    async def test() -> None:
        clock, ids = FastClock(200), create(emulator, 3)
        poller = poller_at(emulator, clock)
        waits = [asyncio.create_task(verdict_of(poller, wait_for(clock, [i], poll_interval=10))) for i in ids]
        await answered(emulator, 3)
        emulator.fault("status", status=429, times=1, headers={"retry-after": str(asked)})
        busy = (await asyncio.to_thread(wait_for_status, emulator, 429))["n"]
        calls = await answered(emulator, 1, since=busy + 2)  # two more may be on their way
        silence = (calls[0]["time"] - emulator.journal(since=busy - 1)[0]["time"]) * clock.speed
        assert kept * 0.9 <= silence < kept * 1.5 + 30
        for task in waits:
            task.cancel()

    run(test())


def wait_for_status(emulator: Emulator, status: int) -> dict[str, Any]:
    for count in range(1, 100):
        for call in emulator.wait_for("GET", count=count):
            if call["status"] == status:
                return call
    raise AssertionError(f"no answer {status}")


def test_404s_on_a_known_batch_pass(emulator: Emulator) -> None:
    async def test() -> None:
        clock, [batch_id] = FastClock(200), create(emulator)
        emulator.hide(batch_id, lookups=8)
        wait = asyncio.create_task(verdict_of(poller_at(emulator, clock), wait_for(clock, [batch_id])))
        await answered(emulator, 9, RETRIEVE)
        emulator.end(batch_id)
        assert await wait == "ended"

    run(test())


def test_a_batch_that_nobody_knows_is_reported_after_some_minutes(emulator: Emulator) -> None:
    async def test() -> None:
        clock = FastClock(200)
        start = clock.monotonic()
        wait = wait_for(clock, ["msgbatch_typo"], known=False)
        assert await verdict_of(poller_at(emulator, clock), wait) == "unknown"
        assert 300 <= clock.monotonic() - start < 500

    run(test())


def test_a_batch_deleted_by_somebody_else_is_given_up_at_its_deadline_and_not_before(
    emulator: Emulator,
) -> None:
    async def test() -> None:
        clock, [batch_id] = FastClock(20_000), create(emulator)
        wait = wait_for(clock, [batch_id])
        task = asyncio.create_task(verdict_of(poller_at(emulator, clock), wait))
        await answered(emulator, 1)
        emulator.delete(batch_id)
        assert await task == "gone"
        assert clock.now() >= wait.deadline
        assert "deleted" in wait.explain("gone", "c", clock.now())

    run(test())


def test_a_slow_answer_holds_up_nobody_else(emulator: Emulator) -> None:
    async def test() -> None:
        clock, [slow, quick] = FastClock(10), create(emulator, 2)
        poller = poller_at(emulator, clock)
        emulator.fault("delay", path=slow, seconds=3.0, times=None)  # 30 s of the hurried clock
        late = asyncio.create_task(verdict_of(poller, wait_for(clock, [slow], poll_interval=5)))
        await answered(emulator, 1, slow, waiting=True)
        soon = asyncio.create_task(verdict_of(poller, wait_for(clock, [quick], poll_interval=5)))
        emulator.end(quick)
        emulator.end(slow)
        assert await soon == "ended"
        assert not late.done()
        assert await late == "ended"

    run(test())


def test_pages_that_change_while_they_are_read_lose_no_batch(emulator: Emulator) -> None:
    async def test() -> None:
        clock, ids = FastClock(10), create(emulator, 1040)
        poller = poller_at(emulator, clock)
        emulator.fault("delay", method="GET", path=CREATE, skip=1, times=1, seconds=2.0)
        waits = [
            asyncio.create_task(verdict_of(poller, wait_for(clock, [i], poll_interval=10)))
            for i in [*ids[:30], *ids[-30:]]
        ]
        await answered(emulator, 2, CREATE, waiting=True)
        emulator.delete(ids[40])  # the last of the first page: the cursor of the second
        create(emulator, 3)
        for batch_id in [*ids[:30], *ids[-30:]]:
            emulator.end(batch_id)
        assert set(await asyncio.gather(*waits)) == {"ended"}

    run(test())


def test_a_rotated_key_is_picked_up(emulator: Emulator) -> None:
    async def test() -> None:
        emulator.settings(api_key="old-key")
        clock, connection = FastClock(100), Connection(emulator, "old-key")
        emulator.settings(api_key=None)
        [batch_id] = create(emulator)
        emulator.settings(api_key="old-key")
        poller = Poller(connection.connect, clock=clock)
        wait = asyncio.create_task(verdict_of(poller, wait_for(clock, [batch_id])))
        await answered(emulator, 2, RETRIEVE)
        emulator.settings(api_key="new-key")
        await asyncio.to_thread(wait_for_status, emulator, 401)
        connection.key = "new-key"
        emulator.end(batch_id)
        assert await wait == "ended"
        assert 2 <= len(connection.clients) <= 5
        assert all(client.is_closed() for client in connection.clients[:-1])

    run(test())


def test_a_key_that_stays_refused_ends_the_wait_after_minutes_with_few_calls(emulator: Emulator) -> None:
    async def test() -> None:
        clock, ids = FastClock(200), create(emulator, 10)
        emulator.settings(api_key="another")
        poller = poller_at(emulator, clock)
        start = clock.monotonic()
        waits = [verdict_of(poller, wait_for(clock, [i])) for i in ids]
        assert set(await asyncio.gather(*waits)) == {"refused"}
        assert 300 <= clock.monotonic() - start < 900
        assert len(emulator.journal(method="GET")) < 40

    run(test())


def test_a_connection_that_does_not_exist_ends_the_wait_after_minutes(emulator: Emulator) -> None:
    async def nothing() -> Any:
        raise WaitAccessError("The connection 'c' isn't defined")

    async def test() -> None:
        clock = FastClock(300)
        wait = wait_for(clock, ["msgbatch_1"])
        assert await verdict_of(Poller(nothing, clock=clock), wait) == "refused"
        assert "isn't defined" in wait.explain("refused", "c", clock.now())

    run(test())


def test_two_pollers_wait_for_the_same_batch_without_harm(emulator: Emulator) -> None:
    async def test() -> None:
        clock, [batch_id] = FastClock(50), create(emulator)
        waits = [
            asyncio.create_task(verdict_of(poller_at(emulator, clock), wait_for(clock, [batch_id])))
            for _ in range(2)
        ]
        await answered(emulator, 4, RETRIEVE)
        emulator.end(batch_id)
        assert await asyncio.gather(*waits) == ["ended", "ended"]
        assert not cancelled(emulator)

    run(test())


def test_a_loop_that_stood_still_for_long_goes_on_where_it_was(emulator: Emulator) -> None:
    async def test() -> None:
        clock, ids = FastClock(50), create(emulator, 20)
        poller = poller_at(emulator, clock)
        waits = [asyncio.create_task(verdict_of(poller, wait_for(clock, [i]))) for i in ids]
        await answered(emulator, 1)
        time.sleep(1.0)  # noqa: ASYNC251  # as a stopped process does: the clock runs, the loop does not
        emulator.end(ids[0])
        assert await waits[0] == "ended"
        assert not any(task.done() for task in waits[1:])
        assert not cancelled(emulator)
        for task in waits:
            task.cancel()

    run(test())


def test_the_users_timeout_ends_the_wait_while_the_api_wants_silence(emulator: Emulator) -> None:
    async def test() -> None:
        clock, [batch_id] = FastClock(100), create(emulator)
        emulator.fault("status", status=429, times=None, headers={"retry-after": "300"})
        timeout_at = clock.now() + datetime.timedelta(seconds=60)
        start = clock.monotonic()
        wait = wait_for(clock, [batch_id], timeout_at=timeout_at)
        assert await verdict_of(poller_at(emulator, clock), wait) == "timeout"
        assert clock.monotonic() - start < 120

    run(test())


def test_cancelling_tells_what_became_of_each_batch_and_leaves_no_client_behind(emulator: Emulator) -> None:
    async def test() -> None:
        connection = Connection(emulator)
        live, ended = create(emulator, 2)
        emulator.end(ended)
        emulator.fault("status", status=500, method="POST", path=CANCEL, times=1)
        poller = Poller(connection.connect, clock=FastClock(50))
        answers = await poller.cancel([live, ended])
        assert [(one.batch_id, one.status) for one in answers] == [(live, "canceling"), (ended, "ended")]
        states = {batch["id"]: batch["processing_status"] for batch in emulator.batches()}
        assert states == {live: "canceling", ended: "ended"}
        assert poller.task is not None
        await poller.task
        assert connection.clients[0].is_closed()

    run(test())


def test_polls_errors_waits_and_durations_are_counted(emulator: Emulator) -> None:
    class Counted:
        def __init__(self) -> None:
            self.counts: dict[str, int] = {}
            self.last: dict[str, float] = {}

        def incr(self, name: str, count: int = 1) -> None:
            self.counts[name] = self.counts.get(name, 0) + count

        def gauge(self, name: str, value: float) -> None:
            self.last[name] = value

        def timing(self, name: str, seconds: float) -> None:
            self.incr(name)

    async def test() -> None:
        clock, metrics, [batch_id] = FastClock(50), Counted(), create(emulator)
        emulator.fault("status", status=500, times=1)
        poller = poller_at(emulator, clock, metrics=metrics)
        wait = asyncio.create_task(verdict_of(poller, wait_for(clock, [batch_id])))
        await answered(emulator, 3)
        emulator.end(batch_id)
        assert await wait == "ended"
        assert metrics.counts["polls"] == len(emulator.journal(method="GET"))
        assert (metrics.counts["poll_errors"], metrics.counts["batch_duration"]) == (1, 1)
        assert metrics.last["oldest_wait_seconds"] > 0

    run(test())


def test_a_subscription_has_few_objects_for_the_garbage_collector_to_visit(emulator: Emulator) -> None:
    async def test() -> None:
        poller = Poller(Connection(emulator).connect)
        waits = [wait_for(Clock(), [f"b{number}"]) for number in range(1000)]
        with contextlib.ExitStack() as stack, poller.kept_open():
            gc.collect()
            before = len(gc.get_objects())
            news = [stack.enter_context(poller.subscribe(wait)).notification() for wait in waits]
            gc.collect()
            objects = (len(gc.get_objects()) - before) / len(news)
        assert objects < 6  # the subscription, its list by id, its future; two are the stack's

    run(test())


def test_a_look_writes_no_line_into_the_log_and_other_peoples_calls_still_do(
    emulator: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        clock, [batch_id] = FastClock(50), create(emulator)
        wait = asyncio.create_task(verdict_of(poller_at(emulator, clock), wait_for(clock, [batch_id])))
        await answered(emulator, 2, RETRIEVE)
        assert not [record for record in caplog.records if record.name == "httpx2"]
        await anthropic.AsyncAnthropic(api_key="k", base_url=emulator.url).messages.batches.retrieve(batch_id)
        assert [record.levelname for record in caplog.records if record.name == "httpx2"] == ["INFO"]
        emulator.end(batch_id)
        assert await wait == "ended"

    with caplog.at_level("INFO"):
        run(test())
