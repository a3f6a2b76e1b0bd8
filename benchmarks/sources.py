"""What it costs to make requests of files: 1,000,000 rows of a kind through a template, 1,000 PDFs of a page.

    python -m benchmarks.sources [rows] [documents]
    .venvs/cluster/bin/python -m benchmarks.sources 1000000 0 sql     # a query on PostgreSQL

Prints wall and CPU time, rates, and the memory added over the imports. Everything is spooled to local disk.
"""

from __future__ import annotations

import contextlib
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from airflow_claude_batch.batches.job.spool import spool
from airflow_claude_batch.batches.requests.builder import Recipe
from airflow_claude_batch.batches.requests.document_access import DocumentAccess
from airflow_claude_batch.batches.requests.documents import DocumentReader
from airflow_claude_batch.batches.requests.files import read_files
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.sources import Documents
from airflow_claude_batch.table_sources import Sql
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
        (CASES | ASKED_FOR)[sys.argv[3]](rows, documents)
        return
    for case in CASES:  # each in a process of its own, for its own peak of memory
        command = [sys.executable, "-m", "benchmarks.sources", str(rows), str(documents), case]
        subprocess.run(command, check=True)


def from_csv(rows: int, _: int, key: str | None = "id") -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tickets.csv"
        with file.open("w", newline="") as target:
            writer = csv.writer(target)
            writer.writerow(COLUMNS)
            writer.writerows(values(rows))
        through_a_template(file, "CSV", rows, key)


def from_jsonl(rows: int, _: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tickets.jsonl"
        with file.open("w") as target:
            target.writelines(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in values(rows))
        through_a_template(file, "JSONL", rows)


def from_json_array(rows: int, _: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tickets.json"
        with file.open("w") as target:
            for number, row in enumerate(values(rows)):
                target.write(("," if number else "[") + json.dumps(dict(zip(COLUMNS, row, strict=True))))
            target.write("]")
        through_a_template(file, "JSON array", rows)


def from_parquet(rows: int, _: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tickets.parquet"
        # In a process of its own: what writing takes is not what reading does.
        subprocess.run([sys.executable, "-c", WRITE_PARQUET, str(file), str(rows)], check=True)
        through_a_template(file, "Parquet", rows)


WRITE_PARQUET = """
import sys
import pyarrow
from pyarrow import parquet
from benchmarks.sources import COLUMNS, values
rows = list(values(int(sys.argv[2])))
parquet.write_table(pyarrow.table(dict(zip(COLUMNS, map(list, zip(*rows))))), sys.argv[1])
"""


def values(rows: int) -> Iterator[tuple[int, str, str, str]]:
    return ((number, "team", f"Export {number} fails", f"{BODY}{number}") for number in range(rows))


def through_a_template(file: Path, kind: str, rows: int, key: str | None = "id") -> None:
    what = "custom_id from a column" if key else "custom_id from the content"
    with measured(f"{rows:,} {kind} rows ({file.stat().st_size / 1e6:.0f} MB), {what}", rows, "rows"):
        source = read_files([Folder.at(file.as_uri())])
        recipe = Recipe(prompt=PROMPT, custom_id=key)
        spooled = spool(source, job(str(file.parent)), defaults=DEFAULTS, recipe=recipe)
    assert spooled.request_count == rows


def from_csv_without_key(rows: int, documents: int) -> None:
    from_csv(rows, documents, key=None)


def from_sql(rows: int, _: int) -> None:
    from tests.cluster.services import Postgres, install_missing

    install_missing()
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user than root
        postgres = Postgres(Path(folder))
        try:
            postgres.create()
            fill(postgres.url, rows)
            os.environ["AIRFLOW_CONN_TICKETS"] = f"postgresql://{postgres.url}"
            sql = Sql("tickets", "SELECT id, plan, subject, body FROM tickets ORDER BY id")
            next(sql.read(Folder.at))  # what is imported then is Airflow's
            with measured(f"{rows:,} rows of a query on PostgreSQL, custom_id from a column", rows, "rows"):
                recipe = Recipe(prompt=PROMPT, custom_id="id")
                spooled = spool(sql.read(Folder.at), job(folder), defaults=DEFAULTS, recipe=recipe)
            assert spooled.request_count == rows
        finally:
            postgres.stop()


def fill(url: str, rows: int) -> None:
    import psycopg2

    with contextlib.closing(psycopg2.connect(f"postgresql://{url}")) as connection:
        connection.cursor().execute(
            "CREATE TABLE tickets AS SELECT number AS id, 'team' AS plan, 'Export ' || number || ' fails'"
            " AS subject, %s || number AS body FROM generate_series(0, %s) AS number",
            (BODY, rows - 1),
        )
        connection.commit()


def from_pdfs(_: int, documents: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        inbox = Path(folder) / "inbox"
        inbox.mkdir()
        for number in range(documents):
            (inbox / f"{number:06}.pdf").write_bytes(pdf(1, padding=PDF_BYTES, text=f"Document {number}"))
        with measured(f"{documents:,} PDFs of one page, 100 KB each", documents, "documents"):
            reader = DocumentReader(locate=Folder.at, access=DocumentAccess([inbox.as_uri()]))
            recipe = Recipe(prompt="Summarise {{ name }}.", documents=reader, documents_column="documents")
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


CASES = {
    "csv": from_csv,
    "content": from_csv_without_key,
    "jsonl": from_jsonl,
    "array": from_json_array,
    "parquet": from_parquet,
    "pdf": from_pdfs,
}
ASKED_FOR = {"sql": from_sql}
"""What needs more than this package."""

if __name__ == "__main__":
    main()
