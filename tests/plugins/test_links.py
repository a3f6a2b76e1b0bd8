"""Addresses of web consoles."""

from __future__ import annotations

import pytest

from airflow_claude_batch.links.urls import console_url, folder_url


@pytest.mark.parametrize(
    ("uri", "url"),
    [
        ("s3://aws@bucket/a b/c", "https://s3.console.aws.amazon.com/s3/buckets/bucket?prefix=a%20b%2Fc/"),
        (
            "gs://bucket/reports/2026-11-22",
            "https://console.cloud.google.com/storage/browser/bucket/reports/2026-11-22",
        ),
        ("abfs://conn@container/folder", None),
        ("file:///tmp/reports", None),
        ("javascript:alert(1)", None),
        ("", None),
        (None, None),
    ],
)
def test_an_output_folder_has_a_page_where_its_store_has_one(uri: str | None, url: str | None) -> None:
    assert folder_url(uri) == url


def test_a_batch_id_cannot_lead_elsewhere() -> None:
    assert str(console_url("../../evil?x=1#y")).endswith("/batches/..%2F..%2Fevil%3Fx%3D1%23y")


@pytest.mark.parametrize(
    ("template", "url"),
    [
        (
            "https://platform.claude.com/settings/workspaces/w1/batches/{batch_id}",
            "https://platform.claude.com/settings/workspaces/w1/batches/b1",
        ),
        ("", None),
        ("javascript:{batch_id}", None),
    ],
)
def test_the_console_of_another_workspace_can_be_named_or_none(
    monkeypatch: pytest.MonkeyPatch, template: str, url: str | None
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__CONSOLE_URL", template)
    assert console_url("b1") == url
