"""Citations: what the API refuses about them, found before anything is sent; and begun answers.

Sources: https://platform.claude.com/docs/en/build-with-claude/citations: all documents of a request have
citations or none has, and citations do not go with ``output_config.format``; …/structured-outputs, "Feature
compatibility": nor does a prefilled answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from airflow_claude_batch.batches.errors import Fault, InputError

_CITABLE = ("document", "search_result")


def check_citations(params: Mapping[str, Any], index: int) -> None:
    """Refuse what the API would.

    Args:
        params: The body of a Messages API call.
        index: The record's position in the input, for messages.

    Raises:
        InputError: For citations or a begun answer together with an output schema, and for documents with
            and without citations.
    """
    config = params.get("output_config")
    has_format = config is not None and isinstance(config, Mapping) and config.get("format") is not None
    if has_format and _is_begun(params["messages"][-1]):
        begun = Fault(
            index=index,
            where="the last message",
            value="a message of the assistant",
            rule="the API takes no answer that is begun (prefilled) together with an output schema",
        )
        raise InputError([begun])
    for message in params.get("messages") or ():  # a plain loop: this runs for every request
        if type(message.get("content")) is not str:
            break
    else:
        return
    cited = list(_cited(params))
    if True not in cited:
        return
    rule = None
    if has_format:
        rule = (
            "the API takes no citations together with an output schema; ask for the quotes in fields of the "
            "schema, or leave out citations"
        )
    elif False in cited:
        rule = "all documents of a request have citations, or none has; set citations for each of them"
    if rule is not None:
        value = f"{cited.count(True)} of {len(cited)} documents with citations"
        raise InputError([Fault(index=index, where="documents", value=value, rule=rule)])


def _is_begun(message: Any) -> bool:
    """Whether a last message is the text that the answer is to begin with; a paused turn is none."""
    if not isinstance(message, Mapping) or message.get("role") != "assistant":
        return False
    content = message.get("content")
    return isinstance(content, str) or all(
        isinstance(block, Mapping) and block.get("type") == "text" for block in content or ()
    )


def _cited(params: Mapping[str, Any]) -> Iterator[bool]:
    """For each document of the messages, whether it has citations."""
    for message in params.get("messages") or ():
        content = message.get("content") if isinstance(message, Mapping) else None
        if isinstance(content, (list, tuple)):
            yield from _cited_blocks(content)


def _cited_blocks(blocks: Any) -> Iterator[bool]:
    for block in blocks:
        if not isinstance(block, Mapping):
            continue
        if block.get("type") in _CITABLE:
            citations = block.get("citations")
            yield isinstance(citations, Mapping) and citations.get("enabled") is True
        elif block.get("type") == "tool_result" and isinstance(block.get("content"), (list, tuple)):
            yield from _cited_blocks(block["content"])
