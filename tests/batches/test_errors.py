from __future__ import annotations

import inspect
import re

import pytest

from airflow_claude_batch.batches import errors
from airflow_claude_batch.batches.errors import ClaudeBatchError, Final, Transient

ERRORS = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, Exception) and kind not in (ClaudeBatchError, Transient, Final)
]


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_says_by_its_base_whether_a_retry_may_help(kind: type[Exception]) -> None:
    assert issubclass(kind, ClaudeBatchError)
    assert issubclass(kind, Transient) != issubclass(kind, Final)


def test_the_drawing_shows_every_error_under_its_base() -> None:
    drawing = (errors.__doc__ or "").partition("::\n")[2]
    transient, final = drawing.split("└── Final")
    drawn = {
        Transient: set(re.findall(r"── (\w+Error)", transient)),
        Final: set(re.findall(r"── (\w+Error)", final)),
    }
    for base, names in drawn.items():
        assert names == {kind.__name__ for kind in ERRORS if issubclass(kind, base)}


def test_airflow_retries_what_is_transient_and_fails_what_is_final() -> None:
    from airflow.providers.common.compat.sdk import AirflowFailException

    from airflow_claude_batch.common.final_errors import no_retry_when_final

    with pytest.raises(errors.WaitTimeoutError), no_retry_when_final():
        raise errors.WaitTimeoutError("too late")
    with pytest.raises(AirflowFailException, match="UnknownBatchError: no such batch"), no_retry_when_final():
        raise errors.UnknownBatchError("no such batch")
