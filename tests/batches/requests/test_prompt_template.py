from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airflow_claude_batch.batches.errors import ConfigurationError, InputError
from airflow_claude_batch.batches.requests.builder import Recipe, RequestBuilder
from airflow_claude_batch.batches.requests.prompt_template import PromptTemplate
from airflow_claude_batch.batches.requests.request import Request, RequestEncoder

DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 10, "system": "Be brief.", "stop_sequences": ["\n\n"]}


def prepared(record: Any, prompt: str) -> Request:
    request = RequestBuilder(Recipe(prompt=prompt), DEFAULTS)(record, 0)
    assert isinstance(request, Request)
    return request


def params(request: Request) -> dict[str, Any]:
    return msgspec.json.decode(request.line)["params"]


def test_columns_fill_the_template() -> None:
    template = PromptTemplate("{{ name | upper }}: {% for tag in tags %}[{{ tag }}]{% endfor %}\n")
    assert template({"name": "Ada", "tags": ["a", "b"]}, 0) == "ADA: [a][b]\n"


def test_a_column_whose_name_is_no_identifier_is_reached_through_record() -> None:
    assert PromptTemplate('{{ record["Order No."] }}')({"Order No.": 17}, 0) == "17"


@pytest.mark.parametrize("broken", [{}, {"plan": "x", "text": None}])
def test_what_a_template_sets_for_one_record_is_not_there_for_the_next(broken: dict[str, Any]) -> None:
    template = PromptTemplate("{% if plan %}{% set own = plan %}{{ text + '' }}{% endif %}{{ own }}")
    assert template({"plan": "team", "text": "a "}, 0) == "a team"
    for record in (broken, {"text": "a"}):
        with pytest.raises(InputError, match="prompt template"):
            template(record, 1)


def test_a_null_leaves_its_place_empty() -> None:
    assert PromptTemplate("[{{ note }}]")({"note": None}, 0) == "[]"


def test_text_with_jinja_in_a_column_is_data() -> None:
    assert PromptTemplate("{{ text }}")({"text": "{{ 7 * 7 }} <b>"}, 0) == "{{ 7 * 7 }} <b>"


def test_a_missing_column_is_an_error_with_the_records_number_and_its_columns() -> None:
    with pytest.raises(InputError, match=r"record 17: prompt template = .*'plan' is undefined.*\['name'\]"):
        PromptTemplate("{{ name }} {{ plan }}")({"name": "x"}, 17)


@pytest.mark.parametrize("name", ["range", "dict", "record.items"])
def test_what_jinja_knows_by_itself_is_no_column(name: str) -> None:
    with pytest.raises(InputError, match=r"a function of Jinja in place of a column.*columns are \['id'\]"):
        PromptTemplate(f"{{{{ {name} }}}} {{{{ id }}}}")({"id": 1}, 0)
    assert PromptTemplate("{% for n in range(id) %}{{ n }}{% endfor %}")({"id": 3}, 0) == "012"


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
    short = RequestEncoder(DEFAULTS)({"custom_id": "a", "prompt": "Greet Ada “L”\n", "name": "Ada “L”\n"}, 0)
    assert templated.line == short.line
    assert templated.columns == short.columns


def test_with_a_template_every_column_is_data_whatever_its_name() -> None:
    request = prepared(
        {"custom_id": "a", "model": "T-800", "system": "hydraulic", "tools": "none"}, "{{ model }}"
    )
    assert params(request)["model"] == "claude-haiku-4-5"
    assert params(request)["system"] == "Be brief."
    assert msgspec.json.decode(request.columns or b"") == {
        "model": "T-800",
        "system": "hydraulic",
        "tools": "none",
    }


def test_dates_in_columns_come_back_as_text() -> None:
    request = prepared({"custom_id": "a", "day": datetime.date(2026, 11, 22)}, "{{ day.year }}")
    assert msgspec.json.decode(request.columns or b"") == {"day": "2026-11-22"}
    assert params(request)["messages"][0]["content"] == "2026"


def test_a_template_needs_model_and_max_tokens_from_the_operator() -> None:
    with pytest.raises(InputError, match="max_tokens"):
        RequestBuilder(Recipe(prompt="{{ a }}"), {"model": "m"})


def test_all_records_that_the_template_fails_on_are_reported_together(tmp_path: Path) -> None:
    from airflow_claude_batch.batches.job.spool import spool
    from airflow_claude_batch.batches.storage import Folder

    rows = [{"a": 1}, {"b": 1}, {"a": 2}, {"c": 1}]
    folder = Folder.at(f"file://{tmp_path}/job")
    with pytest.raises(InputError) as caught:
        spool(rows, folder, defaults=DEFAULTS, recipe=Recipe(prompt="{{ a }}"))
    assert [fault.index for fault in caught.value.faults] == [1, 3]


@pytest.mark.parametrize(
    "source", ["{{ a }}", "100 % {{ a }}, %s\n{{ b }}\n", "{{ a }}{{ a }}{{ b }}", "{{ range }}{{ a }}"]
)
@pytest.mark.parametrize(
    "value",
    ["x %s {{ b }}", "", 7, -1.5, True, None, ["a", None], ("b",), {"k": 1}, datetime.date(2026, 10, 1)],
)
def test_columns_in_text_are_filled_in_as_jinja_does(source: str, value: Any) -> None:
    record = {"a": value, "b": "end", "range": "own"}
    by_jinja = PromptTemplate(source + "{{ '' }}.")  # an expression, which Jinja alone knows
    assert PromptTemplate(source + ".")(record, 0) == by_jinja(record, 0)


def test_a_column_named_like_what_the_template_knows_does_not_hide_it() -> None:
    template = PromptTemplate("{{ params }} {{ name }}", {"params": {"limit": 3}})
    assert template({"params": "own", "name": "x"}, 0) == "{'limit': 3} x"


@pytest.mark.parametrize(
    "source",
    [
        *("{{ self }}", "{{ self | string }}", "{{ self.text }}", "{% set x = self %}{{ x }}"),
        *("\n{% if self %}x{% endif %}", "{% block a %}x{% endblock %}{{ self.b() }}"),
    ],
)
def test_jinjas_own_self_is_refused_in_place_of_a_column(source: str) -> None:
    with pytest.raises(ConfigurationError, match=r"line \d: self is Jinja's own; .*record\['self'\]"):
        PromptTemplate(source)
    assert PromptTemplate("{{ record['self'] }}")({"self": "own"}, 0) == "own"
    assert PromptTemplate("{% block a %}x{% endblock %}{{ self.a() }}")({}, 0) == "xx"


@pytest.mark.parametrize(
    "source",
    ["{{ namespace() }}", "{% for x in [1] %}{{ loop }}{% endfor %}", "{% macro m() %}{% endmacro %}{{ m }}"],
)
def test_an_object_of_jinja_is_no_text_of_a_prompt(source: str) -> None:
    with pytest.raises(InputError, match=r"record 0: .*in place of a column"):
        PromptTemplate(source)({"text": "x"}, 0)


def test_a_prompt_that_json_cannot_hold_is_a_fault_among_good_ones() -> None:
    build = RequestBuilder(Recipe(prompt="{{ text }}", custom_id="id"), DEFAULTS)
    assert build({"id": 1, "text": "a"}, 0).custom_id == "1"
    with pytest.raises(InputError, match=r"record 1: .*not JSON"):
        build({"id": 2, "text": "\ud800"}, 1)
    request = build({"id": 3, "text": "b"}, 2)
    assert request.params == params(request)
