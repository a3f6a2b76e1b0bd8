from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from airflow_claude_batch.batches.errors import InputError
from airflow_claude_batch.batches.job.rejected import read_rejected
from airflow_claude_batch.batches.job.spool import Spooled, spool
from airflow_claude_batch.batches.requests.builder import Recipe
from airflow_claude_batch.batches.requests.document_access import (
    DocumentAccess,
    RefusedPlaceError,
    directory_of,
)
from airflow_claude_batch.batches.requests.documents import DocumentReader
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.sources import Documents, Files

DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 10}
ROOT = "s3://conn@bucket/invoices/"


def refused(address: str, roots: list[str]) -> str:
    with pytest.raises(RefusedPlaceError) as caught:
        DocumentAccess(roots).check(address)
    return str(caught.value)


def spooled(
    tmp_path: Path, rows: list[dict[str, Any]], roots: list[Path], bad_fraction: float = 0, **recipe: Any
) -> Spooled:
    access = DocumentAccess([root.as_uri() for root in roots])
    reader = DocumentReader(locate=Folder.at, access=access)
    made = Recipe(documents=reader, **recipe)
    return spool(rows, job(tmp_path), defaults=DEFAULTS, recipe=made, bad_fraction=bad_fraction)


def job(tmp_path: Path) -> Folder:
    return Folder.at(f"file://{tmp_path}/job")


def sent(tmp_path: Path) -> list[bytes]:
    """The stored request lines, one of which carries the mark."""
    return (tmp_path / "job" / "requests-00000.jsonl").read_bytes().splitlines()


@pytest.mark.parametrize(
    "address",
    [
        "s3://conn@bucket/invoices/a.pdf",
        "S3://conn@bucket/invoices/a.pdf",
        "s3://conn@bucket//invoices//2026/a.pdf",
    ],
)
def test_what_lies_below_a_root_may_be_named(address: str) -> None:
    DocumentAccess([ROOT]).check(address)


@pytest.mark.parametrize(
    "address",
    [
        "s3://conn@bucket/salaries/a.pdf",
        "s3://conn@bucket/invoices/../salaries/a.pdf",
        "s3://conn@bucket/other/../invoices/a.pdf",
        "s3://conn@bucket/invoices-of-others/a.pdf",
        "s3://admin@bucket/invoices/a.pdf",
        "s3://bucket/invoices/a.pdf",
        "s3://conn@other/invoices/a.pdf",
        "gs://conn@bucket/invoices/a.pdf",
        "file:///invoices/a.pdf",
        "/invoices/a.pdf",
        "s3://conn@bucket/invoices/a::file:///etc/passwd",
        "invoices/a.pdf",
    ],
)
def test_what_lies_elsewhere_or_goes_through_another_connection_is_refused(address: str) -> None:
    assert refused(address, [ROOT])


def test_without_roots_everything_is_refused_and_the_way_out_is_named(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("private")
    with pytest.raises(InputError, match=r"record 0: documents = .*documents_from=\["):
        spooled(tmp_path, [{"custom_id": "a", "prompt": "Read.", "documents": [note.as_uri()]}], [])


def test_under_a_template_a_column_called_documents_is_data_like_any_other(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("private")
    rows = [{"custom_id": "a", "name": "Ada", "documents": note.as_uri()}]
    spooled(tmp_path, rows, [tmp_path], prompt="Greet {{ name }}")
    assert b"private" not in sent(tmp_path)[0]
    assert b"Greet Ada" in sent(tmp_path)[0]


def test_a_column_that_the_author_names_holds_the_documents(tmp_path: Path) -> None:
    note = tmp_path / "note.txt"
    note.write_text("of the record")
    rows = [{"custom_id": "a", "scan": [note.as_uri()]}]
    spooled(tmp_path, rows, [tmp_path], prompt="Read.", documents_column="scan")
    assert b"of the record" in sent(tmp_path)[0]


def test_a_link_that_leads_out_of_the_root_is_refused(tmp_path: Path) -> None:
    root, private = tmp_path / "root", tmp_path / "private.txt"
    root.mkdir()
    private.write_text("private")
    (root / "a.txt").symlink_to(private)
    with pytest.raises(InputError, match="a link in its path leads out"):
        spooled(
            tmp_path,
            [{"custom_id": "a", "prompt": "Read.", "documents": [(root / "a.txt").as_uri()]}],
            [root],
        )


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    places = {"pipe": pipe, "zero": Path("/dev/zero"), "null": Path("/dev/null"), "tree": tmp_path}
    rows: list[dict[str, Any]] = [
        {"custom_id": name, "prompt": "Read.", "documents": [place.as_uri()]}
        for name, place in places.items()
    ]
    rows.append({"custom_id": "fine", "prompt": "Hi"})
    began = time.monotonic()
    result = spooled(tmp_path, rows, [Path("/")], bad_fraction=0.9)
    assert time.monotonic() - began < 5
    reasons = {row.custom_id: row.reason for row in read_rejected(job(tmp_path), result.parts[-1].inputs)}
    assert reasons.keys() == places.keys()
    assert all("no regular file" in reasons[name] for name in ("pipe", "zero", "null"))


@pytest.mark.parametrize(
    ("address", "directory"),
    [
        ("s3://c@b/in/rows.jsonl", "s3://c@b/in"),
        ("s3://c@b/in/rows.CSV.gz", "s3://c@b/in"),
        ("s3://c@b/in/2026-*/x.csv", "s3://c@b/in"),
        ("s3://c@b/in/", "s3://c@b/in/"),
        ("/data/in", "/data/in"),
    ],
)
def test_the_roots_of_a_source_are_the_directories_it_reads_from(address: str, directory: str) -> None:
    assert directory_of(address, (".jsonl", ".csv")) == directory


def test_sources_name_their_own_roots_and_documents() -> None:
    assert Files("s3://c@b/in/rows.jsonl").roots() == ["s3://c@b/in"]
    assert Files("s3://c@b/in/rows.jsonl").documents_column is None
    assert Documents("s3://c@b/scans/*.pdf").roots() == ["s3://c@b/scans"]
    assert Documents("s3://c@b/scans/").documents_column == "documents"
