"""`Documents`: which records it makes, and what converters make of files that the API does not take."""

from __future__ import annotations

import email.message
import io
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from airflow_claude_batch.batches.errors import ConfigurationError, InputError
from airflow_claude_batch.batches.job.part_reader import read_requests
from airflow_claude_batch.batches.job.rejected import read_rejected
from airflow_claude_batch.batches.job.spool import spool
from airflow_claude_batch.batches.requests.builder import Recipe
from airflow_claude_batch.batches.requests.document_access import DocumentAccess
from airflow_claude_batch.batches.requests.documents import DocumentReader
from airflow_claude_batch.batches.requests.request import CUSTOM_ID
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.sources import Documents
from tests import images
from tests.pdfs import encrypted_pdf, pdf

DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 10}
GUIDE = Path(__file__).parents[3] / "docs" / "documents.md"


def stored(root: Path, *names: str, data: bytes = b"some text") -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def records(*uris: str, **options: Any) -> list[dict[str, Any]]:
    return list(Documents(*uris, **options).read(Folder.at))


def sent(source: Documents, root: Path) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The first content block of each request by the document's name, and why the others are not sent."""
    reader = DocumentReader(
        locate=Folder.at, access=DocumentAccess(source.roots()), converters=source.convert
    )
    recipe = Recipe(prompt="Read.", documents=reader, documents_column="documents")
    folder = Folder.at(f"file://{root}/job")
    blocks, reasons = {}, []
    records = list(source.read(Folder.at))
    names = {record["custom_id"]: record["name"] for record in records}
    for part in spool(records, folder, defaults=DEFAULTS, recipe=recipe, bad_fraction=0.5).parts:
        if part.rejected:
            reasons += [row.reason for row in read_rejected(folder, part.inputs)]
            continue
        for request in read_requests(folder, part):
            content = msgspec.json.decode(request.line)["params"]["messages"][0]["content"]
            blocks[names[request.custom_id]] = content[0]
    return blocks, reasons


def test_a_document_of_another_kind_is_refused_with_the_way_out(tmp_path: Path) -> None:
    stored(tmp_path, "a.eml")
    with pytest.raises(InputError, match=r"convert it, or say convert=\{suffix: function\} of Documents"):
        records(f"{tmp_path}/a.eml")


def test_a_file_is_one_record_however_its_place_is_written(tmp_path: Path) -> None:
    stored(tmp_path, "in/a.txt", "in/b.txt", "other/c.txt")
    places = (f"file://{tmp_path}/in/", f"{tmp_path}/in/a.txt", f"{tmp_path}/other/../in")
    assert [record["name"] for record in records(*places)] == ["a.txt", "b.txt"]


def test_the_same_name_in_several_directories_makes_several_records(tmp_path: Path) -> None:
    stored(tmp_path, "2026-10/invoice.txt", "2026-11/invoice.txt")
    found = records(f"file://{tmp_path}/2026-10/", f"file://{tmp_path}/2026-11")
    assert [record["name"] for record in found] == ["2026-10/invoice.txt", "2026-11/invoice.txt"]
    assert [record["uri"] for record in found] == [
        f"file://{tmp_path}/2026-10/invoice.txt",
        f"file://{tmp_path}/2026-11/invoice.txt",
    ]
    ids = {record["custom_id"] for record in found}
    assert len(ids) == 2
    assert all(CUSTOM_ID.fullmatch(one) for one in ids)


@pytest.mark.parametrize(
    ("uris", "names"),
    [
        (["in/"], ["a.txt", "sub/a.txt"]),
        (["in/*.txt"], ["a.txt"]),
        (["in/*/a.txt"], ["sub/a.txt"]),
        (["in/a.txt"], ["a.txt"]),
        (["in/a.txt", "in/sub/a.txt"], ["a.txt", "sub/a.txt"]),
        (["in/sub/*.txt", "in/*.txt"], ["sub/a.txt", "a.txt"]),
        (["in/", "in/sub/", "in/a.txt"], ["a.txt", "sub/a.txt"]),
    ],
)
def test_a_name_is_as_much_of_the_path_as_tells_documents_apart(
    tmp_path: Path, uris: list[str], names: list[str]
) -> None:
    stored(tmp_path, "in/a.txt", "in/sub/a.txt")
    assert [record["name"] for record in records(*(f"file://{tmp_path}/{uri}" for uri in uris))] == names


