"""What an answer quotes, and where that stands.

The API says so of texts whose documents were sent with ``citations`` (source: the documentation of citations,
https://platform.claude.com/docs/en/build-with-claude/citations). It does not go together with an output
schema; there, let the model copy the words that carry a field into a field of their own, and name it:
``AnswerPolicy(quotes=("total_quote", "items.quote"))``. Each is looked for in the texts that were sent with
the request, white space apart; one that has no place there is nowhere in them, and deserves a look.

Places are counted as the API does: documents and characters from 0, pages from 1, each end exclusive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import msgspec

from airflow_claude_batch.batches.api.result_lines import Block
from airflow_claude_batch.batches.errors import ConfigurationError

MOST_LEVELS = 50
"""Of a schema that are looked at."""

_RANGES = (
    ("start_char_index", "end_char_index", "start_char", "end_char"),
    ("start_page_number", "end_page_number", "start_page", "end_page"),
    ("start_block_index", "end_block_index", "start_block", "end_block"),
)


class Citation(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One quotation of an answer."""

    quote: str | None = None
    """The words that are quoted."""
    field: str | None = None
    """The field of ``output`` that quotes; None where it is the text."""
    document: str | None = None
    """Title of the document."""
    document_index: int | None = None
    """Number of the document in the request."""
    start_char: int | None = None
    """First character in a text document."""
    end_char: int | None = None
    """The one behind the last."""
    start_page: int | None = None
    """First page of a PDF, counted from 1."""
    end_page: int | None = None
    """The one behind the last."""
    start_block: int | None = None
    """First block of a document that was sent in blocks."""
    end_block: int | None = None
    """The one behind the last."""
    url: str | None = None
    """Of a web search result, or the source of a search result."""
    start_text: int | None = None
    """First character of the record's ``text`` that the quotation carries."""
    end_text: int | None = None
    """The one behind the last."""


def citations_of(content: Sequence[Block], decode: Callable[[msgspec.Raw], str]) -> list[Citation]:
    """The citations of an answer's text blocks, in their order."""
    found, start = [], 0
    for block in content:
        if block.type != "text" or not block.text:
            continue
        end = start + len(decode(block.text))
        found += [_citation(given, start, end) for given in _listed(block.citations)]
        start = end
    return found


def _listed(citations: Any) -> list[dict[str, Any]]:
    return [given for given in citations if isinstance(given, dict)] if isinstance(citations, list) else []


def _citation(given: dict[str, Any], start: int, end: int) -> Citation:
    values: dict[str, Any] = {"document_index": _number(given.get("document_index"))}
    if values["document_index"] is None:
        values["document_index"] = _number(given.get("search_result_index"))
    for first, last, own_first, own_last in _RANGES:
        values[own_first], values[own_last] = _number(given.get(first)), _number(given.get(last))
    return Citation(
        quote=_text(given.get("cited_text")),
        document=_text(given.get("document_title")) or _text(given.get("title")),
        url=_text(given.get("url")) or _text(given.get("source")),
        start_text=start,
        end_text=end,
        **values,
    )


def _number(value: Any) -> int | None:
    return value if type(value) is int and value.bit_length() < 64 else None  # as Parquet holds it


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def quotes_of(output: Any, fields: Iterable[str], messages: Any) -> list[Citation]:
    """The fields of an output that quote, each with its place in the texts that were sent.

    Args:
        output: The parsed answer.
        fields: Which fields: keys, joined by dots; lists are gone through.
        messages: Of the request, as far as it is known; else None.
    """
    texts = list(_documents(messages))
    return [_located(quote, field, texts) for field in fields for quote in _values(output, field.split("."))]


def check_quotes(fields: Iterable[str], schema: dict[str, Any]) -> None:
    """See that the fields that quote are fields of the output, as far as its schema names them.

    Args:
        fields: As :func:`quotes_of` takes them.
        schema: JSON Schema of the output.

    Raises:
        ConfigurationError: For one that no output can have.
    """
    for name in fields:
        if not _may_have(schema, name.split("."), schema):
            raise ConfigurationError(
                f"answer_policy.quotes names {name!r}, which output_schema has not. Write the keys from "
                "the top, joined by dots (total_quote, items.quote); lists are gone through."
            )


def _may_have(
    schema: Any, path: list[str], root: dict[str, Any], level: int = 0, seen: frozenset[str] = frozenset()
) -> bool:
    """Whether a value may have a field; ``seen`` are the references that were followed on the way to it."""
    if not isinstance(schema, dict) or not path or level > MOST_LEVELS:
        return True
    below = partial(_may_have, root=root, level=level + 1, seen=seen)
    address = schema.get("$ref")
    if isinstance(address, str):
        return address not in seen and below(_referred(address, root), path, seen=seen | {address})
    for word in ("anyOf", "oneOf", "allOf"):
        if isinstance(schema.get(word), list):
            return any(below(branch, path) for branch in schema[word])
    if "items" in schema:
        return below(schema["items"], path)
    if "properties" not in schema:
        return schema.get("type") in (None, "object", "array") or isinstance(schema["type"], list)
    found = schema["properties"].get(path[0])
    return (
        below(found, path[1:], seen=frozenset())
        if found is not None
        else bool(schema.get("additionalProperties"))
    )


def _referred(address: str, root: dict[str, Any]) -> Any:
    """What a reference within the schema names; None where it is none."""
    found: Any = root if address.startswith("#") else None
    for key in filter(None, address.removeprefix("#").split("/")):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _values(value: Any, path: list[str]) -> Iterator[str]:
    if isinstance(value, list):
        for item in value:
            yield from _values(item, path)
    elif not path:
        if isinstance(value, str) and value.strip():
            yield value
    elif isinstance(value, dict) and path[0] in value:
        yield from _values(value[path[0]], path[1:])


_Document = tuple[int | None, str | None, str]
"""Its number, title and text; the prompt itself has no number."""


def _documents(messages: Any) -> Iterator[_Document]:
    number = 0
    for message in messages if isinstance(messages, list) else ():
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, str):
            yield None, None, content
        for block in content if isinstance(content, list) else ():
            if not isinstance(block, dict):
                continue
            if block.get("type") == "text":
                yield None, None, str(block.get("text", ""))
            elif block.get("type") == "document":
                yield number, _text(block.get("title")), _text_of(block.get("source"))
                number += 1


def _text_of(source: Any) -> str:
    """The text of a document; empty where only the API has it, as for a PDF."""
    if not isinstance(source, dict):
        return ""
    if source.get("type") == "text":
        return str(source.get("data", ""))
    content = source.get("content")
    if isinstance(content, str):
        return content
    return "".join(str(block.get("text", "")) for block in content or () if isinstance(block, dict))


def _located(quote: str, field: str, texts: list[_Document]) -> Citation:
    words = quote.split()
    for number, title, text in texts:
        start = text.find(quote)
        span = (start, start + len(quote)) if start >= 0 else _find_words(words, text)
        if span is not None:
            return Citation(
                quote=quote,
                field=field,
                document=title,
                document_index=number,
                start_char=span[0],
                end_char=span[1],
            )
    return Citation(quote=quote, field=field)


def _find_words(words: list[str], text: str) -> tuple[int, int] | None:
    match = re.search(r"\s+".join(map(re.escape, words)), text)
    return match.span() if match else None
