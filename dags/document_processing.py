"""
### Document processing

A folder of invoices as PDF becomes one typed Parquet table.

| task | what it does |
|---|---|
| `receive_invoices` | puts made-up PDFs into `inbox/`; one of them is locked with a password |
| `extract` | one request per PDF: sends them, waits without a worker slot, writes `invoices/` as Parquet |
| `review_list` | what could not be read, with the reason, as a CSV for people |

A PDF that cannot be sent (encrypted, damaged, too long) costs nothing: its record goes to the errored ones
before anything is sent, and the others go on. Answers that break the schema go there, too.
"""

from __future__ import annotations

import csv
import io
import os
import random
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import DAG, Asset, ObjectStoragePath, Param, task

from airflow_claude_batch import BadRecords, ClaudeBatchOperator, Documents, read_errored

AIRFLOW_HOME = Path(os.environ.get("AIRFLOW_HOME", "~/airflow")).expanduser()
FOLDER = "{{ params.folder }}/{{ run_id | replace(':', '-') | replace('+', '-') }}"
INVOICES = Asset("claude_batch_invoices")
PROMPT = "Read this invoice. Amounts are numbers without currency; the date is as printed, as YYYY-MM-DD."
INVOICE = {
    "type": "object",
    "properties": {
        "invoice_number": {"type": "string"},
        "supplier": {"type": "string"},
        "date": {"type": "string"},
        "currency": {"type": "string", "enum": ["EUR", "USD", "GBP"]},
        "total": {"type": "number"},
    },
    "required": ["invoice_number", "supplier", "date", "currency", "total"],
    "additionalProperties": False,
}


@task(doc_md="Made-up invoices; in real life this folder fills by itself, and the task is not needed.")
def receive_invoices(folder: str, params: Any = None) -> str:
    inbox = ObjectStoragePath(folder) / "inbox"
    inbox.mkdir(parents=True, exist_ok=True)
    for number in range(1, params["invoices"] + 1):
        draw = random.Random(number)
        lines = [
            draw.choice(["Noord Paper BV", "Alpen Druck GmbH", "Thames Office Ltd"]),
            f"Invoice INV-{number:04}",
            f"Date 2026-11-{draw.randint(1, 28):02}",
            f"Total EUR {draw.randint(2_000, 900_000) / 100:.2f}",
        ]
        (inbox / f"invoice-{number:04}.pdf").write_bytes(pdf_page(lines, locked=number == params["locked"]))
    return str(inbox)


def pdf_page(lines: list[str], *, locked: bool) -> bytes:
    """A PDF of one page of text; a locked one opens only with a password."""
    text = b" ".join(b"(%s) Tj 0 -20 Td" % line.encode("latin-1") for line in lines)
    content = b"BT /F1 14 Tf 72 720 Td " + text + b" ET"
    fonts = b"<< /Font << /F1 5 0 R >> >>"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R /Resources %s >>" % fonts,
        b"<< /Length %d >> stream\n%s\nendstream" % (len(content), content),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    data, offsets = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(b"%010d 00000 n \n" % len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"xref\n0 6\n0000000000 65535 f \n" + b"".join(offsets)
    whole = data + table + b"trailer << /Size 6 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(data)
    return with_password(whole) if locked else whole


def with_password(data: bytes) -> bytes:
    import pypdf

    writer, locked = pypdf.PdfWriter(clone_from=io.BytesIO(data)), io.BytesIO()
    writer.encrypt("a password that nobody knows")
    writer.write(locked)
    return locked.getvalue()


@task(doc_md="What people have to look at: each document without an answer, and why.")
def review_list(summary: dict[str, Any]) -> str:
    review = ObjectStoragePath(summary["summary_path"]).parent / "review.csv"
    with review.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["document", "reason", "details"])
        for record in read_errored(summary):
            reason = record["error_type"] or record["outcome"]
            writer.writerow([record["input"]["name"], reason, record["message"]])
    return str(review)


with DAG(
    dag_id="document_processing",
    schedule=None,
    start_date=pendulum.datetime(2026, 1, 1, tz="Europe/Amsterdam"),
    catchup=False,
    default_args={"retries": 2, "retry_delay": timedelta(minutes=1)},
    params={
        "invoices": Param(25, type="integer", minimum=2, maximum=1000, description="How many PDFs to make"),
        "locked": Param(7, type="integer", minimum=0, description="Which of them is locked; 0 for none"),
        "folder": Param(
            (AIRFLOW_HOME / "document_processing").as_uri(),
            type="string",
            description="Where everything lies: a directory that Airflow's ObjectStoragePath understands",
        ),
    },
    tags=["claude", "example"],
    doc_md=__doc__,
) as dag:
    received = receive_invoices(FOLDER)
    extract = ClaudeBatchOperator(
        task_id="extract",
        requests=Documents(f"{FOLDER}/inbox/*.pdf"),
        prompt=PROMPT,
        bad_records=BadRecords(max_fraction=0.5),
        model="claude-sonnet-4-6",
        max_tokens=500,
        output_schema=INVOICE,
        output_format="parquet",
        output_path=f"{FOLDER}/invoices",
        outlets=[INVOICES],
        doc_md="One request per PDF; the answers as Parquet with one column per field of the schema.",
    )
    received >> extract
    review_list(extract.output)
