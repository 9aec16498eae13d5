"""A small HTTP server, for programs that ask another service."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Upstream:
    """Where it is, how many connections it has accepted, and how many requests came."""

    url: str
    connections: int = 0
    requests: int = 0
    failures: int = 0
    """So many requests, the next ones, are answered by an error."""
    lock: threading.Lock = field(default_factory=threading.Lock)


@contextlib.contextmanager
def served(failures: int = 0) -> Iterator[Upstream]:
    """Answers /name by "page name for " and the header X-Path; the first requests, so many, by an error."""
    seen = Upstream("", failures=failures)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            with seen.lock:
                seen.connections += 1
            super().setup()

        def do_GET(self) -> None:
            with seen.lock:
                seen.requests += 1
                fails = seen.failures > 0
                seen.failures -= fails
            body = f"page {self.path.strip('/')} for {self.headers['X-Path']}".encode()
            self.send_response(503 if fails else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    seen.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
