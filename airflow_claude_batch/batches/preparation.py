"""From a row of the user's data to a request: prompt template, custom_id, documents.

With a template every column is data: a column that happens to be called ``model`` or ``system`` sets
nothing. Without one, a record says itself what is sent (see ``requests``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from airflow_claude_batch.batches.custom_ids import ContentIds, legal_id
from airflow_claude_batch.batches.documents import DocumentReader, UnreadableDocumentError
from airflow_claude_batch.batches.errors import ConfigurationError, Fault, InputError
from airflow_claude_batch.batches.needs import Needs
from airflow_claude_batch.batches.rejected import Rejection
from airflow_claude_batch.batches.requests import (
    CUSTOM_ID,
    MESSAGE_PARAMETERS,
    Normaliser,
    Request,
    is_json,
    shorten,
    to_json,
)
from airflow_claude_batch.batches.sources import Broken
from airflow_claude_batch.batches.templates import PromptTemplate

_COMPLETE = {"custom_id", "params"}
"""Keys of a record that needs nothing but validation."""
_CONTENT = MESSAGE_PARAMETERS | {"prompt", "params", "documents"}
_ID_MARK, _PROMPT_MARK = "custom-id-goes-here", "\x00the prompt goes here\x00"

_encode = msgspec.json.Encoder().encode
_encode_sorted = msgspec.json.Encoder(order="sorted", enc_hook=str).encode


@dataclass(kw_only=True)
class Recipe:
    """What makes requests of rows that are no requests yet."""

    prompt: str | None = None
    """Jinja template over a record's columns."""
    custom_id: str | None = None
    """Column whose value names the record; None: the record's own custom_id, or its content."""
    documents: DocumentReader | None = None
    """Reads the documents of records; None: records have none."""
    on_unreadable: Literal["errored", "fail"] = "errored"
    """A document that cannot be sent puts its record among the errored ones, or fails the job."""
    needs: Needs = field(default_factory=Needs)
    """Filled with what the requests ask of their models."""


class Preparation:
    """Makes requests of records, one after the other.

    :param defaults: Messages API parameters for every request that does not set them itself
    :raises InputError: for defaults that break a rule
    :raises ConfigurationError: for a template that is not valid
    """

    def __init__(self, recipe: Recipe, defaults: Mapping[str, Any]) -> None:
        if recipe.on_unreadable not in ("errored", "fail"):
            raise ConfigurationError(f"on_unreadable = {recipe.on_unreadable!r}: it is 'errored' or 'fail'")
        self._recipe = recipe
        self._normalise = Normaliser(defaults, watch=recipe.needs.add)
        self._content_ids = ContentIds()
        self._as_they_are = recipe.prompt is None and recipe.custom_id is None
        self._template = _Template(recipe.prompt, self._normalise) if recipe.prompt is not None else None

    def ahead(self, records: Iterable[Any]) -> Iterator[Any]:
        """The same records, with what they need on its way."""
        reader = self._recipe.documents
        return iter(records) if reader is None else reader.ahead(records)

    def __call__(self, record: Any, index: int) -> Request | Rejection:
        """The request for one record; ``index`` is its position in the input, for messages.

        :raises InputError: with every fault of this record
        """
        if (
            self._as_they_are
            and type(record) is dict
            and record.keys() >= _COMPLETE
            and "documents" not in record
        ):
            return self._normalise(record, index)  # most inputs are nothing but such records
        if isinstance(record, Broken):
            raise InputError([record.fault(index)])
        if isinstance(record, str):
            record = {"prompt": record}
        elif not isinstance(record, Mapping):
            return self._normalise(record, index)  # which says what is wrong with it
        blocks, reason = self._documents(record, index)
        if self._template is not None:
            request = self._from_template(self._template, record, blocks, index)
        else:
            request = self._from_record(record, blocks, index)
        return Rejection(request=request, reason=reason) if reason else request

    def _from_template(
        self, template: _Template, record: Mapping[str, Any], blocks: list[Any], index: int
    ) -> Request:
        prompt = template.render(record, index)
        custom_id = self._custom_id(record, index)
        if custom_id is None:
            documents = _encode_sorted(record.get("documents"))
            custom_id = self._content_ids(documents + b"\n" + prompt.encode("utf-8", "surrogatepass"))
        content = [*blocks, {"type": "text", "text": prompt}] if blocks else prompt
        if blocks:
            self._recipe.needs.add_content(template.need(self._recipe.needs), blocks)
        line = template.line(custom_id, content, index)
        return Request(custom_id=custom_id, line=line, columns=_columns(record, index))

    def _from_record(self, record: Mapping[str, Any], blocks: list[Any], index: int) -> Request:
        custom_id = self._custom_id(record, index)
        if custom_id is not None and custom_id == record.get("custom_id") and record.get("documents") is None:
            return self._normalise(record, index)
        if custom_id is None:
            content = {key: record[key] for key in _CONTENT if record.get(key) is not None}
            custom_id = self._content_ids(_encode_sorted(content))
        whole = {**record, "custom_id": custom_id}
        if record.get("documents") is not None:
            whole["prompt"] = _with_blocks(record, blocks, index)
        return self._normalise(whole, index)

    def _custom_id(self, record: Mapping[str, Any], index: int) -> str | None:
        """The record's key as a custom_id; None where it has none."""
        column = self._recipe.custom_id
        if column is None:
            given = record.get("custom_id")
            if given is None or self._template is None:
                return given  # checked with the rest of the record
            return _checked(given, index)
        key = record.get(column)
        if isinstance(key, bool) or key is None or key == "":
            there = "the record has none" if column in record else "the record has no such column"
            rule = f"this column names the record and so needs a value; {there}"
            raise InputError([Fault(index=index, where=f"column {column}", value=shorten(key), rule=rule)])
        return legal_id(str(key))

    def _documents(self, record: Mapping[str, Any], index: int) -> tuple[list[dict[str, Any]], str]:
        """Content blocks, or the reason why there are none."""
        documents = record.get("documents")
        if documents is None or self._recipe.documents is None:
            return [], ""
        try:
            return self._recipe.documents(documents, index), ""
        except UnreadableDocumentError as error:
            if self._recipe.on_unreadable == "fail":
                fault = Fault(index=index, where="documents", value=shorten(documents), rule=str(error))
                raise InputError([fault]) from None
            return [], str(error)


