from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from airflow_claude_batch.batches.api.client import BatchesApi
from airflow_claude_batch.batches.errors import InputError
from airflow_claude_batch.batches.job.part_reader import read_requests
from airflow_claude_batch.batches.job.rejected import read_rejected
from airflow_claude_batch.batches.job.spool import spool
from airflow_claude_batch.batches.requests import documents
from airflow_claude_batch.batches.requests.builder import Recipe, RequestBuilder
from airflow_claude_batch.batches.requests.document_access import DocumentAccess
from airflow_claude_batch.batches.requests.document_blocks import UnreadableDocumentError
from airflow_claude_batch.batches.requests.documents import DocumentReader
from airflow_claude_batch.batches.storage import Folder
from airflow_claude_batch.emulator.testing import Emulator
from tests import images
from tests.batches.helpers import sent_ids, submit
from tests.pdfs import encrypted_pdf, pdf

PNG = images.png(3, 2)
IMAGES = {
    "a.png": (PNG, "image/png"),
    "a.jpg": (images.jpeg(3, 2), "image/jpeg"),
    "a.gif": (images.gif(3, 2), "image/gif"),
    "a.webp": (images.webp(3, 2), "image/webp"),
}
MAKERS = [
    images.png,
    images.jpeg,
    images.gif,
    images.webp,
    images.webp_lossless,
    images.webp_extended,
]
DEFAULTS = {"model": "claude-haiku-4-5", "max_tokens": 10}


def uri(path: Path) -> str:
    return f"file://{path}"


