from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airflow_claude_batch.batches.errors import ConfigurationError, InputError
from airflow_claude_batch.batches.preparation import Preparation, Recipe
from airflow_claude_batch.batches.requests import Normaliser, Request
from airflow_claude_batch.batches.templates import PromptTemplate

DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 10, "system": "Be brief.", "stop_sequences": ["\n\n"]}


def prepared(record: Any, prompt: str) -> Request:
    request = Preparation(Recipe(prompt=prompt), DEFAULTS)(record, 0)
    assert isinstance(request, Request)
    return request


def params(request: Request) -> dict[str, Any]:
    return msgspec.json.decode(request.line)["params"]


def test_columns_fill_the_template() -> None:
    template = PromptTemplate("{{ name | upper }}: {% for tag in tags %}[{{ tag }}]{% endfor %}\n")
    assert template({"name": "Ada", "tags": ["a", "b"]}, 0) == "ADA: [a][b]\n"


def test_a_column_whose_name_is_no_identifier_is_reached_through_record() -> None:
    assert PromptTemplate('{{ record["Order No."] }}')({"Order No.": 17}, 0) == "17"


def test_a_null_leaves_its_place_empty() -> None:
    assert PromptTemplate("[{{ note }}]")({"note": None}, 0) == "[]"


def test_text_with_jinja_in_a_column_is_data() -> None:
    assert PromptTemplate("{{ text }}")({"text": "{{ 7 * 7 }} <b>"}, 0) == "{{ 7 * 7 }} <b>"


def test_a_missing_column_is_an_error_with_the_records_number_and_its_columns() -> None:
    with pytest.raises(InputError, match=r"record 17: prompt template = .*'plan' is undefined.*\['name'\]"):
        PromptTemplate("{{ name }} {{ plan }}")({"name": "x"}, 17)


def test_a_missing_field_inside_a_column_is_an_error_too() -> None:
    with pytest.raises(InputError, match="record 3: prompt template"):
        PromptTemplate("{{ account.plan }}")({"account": {"id": 1}}, 3)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ text.__init__.__globals__ }}",
        "{{ items.append(1) }}",
        "{{ range(10000000) }}",
        "{{ 1 / 0 }}",
    ],
)
def test_a_template_cannot_reach_beyond_the_columns_nor_change_them(source: str) -> None:
    record: dict[str, Any] = {"text": "x", "items": []}
    with pytest.raises(InputError, match="record 0: prompt template"):
        PromptTemplate(source)(record, 0)
    assert record == {"text": "x", "items": []}


def test_a_prompt_of_nothing_is_an_error() -> None:
    with pytest.raises(InputError, match="empty prompt"):
        PromptTemplate("{{ text }}\n")({"text": "  "}, 0)


def test_a_template_that_is_no_jinja_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigurationError, match="line 2"):
        PromptTemplate("fine\n{{ broken")


def test_a_templated_request_is_the_one_that_a_short_record_makes() -> None:
    record = {"custom_id": "a", "name": "Ada “L”\n"}
    templated = prepared(record, "Greet {{ name }}")
    short = Normaliser(DEFAULTS)({"custom_id": "a", "prompt": "Greet Ada “L”\n", "name": "Ada “L”\n"}, 0)
    assert templated.line == short.line
    assert templated.columns == short.columns


def test_with_a_template_every_column_is_data_whatever_its_name() -> None:
    request = prepared(
        {"custom_id": "a", "model": "T-800", "system": "hydraulic", "tools": "none"}, "{{ model }}"
    )
    assert params(request)["model"] == "claude-haiku-4-5"
    assert params(request)["system"] == "Be brief."
    assert request.columns == {"model": "T-800", "system": "hydraulic", "tools": "none"}


def test_dates_in_columns_come_back_as_text() -> None:
    request = prepared({"custom_id": "a", "day": datetime.date(2026, 11, 22)}, "{{ day.year }}")
    assert request.columns == {"day": "2026-11-22"}
    assert params(request)["messages"][0]["content"] == "2026"


def test_a_template_needs_model_and_max_tokens_from_the_operator() -> None:
    with pytest.raises(InputError, match="max_tokens"):
        Preparation(Recipe(prompt="{{ a }}"), {"model": "m"})


def test_all_records_that_the_template_fails_on_are_reported_together(tmp_path: Path) -> None:
    from airflow_claude_batch.batches.spool import spool
    from airflow_claude_batch.batches.storage import Folder

    rows = [{"a": 1}, {"b": 1}, {"a": 2}, {"c": 1}]
    folder = Folder.at(f"file://{tmp_path}/job")
    with pytest.raises(InputError) as caught:
        spool(rows, folder, defaults=DEFAULTS, recipe=Recipe(prompt="{{ a }}"))
    assert [fault.index for fault in caught.value.faults] == [1, 3]
