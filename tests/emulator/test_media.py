"""The API's limits on images and PDFs, as errored lines."""

from __future__ import annotations

import base64

import pytest

from tests import images
from tests.pdfs import encrypted_pdf, pdf, pdf_with_object_streams

ALL_IMAGES = {
    "image/png": images.png,
    "image/jpeg": images.jpeg,
    "image/gif": images.gif,
    "image/webp": images.webp,
}
WEBPS = [images.webp_lossless, images.webp_extended]


def image(data, media_type="image/png"):
    return _block("image", media_type, data)


def document(data):
    return _block("document", "application/pdf", data)


def _block(kind, media_type, data):
    source = {"type": "base64", "media_type": media_type, "data": base64.b64encode(data).decode()}
    return {"type": kind, "source": source}


@pytest.fixture
def outcome(submit, results_of):
    """What becomes of a request with these blocks: ``succeeded``, or the message of the error."""

    def send(*blocks, model="claude-opus-5-5"):
        params = {"model": model, "messages": [{"role": "user", "content": list(blocks)}]}
        result = results_of(submit(("a", params)).id)["a"]
        return result.error.error.message if result.type == "errored" else result.type

    return send


@pytest.mark.parametrize(
    ("media_type", "make"), [*ALL_IMAGES.items(), *(("image/webp", make) for make in WEBPS)]
)
def test_an_image_of_too_many_pixels_is_refused(outcome, media_type, make):
    assert outcome(image(make(8_000, 8_000), media_type)) == "succeeded"
    for data in (make(8_001, 5), make(5, 8_001)):
        assert outcome(image(data, media_type)) == (
            "messages.0.content.0.image.source.base64.data: At least one of the image dimensions exceed"
            " max allowed size: 8000 pixels"
        )


def test_a_thumbnail_does_not_pass_for_its_photograph(outcome):
    photograph = images.jpeg(9_000, 6_000, thumbnail=images.jpeg(160, 120))
    assert "8000 pixels" in outcome(image(photograph, "image/jpeg"))


def test_an_image_above_10_mb_in_base64_is_refused(outcome):
    data = images.png(3, 2).ljust(7_864_320, b"\0")
    assert outcome(image(data)) == "succeeded"
    assert outcome(image(data + b"\0")) == (
        "messages.0.content.0.image.source.base64: image exceeds 10 MB maximum:"
        " 10485764 bytes > 10485760 bytes"
    )


@pytest.mark.parametrize("data", [b"hello", images.png(3, 2)[:20], images.gif(3, 2)])
def test_what_is_no_image_of_its_type_is_refused(outcome, data):
    assert outcome(image(data)) == "Could not process image"


def test_many_images_may_have_fewer_pixels_each(outcome):
    wide, small = image(images.png(2_001, 10)), image(images.png(2_000, 2_000))
    assert outcome(wide, *[small] * 19) == "succeeded"
    assert outcome(*[small] * 21) == "succeeded"
    assert "many-image requests: 2000 pixels" in outcome(wide, *[small] * 20)


def test_images_and_documents_are_counted_together(outcome):
    blocks = [*[image(images.png(3, 2))] * 99, document(pdf())]
    assert outcome(*blocks, model="claude-haiku-4-5") == "succeeded"
    assert outcome(*blocks, document(pdf()), model="claude-haiku-4-5") == (
        "too many images and documents: 99 + 2 > 100"
    )
    assert outcome(*blocks, document(pdf()), model="claude-haiku-5-5") == "succeeded"


@pytest.mark.parametrize("make", [pdf, pdf_with_object_streams])
def test_a_context_window_below_a_million_tokens_takes_100_pages(outcome, make):
    assert outcome(document(make(100)), model="claude-haiku-5-5") == "succeeded"
    assert outcome(document(make(101)), model="claude-haiku-5-5") == (
        "A maximum of 100 PDF pages may be provided."
    )
    assert outcome(document(make(600))) == "succeeded"
    assert outcome(document(make(601))) == "A maximum of 600 PDF pages may be provided."


def test_what_is_no_pdf_and_what_is_encrypted_is_refused(outcome):
    assert outcome(document(b"hello")) == "The PDF specified was not valid."
    compressed = pdf_with_object_streams(1).replace(b"/Type /XRef", b"/Type /XRef /Encrypt 9 0 R")
    for data in (encrypted_pdf(), compressed):
        assert outcome(document(data)) == "The PDF specified is password protected."


def test_a_pdf_with_an_owners_password_only_is_taken(outcome):
    assert outcome(document(encrypted_pdf(2, user=""))) == "succeeded"
    assert outcome(document(encrypted_pdf(2, user="u"))) == "The PDF specified is password protected."
