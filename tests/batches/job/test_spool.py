from __future__ import annotations

import json
import random
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

from airflow_claude_batch.batches.errors import InputError
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.job.part_reader import read_body, read_inputs
from airflow_claude_batch.batches.job.spool import Limits, Spooled, bisect_part, spool
from airflow_claude_batch.batches.requests.builder import Recipe
from airflow_claude_batch.batches.storage import Folder
from tests.batches.helpers import DEFAULTS, records


def spooled(root: Folder, rows: Any, **options: Any) -> Spooled:
    return spool(rows, root, defaults=DEFAULTS, **options)


def body(root: Folder, part: Part) -> Any:
    """The body of a part, its first request under its own custom_id."""
    sent = json.loads(b"".join(read_body(root, part, lambda: None)))
    assert sent["requests"][0]["custom_id"] == part.sent_id
    sent["requests"][0]["custom_id"] = part.marked
    return sent


@pytest.mark.parametrize("compress", [False, True])
def test_the_body_of_a_part_is_its_lines_and_has_the_length_that_is_announced(
    root: Folder, compress: bool
) -> None:
    part = spooled(root, records(1000), compress=compress).parts[0]
    assert len(b"".join(read_body(root, part, lambda: None))) == part.bytes
    sent = body(root, part)["requests"]
    assert [request["custom_id"] for request in sent] == [f"r-{n}" for n in range(1000)]
    assert part.requests.endswith(".gz") == compress


def test_parts_close_at_the_number_of_requests(root: Folder) -> None:
    result = spooled(root, records(2500), limits=Limits(requests=1000))
    assert [part.request_count for part in result.parts] == [1000, 1000, 500]
    assert result.request_count == 2500


def test_parts_close_before_the_number_of_bytes_and_not_one_request_earlier(root: Folder) -> None:
    limit = 5000
    parts = spooled(root, records(300), limits=Limits(bytes=limit)).parts
    longest = max(len(line) for part in parts for line in root.read(part.requests).splitlines())
    assert all(part.bytes <= limit for part in parts)
    assert all(part.bytes + longest + 1 > limit for part in parts[:-1])


def test_a_request_over_the_limit_is_refused_by_id_and_size(root: Folder) -> None:
    rows = [*records(2), {"custom_id": "huge", "prompt": "x" * 5000}]
    with pytest.raises(
        InputError, match=r"record 2: request huge = 5\d\d\d bytes: .* 1000 bytes at the most"
    ):
        spooled(root, rows, limits=Limits(bytes=1000))


def test_the_digest_does_not_depend_on_the_order_but_on_every_request(root: Folder) -> None:
    rows = records(500)
    shuffled = random.Random(1).sample(rows, len(rows))
    digest = spooled(root.child("a"), rows).digest
    assert spooled(root.child("b"), shuffled, limits=Limits(requests=7)).digest == digest
    assert spooled(root.child("c"), rows[:-1]).digest != digest
    rows[3] = {**rows[3], "prompt": "other"}
    assert spooled(root.child("d"), rows).digest != digest


@pytest.mark.parametrize(
    ("rows", "recipe", "digest"),
    [
        (
            [{"custom_id": "a", "prompt": "One"}, {"custom_id": "b", "prompt": "Two"}],
            Recipe(),
            "c9d985351cedc40a02bc576f7c1cd333f3d1c446be418574d2e361c8e2eaa800",  # pragma: allowlist secret
        ),
        (
            [{"id": "a", "n": 1}, {"id": "b", "n": 2}],
            Recipe(prompt="Count to {{ n }}", custom_id="id"),
            "3469e2eec6f8d5a01dc1a291ec00370eb1b5526102ccd012e1bcb8a2e3a68463",  # pragma: allowlist secret
        ),
    ],
)
def test_the_digest_is_what_ledgers_of_earlier_versions_hold(
    root: Folder, rows: Any, recipe: Recipe, digest: str
) -> None:
    # With another, a clear after an upgrade would take the same requests for changed ones, and pay again.
    defaults = {"model": "claude-haiku-4-5", "max_tokens": 100}
    assert spool(rows, root, defaults=defaults, recipe=recipe).digest == f"sha256-sum:2:{digest}"


def test_columns_come_back_by_custom_id(root: Folder) -> None:
    rows = [{"custom_id": "a", "prompt": "x", "n": [1, "ü"]}, {"custom_id": "b", "prompt": "x"}]
    part = spooled(root, rows).parts[0]
    assert [(key, json.loads(columns or b"null")) for key, columns in read_inputs(root, part.inputs)] == [
        ("a", {"n": [1, "ü"]}),
        ("b", None),
    ]


def test_duplicates_are_found_across_parts_with_both_positions(root: Folder) -> None:
    rows = records(3000)
    rows[2990] = {"custom_id": "r-5", "prompt": "x"}
    rows.insert(2, {"custom_id": "bad id", "prompt": "x"})
    with pytest.raises(InputError) as caught:
        spooled(root, rows, limits=Limits(requests=1000))
    assert caught.value.total == 2
    assert "record 2991: custom_id = 'r-5'" in str(caught.value)
    assert "record 6 has it too" in str(caught.value)


def test_all_faults_are_counted_and_the_first_twenty_shown_in_full(root: Folder) -> None:
    rows = [{"custom_id": f"r {number}", "prompt": "x"} for number in range(50)]
    with pytest.raises(InputError) as caught:
        spooled(root, rows)
    assert caught.value.total == 50
    assert [fault.index for fault in caught.value.faults] == list(range(20))
    assert "... and 30 more" in str(caught.value)


def test_an_empty_input_is_refused_with_the_way_out(root: Folder) -> None:
    with pytest.raises(InputError, match="on_empty"):
        spooled(root, [])


def test_a_part_in_two_halves_holds_the_same_requests(root: Folder) -> None:
    part = spooled(root, records(101)).parts[0]
    halves = bisect_part(root, part, first_file=1)
    assert [half.request_count for half in halves] == [51, 50]
    together = [request for half in halves for request in body(root, half)["requests"]]
    assert together == body(root, part)["requests"]
    assert [columns for half in halves for _, columns in read_inputs(root, half.inputs)] == [
        columns for _, columns in read_inputs(root, part.inputs)
    ]


def test_memory_does_not_grow_with_the_input(root: Folder) -> None:
    def rows(count: int) -> Iterator[dict[str, str]]:
        return ({"custom_id": f"r-{number}", "prompt": "word " * 200} for number in range(count))

    def peak(count: int, folder: Folder) -> int:
        tracemalloc.start()
        spooled(folder, rows(count), limits=Limits(requests=2000))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    few, many = peak(2000, root.child("few")), peak(20_000, root.child("many"))
    assert many - few < 18_000 * 16
