"""The API's error envelope.

Source: ``types/shared/error_response.py`` and ``_exceptions.py`` of the anthropic SDK 2.12.0.
"""

from __future__ import annotations

from typing import Any

import msgspec

TYPE_BY_STATUS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}

MESSAGE_BY_TYPE = {
    "invalid_request_error": "The request is invalid.",
    "authentication_error": "invalid x-api-key",
    "billing_error": "Your account has a billing problem.",
    "permission_error": "Your API key does not have permission to use the specified resource.",
    "not_found_error": "Not found",
    "rate_limit_error": "Number of requests has exceeded your rate limit.",
    "timeout_error": "The request timed out.",
    "api_error": "Internal server error",
    "overloaded_error": "Overloaded",
    "request_too_large": "Request exceeds the maximum allowed number of bytes.",
}


class ApiError(Exception):
    """An error answer of the API: HTTP status, error type, message, and what else the envelope carries."""

    def __init__(
        self,
        status: int,
        message: str | None = None,
        *,
        type: str | None = None,
        details: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.status = status
        self.type = type or TYPE_BY_STATUS.get(status, "api_error")
        self.message = message or MESSAGE_BY_TYPE.get(self.type, "Internal server error")
        self.details = details
        self.headers = headers or {}
        super().__init__(self.message)

    def body(self, request_id: str) -> bytes:
        """The JSON envelope of an HTTP error answer."""
        error: dict[str, Any] = {"type": self.type, "message": self.message}
        if self.details is not None:
            error["details"] = self.details
        return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def invalid(message: str) -> ApiError:
    """The error of a request that breaks a rule."""
    return ApiError(400, message)


def errored_result(type: str, message: str, request_id: str) -> dict[str, Any]:
    """The ``result`` of an errored line of a batch; it nests the error twice, as the API does."""
    error = {"type": type, "message": message, "details": None}
    return {"type": "errored", "error": {"type": "error", "error": error, "request_id": request_id}}
