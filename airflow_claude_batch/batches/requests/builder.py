"""From a row of the user's data to a request: prompt template, custom_id, documents.

With a template every column is data: a column that happens to be called ``model``, ``system`` or
``documents`` sets and opens nothing. Without one, a record says itself what is sent (see ``request``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from airflow_claude_batch.batches.errors import UNREADABLE_DOCUMENT, Fault, InputError
from airflow_claude_batch.batches.requests.citations import check_citations
from airflow_claude_batch.batches.requests.constant_prompt import ConstantPrompt
from airflow_claude_batch.batches.requests.custom_ids import ContentIds, legal_id
from airflow_claude_batch.batches.requests.descriptions import describe, shorten
from airflow_claude_batch.batches.requests.document_blocks import UnreadableDocumentError
from airflow_claude_batch.batches.requests.documents import DocumentReader
from airflow_claude_batch.batches.requests.files import Broken
from airflow_claude_batch.batches.requests.json_values import as_json
from airflow_claude_batch.batches.requests.message_rules import MessageRules
from airflow_claude_batch.batches.requests.model_requirements import ModelRequirements
from airflow_claude_batch.batches.requests.objects import to_python
from airflow_claude_batch.batches.requests.parameters import MESSAGE_PARAMETERS
from airflow_claude_batch.batches.requests.plain_records import PlainRecords
from airflow_claude_batch.batches.requests.prompt_requests import PromptRequests
from airflow_claude_batch.batches.requests.prompt_template import PromptTemplate
from airflow_claude_batch.batches.requests.request import (
    CUSTOM_ID,
    Request,
    RequestEncoder,
    encode,
    is_parameter,
    no_custom_id,
    with_prompt,
)
from airflow_claude_batch.batches.requests.strict_schemas import StrictSchemas

DOCUMENTS = "documents"
"""Key of a record's documents, where the record says itself what is sent."""
_CONTENT = MESSAGE_PARAMETERS | {"prompt", "params", DOCUMENTS}

_canonical = msgspec.json.Encoder(order="sorted").encode


@dataclass(kw_only=True)
class Recipe:
    """What makes requests of rows that are no requests yet."""

    prompt: str | None = None
    """Jinja template over a record's columns."""
    custom_id: str | None = None
    """Column whose value names the record; None: the record's own custom_id, or its content."""
    documents: DocumentReader | None = None
    """Reads the documents of records; None: records have none."""
    documents_column: str | None = None
    """Column that holds a record's documents; None: ``documents`` without a template, none with one."""
    surroundings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """What the template knows besides the columns, each under a name of its own."""
    betas: bool = False
    """Whether beta features are asked for, with which there may be keys that nobody here knows."""
    requirements: ModelRequirements = field(default_factory=ModelRequirements)
    """Filled with what the requests ask of their models."""


