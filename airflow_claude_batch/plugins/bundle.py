"""The built page: where its files lie, and the address under which Airflow serves them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlparse

from airflow.configuration import conf

URL_PREFIX = "/claude-batches"
STATIC = Path(__file__).parent / "static"
BUNDLE = "main.js"


def bundle_url() -> str:
    """Path of the built bundle, below the path that ``[api] base_url`` has; changes with its content."""
    base = urlparse(conf.get("api", "base_url", fallback="/")).path.rstrip("/")
    digest = hashlib.blake2b((STATIC / BUNDLE).read_bytes(), digest_size=6).hexdigest()
    return f"{base}{URL_PREFIX}/static/{BUNDLE}?v={digest}"
