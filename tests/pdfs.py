"""Small valid PDFs in the forms in which they occur; without a library where it is not about encryption."""

from __future__ import annotations

import io
import struct
import zlib


def pdf(pages: int = 1, *, padding: int = 0, text: str = "Page") -> bytes:
    """A plain PDF; ``padding`` bytes of incompressible stream make it larger."""
    objects = _objects(pages, text)
    if padding:
        noise = bytes(number * 37 % 251 for number in range(padding))
        objects.append(b"<< /Length %d >> stream\n" % len(noise) + noise + b"\nendstream")
    return _assemble(objects, b"/Root 1 0 R")


def encrypted_pdf(pages: int = 1, *, user: str = "secret", algorithm: str = "AES-128") -> bytes:
    """A PDF with an owner's password and a user's; without the latter (``user=""``) everybody may open it."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf(pages))))
    writer.encrypt(user_password=user, owner_password="owner", algorithm=algorithm)
    target = io.BytesIO()
    writer.write(target)
    return target.getvalue()


def pdf_with_object_streams(pages: int = 1, *, compressed: bool = True, trailer: bytes = b"") -> bytes:
    """As since PDF 1.5: the page tree in an object stream, a cross-reference stream in place of the table."""
    inside = _objects(pages, "Page")[: 2 + pages]
    offsets, body = [], b""
    for number, content in enumerate(inside, 1):
        offsets.append(b"%d %d" % (number, len(body)))
        body += content + b" "
    header = b" ".join(offsets) + b" "
    packed = zlib.compress(header + body) if compressed else header + body
    count, filter_ = len(inside), b"/Filter /FlateDecode " if compressed else b""
    data = b"%PDF-1.5\n"
    tree, table = count + 1, count + 2
    places = [b"\x02" + struct.pack(">IH", tree, index) for index in range(count)]
    places.append(b"\x01" + struct.pack(">IH", len(data), 0))
    data += b"%d 0 obj\n<< /Type /ObjStm /N %d /First %d %s/Length %d >> stream\n" % (
        tree,
        count,
        len(header),
        filter_,
        len(packed),
    )
    data += packed + b"\nendstream\nendobj\n"
    start = len(data)
    places.append(b"\x01" + struct.pack(">IH", start, 0))
    entries = b"\x00" * 7 + b"".join(places)
    entries = zlib.compress(entries) if compressed else entries
    data += b"%d 0 obj\n<< /Type /XRef %s /Root 1 0 R /W [1 4 2] /Size %d %s/Length %d >> stream\n" % (
        table,
        trailer,
        table + 1,
        filter_,
        len(entries),
    )
    return data + entries + b"\nendstream\nendobj\nstartxref\n%d\n%%%%EOF\n" % start


def edited_pdf(pages_before: int, pages_after: int) -> bytes:
    """A PDF to which an editor appended a new page tree."""
    before = pdf(pages_before)
    start = len(before)
    new_tree = b"2 0 obj\n" + _objects(pages_after, "Page")[1] + b"\nendobj\n"
    table = b"xref\n2 1\n%010d 00000 n \n" % start
    previous = before.rindex(b"xref\n0")
    trailer = b"trailer << /Size %d /Root 1 0 R /Prev %d >>\n" % (99, previous)
    return before + new_tree + table + trailer + b"startxref\n%d\n%%%%EOF\n" % (start + len(new_tree))


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
