"""The book of costs, as tasks meet it: what a job reserves and settles, and what its budgets say.

==============================  =======  =============================================================
metric                          type     what it counts
==============================  =======  =============================================================
``claude_batch.budget_used``    gauge    share of a day's or month's budget that is used, at each look
``claude_batch.budget_alerts``  counter  alerts about budgets, each once a day or month
==============================  =======  =============================================================

Both carry the tags ``budget`` (its scope), ``per`` and ``conn_id``.
"""

from __future__ import annotations

import contextlib
import datetime
import logging
import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_claude_batch.batches.accounts.additions import (
    add,
    forecast,
    is_decided,
    is_settled,
    unsent_parts,
)
from airflow_claude_batch.batches.accounts.alerts import EXCEEDED, alert_of, as_event, raise_once
from airflow_claude_batch.batches.accounts.book import Book
from airflow_claude_batch.batches.accounts.budgets import use_of, window_at
from airflow_claude_batch.batches.accounts.reservation import (
    Calendar,
    Ruling,
    estimated_pico,
    release,
    reserve,
    settle,
)
from airflow_claude_batch.batches.api.foreign_text import describe_error
from airflow_claude_batch.batches.cost.prices import PriceBook
from airflow_claude_batch.batches.cost.spending import PICO
from airflow_claude_batch.batches.errors import BudgetExceededError
from airflow_claude_batch.batches.job.answers import has_sent
from airflow_claude_batch.batches.job.history import History
from airflow_claude_batch.batches.job.job import Later, open_job
from airflow_claude_batch.batches.job.ledger import BookingState
from airflow_claude_batch.batches.results.replaced import count_replaced
from airflow_claude_batch.batches.submission.estimate import Estimate, estimate
from airflow_claude_batch.common.metrics import AirflowMetrics
from airflow_claude_batch.common.settings import (
    budget_timezone,
    price_factor,
    reservation_hours,
)
from airflow_claude_batch.runtime.budgets import Budgets, call

if TYPE_CHECKING:
    from airflow_claude_batch.batches.api.client import BatchesApi
    from airflow_claude_batch.batches.job.job import Job
    from airflow_claude_batch.batches.job.part import Part
    from airflow_claude_batch.batches.storage import Folder
    from airflow_claude_batch.hooks.claude_batch import ClaudeBatchHook

log = logging.getLogger(__name__)

UNPRICED = "What it would cost is not known for every model, and a budget has a limit."
LONGEST_WAIT = datetime.timedelta(hours=1)
"""Between two looks at a budget that is used up: jobs that cost less than reserved make room."""