def test_an_id_does_not_depend_on_what_other_files_there_are(tmp_path: Path) -> None:
    uris = [f"file://{tmp_path}/one/", f"file://{tmp_path}/two/"]
    stored(tmp_path, "one/a.txt", "two/b.txt")
    before = {record["uri"]: record["custom_id"] for record in records(*uris)}
    stored(tmp_path, "two/a.txt")
    after = {record["uri"]: record["custom_id"] for record in records(*uris)}
    assert before.items() < after.items()


def test_on_several_stores_documents_are_named_by_their_addresses(tmp_path: Path) -> None:
    stored(tmp_path, "in/a.txt")
    Folder.at("memory://in").fs.pipe_file("/in/a.txt", b"text")
    names = [record["name"] for record in records(f"file://{tmp_path}/in/", "memory://in/")]
    assert names == [f"file://{tmp_path}/in/a.txt", "memory:///in/a.txt"]


def letter(data: bytes) -> str:
    message = email.message_from_bytes(data)
    return f"{message['Subject']}\n\n{message.get_payload()}"


def mail(subject: str) -> bytes:
    message = email.message.EmailMessage()
    message["Subject"] = subject
    message.set_content("Please pay.")
    return bytes(message)


@pytest.mark.parametrize(
    ("convert", "block"),
    [
        (lambda data: data.decode(), ("document", "text/plain")),
        (lambda data: (data, "text/html"), ("document", "text/plain")),
        (lambda data: (data.decode(), "text/markdown"), ("document", "text/plain")),
        (lambda _: pdf(2), ("document", "application/pdf")),
        (lambda _: (bytearray(pdf(2)), "application/pdf"), ("document", "application/pdf")),
        (lambda _: images.png(3, 2), ("image", "image/png")),
        (lambda _: (images.jpeg(3, 2), "image/jpeg"), ("image", "image/jpeg")),
    ],
)
def test_what_a_converter_returns_is_what_is_sent(
    tmp_path: Path, convert: Callable[[bytes], Any], block: tuple[str, str]
) -> None:
    suffix = ".EML"
    stored(tmp_path, f"in/a{suffix}", "in/b.txt")
    source = Documents(f"file://{tmp_path}/in/", convert={suffix: convert})
    blocks, reasons = sent(source, tmp_path)
    assert not reasons
    assert set(blocks) == {f"a{suffix}", "b.txt"}
    converted = blocks[f"a{suffix}"]
    assert (converted["type"], converted["source"]["media_type"]) == block


def test_mails_become_text(tmp_path: Path) -> None:
    stored(tmp_path, "in/a.eml", data=mail("Invoice 17"))
    blocks, _ = sent(Documents(f"file://{tmp_path}/in/a.eml", convert={".eml": letter}), tmp_path)
    assert blocks["a.eml"]["source"]["data"] == "Invoice 17\n\nPlease pay.\n"


def refuse(data: bytes) -> str:
    raise ValueError(f"cannot read {data!r}")


@pytest.mark.parametrize(
    ("convert", "reason"),
    [
        (refuse, r"its converter failed \(ValueError\)"),
        (lambda _: "", "holds no text"),
        (lambda _: b"\x00\x01", "what its converter returned is no PDF, PNG"),
        (lambda _: (b"\x00\x01", "image/png"), "though it is said to be image/png"),
        (lambda _: b"%PDF-1.4 nothing", "it does not end like a PDF"),
        (lambda _: (b"\xff\xfe", "text/plain"), "text is UTF-8"),
        (lambda _: "half a \ud800 pair", "text is UTF-8"),
        (lambda _: encrypted_pdf(), "opens only with a password"),
        (lambda _: images.png(9_000, 3), "9000 × 3 pixels"),
    ],
)
def test_a_file_whose_conversion_fails_costs_only_its_own_record(
    tmp_path: Path, convert: Callable[[bytes], Any], reason: str
) -> None:
    stored(tmp_path, "in/b.txt")
    stored(tmp_path, "in/a.docx", data=b"SECRET")
    blocks, reasons = sent(Documents(f"file://{tmp_path}/in/", convert={".docx": convert}), tmp_path)
    assert set(blocks) == {"b.txt"}
    [said] = reasons
    assert re.search(reason, said)
    assert "a.docx" in said
    assert "SECRET" not in said


