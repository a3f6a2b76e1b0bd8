"""Which answers of the API are about the account, not about the request."""

from __future__ import annotations

from typing import Any

from airflow_claude_batch.batches.errors import AccessError, BillingError

SPEND_LIMIT_CODES = ("enforced_spend_limit_reached", "contract_spend_limit_reached")


def account_error(error: Any) -> type[AccessError | BillingError] | None:
    """What an ``APIStatusError`` says about the account; None where it says nothing."""
    if error.status_code in (401, 403):
        return AccessError
    lowered = text_of(error).lower()
    out_of_money = error.status_code == 402 or error.error_code in SPEND_LIMIT_CODES
    if out_of_money or "spend limit" in lowered or "credit balance" in lowered:
        return BillingError
    return None


def text_of(error: Any) -> str:
    """The API's sentence; it may repeat what was sent."""
    return error.message if isinstance(error.message, str) else str(error)
