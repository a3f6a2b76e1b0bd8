"""Small valid PDFs, made without a library, in the forms in which they occur."""

from __future__ import annotations

import zlib


def pdf(pages: int = 1, *, padding: int = 0, text: str = "Page") -> bytes:
    """A plain PDF; ``padding`` bytes of incompressible stream make it larger."""
    objects = _objects(pages, text)
    if padding:
        noise = bytes(number * 37 % 251 for number in range(padding))
        objects.append(b"<< /Length %d >> stream\n" % len(noise) + noise + b"\nendstream")
    return _assemble(objects, b"/Root 1 0 R")


def encrypted_pdf() -> bytes:
    """A PDF whose trailer names an encryption."""
    return _assemble(
        [*_objects(1, "secret"), b"<< /Filter /Standard /V 2 /R 3 >>"], b"/Root 1 0 R /Encrypt 6 0 R"
    )


def pdf_with_object_streams(pages: int = 1) -> bytes:
    """As since PDF 1.5: the page tree compressed, a cross-reference stream in place of the table."""
    objects = [b"", *_objects(pages, "Page")[: 2 + pages]]
    inside = {number: objects[number] for number in range(1, 3 + pages)}
    offsets, body = [], b""
    for number, content in inside.items():
        offsets.append(b"%d %d" % (number, len(body)))
        body += content + b" "
    header = b" ".join(offsets) + b" "
    packed = zlib.compress(header + body)
    stream = b"<< /Type /ObjStm /N %d /First %d /Filter /FlateDecode /Length %d >> stream\n" % (
        len(inside),
        len(header),
        len(packed),
    )
    data = b"%PDF-1.5\n90 0 obj\n" + stream + packed + b"\nendstream\nendobj\n"
    start = len(data)
    table = zlib.compress(b"\x00" * 20)
    data += (
        b"91 0 obj\n<< /Type /XRef /Root 1 0 R /W [1 2 1] /Size 92 /Filter /FlateDecode"
        b" /Length %d >> stream\n" % len(table)
    )
    return data + table + b"\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n" % start


def edited_pdf(pages_before: int, pages_after: int) -> bytes:
    """A PDF to which an editor appended a new page tree."""
    new_root = _objects(pages_after, "Page")[1]
    return (
        pdf(pages_before)
        + b"2 0 obj\n"
        + new_root
        + b"\nendobj\ntrailer << /Root 1 0 R >>\nstartxref\n0\n%%EOF\n"
    )


def _objects(pages: int, text: str) -> list[bytes]:
    kids = b" ".join(b"%d 0 R" % (3 + number) for number in range(pages))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, pages),
    ]
    last = 3 + 2 * pages
    for number in range(pages):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R"
            b" /Resources << /Font << /F1 %d 0 R >> >> >>" % (3 + pages + number, last)
        )
    for number in range(pages):
        content = b"BT /F1 12 Tf 72 720 Td (%s %d) Tj ET" % (text.encode(), number + 1)
        objects.append(b"<< /Length %d >> stream\n%s\nendstream" % (len(content), content))
    objects.append(b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>")
    return objects


def _assemble(objects: list[bytes], trailer: bytes) -> bytes:
    data, offsets = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        offsets.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    return data + b"trailer << /Size %d %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start)
