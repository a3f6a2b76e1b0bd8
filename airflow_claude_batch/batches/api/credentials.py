"""Whether a client can send its credentials at all, found out before it tries.

A transport that is given a key with a line end refuses it by quoting it: in its error, and in lines of its
own in the log at DEBUG. A password in the base URL is in a line of the log for each call. Neither may get
there.
"""

from __future__ import annotations

import re
from typing import Any

_NAME = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"([^\x00-\x20\x7f]+([ \t]+[^\x00-\x20\x7f]+)*)?")
_OF_A_KEY = {"authorization": "its key", "x-api-key": "its key"}


def fault_of_credentials(client: Any) -> str | None:
    """What is wrong with a client's base URL, key or headers, with the way out; never a value of them.

    Args:
        client: Of the SDK, just made from a connection.
    """
    if client.base_url.userinfo:
        return (
            "its host holds a user or a password, which would be in the log of each call. Take it out; where "
            "the gateway wants it, give a header in its extra: "
            '{"anthropic_client_kwargs": {"default_headers": {"Authorization": "Basic …"}}}.'
        )
    for name, value in client.default_headers.items():
        if not _NAME.fullmatch(name):
            return "the name of one of its default_headers is none that HTTP has. Write it anew."
        # As JSON has them; the SDK puts in others, which are none to send.
        if value is None or isinstance(value, (int, float, list, dict)):
            return f"its header {name!r} is no text. Write it in quotation marks."
        if isinstance(value, str) and not _VALUE.fullmatch(value):
            which = _OF_A_KEY.get(name.lower(), f"its header {name!r}")
            return (
                f"{which} cannot be sent: it holds a line end, a space at an end or another character that "
                "no header can. Write it anew."
            )
    return None


def has_credentials(client: Any) -> bool:
    """Whether calls of a client of the API's own platform have something to authenticate with."""
    names = {name.lower() for name in client.default_headers}
    return not names.isdisjoint(_OF_A_KEY) or client.credentials is not None
