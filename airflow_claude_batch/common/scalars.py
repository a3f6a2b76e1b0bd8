"""The scalar arguments of all operators: each may be a template, and is of its type when the task runs."""

from __future__ import annotations

import datetime
import enum
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.batches.requests.addresses import is_address, is_file_address
from airflow_claude_batch.batches.requests.parameters import check_names

FILE_NAME = re.compile(r"[\w./\\:-]+\.(?:md|markdown|txt|jinja2?|j2|prompt|tmpl)")
"""The name of a text file, and nothing else."""
TIME_OF_DAY = re.compile(r"\d{1,2}:\d{2}|\d{2}:\d{2}:\d{2}")
"""``4:00:00`` is none: that is the text of four hours, a timedelta that a template has rendered."""
MOMENT = re.compile(r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}")
TAG_NAME, TAG_VALUE = re.compile(r"[A-Za-z0-9_-]{1,40}"), re.compile(r"[^\x00-\x1f\x7f]{1,100}")
MOST_TAGS = 10
TAKEN_TAGS = ("conn_id",)
"""Tags that metrics have by themselves."""
NOTHING = (None, "", "None")
"""What a template makes of no value."""
YES, NO = (True, "true", "1", "yes"), (False, "false", "0", "no")


def as_text(value: Any) -> Any:
    """An enumeration's member as its value and a path as its text; anything else as it is."""
    if isinstance(value, enum.Enum):
        return value.value
    return str(value) if is_path(value) else value


def is_path(value: Any) -> bool:
    """Whether a value is a path: an object, not its text."""
    places = sys.modules.get("airflow.sdk.io.path")  # costly to import
    return isinstance(value, (os.PathLike, places.ObjectStoragePath) if places else os.PathLike)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _id(value: Any) -> str:
    return _text(value).strip()


def _prompt(value: Any) -> str:
    """Text or a template; one that is an address and nothing else would be sent for every record."""
    word = _text(value).strip()
    if "{{" not in value and (is_file_address(word) or FILE_NAME.fullmatch(word)):
        raise ValueError
    return str(value)


def _address(value: Any) -> str:
    if not is_address(_text(value)):
        raise ValueError
    return str(value)


def _words(value: Any) -> list[str]:
    items = [value] if isinstance(value, str) else list(value)
    return [_text(as_text(item)) for item in items]


def _addresses(value: Any) -> list[str]:
    return [_address(item) for item in _words(value)]


def _parameters(value: Any) -> Mapping[str, Any]:
    """Messages API parameters, as far as their names tell."""
    if not isinstance(value, Mapping):
        raise TypeError
    check_names(value)
    betas = value.get("betas")
    if betas is not None and not (
        isinstance(betas, (list, tuple)) and all(isinstance(beta, str) for beta in betas)
    ):
        raise TypeError
    return value


def _system(value: Any) -> str | list[Any]:
    if isinstance(value, str):
        if FILE_NAME.fullmatch(value.strip()) and not is_address(value):
            raise ValueError
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(block, Mapping) for block in value):
        return list(value)
    raise TypeError


def _schema(value: Any) -> Any:
    """A schema of any kind; whether the API takes it is found out when the task starts."""
    module = sys.modules.get("airflow_claude_batch.batches.requests.output_schema")  # costly to import
    kinds = (Mapping, module.Schema, module.OutputSchema) if module else (Mapping,)
    if isinstance(value, kinds) or (isinstance(value, type) and hasattr(value, "model_json_schema")):
        return value
    raise TypeError


def _yes_or_no(value: Any) -> bool:
    word = value.strip().lower() if isinstance(value, str) else value
    if word in YES or word in NO:
        return word in YES
    raise ValueError


def _whole(value: Any) -> int:
    number = int(value)
    if isinstance(value, bool) or (not isinstance(value, str) and number != value) or number < 1:
        raise ValueError
    return number


