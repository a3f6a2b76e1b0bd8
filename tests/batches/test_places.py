"""Where storage lies: addresses that Airflow does not take, and buckets that demand something."""

from __future__ import annotations

import pytest
from airflow.sdk.io import attach

from airflow_claude_batch.batches.errors import ConfigurationError
from airflow_claude_batch.common.settings import open_folder
from tests.batches.s3 import S3

KEY = "arn:aws:kms:us-east-1:123456789012:key/reports"


@pytest.mark.parametrize(
    "address",
    [
        "abfss://invoices@company.dfs.core.windows.net/2026",
        "abfs://invoices@company.dfs.core.windows.net/",
        "wasbs://invoices@company.blob.core.windows.net/2026",
        "abfss://invoices@company.dfs.core.chinacloudapi.cn/2026",
    ],
)
def test_an_address_as_azure_prints_it_is_refused_with_what_to_write(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"Write abfs://CONN_ID@invoices/.* account company"):
        open_folder(address)


@pytest.mark.parametrize("large", [False, True])
def test_a_bucket_that_demands_encryption_gets_it_with_each_write(
    s3: S3, monkeypatch: pytest.MonkeyPatch, large: bool
) -> None:
    wanted = f'{{"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "{KEY}", "RequestPayer": "requester"}}'
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__S3_ADDITIONAL_KWARGS", wanted)
    attach("s3", conn_id="places", fs=s3.folder("").fs)
    folder = open_folder(f"s3://places@bucket/encrypted-{large}")
    assert folder.create("first", b"1")
    assert not folder.create("first", b"2")
    with folder.replace("second") as file:
        file.write(b"x" * ((6 << 20) if large else 10))
    for name in ("first", "second"):
        head = folder.fs.call_s3("head_object", Bucket="bucket", Key=f"encrypted-{large}/{name}")
        assert (head["ServerSideEncryption"], head["SSEKMSKeyId"]) == ("aws:kms", KEY)
    assert folder.read("first") == b"1"


@pytest.mark.parametrize("text", ["aws:kms", "[1]", "{"])
def test_options_for_s3_that_are_no_object_are_refused(
    monkeypatch: pytest.MonkeyPatch, text: str, s3: S3
) -> None:
    monkeypatch.setenv("AIRFLOW__CLAUDE_BATCH__S3_ADDITIONAL_KWARGS", text)
    attach("s3", conn_id="places", fs=s3.folder("").fs)
    with pytest.raises(ConfigurationError, match="no JSON object"):
        open_folder("s3://places@bucket/x")