def stored(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    return uri(path)


def reader(**options: Any) -> DocumentReader:
    return DocumentReader(locate=Folder.at, access=DocumentAccess(["file:///"]), **options)


def blocks(*documents: Any) -> list[dict[str, Any]]:
    return reader()(list(documents), 0)


def refusal(*documents: Any) -> str:
    with pytest.raises(UnreadableDocumentError) as caught:
        blocks(*documents)
    return str(caught.value)


def test_a_pdf_becomes_a_document_block(tmp_path: Path) -> None:
    data = pdf(2)
    [block] = blocks(stored(tmp_path / "a.pdf", data))
    assert block["type"] == "document"
    assert block["source"]["media_type"] == "application/pdf"
    assert base64.b64decode(block["source"]["data"]) == data


@pytest.mark.parametrize("name", IMAGES)
def test_what_an_image_is_its_first_bytes_say(tmp_path: Path, name: str) -> None:
    data, media_type = IMAGES[name]
    [block] = blocks(stored(tmp_path / "misnamed.bin", data))
    assert (block["type"], block["source"]["media_type"]) == ("image", media_type)
    assert base64.b64decode(block["source"]["data"]) == data


@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_text_and_markdown_become_document_blocks(tmp_path: Path, name: str) -> None:
    [block] = blocks(stored(tmp_path / name, "# Größe".encode()))
    assert block == {
        "type": "document",
        "source": {"type": "text", "media_type": "text/plain", "data": "# Größe"},
    }


def test_a_file_id_is_passed_through() -> None:
    assert blocks({"file_id": "file_1"}, {"file_id": "file_2", "type": "image"}) == [
        {"type": "document", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_2"}},
    ]


def test_title_context_and_citations_go_with_a_document(tmp_path: Path) -> None:
    document = {"uri": stored(tmp_path / "a.txt", b"x"), "title": "T", "context": "C", "citations": True}
    [block] = blocks(document)
    assert (block["title"], block["context"], block["citations"]) == ("T", "C", {"enabled": True})


def test_the_prompt_comes_after_all_documents_of_the_record(tmp_path: Path) -> None:
    documents = [stored(tmp_path / "a.txt", b"one"), stored(tmp_path / "b.png", PNG)]
    template = Recipe(documents=reader(), documents_column="documents", prompt="Compare.")
    for record, recipe in [
        ({"custom_id": "a", "prompt": "Compare.", "documents": documents}, Recipe(documents=reader())),
        ({"custom_id": "a", "documents": documents}, template),
    ]:
        folder = Folder.at(f"file://{tmp_path}/job")
        part = spool([record], folder, defaults=DEFAULTS, bad_fraction=0.9, recipe=recipe).parts[0]
        [request] = read_requests(folder, part)
        [message] = msgspec.json.decode(request.line)["params"]["messages"]
        assert [block["type"] for block in message["content"]] == ["document", "image", "text"]
        assert message["content"][-1]["text"] == "Compare."
        assert recipe.requirements.models["claude-haiku-4-5"].images


@pytest.mark.parametrize(
    "option", [{"citations": "false"}, {"citations": {"enabled": False}}, {"decrypt": "no"}]
)
def test_an_option_that_is_true_or_false_is_no_text(tmp_path: Path, option: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="of a document is true or false"):
        blocks({"uri": stored(tmp_path / "a.pdf", pdf()), **option})


def test_documents_without_a_prompt_are_an_error(tmp_path: Path) -> None:
    record = {"custom_id": "a", "documents": [stored(tmp_path / "a.txt", b"x")]}
    with pytest.raises(InputError, match="documents go with a prompt"):
        spool(
            [record],
            Folder.at(f"file://{tmp_path}/job"),
            defaults=DEFAULTS,
            bad_fraction=0.9,
            recipe=Recipe(documents=reader()),
        )


@pytest.mark.parametrize(
    "documents", [[], {"url": "x"}, [17], [{"uri": "a", "file_id": "b"}], [{"uri": ""}], 5]
)
def test_documents_of_another_shape_are_a_fault_of_the_input(documents: Any) -> None:
    with pytest.raises(InputError, match="record 4: documents"):
        reader()(documents, 4)


def test_what_cannot_be_sent_says_which_document_and_why(tmp_path: Path) -> None:
    assert "no such file" in refusal(uri(tmp_path / "missing.pdf"))
    assert "a.pdf: it is encrypted" in refusal(stored(tmp_path / "a.pdf", encrypted_pdf()))
    assert "empty" in refusal(stored(tmp_path / "a.txt", b""))
    assert "UTF-8" in refusal(stored(tmp_path / "a.md", b"\xff\xfe\x00"))
    assert "zero bytes" in refusal(stored(tmp_path / "b.txt", "size is large".encode("utf-16-le")))
    assert "none of PDF, PNG" in refusal(stored(tmp_path / "a.docx", b"PK\x03\x04"))


def test_an_image_of_33_mb_is_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with path.open("wb") as file:
        file.write(PNG)
        file.truncate(33_000_000)
    assert "33.0 MB; the API takes 32 MB for a request" in refusal(uri(path))


def test_an_image_above_the_images_limit_is_refused(tmp_path: Path) -> None:
    largest = PNG + b"\x00" * (7_864_320 - len(PNG))
    assert blocks(stored(tmp_path / "largest.png", largest))
    assert "10.5 MB; the API takes 10 MB for an image" in refusal(
        stored(tmp_path / "a.png", largest + b"\x00")
    )


@pytest.mark.parametrize("make", MAKERS)
def test_an_image_of_too_many_pixels_is_refused_whatever_its_format(tmp_path: Path, make: Any) -> None:
    assert blocks(stored(tmp_path / "a", make(8_000, 8_000)))
    assert "a: 8001 × 5 pixels; the API takes 8000 × 8000" in refusal(stored(tmp_path / "a", make(8_001, 5)))
    assert "a: 5 × 8001 pixels" in refusal(stored(tmp_path / "a", make(5, 8_001)))


@pytest.mark.parametrize("make", MAKERS)
def test_an_image_whose_header_is_cut_off_is_refused(tmp_path: Path, make: Any) -> None:
    cut = make(3, 2)[: 8 if make is images.gif else 22]
    assert "a.bin: it is cut off or damaged" in refusal(stored(tmp_path / "a.bin", cut))


def test_a_thumbnail_in_a_photograph_does_not_pass_for_the_photograph(tmp_path: Path) -> None:
    photograph = images.jpeg(9_000, 6_000, thumbnail=images.jpeg(160, 120))
    assert "9000 × 6000 pixels" in refusal(stored(tmp_path / "a.jpg", photograph))


def test_where_a_request_has_many_images_each_may_have_fewer_pixels(tmp_path: Path) -> None:
    wide = stored(tmp_path / "wide.png", images.png(2_001, 10))
    small = stored(tmp_path / "small.png", images.png(2_000, 2_000))
    assert len(blocks(wide, *[small] * 19)) == 20
    assert len(blocks(*[small] * 21)) == 21
    assert (
        "wide.png: 2001 × 10 pixels; the API takes 2000 × 2000 where a request has more than 20"
        in refusal(wide, *[small] * 20)
    )


def test_images_and_pdfs_are_counted_together_by_the_models_context_window(tmp_path: Path) -> None:
    many = [stored(tmp_path / "a.png", PNG)] * 90 + [stored(tmp_path / "a.pdf", pdf())] * 11
    assert len(reader(context_window=400_000)(many, 0)) == 101
    with pytest.raises(UnreadableDocumentError, match="101 images and PDFs; the API takes 100"):
        reader(context_window=200_000)(many, 0)


def test_documents_are_counted_together_against_the_limits_of_a_request(tmp_path: Path) -> None:
    many = stored(tmp_path / "many.pdf", pdf(350))
    assert "700 PDF pages together; the API takes 600" in refusal(many, many)
    big = stored(tmp_path / "big.pdf", pdf(1, padding=13_000_000))
    assert "the documents together" in refusal(big, big)


def test_models_with_a_small_context_window_take_fewer_pages(tmp_path: Path) -> None:
    few = reader(context_window=400_000)
    with pytest.raises(UnreadableDocumentError, match="the API takes 100"):
        few([stored(tmp_path / "a.pdf", pdf(101))], 0)


def test_a_document_that_several_records_have_is_read_once(tmp_path: Path) -> None:
    handbook = tmp_path / "handbook.txt"
    shared = reader()
    first = shared([stored(handbook, b"rules")], 0)
    handbook.unlink()
    assert shared([uri(handbook)], 1) == first


def mixed(tmp_path: Path) -> list[dict[str, Any]]:
    return [
        {"custom_id": "good", "prompt": "Read.", "documents": [stored(tmp_path / "good.pdf", pdf())], "n": 1},
        {
            "custom_id": "bad",
            "prompt": "Read.",
            "documents": [stored(tmp_path / "bad.pdf", encrypted_pdf())],
            "n": 2,
        },
        {"custom_id": "plain", "prompt": "No document."},
    ]


def test_an_unreadable_document_keeps_its_record_from_being_sent_and_the_others_go_on(
    root: Folder, api: BatchesApi, emulator: Emulator, tmp_path: Path
) -> None:
    [batch_id], _ = submit(root, api, mixed(tmp_path), recipe=Recipe(documents=reader()), bad_fraction=0.5)
    assert sent_ids(emulator, batch_id) == {"good", "plain"}


def test_the_reason_is_stored_with_the_records_own_columns(tmp_path: Path) -> None:
    folder = Folder.at(f"file://{tmp_path}/job")
    spooled = spool(
        mixed(tmp_path), folder, defaults=DEFAULTS, recipe=Recipe(documents=reader()), bad_fraction=0.5
    )
    sent, rejected = spooled.parts
    assert (sent.request_count, rejected.request_count, spooled.request_count) == (2, 1, 3)
    [row] = read_rejected(folder, rejected.inputs)
    assert (row.custom_id, row.index) == ("bad", 1)
    assert "bad.pdf: it is encrypted" in row.reason
    assert msgspec.json.decode(row.input)["n"] == 2


def test_an_unreadable_document_fails_the_whole_input_where_that_is_wanted(tmp_path: Path) -> None:
    recipe = Recipe(documents=reader())
    with pytest.raises(InputError, match=r"record 1: documents.*encrypted"):
        spool(mixed(tmp_path), Folder.at(f"file://{tmp_path}/job"), defaults=DEFAULTS, recipe=recipe)


def test_where_no_document_can_be_sent_the_first_reason_is_the_error(tmp_path: Path) -> None:
    bad = mixed(tmp_path)[1]
    with pytest.raises(InputError, match=r"(?s)none is left to send.*encrypted"):
        spool(
            [bad],
            Folder.at(f"file://{tmp_path}/job"),
            defaults=DEFAULTS,
            recipe=Recipe(documents=reader()),
            bad_fraction=1.0,
        )


def test_a_record_that_is_not_sent_still_has_its_custom_id_for_itself(tmp_path: Path) -> None:
    rows = mixed(tmp_path)
    rows[2]["custom_id"] = "bad"
    folder = Folder.at(f"file://{tmp_path}/job")
    recipe = Recipe(documents=reader())
    spooled = spool(rows, folder, defaults=DEFAULTS, bad_fraction=0.9, recipe=recipe)
    first, second = read_rejected(folder, spooled.parts[-1].inputs)
    assert first.custom_id == "bad" != second.custom_id
    assert "an earlier record has it too" in second.reason


def test_a_repaired_document_makes_it_another_job(tmp_path: Path) -> None:
    def digest() -> str:
        folder = Folder.at(f"file://{tmp_path}/job")
        return spool(
            rows, folder, defaults=DEFAULTS, bad_fraction=0.9, recipe=Recipe(documents=reader())
        ).digest

    rows = mixed(tmp_path)
    before = digest()
    assert digest() == before
    (tmp_path / "bad.pdf").write_bytes(b"%PDF- damaged otherwise %%EOF")
    assert digest() != before


def test_parts_are_split_by_the_bytes_of_their_documents(tmp_path: Path) -> None:
    from airflow_claude_batch.batches.job.spool import Limits

    document = stored(tmp_path / "a.pdf", pdf(1, padding=100_000))
    rows = [{"custom_id": f"r{n}", "prompt": "Read.", "documents": [document]} for n in range(6)]
    folder = Folder.at(f"file://{tmp_path}/job")
    limits = Limits(bytes=300_000)
    parts = spool(
        rows, folder, defaults=DEFAULTS, bad_fraction=0.9, limits=limits, recipe=Recipe(documents=reader())
    ).parts
    assert [part.request_count for part in parts] == [2, 2, 2]
    assert all(part.bytes <= 300_000 for part in parts)


class SlowStore(MemoryFileSystem):
    """Object storage as it is: every call takes its time."""

    protocol = "slow"
    cachable = False

    def size(self, path: str) -> int:
        time.sleep(0.05)
        return super().size(path)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> bytes:
        time.sleep(0.05)
        return super().cat_file(path, start, end, **kwargs)


def test_what_bad_records_did_not_read_of_their_documents_is_let_go(tmp_path: Path) -> None:
    store = SlowStore()
    store.pipe_file("/inbox/a.txt", b"text")
    slow = DocumentReader(
        locate=lambda uri: Folder(fs=store, path=uri.removeprefix("slow:/"), url=uri),
        access=DocumentAccess(["slow://inbox/"]),
    )
    rows = [{"documents": ["slow://inbox/a.txt", {"uri": f"slow://inbox/{n}.txt"}, 7]} for n in range(12)]
    recipe = Recipe(documents=slow, documents_column="documents", prompt="Read.")
    with pytest.raises(InputError, match="12 fault"):
        spool(rows, Folder.at(f"file://{tmp_path}/job"), defaults=DEFAULTS, recipe=recipe)
    assert not slow._coming


def test_small_documents_are_kept_up_to_a_bound_in_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "KEPT_BYTES", 1_000)
    shared = reader()
    for number in range(30):
        shared([stored(tmp_path / f"{number}.txt", b"x" * 100)], number)
        assert shared._kept_bytes == sum(block.size for block in shared._kept.values()) <= 1_000
    assert len(shared._kept) > 1


@pytest.mark.parametrize("template", [None, "Read."])
def test_a_record_without_the_column_of_its_documents_is_not_sent_without_them(
    tmp_path: Path, template: str | None
) -> None:
    recipe = Recipe(documents=reader(), documents_column="files", prompt=template)
    build = RequestBuilder(recipe, DEFAULTS)
    with pytest.raises(InputError, match=r"record 3: column files = no column: .*null"):
        build({"custom_id": "a", "prompt": "Read.", "file": stored(tmp_path / "a.txt", b"text")}, 3)
    assert build({"custom_id": "a", "prompt": "Read.", "files": None}, 3).custom_id == "a"


def test_documents_on_object_storage_are_fetched_while_others_are_spooled(tmp_path: Path) -> None:
    store = SlowStore()
    names = [f"/inbox/{number}.txt" for number in range(40)]
    for name in names:
        store.pipe_file(name, f"text of {name}".encode())
    slow = DocumentReader(
        locate=lambda uri: Folder(fs=store, path=uri.removeprefix("slow:/"), url=uri),
        access=DocumentAccess(["slow://inbox/"]),
    )
    rows = [
        {"custom_id": name.strip("/").replace("/", "-")[:-4], "documents": [f"slow:/{name}"]}
        for name in names
    ]
    rows.append({"custom_id": "missing", "documents": ["slow://inbox/missing.txt"]})
    folder = Folder.at(f"file://{tmp_path}/job")

    began = time.monotonic()
    spooled = spool(
        rows,
        folder,
        defaults=DEFAULTS,
        bad_fraction=0.9,
        recipe=Recipe(documents=slow, documents_column="documents", prompt="Read."),
    )
    assert time.monotonic() - began < 2.0, "one after the other they would take 4 seconds"

    assert [part.request_count for part in spooled.parts] == [40, 1]
    for request in read_requests(folder, spooled.parts[0]):
        number = request.custom_id.removeprefix("inbox-")
        assert f"text of /inbox/{number}.txt".encode() in request.line
