"""When a job is needed, from what its author wrote."""

from __future__ import annotations

import datetime
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.job.on_time import OnTime
from airflow_claude_batch.common.scalars import scalar
from airflow_claude_batch.runtime.on_time import check_direct, moment_of

BERLIN, NEW_YORK = "Europe/Berlin", "America/New_York"
NOON_ELSEWHERE = datetime.time(12, tzinfo=datetime.timezone(datetime.timedelta(hours=-5)))
AT = datetime.datetime(2026, 11, 28, 6, tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("zone", "start", "deadline", "expected"),
    [
        (BERLIN, "2026-11-28T01:00Z", "06:00", "2026-11-28T05:00Z"),
        (BERLIN, "2026-11-28T06:30Z", "6:00", "2026-11-29T05:00Z"),
        (NEW_YORK, "2026-11-28T02:00Z", "06:00:30", "2026-11-28T11:00:30Z"),
        ("UTC", "2026-11-28T01:00Z", datetime.time(6), "2026-11-28T06:00Z"),
        # The night when clocks are put forward has no 02:30; the night when they are put back has two.
        (BERLIN, "2026-03-28T23:00Z", "02:30", "2026-03-29T01:30Z"),
        (BERLIN, "2026-03-28T20:00Z", "06:00", "2026-03-29T04:00Z"),
        (BERLIN, "2026-10-24T22:00Z", "02:30", "2026-10-25T00:30Z"),
        (BERLIN, "2026-10-25T00:45Z", "02:30", "2026-10-25T01:30Z"),
        (BERLIN, "2026-10-24T20:00Z", "06:00", "2026-10-25T05:00Z"),
        (BERLIN, "2026-03-28T23:00Z", "2026-03-29 02:30", "2026-03-29T01:30Z"),
        (BERLIN, "2026-10-24T22:00Z", datetime.datetime(2026, 10, 25, 2, 30), "2026-10-25T00:30Z"),  # noqa: DTZ001
        (NEW_YORK, "2026-03-08T06:00Z", "02:30", "2026-03-08T07:30Z"),
        (NEW_YORK, "2026-11-01T05:45Z", "01:30", "2026-11-01T06:30Z"),
        (NEW_YORK, "2026-11-01T06:45Z", "01:30", "2026-11-02T06:30Z"),
        (BERLIN, "2026-10-25T00:30Z", datetime.timedelta(hours=2), "2026-10-25T02:30Z"),
        ("UTC", "2026-11-28T01:00Z", "PT4H30M", "2026-11-28T05:30Z"),
        (NEW_YORK, "2026-11-28T01:00Z", "2026-11-29T06:00", "2026-11-29T11:00Z"),
        (NEW_YORK, "2026-11-28T01:00Z", "2026-11-29 06:00:00+00:00", "2026-11-29T06:00Z"),
        (NEW_YORK, "2026-11-28T01:00Z", datetime.datetime(2026, 11, 29, 6), "2026-11-29T11:00Z"),  # noqa: DTZ001
    ],
)
def test_a_deadline_is_a_time_of_day_of_the_dags_zone_a_span_from_the_runs_start_or_a_moment(
    zone: str, start: str, deadline: Any, expected: str
) -> None:
    context: Any = {
        "dag": SimpleNamespace(timezone=pendulum.timezone(zone)),
        "dag_run": SimpleNamespace(start_date=pendulum.parse(start)),
    }
    assert moment_of(scalar("deadline", deadline), context) == pendulum.parse(expected)


@pytest.mark.parametrize(
    "value",
    [
        "25:00",
        "6",
        "tomorrow",
        "2026-11-28",
        "2026-13-01 06:00",
        "PTX",
        "4:00:00",  # of a timedelta, as text
        "P1DT2H/P1D",
        5,
        True,
        datetime.timedelta(0),
        NOON_ELSEWHERE,
    ],
)
def test_what_is_no_deadline_is_refused_where_the_dag_is_written(value: Any) -> None:
    with pytest.raises(ConfigurationError, match="time of day such as 06:00"):
        scalar("deadline", value)


@pytest.mark.parametrize("value", ["P99999999D", datetime.datetime(1, 1, 1)])  # noqa: DTZ001
def test_what_no_date_can_hold_is_refused_when_the_run_has_begun(value: Any) -> None:
    context: Any = {"dag": SimpleNamespace(timezone=pendulum.timezone("Asia/Tokyo"))}
    with pytest.raises(ConfigurationError, match=r"deadline is .*, which no date can hold. Nothing was sent"):
        moment_of(scalar("deadline", value), context)


@pytest.mark.parametrize(
    ("options", "requests", "per_second", "minutes"),
    [
        ({}, 100, 0.0, 20),
        ({"minutes": 5}, 100, 10.0, 5),
        ({"minutes": 0}, 100, 10.0, 0),
        ({}, 6000, 10.0, 3 + 12.5),
        ({"then": "deliver"}, 6000, 10.0, 3),
        ({"then": "fail"}, 6000, 10.0, 0),
        ({"then": "fail", "minutes": 7}, 6000, 10.0, 0),
    ],
)
def test_it_begins_early_enough(
    options: dict[str, Any], requests: int, per_second: float, minutes: float
) -> None:
    begins = OnTime(at=AT, **options).begins_at(requests, per_second)
    assert AT - begins == datetime.timedelta(minutes=minutes)


ESTIMATE = {"total_usd": 10.0, "standard_usd": 20.0, "unpriced_requests": 0}


@pytest.mark.parametrize(
    ("limits", "estimate", "share", "chosen"),
    [
        ({}, {}, 1.0, "direct"),
        ({"max_usd": 15}, ESTIMATE, 0.5, "direct"),
        ({"max_usd": 14.99}, ESTIMATE, 0.5, "deliver"),
        ({"direct_max_usd": 5}, ESTIMATE, 0.5, "direct"),
        ({"direct_max_usd": 4.99}, ESTIMATE, 0.5, "deliver"),
        ({"max_usd": 100, "direct_max_usd": 0}, ESTIMATE, 0.1, "deliver"),
        ({"direct_max_usd": 5}, {**ESTIMATE, "unpriced_requests": 1}, 0.1, "deliver"),
        ({"direct_max_usd": 5}, {"total_usd": None}, 0.1, "deliver"),
    ],
)
def test_single_calls_keep_to_the_budget(
    limits: dict[str, float], estimate: dict[str, Any], share: float, chosen: str
) -> None:
    on_time = OnTime(at=AT, **limits)
    on_time.begin(AT, on_time.too_dear(estimate, share))
    assert (on_time.chosen, on_time.began_at) == (chosen, AT)
    assert bool(on_time.reason) == (chosen == "deliver")


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({"direct_below": 5}, "direct_below"),
        ({"trial": True}, "trial"),
        ({"deadline": datetime.time(6)}, "deadline"),
        ({"deadline": datetime.time(6), "then": "deliver"}, ""),
        ({}, ""),
    ],
)
def test_requests_that_only_batches_take_are_not_promised_single_calls(
    asked: dict[str, Any], refused: str
) -> None:
    given: dict[str, Any] = {"direct_below": 0, "trial": False, "deadline": None, "then": "direct", **asked}
    if not refused:
        check_direct(["output-300k-2026-03-24"], **given)
        return
    check_direct(["files-api-2025-04-14"], **given)
    with pytest.raises(ConfigurationError, match=f"{refused}.*batches only"):
        check_direct(["output-300k-2026-03-24"], **given)
