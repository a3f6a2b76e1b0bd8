from __future__ import annotations

import io

import pypdf
import pytest

from airflow_claude_batch.batches.requests.document_blocks import UnreadableDocumentError, as_block
from airflow_claude_batch.batches.requests.pdf import UnreadablePdfError, read_pdf
from tests.pdfs import edited_pdf, encrypted_pdf, pdf, pdf_with_object_streams

ALGORITHMS = ["RC4-40", "RC4-128", "AES-128", "AES-256-R5", "AES-256"]


@pytest.mark.parametrize("pages", [1, 7, 120])
def test_pages_are_counted_wherever_the_page_tree_lies(pages: int) -> None:
    assert read_pdf(pdf(pages)).pages == pages
    assert read_pdf(pdf_with_object_streams(pages)).pages == pages
    assert read_pdf(pdf_with_object_streams(pages, compressed=False)).pages == pages


def test_the_last_page_tree_of_an_edited_pdf_counts() -> None:
    assert read_pdf(edited_pdf(9, 2)).pages == 2


@pytest.mark.parametrize(
    "data",
    [
        pdf(2) + b"\0" * 4096,
        pdf(2) + b"\r\n" * 3000,
        pdf(2)[:-2],
        pdf(2)[:-5],
        b"junk of a mail gateway\r\n" + pdf(2),
        pdf(2).replace(b"/Count 2", b"/Count 5"),
        pdf(2).replace(b"/Count 2", b"/Count 9 0 R"),
    ],
    ids=[
        "zeros after it",
        "blank lines",
        "without two bytes",
        "without its last line",
        "junk",
        "lie",
        "indirect",
    ],
)
def test_a_pdf_that_others_read_is_sent_as_it_is_with_its_pages_counted_right(data: bytes) -> None:
    found = read_pdf(data)
    assert (found.data, found.pages) == (data, 2)


def test_a_page_tree_that_cannot_be_counted_is_no_reason_to_refuse() -> None:
    data = pdf(2).replace(b"/Type /Pages /Kids", b"/Type /Pages /Zzzz")
    found = read_pdf(data)
    assert (found.data, found.pages) == (data, None)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", "begin like a PDF"),
        (pdf(3)[:-300], "cut off"),
        (pdf(3)[:600], "cut off"),
        (pdf().replace(b"%PDF-1.4", b"%PDF-1.4\n9 0 obj\n<< /Linearized 1 /L 9999 >>\nendobj"), "cut off"),
        (pdf().replace(b"/Pages 2 0 R", b""), "damaged"),
        (pdf().replace(b"/Kids [3 0 R] /Count 1", b"/Kids [] /Count 0"), "no pages"),
        (encrypted_pdf(), "opens only with a password"),
        (pdf_with_object_streams(1, trailer=b"/Encrypt 9 0 R"), "encrypted"),
        (b"%PDF-1.4\nnothing\nstartxref\n9\n%%EOF\n", "damaged"),
    ],
)
def test_a_pdf_that_cannot_be_read_says_why(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadablePdfError, match=reason):
        read_pdf(data)


@pytest.mark.parametrize("text", ["/Encrypt 6 0 R", "/Type /Pages /Count 77", "/Linearized 1 /L 99999"])
def test_what_is_written_on_a_page_says_nothing_of_the_file(text: str) -> None:
    assert read_pdf(pdf(9, text=text)).pages == 9


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_pdf_with_an_owners_password_only_is_sent_as_it_is_or_saved_without(algorithm: str) -> None:
    data = encrypted_pdf(3, user="", algorithm=algorithm)
    assert (read_pdf(data).data, read_pdf(data).pages) == (data, 3)
    saved = read_pdf(data, decrypt=True)
    assert saved.pages == 3
    reader = pypdf.PdfReader(io.BytesIO(saved.data))
    assert not reader.is_encrypted
    assert "Page 3" in reader.pages[2].extract_text()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_pdf_with_a_users_password_is_refused_however_it_is_encrypted(algorithm: str) -> None:
    with pytest.raises(UnreadablePdfError, match="only with a password"):
        read_pdf(encrypted_pdf(algorithm=algorithm), decrypt=True)


def test_a_pdf_without_encryption_is_sent_byte_by_byte_also_where_others_are_decrypted() -> None:
    assert read_pdf(pdf(2), decrypt=True).data == pdf(2)


def test_hundreds_of_damaged_pdfs_are_each_taken_or_refused_by_a_fault_of_its_own() -> None:
    whole = [pdf(2), pdf_with_object_streams(2), edited_pdf(3, 2), encrypted_pdf(2, user="")]
    for data in whole:
        for place in range(0, len(data), max(1, len(data) // 40)):
            damaged = data[:place] + b"\xff\x00<<[(" + data[place + 6 :]
            try:
                block = as_block(damaged, "a.pdf", decrypt=True)
            except UnreadableDocumentError:
                continue
            assert block.content["type"] == "document"
