"""Everything that can go wrong, one class for each thing that a caller would handle differently.

::

    ClaudeBatchError
    ├── InputError                 records break a rule; nothing was sent
    ├── ConfigurationError         a setting is missing or contradictory; nothing was sent
    ├── BudgetExceededError        the estimate is above max_cost_usd; nothing was sent
    ├── LedgerError                the job's record cannot be read or is of another version
    ├── LostOwnershipError         another worker has taken this job over
    ├── SubmissionError            a batch could not be created
    │   ├── RejectedError          the API refused the request itself (400, 404, 409, 413)
    │   ├── AccessError            the key is wrong or lacks permission (401, 403)
    │   ├── BillingError           no credit, or a spend limit (402, 429 without retry-after)
    │   └── AmbiguousSubmissionError   several batches could be ours; a person has to decide
    ├── WaitError                  a batch cannot be waited for any longer
    │   ├── UnknownBatchError      the API does not know this batch
    │   ├── WaitAccessError        the key was refused for minutes
    │   └── WaitTimeoutError       the deadline passed; the batch was left alone
    └── ResultsError
        ├── ResultsGoneError       results are kept 29 days; these are past it, or deleted
        ├── IncompleteResultsError the download kept ending before the last result
        ├── ResultsTooLargeError   the result does not fit into XCom
        └── TooManyFailuresError   the share of failed requests is above what was allowed
"""

from __future__ import annotations

from dataclasses import dataclass


class ClaudeBatchError(Exception):
    """Base class of every error that this package raises."""


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
        return f"record {self.index}: {self.where} = {self.value}: {self.rule}"


class InputError(ClaudeBatchError, ValueError):
    """Records break a rule. Raised before anything is sent.

    :param faults: the first faults in full (at most 20 are printed)
    :param total: how many faults there are in all
    """

    def __init__(self, faults: list[Fault], total: int | None = None) -> None:
        self.faults = faults
        self.total = len(faults) if total is None else total
        shown = "\n".join(f"  {fault}" for fault in faults)
        more = "" if self.total <= len(faults) else f"\n  ... and {self.total - len(faults)} more"
        super().__init__(f"{self.total} fault(s) in the requests, nothing was sent:\n{shown}{more}")

    def __reduce__(self) -> tuple[type[InputError], tuple[list[Fault], int]]:
        return type(self), (self.faults, self.total)


class ConfigurationError(ClaudeBatchError, ValueError):
    """A setting is missing or contradicts another. Nothing was sent."""


class BudgetExceededError(ClaudeBatchError):
    """The estimated cost is above ``max_cost_usd``. Nothing was sent."""


class LedgerError(ClaudeBatchError):
    """The job's ledger is damaged or of an unknown version. Nothing was sent because of it."""


class LostOwnershipError(ClaudeBatchError):
    """Another worker has taken this job over; this one must not send anything more."""


class SubmissionError(ClaudeBatchError):
    """A batch could not be created."""


class RejectedError(SubmissionError):
    """The API refused the request itself; sending it again would not help."""


class AccessError(SubmissionError):
    """The API key is wrong, revoked or lacks permission (401, 403)."""


class BillingError(SubmissionError):
    """No credit, or a spend limit is reached (402, 429 without ``retry-after``)."""


class AmbiguousSubmissionError(SubmissionError):
    """Several batches of the workspace could be the one whose answer was lost."""


class WaitError(ClaudeBatchError):
    """A batch cannot be waited for any longer."""


class UnknownBatchError(WaitError):
    """The API does not know this batch, nor does any ledger."""


class WaitAccessError(WaitError):
    """The key was refused (401, 403) for minutes while waiting."""


class WaitTimeoutError(WaitError):
    """The wait is over before the batch is; the batch itself goes on."""


class ResultsError(ClaudeBatchError):
    """Results could not be delivered."""


class ResultsGoneError(ResultsError):
    """The results are past their 29 days, or the batch was deleted."""


class IncompleteResultsError(ResultsError):
    """The download kept ending before the last result."""


class ResultsTooLargeError(ResultsError):
    """The result is larger than what may go into XCom."""


class TooManyFailuresError(ResultsError):
    """Nothing succeeded, or more requests failed than ``max_failed_fraction`` allows."""
