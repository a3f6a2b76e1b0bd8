"""What a benchmark sends to S3."""

from __future__ import annotations

from collections import Counter
from typing import Any


def count_calls() -> Counter[str]:
    """Counts by method what this process sends to S3 from now on."""
    from aiobotocore.httpsession import AIOHTTPSession

    counted: Counter[str] = Counter()
    send = AIOHTTPSession.send

    async def counting(self: Any, request: Any) -> Any:
        counted[request.method] += 1
        return await send(self, request)

    AIOHTTPSession.send = counting
    return counted
