"""The records that users get: what an answer or a failure looks like once it is delivered.

Version 1. Fields are only ever added, at the end; their order, names and types are stable.

Succeeded records:

==============  ============  ===============================================================================
field           type          what it is
==============  ============  ===============================================================================
custom_id       text          of the request
text            text          the text blocks of the answer, joined
stop_reason     text, null    why the answer ended (``end_turn``, ``max_tokens``, ``refusal``, …)
model           text, null    the model that answered
usage           object, null  token counts as the API gives them
cost_usd        number, null  price of this answer in a batch; null where the model has no known price
input           object, null  the user's own columns of the record
output          any           the parsed answer, where an output schema was asked for; where the answer calls
                              a tool, the tool's input (see below)
message         object        the API's whole message; only where it was asked for
tool            text          the tool that the answer calls; only where it calls one
citations       list          what the answer quotes (:mod:`.citations`); only where it quotes something
request_digest  text, null    a hash of all that was sent but the custom_id: equal requests have equal ones
                              (with ``reuse`` it leaves out what changes no answer)
prompt_version  text, null    the operator's ``prompt_version``, or a hash of template, system and schema
version         text          the version of this package that wrote the record
reused          object        the answer was given before: ``batch_id`` (text, null) and ``answered_at``; only
                              where that is so
==============  ============  ===============================================================================

Errored records:

==============  =============  ===========================================================================
field           type           what it is
==============  =============  ===========================================================================
custom_id       text           of the request
outcome         text           errored, expired, canceled, invalid, missing
error_type      text, null     the API's error type, or ``late`` (no answer by the deadline) or
                               ``unreadable_result`` (it never came); of an invalid record
                               ``output_schema``, ``tool_use``, ``check``, a kind of answer (below),
                               ``invalid_record`` or ``unreadable_document``
message         text, null     what happened, in words
request_id      text, null     the API's id of the failed request, for support
retryable       true or false  whether the same request may succeed at another time
rounds          number         how many times the request was sent
input           object, null   the user's own columns of the record
cost_usd        number, null   price of an invalid answer (it was paid for); else null
result          object         the API's whole result, where it is invalid or of an unknown type (its line as
                               text, where no decoder follows it)
model           text, null     the model that gave an invalid answer; else null
request_digest  text, null     as above; null for what was never sent
prompt_version  text, null     as above
version         text           as above
==============  =============  ===========================================================================

What an answer is, and what follows from it (``AnswerPolicy(count_as_failed=…)`` takes the last five kinds):

=================================  ===========================================================================
kind                               what is delivered
=================================  ===========================================================================
``end_turn``, ``stop_sequence``    the answer; ``output`` where a schema was asked for and it fits, else the
                                   record is ``invalid`` (``output_schema``)
``tool_use``                       one call: ``tool`` names it, ``output`` is its input; several: ``output``
                                   is a list of ``{"tool", "input"}``. An input that does not fit the tool's
                                   schema, or a tool that was not offered, makes the record ``invalid``
                                   (``tool_use``). Where an output schema was asked for, the input of the one
                                   call has to fit it
``max_tokens``                     the beginning of the answer. With a schema (of the output or of a tool)
                                   that it does not fit: ``invalid`` (``max_tokens``)
``model_context_window_exceeded``  the same, under its own name
``refusal``                        what there is, often nothing. With a schema: ``invalid`` (``refusal``)
``pause_turn``                     the answer so far. With a schema that it does not fit: ``invalid``
                                   (``pause_turn``)
``empty``                          no text but white space and no call of a tool (only thinking, for example),
                                   and none of the four above explains it: ``text`` is empty. With a schema:
                                   ``invalid`` (``empty``)
=================================  ===========================================================================

All are counted in the summary (``stop_reasons``, ``empty``) whether they count as failed or not. ``text``
joins all text blocks. Thinking, and the calls and results of tools that the API runs itself, are in the whole
message only (``include_message``).

In Parquet files ``usage`` is a struct of the four token counts; ``input`` a struct of the user's columns,
whose types are those that all records of the job have in common (:mod:`.json_types`); ``output`` has the
type of its schema. What has no common type, ``message`` and ``result`` are JSON text, and the metadata of
the field says so.

The summary names the places of the records:

============================  ===========================================================================
key                           what it is
============================  ===========================================================================
succeeded_path, errored_path  the directories of the two sets, with the connection where there is one
                              (``s3://conn_id@bucket/…``); ``airflow_claude_batch.results`` and
                              ``ObjectStoragePath`` read them
summary_path                  of ``summary.json``, likewise
succeeded_uri, errored_uri    the same directories without the connection (``s3://bucket/…``), as pandas,
                              DuckDB and Spark understand them; with their own credentials
============================  ===========================================================================

All are null where the records are in XCom, as ``succeeded`` and ``errored``.
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

import msgspec

from airflow_claude_batch.batches.api.result_lines import Reused
from airflow_claude_batch.batches.results.citations import Citation

RECORDS_VERSION = 1
VERSION = importlib.metadata.version("airflow-claude-batch")

OUTCOMES = ("succeeded", "errored", "expired", "canceled", "invalid", "missing")

RETRYABLE_ERRORS = frozenset({"overloaded_error", "api_error", "timeout_error", "rate_limit_error"})
"""Error types of single requests that another try may not meet again."""
UNREADABLE_RESULT = "unreadable_result"
"""Error type of requests whose result exists and never comes, as a person has accepted."""
ACCOUNT_ERRORS = frozenset({"billing_error"})
"""Error types that say nothing of the request, only of the account that sent it."""
ACCOUNT_WORDS = ("credit balance", "spend limit", "spending limit", "plans & billing")
"""The same, in the words of an ``invalid_request_error``."""

WHY = {
    "expired": "the batch reached its 24 hours before this request was processed",
    "canceled": "the batch was cancelled before this request was processed",
    "missing": "the results hold no line for this request",
    UNREADABLE_RESULT: "the API counts a result that came in no download, or damaged; a person has accepted "
    "that. It may be paid for, so it is sent again only by claude-batch retry",
}


class SucceededRecord(msgspec.Struct, gc=False):
    """One answered request; its fields are described above."""

    custom_id: str
    text: msgspec.Raw
    stop_reason: str | None
    model: str | None
    usage: msgspec.Raw | None
    cost_usd: float | None
    input: msgspec.Raw | None = None
    output: Any = msgspec.UNSET
    message: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    tool: str | msgspec.UnsetType = msgspec.UNSET
    citations: list[Citation] | msgspec.UnsetType = msgspec.UNSET
    request_digest: str | None = None
    prompt_version: str | None = None
    version: str = VERSION
    reused: Reused | msgspec.UnsetType = msgspec.UNSET


class ErroredRecord(msgspec.Struct, kw_only=True, gc=False):
    """One request without a usable answer; its fields are described above."""

    custom_id: str
    outcome: str
    error_type: str | None = None
    message: str | None = None
    request_id: str | None = None
    retryable: bool = False
    rounds: int = 1
    input: msgspec.Raw | None = None
    cost_usd: float | None = None
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    model: str | None = None
    request_digest: str | None = None
    prompt_version: str | None = None
    version: str = VERSION


def is_retryable(outcome: str, error_type: str | None, message: str | None) -> bool:
    """Whether another try may succeed where the user changes nothing about the request."""
    if outcome in ("expired", "canceled", "missing"):
        return True
    if error_type in RETRYABLE_ERRORS or error_type in ACCOUNT_ERRORS:
        return True
    # Arrives as invalid_request_error, but it is the account that is short, not the request that is wrong.
    lowered = (message or "").lower()
    return any(words in lowered for words in ACCOUNT_WORDS)