class RequestBuilder:
    """Makes requests of records, one after the other.

    Args:
        recipe: What the operator says about records that are no requests yet.
        defaults: Messages API parameters for every request that does not set them itself.

    Raises:
        InputError: For defaults that break a rule.
        ConfigurationError: For a template that is not valid, or a schema that the API does not take.
    """

    def __init__(self, recipe: Recipe, defaults: Mapping[str, Any]) -> None:
        self._recipe = recipe
        self._encode_record = RequestEncoder(defaults)
        self._schemas = StrictSchemas()
        self._schemas.check_defaults(self._encode_record.defaults)
        self._rules = MessageRules(betas=recipe.betas)
        self._rules.check_defaults(self._encode_record.defaults, are_all=recipe.prompt is not None)
        self._content_ids = ContentIds()
        self._template: PromptTemplate | None = None
        if recipe.prompt is not None:
            self._template = PromptTemplate(recipe.prompt, recipe.surroundings)
            self._encode_record({"custom_id": "checks-the-defaults", "prompt": "-"}, 0)
        self._of_prompt = PromptRequests(self._encode_record.defaults)
        self._is_noted = False
        column = recipe.documents_column or (None if self._template else DOCUMENTS)
        self._documents_column = None if recipe.documents is None else column
        self._constant: ConstantPrompt | None = None
        if self._template is not None and not self._template.uses_columns:
            no_columns = ("custom_id", recipe.custom_id, self._documents_column)
            self._constant = ConstantPrompt(self._template.text, no_columns)
        self._content_keys = _CONTENT | {column or DOCUMENTS}
        # A record that lacks the column of its documents is bad.
        are_plain = self._template is None and recipe.documents_column is None
        self._plain = PlainRecords(self._plain_id) if are_plain else None

    def ahead(self, records: Iterable[Any]) -> Iterator[Any]:
        """The same records, with the documents that they need on their way."""
        reader, column = self._recipe.documents, self._documents_column
        return reader.ahead(records, column) if reader is not None and column else iter(records)

    def is_column(self, key: str) -> bool:
        """Whether a key of a record is the user's own column: comes back, and is not sent as it is."""
        if key == "custom_id":
            return self._recipe.custom_id is not None
        return self._template is not None or not (is_parameter(key) or key == self._documents_column)

    def id_of_bad(self, record: Mapping[str, Any]) -> str | None:
        """The custom_id of a record that is bad in another way, where it has one."""
        try:
            custom_id = self._custom_id(record, 0)
        except InputError:
            return None
        return custom_id if isinstance(custom_id, str) and CUSTOM_ID.fullmatch(custom_id) else None

    def __call__(self, given: Any, index: int) -> Request:
        """The request for one record.

        Args:
            given: A mapping or an object with fields, or text: the prompt.
            index: Its position in the input, for messages.

        Raises:
            InputError: With every fault of this record.
        """
        if self._plain is not None and (request := self._plain(given, index)) is not None:
            return request
        if isinstance(given, Broken):
            raise InputError([given.fault(index)])
        if isinstance(given, str):
            given = {"prompt": given}
        record = as_json(given, index, _is_sent if self._template is None else _nothing_is_sent)
        blocks = [] if self._documents_column is None else self._read_documents(record, index)
        if self._template is not None:
            if self._constant is not None and self._constant.is_settled(record, has_documents=bool(blocks)):
                self._constant = None
            columns = record if record is given else to_python(given)
            request = self._from_template(self._template(columns, index), record, blocks, index)
        else:
            request = self._from_record(record, blocks, index)
        # What requests of a template share was checked with the defaults; once more for each is 1.1 µs.
        if (request.shared is None or not self._is_noted) and (params := request.params) is not None:
            check_citations(params, index)
            self._schemas.check(params, index)
            self._rules.check(params, index)
            self._recipe.requirements.add(params)
            self._is_noted |= request.shared is not None
        if self._plain is not None:
            self._plain.learn(request)
        return request

    def _plain_id(self, record: dict[str, Any], index: int) -> str | None:
        """The custom_id of a record without documents; None where there is more to say of it."""
        own = record.get("custom_id")
        if self._documents_column in record:
            return None
        if self._recipe.custom_id is None:
            return own if type(own) is str and CUSTOM_ID.fullmatch(own) else None
        return None if "custom_id" in record else self._custom_id(record, index)

    def _from_template(self, prompt: str, record: dict[str, Any], blocks: list[Any], index: int) -> Request:
        custom_id = self._custom_id(record, index)
        if custom_id is None:
            documents = _content(self._documents_of(record), index)
            custom_id = self._content_ids(documents + b"\n" + prompt.encode("utf-8", "surrogatepass"))
        columns = record
        if "custom_id" in record and record["custom_id"] in (custom_id, None):
            columns = {key: value for key, value in record.items() if key != "custom_id"}
        if not blocks:
            return self._of_prompt(custom_id, prompt, columns, index)
        content = [*blocks, {"type": "text", "text": prompt}]
        return encode(custom_id, with_prompt(self._encode_record.defaults, content), columns, index)

    def _from_record(self, record: dict[str, Any], blocks: list[Any], index: int) -> Request:
        documents = self._documents_of(record)
        custom_id = self._custom_id(record, index)
        if documents is None and custom_id is not None and custom_id == record.get("custom_id"):
            return self._encode_record.encode_json(record, index)
        if custom_id is None:
            content = {key: record[key] for key in self._content_keys if record.get(key) is not None}
            custom_id = self._content_ids(_content(content, index))
        if documents is not None:
            record = {**record, "prompt": _with_blocks(record, blocks, index)}
        return self._encode_record.encode_json(record, index, custom_id)

    def _custom_id(self, record: Mapping[str, Any], index: int) -> str | None:
        """The record's key as a custom_id; None where it has none."""
        column = self._recipe.custom_id
        if column is None:
            given = record.get("custom_id")
            if given is None or self._template is None:
                return given  # checked with the rest of the record
            return _checked(given, index)
        key = record.get(column)
        if type(key) is int or (type(key) is str and key):  # nearly all
            return legal_id(str(key))
        if isinstance(key, bool) or key is None or key == "":
            there = "the record has none" if column in record else "the record has no such column"
            rule = f"this column names the record and so needs a value; {there}"
            raise InputError([Fault(index=index, where=f"column {column}", value=shorten(key), rule=rule)])
        if isinstance(key, float) and key.is_integer():  # of a table that has rows without
            key = int(key)
        return legal_id(str(key))

    def _documents_of(self, record: Mapping[str, Any]) -> Any:
        """What the record says where its documents are; None where it has none."""
        column = self._documents_column
        return None if column is None else record.get(column)

    def _read_documents(self, record: Mapping[str, Any], index: int) -> list[dict[str, Any]]:
        documents = self._documents_of(record)
        if documents is None or self._recipe.documents is None:
            column = self._recipe.documents_column
            if column is not None and column not in record:
                rule = "documents names this column; a record without documents has null there"
                raise InputError([Fault(index=index, where=f"column {column}", value="no column", rule=rule)])
            return []
        try:
            return self._recipe.documents(documents, index)
        except UnreadableDocumentError as error:
            where = self._documents_column or DOCUMENTS
            fault = Fault(index=index, where=where, value=describe(documents), rule=str(error))
            raise InputError([fault], kind=UNREADABLE_DOCUMENT) from None


def _is_sent(key: str) -> bool:
    return is_parameter(key) or key == DOCUMENTS


def _nothing_is_sent(key: str) -> bool:
    return False


def _content(value: Any, index: int) -> bytes:
    """What names a record that has no key."""
    try:
        return _canonical(value)
    except UnicodeEncodeError:
        rule = "not JSON; text is Unicode without lone surrogates"
        raise InputError([Fault(index=index, where="record", value=describe(value), rule=rule)]) from None


def _checked(custom_id: Any, index: int) -> str:
    if isinstance(custom_id, str) and CUSTOM_ID.fullmatch(custom_id):
        return custom_id
    raise InputError([no_custom_id(custom_id, index)])


def _with_blocks(record: Mapping[str, Any], blocks: list[Any], index: int) -> list[Any]:
    prompt = record.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        rule = "documents go with a prompt: text that says what to do with them"
        raise InputError([Fault(index=index, where="prompt", value=describe(prompt), rule=rule)])
    return [*blocks, {"type": "text", "text": prompt}]