@dataclass(kw_only=True)
class JobSpending:
    """The costs of one job.

    Args:
        job: Owned by this process.
        api: Of its connection; its clock says what day it is.
        budgets: What the job is subject to.
        prices: Of its connection.
    """

    job: Job
    api: BatchesApi
    budgets: Budgets
    prices: PriceBook

    def check_limit(self) -> None:
        """See that a job of which nothing was sent is not estimated to cost more than one may.

        Raises:
            BudgetExceededError: Where it is: what was refused is not sent by another command.
        """
        job, limit = self.job, min(self.budgets.of_job, default=None)
        if limit is None or has_sent(job.folder, job.ledger):
            return
        if known := job.ledger.estimate:
            found = Estimate.of(known)
        else:
            found = estimate(job, self.prices, api=self.api, expected_output=None)
        found.check(limit, direct=not job.ledger.batch_parts)

    def reserve(self) -> Later | None:
        """Reserve what the job will cost.

        Returns:
            When to come back, where a budget is used up and the job is to wait for the next window.

        Raises:
            BudgetExceededError: Where it does not fit into a budget.
        """
        if not has_sent(self.job.folder, self.job.ledger):
            self._check_prices()
        calendar = self._calendar
        before = self.job.ledger.booking
        refused_before = before is not None and before.state is BookingState.RELEASED
        rulings = reserve(self.job, self.budgets.of_window, calendar)
        for ruling in rulings:
            self._tell(ruling, again=refused_before and ruling.budget.on_exceeded == "wait")
        refused = next((ruling for ruling in rulings if not ruling.passed), None)
        return None if refused is None else self._refuse(refused, calendar)

    def objections(self) -> list[str]:
        """Why the budgets of days and months would refuse the job if it were sent now; nothing is booked."""
        job = self.job
        if not self.budgets.of_window or has_sent(job.folder, job.ledger):
            return []
        try:
            self._check_prices()
        except BudgetExceededError as error:
            return [str(error)]
        pico, book, calendar, found = estimated_pico(job.ledger) or 0, Book(job.root), self._calendar, []
        for budget in self.budgets.of_window:
            window = window_at(budget.per, calendar.now, calendar.zone)
            use = use_of(budget, book.days(window.first, window.last).values())
            if pico and (use.unpriced or use.pico + pico > budget.pico):
                refused = Ruling(budget=budget, window=window, use=use, passed=False)
                found.append(f"The job is estimated at ${pico / PICO:.4f}, and {_state_of(refused)}.")
        return found

    def reserve_rest(self) -> Later | None:
        """Reserve what later rounds cost beyond what is reserved; give up those that a budget refuses.

        Returns:
            When to come back, where the job itself has no reservation and is to wait for one.

        Raises:
            BudgetExceededError: Where it has none and does not fit into a budget.
        """
        parts = unsent_parts(self.job)
        booking = self.job.ledger.booking
        if parts and (booking is None or booking.state is not BookingState.ADMITTED):
            later = self.reserve()
            if later is not None:
                return later
        settled = bool(parts) and is_settled(self.job)
        if refused := [part for part in parts if part.round or settled]:
            last = max(part.round for part in refused)
            if reason := self._add(f"round {last}"):
                log.warning("Not sent again: %s requests. %s", _requests_of(refused), reason)
                with self.job.change():
                    for part in refused:
                        part.given_up = reason
        return None

    def reserve_direct(self, parts: list[Part]) -> str:
        """Reserve what single calls cost beyond what is reserved.

        Args:
            parts: That they are to answer.

        Returns:
            Why that is too much; empty where it is not.
        """
        return self._add("direct", parts)

    def _add(self, about: str, direct: Collection[Part] = ()) -> str:
        job = self.job
        if job.ledger.booking is None or is_decided(job, about):
            return ""
        expected, held = forecast(job, self._estimate(), direct)
        if expected is None:
            return UNPRICED if self.budgets.exist else ""
        limit = min(self.budgets.of_job, default=None)
        more = expected - held
        if limit is not None and more > 0 and expected > limit * PICO:
            why = f"The job would cost ${expected / PICO:.4f} by the estimate, beyond max_usd={limit}."
            self.budgets.tell_too_dear(job.ledger, limit, why)
            return why
        rulings = add(job, about, more, self.budgets.of_window, self._calendar)
        for ruling in rulings:
            self._tell(ruling, again=False)
        refused = next((ruling for ruling in rulings if not ruling.passed), None)
        if refused is None:
            return ""
        return f"The job would cost ${more / PICO:.4f} more than reserved, and {_state_of(refused)}."

    @contextlib.contextmanager
    def released_unless_sent(self) -> Iterator[None]:
        """Take the reservation back when the block fails before anything is sent."""
        try:
            yield
        except Exception:
            with contextlib.suppress(Exception):  # the failure itself is what people have to see
                release(self.job)
            raise

    def settle(self) -> None:
        """Book what the job has cost, and alert where that is too much."""
        ledger = self.job.ledger
        if not ledger.request_count:
            return
        settle(self.job, self._calendar)
        assert ledger.booking is not None
        book = Book(self.job.root)
        for budget in self.budgets.of_window:
            window = window_at(budget.per, ledger.booking.at, self._calendar.zone)
            use = use_of(budget, book.days(window.first, window.last).values())
            self._tell(Ruling(budget=budget, window=window, use=use, passed=True), again=False)

    def _estimate(self) -> dict[str, Any]:
        """The job's; where it has none, or nothing was to be sent, that of what is to be sent now."""
        known = self.job.ledger.estimate
        if known.get("requests"):
            return known
        return estimate(self.job, self.prices, api=None, expected_output=None).as_dict()

    @property
    def _calendar(self) -> Calendar:
        expiry = datetime.timedelta(hours=reservation_hours())
        return Calendar(now=self.api.now(), zone=budget_timezone(), expiry=expiry)

    def _check_prices(self) -> None:
        unpriced = self.job.ledger.estimate.get("unpriced_requests")
        if unpriced and self.budgets.of_window:
            raise BudgetExceededError(
                f"{unpriced} requests have a model without a known price, so {self.budgets.of_window[0]} "
                "cannot be kept to. Nothing was sent. Update genai-prices or remove the budget."
            )

    def _refuse(self, refused: Ruling, calendar: Calendar) -> Later:
        budget, pico = refused.budget, estimated_pico(self.job.ledger) or 0
        reason = f"The job is estimated at ${pico / PICO:.4f}, and {_state_of(refused)}."
        if budget.on_exceeded == "fail" or pico > budget.pico:
            raise BudgetExceededError(
                f"{reason} Nothing was sent. Raise max_usd, send less, or clear the task when the next "
                f"{budget.per} has begun."
            )
        # Not all at once, and none a moment too early.
        begin = refused.window.end + datetime.timedelta(seconds=random.uniform(10, 60))
        at = min(begin, calendar.now + LONGEST_WAIT)
        end = refused.window.end.isoformat()
        # By this machine's clock, which is what a pause is measured by.
        here = datetime.datetime.now(datetime.UTC) + (at - calendar.now)
        return Later(at=here, reason=f"{reason} Waiting for the next {budget.per}, which begins at {end}")

    def _tell(self, ruling: Ruling, *, again: bool) -> None:
        """Alert, once a window; and call who wants to know of a job that does not fit, once a job."""
        ledger, budget, refused = self.job.ledger, ruling.budget, not ruling.passed
        metrics = AirflowMetrics(
            ledger.conn_id, {"budget": budget.scope.replace("=", ":"), "per": budget.per}
        )
        metrics.gauge("budget_used", ruling.use.pico / budget.pico if budget.pico else 1.0)
        alert = alert_of(budget, ruling.window, ruling.use, refused=refused, job=ledger.job)
        if alert is None:
            return
        first = raise_once(self.job.root, alert)
        if first:
            log.warning("Alert: %s", alert)
            metrics.incr("budget_alerts")
        if (refused and not again) or (first and alert.kind == EXCEEDED):
            for callback in self.budgets.callbacks.get(budget.id, ()):
                call(callback, as_event(alert))