def _seconds(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not 0 < number < float("inf"):
        raise ValueError
    return number


def _span(value: Any) -> float:
    return _seconds(value.total_seconds() if isinstance(value, datetime.timedelta) else value)


def _minutes(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not 0 <= number < float("inf"):
        raise ValueError
    return number


def _count(value: Any) -> int:
    return 0 if value in (0, "0") and not isinstance(value, bool) else _whole(value)


def _deadline(value: Any) -> datetime.time | datetime.timedelta | datetime.datetime:
    """A time of day (``06:00``), a span (``PT4H`` or a timedelta), or a moment."""
    import pendulum

    if isinstance(value, str):
        text = value.strip()
        if TIME_OF_DAY.fullmatch(text):
            return datetime.time.fromisoformat(text if text[1] != ":" else f"0{text}")
        if text.startswith("P"):
            value = pendulum.parse(text)
        elif MOMENT.match(text):
            value = datetime.datetime.fromisoformat(text)  # without a zone where it names none
    if isinstance(value, datetime.timedelta) and not value.total_seconds() > 0:
        raise ValueError
    if isinstance(value, datetime.time) and value.tzinfo is not None:
        raise ValueError
    if not isinstance(value, (datetime.time, datetime.timedelta, datetime.datetime)):
        raise TypeError
    return value


def _tags(value: Any) -> dict[str, str]:
    """Names and values; those without a value are left out."""
    found: dict[str, str] = {}
    for name, given in dict(value).items():
        text = str(as_text(given)) if isinstance(as_text(given), (int, float)) else _text(as_text(given))
        if text in NOTHING:
            continue
        if not TAG_NAME.fullmatch(name) or name in TAKEN_TAGS or not TAG_VALUE.fullmatch(text):
            raise ValueError
        found[name] = text
    if len(found) > MOST_TAGS:
        raise ValueError
    return found


def _one_of(*words: str) -> tuple[Callable[[Any], Any], str]:
    def check(value: Any) -> Any:
        if value not in words:
            raise ValueError
        return value

    return check, f"one of {', '.join(words)}"


_SCALARS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "prompt": (
        _prompt,
        "text: an address is not read; Path(…).read_text() is a file's text, and system may be an address",
    ),
    "custom_id": (_text, "the name of a column"),
    "model": (_id, "the id of a model"),
    "max_tokens": (_whole, "a whole number of at least 1"),
    "documents": (_text, "the name of a column"),
    "documents_from": (_addresses, "a list of addresses such as s3://conn_id@bucket/folder"),
    "message_params": (
        _parameters,
        "a mapping of Messages API parameters, of which betas is a list of texts",
    ),
    "system": (_system, "text, a list of blocks, or a text file's address: a URI or an absolute path"),
    "output_schema": (_schema, "a pydantic model, a JSON Schema (dict), or a Schema of either"),
    "tags": (
        _tags,
        f"a mapping of at most {MOST_TAGS} names (letters, digits, _, -) to texts of up to 100 characters",
    ),
    "on_empty": _one_of("fail", "skip", "succeed"),
    "conn_id": (_id, "the id of a connection"),
    "storage_path": (_address, "an address such as s3://conn_id@bucket/folder, or an absolute path"),
    "output_path": (_address, "an address such as s3://conn_id@bucket/folder, or an absolute path"),
    "output_format": _one_of("jsonl", "parquet", "raw"),
    "compression": _one_of("gzip", "zstd"),
    "overwrite": (_yes_or_no, "true or false"),
    "poll_interval": (_seconds, "a number of seconds"),
    "deferrable": (_yes_or_no, "true or false"),
    "dry_run": (_yes_or_no, "true or false"),
    "claude_batch_dry_run": (_yes_or_no, "true or false, in the DAG run's conf"),
    "claude_batch_force_new": (_yes_or_no, "true or false, in the DAG run's conf"),
    "direct_below": (_count, "a whole number of at least 0"),
    "deadline": (
        _deadline,
        "a time of day such as 06:00 (the DAG's, without a zone), a timedelta or PT4H, or a date and time",
    ),
    "on_deadline": _one_of("direct", "deliver", "fail"),
    "direct_minutes": (_minutes, "a number of minutes"),
    "records": (_whole, "a whole number of at least 1"),
    "pick": _one_of("first", "spread", "random"),
    "concurrency": (_whole, "a whole number of at least 1"),
    "timeout": (_span, "a number of seconds, or a timedelta"),
    "prompt_version": (_text, "text"),
    "on_timeout": _one_of("leave", "cancel"),
    "cancel_on_kill": (_yes_or_no, "true or false"),
}


def scalar(name: str, value: Any) -> Any:
    """A rendered argument in its own type; None where it has no value.

    Raises:
        ConfigurationError: For a value of another type; it names the argument.
    """
    given, value = value, as_text(value)
    if name not in _SCALARS:
        return value
    if value in NOTHING:
        return None
    read, form = _SCALARS[name]
    try:
        if is_path(given) and (name == "prompt" or not is_address(value)):  # its name would be taken
            raise TypeError
        return read(value)
    except ConfigurationError:
        raise
    except (TypeError, ValueError, OverflowError, AttributeError):  # the last is pendulum's own fault
        shown = repr(value) if isinstance(value, (int, float)) else f"a {type(value).__name__}"
        if isinstance(value, str):
            shown = repr(value) if len(value) <= 40 else f"text of {len(value)} characters"
        raise ConfigurationError(f"{name} is {shown}; it is {form}. Nothing was sent.") from None


def records_source(value: Any) -> None:
    """See that something that a DAG's author wrote as ``requests`` can be one.

    Raises:
        ConfigurationError: For a value that has no records, and for records whose prompt is a path.
    """
    for number, record in enumerate(value if isinstance(value, (list, tuple)) else ()):
        if type(record) is dict and is_path(record.get("prompt")):
            raise ConfigurationError(
                f"requests[{number}]: prompt is a path; it is text: path.read_text() is the file's. Nothing "
                "was sent."
            )
    if isinstance(value, str) and is_address(value):
        return
    if value is not None and not isinstance(value, (str, bytes, Mapping, int, float)):
        return
    shown = f"text of {len(value)} characters" if isinstance(value, str) else f"a {type(value).__name__}"
    raise ConfigurationError(
        f"requests is {shown}; it is a list or another iterable, a table, a function, another task's output, "
        "or the address of files such as s3://conn_id@bucket/folder/."
    )


def check_form(given: Mapping[str, Any]) -> None:
    """See that a form of files is asked for only where there will be files.

    Args:
        given: Values of ``output_path``, ``output_format`` and ``compression``.

    Raises:
        ConfigurationError: For one without a path.
    """
    asked = {name: given.get(name) for name in ("output_format", "compression")}
    unused = [name for name, value in asked.items() if value not in (*NOTHING, "jsonl")]
    if unused and given.get("output_path") in NOTHING:
        raise ConfigurationError(
            f"{unused[0]} is {asked[unused[0]]!r}, and there is no output_path: without one the records go "
            f"into XCom, and there are no files. Set output_path, or leave {unused[0]} out."
        )


def scalars(operator: Any, names: list[str]) -> dict[str, Any]:
    """Rendered arguments of an operator, each in its own type."""
    return {name: scalar(name, getattr(operator, name, None)) for name in names}
