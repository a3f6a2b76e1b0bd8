"""Whatever lies in an XCom: it is read whole, or it cannot be read; nothing breaks."""

from __future__ import annotations

import datetime
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_claude_batch.plugins import shapes

READ = [
    shapes.Announcement, shapes.Progress, shapes.Handle, shapes.Cancellation, shapes.Money, shapes.Summary,
    shapes.Brief, shapes.Outline,
]  # fmt: skip

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["msgbatch_1", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00", "2026-11-21T09:46:00"])
    | st.datetimes().map(datetime.datetime.isoformat)
    | st.datetimes(timezones=st.just(datetime.UTC)).map(datetime.datetime.isoformat)
)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def names(shape: Any) -> list[str]:
    return [field.encode_name for field in msgspec.structs.fields(shape)]


@settings(deadline=None)  # the machine may be busy
@given(st.data())
def test_any_json_is_read_or_refused_and_what_is_read_can_be_computed_with(data: st.DataObject) -> None:
    shape = data.draw(st.sampled_from(READ))
    keys = st.sampled_from([*names(shape), *names(shapes.Counts), "total_usd", "id", "until"])
    value = data.draw(anything | st.dictionaries(keys, anything | st.dictionaries(keys, anything)))
    read = shapes.read(shape, json.dumps(value))
    assert shapes.owner(json.dumps(value)) is None or isinstance(shapes.owner(json.dumps(value)), str)
    if read is not None:
        text = msgspec.json.encode(read).decode()
        assert json.loads(text, parse_constant=pytest.fail) is not None  # no NaN, no infinity
        for time in (getattr(read, name) for name in names(shape)):
            if isinstance(time, datetime.datetime):
                assert time - datetime.datetime.now(datetime.UTC) < datetime.timedelta(days=100_000)
                assert time + datetime.timedelta(hours=24) > time


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for shape in READ:
        shapes.read(shape, text)


@pytest.mark.parametrize(
    "text",
    [
        '{"submitted_at": "9999-12-31T23:59:59Z"}',
        '{"submitted_at": "0001-01-01T00:00:00+14:00"}',
        '{"request_count": 1e309}',
        '{"request_count": "abc"}',
        '{"request_count": -1}',
        '{"batch_ids": ' + "[" * 5_000 + "]" * 5_000 + "}",
        '{"unknown": ' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"model": "\\ud800"}',
        '{"model": "\ud800"}',
        '{"request_count": NaN}',
        "",
        "null",
        "[]",
    ],
)
def test_what_does_not_fit_cannot_be_read(text: str) -> None:
    assert shapes.read(shapes.Announcement, text) is None


def test_times_without_a_zone_are_in_utc() -> None:
    progress = shapes.read(
        shapes.Progress, '{"waiting_since": "2026-11-21T09:00:00", "deadline": "2026-11-21T09:00:00-02:00"}'
    )
    assert progress is not None
    assert progress.deadline - progress.waiting_since == datetime.timedelta(hours=2)
