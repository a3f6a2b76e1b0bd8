"""Addresses of web consoles: Claude's for a batch, a cloud's for a folder."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import conf

CONSOLE_URL = "https://platform.claude.com/settings/workspaces/default/batches/{batch_id}"
"""The Console names the workspace in its addresses; a key does not tell which workspace it belongs to."""


def console_url(batch_id: str) -> str | None:
    """Page of a batch in the Claude Console; None where ``[claude_batch] console_url`` is set to nothing."""
    template = conf.get("claude_batch", "console_url", fallback=CONSOLE_URL)
    if not template.startswith("https://"):
        return None
    return str(template.replace("{batch_id}", quote(batch_id, safe="")))


def folder_url(uri: str | None) -> str | None:
    """Page of an object storage folder in its cloud's console; None where there is none to name.

    Azure's portal needs subscription and resource group, which an ``abfs`` URI does not have.
    """
    parts = urlsplit(uri or "")
    bucket = parts.netloc.rpartition("@")[2]
    key = parts.path.strip("/")
    if not bucket:
        return None
    if parts.scheme in ("s3", "s3a"):
        return f"https://s3.console.aws.amazon.com/s3/buckets/{quote(bucket)}?prefix={quote(key, safe='')}/"
    if parts.scheme in ("gs", "gcs"):
        return f"https://console.cloud.google.com/storage/browser/{quote(bucket)}/{quote(key)}"
    return None