def missing_library(_: bytes) -> str:
    import no_such_library  # type: ignore[import-not-found]

    return str(no_such_library)


@pytest.mark.parametrize(
    ("convert", "rule"),
    [
        (missing_library, "cannot import no_such_library"),
        (lambda _: None, "returned a NoneType; it returns text, bytes"),
        (lambda data: ["x", data], "returned a list"),
        (lambda _: ("text", 5), "returned a str"),
    ],
)
def test_a_converter_that_can_never_work_fails_the_task_before_anything_is_sent(
    tmp_path: Path, convert: Callable[[bytes], Any], rule: str
) -> None:
    stored(tmp_path, "in/a.docx", "in/b.txt")
    with pytest.raises(ConfigurationError, match=rule):
        sent(Documents(f"file://{tmp_path}/in/", convert={".docx": convert}), tmp_path)


@pytest.mark.parametrize(
    "convert", [{"docx": letter}, {".docx": "letter"}, {"": letter}, {".a/b": letter}, {5: letter}]
)
def test_a_converter_that_is_none_is_refused_where_it_is_written(convert: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="convert"):
        Documents("file:///in/", convert=convert)


def test_without_a_converter_a_file_of_another_kind_is_refused_with_the_way_out(tmp_path: Path) -> None:
    stored(tmp_path, "in/a.heic")
    with pytest.raises(InputError, match=r"a.heic.*files end with"):
        records(f"file://{tmp_path}/in/a.heic")


def test_pdfs_with_an_owners_password_are_saved_without_where_that_is_wanted(tmp_path: Path) -> None:
    data = encrypted_pdf(2, user="")
    stored(tmp_path, "in/a.pdf", data=data)
    uri = f"file://{tmp_path}/in/"
    kept, _ = sent(Documents(uri), tmp_path / "kept")
    saved, _ = sent(Documents(uri, decrypt=True, citations=True), tmp_path / "saved")
    assert kept["a.pdf"]["source"]["data"] != saved["a.pdf"]["source"]["data"]
    assert saved["a.pdf"]["citations"] == {"enabled": True}
    assert "decrypt" not in saved["a.pdf"]


def docx(*paragraphs: str) -> bytes:
    """A Word document, as small as it can be."""
    kinds = "http://schemas.openxmlformats.org/package/2006/content-types"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
    word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
    body = "".join(f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>" for text in paragraphs)
    files = {
        "[Content_Types].xml": f'<Types xmlns="{kinds}"><Default Extension="rels" ContentType="application/'
        'vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" ContentType='
        '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/></Types>',
        "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{office}" Target="word/document.xml"/></Relationships>',
        "word/document.xml": f'<w:document xmlns:w="{word}"><w:body>{body}</w:body></w:document>',
    }
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return target.getvalue()


def test_the_converters_of_the_guide_work(tmp_path: Path) -> None:
    blocks_of_code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)
    [code] = [block for block in blocks_of_code if "convert" in block]
    names: dict[str, Any] = {}
    exec(code, names)
    inbox = tmp_path / "inbox"
    stored(inbox, "a.docx", data=docx("Invoice 17", "Total: 5 EUR"))
    stored(inbox, "b.eml", data=mail("Reminder"))
    source = names["extract"].requests
    source.uris = [inbox.as_uri()]
    blocks, reasons = sent(source, tmp_path)
    assert not reasons
    assert "Total: 5 EUR" in blocks["a.docx"]["source"]["data"]
    assert "Please pay." in blocks["b.eml"]["source"]["data"]
