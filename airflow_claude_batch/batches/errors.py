"""Everything that can go wrong, one class for each thing that a caller would handle differently.

The first thing to know about an error is whether a retry of the task may help. Its base says so, and so
every class here has exactly one of the two: ``Transient`` (Airflow retries the task, as it is configured
to) or ``Final`` (`common.final_errors` makes it an error that Airflow does not retry). A new class is put
below one of them, and into the drawing.

::

    ClaudeBatchError
    ├── Transient                      a retry of the task may succeed
    │   ├── ApiCallError               a call to the API failed, and no step knows more about it
    │   ├── LostOwnershipError         another worker has taken this job over
    │   ├── BookError                  too many others were writing in the book of costs; nothing was sent
    │   ├── SubmissionError            a batch could not be created, or not be recorded
    │   ├── UnreachableError           the API cannot be reached; nothing was sent
    │   │   └── NotReachedYetError     for the time being, as far as can be told
    │   ├── StoreError                 the store of answers cannot be reached
    │   ├── WaitError                  a wait has ended without its batches
    │   │   └── WaitTimeoutError       the deadline passed; the batch was left alone
    │   └── ResultsError               results could not be delivered
    │       └── IncompleteResultsError the download kept ending before the last result
    │           └── UnreadResultsError results that exist are in no download, or are damaged in each
    └── Final                          a retry would only fail again
        ├── InputError                 records break a rule; nothing was sent
        │   └── EmptyInputError        there are no records
        ├── ConfigurationError         a setting is missing or contradictory; nothing was sent
        ├── BudgetExceededError        the estimate is above what a budget has left; nothing was sent
        ├── LedgerError                the job's record cannot be read or is of another version
        ├── RejectedError              the API refused the request itself (400, 404, 409, 413)
        ├── AccessError                the key is wrong or lacks permission (401, 403)
        ├── BillingError               no credit, or a spend limit (402, 429 without retry-after)
        ├── AmbiguousSubmissionError   several batches could be ours; a person has to decide
        ├── UnknownBatchError          the API does not know this batch
        ├── DeadlineMissedError        the deadline has come, and on_deadline is "fail"
        ├── WaitAccessError            the key was refused for minutes
        ├── ResultsGoneError           results are kept 29 days; these are past it, or deleted
        ├── ResultsTooLargeError       the result does not fit into XCom
        ├── CheckError                 the user's check of the answers failed itself
        └── TooManyFailuresError       the share of failed requests is above what was allowed
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

INVALID_RECORD = "invalid_record"
"""Error type of a record that breaks a rule."""
UNREADABLE_DOCUMENT = "unreadable_document"
"""Error type of a record one of whose documents cannot be sent."""


class ClaudeBatchError(Exception):
    """Base class of every error that this package raises."""


class Transient(ClaudeBatchError):  # noqa: N818  # a kind of error, not one
    """What a retry of the task may cure."""


class Final(ClaudeBatchError):  # noqa: N818  # a kind of error, not one
    """What a retry of the task cannot cure: somebody has to change something first."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong with one record."""

    index: int
    """Position of the record in the input, counted from 0."""
    where: str
    """Path of the value inside the record, for example ``params.max_tokens``."""
    value: str
    """The offending value, shortened."""
    rule: str
    """What would have been right."""

    def __str__(self) -> str:
        text = f"record {self.index}: {self.where} = {self.value}: {self.rule}"
        return text.encode("utf-8", "backslashreplace").decode()  # a name may be no Unicode


class InputError(Final, ValueError):
    """Records break a rule. Raised before anything is sent.

    Args:
        faults: The first faults in full (at most 20 are printed).
        total: How many faults there are in all.
        kind: Error type of the record among the errored ones, where it is put there.
        verdict: What the faults come to, in a sentence.
    """

    def __init__(
        self,
        faults: list[Fault],
        total: int | None = None,
        *,
        kind: str = INVALID_RECORD,
        verdict: str = "",
    ) -> None:
        self.faults = faults
        self.total = len(faults) if total is None else total
        self.kind = kind
        self.verdict = verdict
        shown = "\n".join(f"  {fault}" for fault in faults)
        more = "" if self.total <= len(faults) else f"\n  ... and {self.total - len(faults)} more"
        verdict = f" {self.verdict}" if self.verdict else ""
        super().__init__(f"{self.total} fault(s) in the requests, nothing was sent.{verdict}\n{shown}{more}")

    def __reduce__(self) -> Any:
        return partial(type(self), kind=self.kind, verdict=self.verdict), (self.faults, self.total)


class EmptyInputError(InputError):
    """The source has no records."""


class ConfigurationError(Final, ValueError):
    """A setting is missing or contradicts another. Nothing was sent."""


def missing_package(what: str, package: str, extra: str) -> ConfigurationError:
    """What to raise where an optional package is not installed.

    Args:
        what: What needs it.
        package: Which.
        extra: Of ours, which brings it.
    """
    return ConfigurationError(f"{what} needs {package}: pip install 'airflow-claude-batch[{extra}]'")


class BudgetExceededError(Final):
    """The estimated cost is above what a budget allows, or has left. Nothing was sent."""


class LedgerError(Final):
    """The job's ledger is damaged or of an unknown version. Nothing was sent because of it."""


class ApiCallError(Transient):
    """A call to the API failed in a way that no step expects."""


class LostOwnershipError(Transient):
    """Another worker has taken this job over; this one must not send anything more."""


class BookError(Transient):
    """Too many others were writing in the book of costs. Nothing was sent."""


class SubmissionError(Transient):
    """A batch could not be created, or could not be recorded."""


class UnreachableError(Transient):
    """The API cannot be reached; nothing was sent."""


class NotReachedYetError(UnreachableError):
    """The API cannot be reached for the time being, as far as can be told; nothing was sent."""


class RejectedError(Final):
    """The API refused the request itself; sending it again would not help."""


class AccessError(Final):
    """The API key is wrong, revoked or lacks permission (401, 403)."""


class BillingError(Final):
    """No credit, or a spend limit is reached (402, 429 without ``retry-after``)."""


class AmbiguousSubmissionError(Final):
    """Several batches of the workspace could be the one whose answer was lost."""


class StoreError(Transient):
    """The store of answers that earlier jobs were given cannot be reached."""


class WaitError(Transient):
    """A wait has ended without its batches."""


class UnknownBatchError(Final):
    """The API does not know this batch, nor does any ledger."""


class DeadlineMissedError(Final):
    """Requests are not answered at the deadline, and the user wants the task to fail then."""


class WaitAccessError(Final):
    """The key was refused (401, 403) for minutes while waiting."""


class WaitTimeoutError(WaitError):
    """The wait is over before the batch is; the batch itself goes on."""


class ResultsError(Transient):
    """Results could not be delivered."""


class ResultsGoneError(Final):
    """The results are past their 29 days, or the batch was deleted."""


class IncompleteResultsError(ResultsError):
    """The download kept ending before the last result."""


class UnreadResultsError(IncompleteResultsError):
    """Results that exist are in no download, or are damaged in each; a person may accept that."""


class ResultsTooLargeError(Final):
    """The result is larger than what may go into XCom."""


class CheckError(Final):
    """The user's check of the answers failed itself."""


class TooManyFailuresError(Final):
    """Nothing succeeded, or more requests failed than ``max_failed_fraction`` allows."""
