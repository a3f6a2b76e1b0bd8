"""The two files of one part: request lines as they are sent, and beside them what stays with us."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from array import array
from typing import Literal

from airflow_claude_batch.batches.job.marks import marked_id, renamed
from airflow_claude_batch.batches.job.part import Part
from airflow_claude_batch.batches.requests.request import Request
from airflow_claude_batch.batches.storage import Folder

DIGEST_LENGTH = 32
"""Characters of a request's digest, which names it by its content: all that is sent but the custom_id."""

BODY_START = b'{"requests":['
BODY_END = b"]}"

_NO_CONTENT = hashlib.blake2b(digest_size=DIGEST_LENGTH // 2)
_FLUSH_AT = 1 << 20
_BEFORE_PARAMS = len('{"custom_id":"","params":')

Route = Literal["new", "known", "repeat"]
"""Of a request: to be asked, answered in an earlier job, or asked in this one by an earlier request."""


class PartWriter:
    """The two files of one part; lines are gathered and written in blocks of about a megabyte."""

    def __init__(
        self,
        folder: Folder,
        number: int,
        compress: bool,
        most_requests: int,
        route: Route,
        label: str = "",
    ) -> None:
        self.number, self._route = number, route
        suffix = f"{number:05d}{'-' if label else ''}{label}.jsonl{'.gz' if compress else ''}"
        self.requests, self.inputs = f"requests-{suffix}", f"inputs-{suffix}"
        self._files = [folder.open_write(name) for name in (self.requests, self.inputs)]
        self.most_requests = most_requests
        self._gathered: list[tuple[Request, bytes]] = []
        """With what names its answer."""
        self._request_lines: list[bytes] = []
        self._gathered_bytes = 0
        self.hashes = array("q")
        """Of its custom_ids, in this process."""
        self.positions: array[int] | None = None
        """Of its requests in the input, where they do not follow on each other."""
        self.count = 0
        self.marked = self.stored_id = ""
        self.offset = 0
        """Bytes of the requests file so far."""
        self.digest = 0
        """Sum of the hashes of what is in its files."""

    @property
    def body_bytes(self) -> int:
        """Length of the body: every line costs itself and a comma, the last one only itself."""
        return self.offset + len(BODY_START) + len(BODY_END) - 1

    def mark(self, request: Request) -> bytes:
        """The line of the part's first request, which carries its mark."""
        self.marked, self.stored_id = request.custom_id, marked_id(request.custom_id)
        return renamed(request.line, self.marked, self.stored_id)

    def add(self, request: Request, line: bytes, fingerprint: bytes, position: int) -> None:
        """Take a request.

        Args:
            request: It.
            line: As it is sent.
            fingerprint: What names its answer; empty for nothing.
            position: In the input.
        """
        self._gathered.append((request, fingerprint))
        self._request_lines.append(line)
        if self.positions is not None:
            self.positions.append(position)
        self.count += 1
        self.offset += len(line) + 1
        self._gathered_bytes += len(line) + len(request.columns or b"")
        if self._gathered_bytes >= _FLUSH_AT:
            self._flush()

    def _flush(self) -> None:
        requests_file, inputs_file = self._files
        self._request_lines.append(b"")
        requests_file.write(b"\n".join(self._request_lines))
        self._request_lines.clear()
        inputs_file.write(b"".join(self._inputs()))
        self.hashes.extend(hash(request.custom_id) for request, _ in self._gathered)
        self._gathered.clear()
        self._gathered_bytes = 0

    def _inputs(self) -> list[bytes]:
        """The lines of the inputs file for what is gathered."""
        rows, hashes = [], []
        sha256 = hashlib.sha256
        for request, fingerprint in self._gathered:
            custom_id = request.custom_id.encode()
            hashes.append(sha256(request.line).digest())
            if fingerprint:
                names = b'%b","reuse":"%b' % (fingerprint[:DIGEST_LENGTH], fingerprint)
            else:
                content = memoryview(request.line)[_BEFORE_PARAMS + len(custom_id) :]
                content_hash = _NO_CONTENT.copy()  # half of the time of a new one with this size
                content_hash.update(content)
                names = content_hash.hexdigest().encode()
            if request.columns:
                row = b'{"custom_id":"%b","digest":"%b","input":%b}\n' % (custom_id, names, request.columns)
            else:
                row = b'{"custom_id":"%b","digest":"%b"}\n' % (custom_id, names)
            rows.append(row)
        self.digest += sum(map(int.from_bytes, hashes))
        return rows

    def close(self) -> None:
        with contextlib.ExitStack() as stack:
            for file in self._files:
                stack.callback(file.close)
            if self._gathered:
                self._flush()

    def result(self, round: int) -> Part:
        return Part(
            requests=self.requests,
            inputs=self.inputs,
            request_count=self.count,
            bytes=self.body_bytes,
            way="batch" if self._route == "new" else "reuse",
            answered=self._route == "known",
            repeats=self._route == "repeat",
            round=round,
            marked=self.marked,
            stored_id=self.stored_id,
            sent_id=self.stored_id,
        )


def writers_label() -> str:
    """For the names of files that several workers may come to write into a job's folder.

    One that was frozen, and whose job another has taken over, writes on when it wakes: what the ledger names
    must not change then.
    """
    return secrets.token_hex(4)