def settle_replaced(folder: Folder, root: Folder, hook: ClaudeBatchHook) -> None:
    """Book what jobs have cost that another one has replaced, in place of their estimates.

    Args:
        folder: Of the job that has replaced them.
        root: ``storage_path``.
        hook: Of its connection.
    """
    try:
        prices = prices_of(hook)
        for known in History.read(folder.parent).jobs:
            ledger = known.ledger
            if not ledger.superseded_by or ledger.booking is None or not has_sent(known.folder, ledger):
                continue
            with open_job(root, known.folder.url) as job:
                if not is_settled(job) and count_replaced(job, hook.batches, prices.factor):
                    budgets = Budgets.booked(job.ledger)
                    JobSpending(job=job, api=hook.batches, budgets=budgets, prices=prices).settle()
    except Exception as error:  # noqa: BLE001  # the job itself is complete
        log.warning(
            "What replaced jobs in %s have cost is not booked: %s", folder.parent.url, describe_error(error)
        )


def prices_of(hook: ClaudeBatchHook) -> PriceBook:
    """The prices of a connection."""
    return PriceBook(datetime.datetime.now(datetime.UTC), price_factor(hook.connection_price_factor))


def _state_of(refused: Ruling) -> str:
    """What a budget has left."""
    budget, use, window = refused.budget, refused.use, refused.window.name
    if use.unpriced:
        return f"{budget} has {use.unpriced} requests of unknown price in {window}, which count as over"
    left = max(budget.pico - use.pico, 0) / PICO
    return (
        f"{budget} has ${left:.4f} left in {window} (${use.settled / PICO:.4f} paid, "
        f"${use.reserved / PICO:.4f} reserved)"
    )


def _requests_of(parts: list[Part]) -> int:
    return sum(part.request_count for part in parts)
