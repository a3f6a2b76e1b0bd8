"""A gateway in front of the API: TLS of its own, redirects, web pages, path prefixes."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

Answer = tuple[int, dict[str, str], bytes]
"""Status, headers, body."""
HTML = {"content-type": "text/html"}
JSON = {"content-type": "application/json"}
LOGIN: Answer = (200, HTML, b"<html>Please log in</html>")
NOT_FOUND: Answer = (404, JSON, b'{"detail":"Not Found"}')
NO_LIST: Answer = (404, JSON, b'{"type":"error","error":{"type":"not_found_error","message":"no list"}}')
BAD_KEY: Answer = (401, JSON, b'{"type":"error","error":{"type":"authentication_error","message":"bad"}}')
EMPTY_LIST: Answer = (200, JSON, b'{"data":[],"has_more":false,"first_id":null,"last_id":null}')


class Gateway:
    """Answers each path as ``answer`` says, on a loopback port; to be used as a context manager.

    Args:
        answer: Of a path.
        certificate: A directory for a self-signed one, where it speaks TLS.
    """

    def __init__(self, answer: Callable[[str], Answer], certificate: Path | None = None) -> None:
        self.paths: list[str] = []
        gateway = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.do_GET()

            def do_GET(self) -> None:
                gateway.paths.append(self.path)
                status, headers, body = answer(self.path)
                self.send_response(status)
                for name, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nothing to say."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if certificate is not None:
            scheme, context = "https", ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self_signed(certificate))
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Gateway:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def self_signed(folder: Path) -> Path:
    """A certificate for loopback that nobody has vouched for, and its key, in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "gateway")])
    now, loopback = datetime.datetime.now(datetime.UTC), ipaddress.ip_address("127.0.0.1")
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(loopback)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "gateway.pem"
    path.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return path