class _Template:
    """A prompt template and the request line around it, of which only two places change."""

    def __init__(self, source: str, normalise: Normaliser) -> None:
        self.render = PromptTemplate(source)
        line = normalise({"custom_id": _ID_MARK, "prompt": _PROMPT_MARK}, 0).line
        self._head, _, rest = line.partition(_encode(_ID_MARK))
        self._middle, _, self._tail = rest.partition(_encode(_PROMPT_MARK))
        self._model: str = msgspec.json.decode(line)["params"]["model"]

    def need(self, needs: Needs) -> Any:
        """What is noted about the one model that all requests of a template go to."""
        return needs.models[self._model]

    def line(self, custom_id: str, content: Any, index: int) -> bytes:
        """The request line."""
        try:
            return b"".join((self._head, _encode(custom_id), self._middle, _encode(content), self._tail))
        except (UnicodeEncodeError, ValueError) as error:
            fault = Fault(index=index, where="prompt", value=shorten(custom_id), rule=f"not JSON: {error}")
            raise InputError([fault]) from None


def _columns(record: Mapping[str, Any], index: int) -> dict[str, Any] | None:
    """All columns as JSON; the record's own custom_id is no column."""
    faults: list[Fault] = []
    columns = dict(record) if is_json(record) else to_json(record, index, "", faults)
    if faults:
        raise InputError(faults)
    columns.pop("custom_id", None)
    return columns or None


def _checked(custom_id: Any, index: int) -> str:
    if isinstance(custom_id, str) and CUSTOM_ID.fullmatch(custom_id):
        return custom_id
    form = "a custom_id is 1 to 64 letters, digits, hyphens or underscores"
    rule = f"{form}; custom_id='name of a column' on the operator makes one of any key"
    raise InputError([Fault(index=index, where="custom_id", value=shorten(custom_id), rule=rule)])


def _with_blocks(record: Mapping[str, Any], blocks: list[Any], index: int) -> list[Any]:
    prompt = record.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        rule = "documents go with a prompt: text that says what to do with them"
        raise InputError([Fault(index=index, where="prompt", value=shorten(prompt), rule=rule)])
    return [*blocks, {"type": "text", "text": prompt}]
