"""What it costs to make requests of files: 1,000,000 CSV rows through a template, 1,000 PDFs of one page.

    python -m benchmarks.sources [rows] [documents]

Prints wall and CPU time, rates, and the memory added over the imports. Everything is spooled to local disk.
"""

from __future__ import annotations

import contextlib
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from airflow_claude_batch.batches.documents import DocumentReader
from airflow_claude_batch.batches.preparation import Recipe
from airflow_claude_batch.batches.sources import read_files
from airflow_claude_batch.batches.spool import spool
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.sources import Documents
from tests.pdfs import pdf

DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 100, "system": "Sort support tickets."}
PROMPT = "A ticket of a customer on the {{ plan }} plan.\n\n{{ subject }}\n\n{{ body }}"
COLUMNS = ["id", "plan", "subject", "body"]
BODY = "The nightly export has stopped every night since the update; nothing else was changed. " * 2
PDF_BYTES = 100_000


def main() -> None:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    documents = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000
    if len(sys.argv) > 3:
        {"csv": from_csv, "content": from_csv_without_key, "pdf": from_pdfs}[sys.argv[3]](rows, documents)
        return
    for case in ("csv", "content", "pdf"):  # each in a process of its own, for its own peak of memory
        command = [sys.executable, "-m", "benchmarks.sources", str(rows), str(documents), case]
        subprocess.run(command, check=True)


def from_csv(rows: int, _: int, key: str | None = "id") -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tickets.csv"
        with file.open("w", newline="") as target:
            writer = csv.writer(target)
            writer.writerow(COLUMNS)
            writer.writerows([number, "team", f"Export {number} fails", BODY] for number in range(rows))
        what = "custom_id from a column" if key else "custom_id from the content"
        with measured(f"{rows:,} CSV rows ({file.stat().st_size / 1e6:.0f} MB), {what}", rows, "rows"):
            source = read_files([Folder.at(file.as_uri())])
            recipe = Recipe(prompt=PROMPT, custom_id=key)
            spooled = spool(source, job(folder), defaults=DEFAULTS, recipe=recipe)
        assert spooled.request_count == rows


def from_csv_without_key(rows: int, documents: int) -> None:
    from_csv(rows, documents, key=None)


def from_pdfs(_: int, documents: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        inbox = Path(folder) / "inbox"
        inbox.mkdir()
        for number in range(documents):
            (inbox / f"{number:06}.pdf").write_bytes(pdf(1, padding=PDF_BYTES, text=f"Document {number}"))
        with measured(f"{documents:,} PDFs of one page, 100 KB each", documents, "documents"):
            recipe = Recipe(prompt="Summarise {{ name }}.", documents=DocumentReader(locate=Folder.at))
            records = Documents(inbox.as_uri()).read(Folder.at)
            spooled = spool(records, job(folder), defaults=DEFAULTS, recipe=recipe)
        assert spooled.request_count == documents


def job(folder: str) -> Folder:
    return Folder.at(f"file://{folder}/job")


@contextlib.contextmanager
def measured(what: str, count: int, unit: str) -> Iterator[None]:
    memory, wall, cpu = peak_mb(), time.perf_counter(), time.process_time()
    yield
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{what}: {wall:.2f} s, {count / wall:,.0f} {unit}/s (CPU {cpu:.2f} s, {count / cpu:,.0f}/s),"
        f" +{peak_mb() - memory:.0f} MB, load {os.getloadavg()[0]:.1f}"
    )


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
