"""Real clients and drivers, shared by calls and threads (cases 25, 26)."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

import aiosqlite
import httpx
import pytest

import syncline


class Echo(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connections: ClassVar[set[tuple[str, int]]] = set()

    def do_GET(self) -> None:
        self.connections.add(self.client_address)
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_threads_share_one_http_client(url: str) -> None:
    """Made in one call, used in others from four threads, over connections that are kept."""

    async def make() -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=url, limits=httpx.Limits(max_connections=4))

    Echo.connections.clear()
    client = syncline.run_sync(make)
    with ThreadPoolExecutor(4) as pool:
        pages = pool.map(lambda n: syncline.run_sync(client.get, f"/{n}").text, range(60))
        assert list(pages) == [f"/{n}" for n in range(60)]
    syncline.run_sync(client.aclose)
    assert 1 <= len(Echo.connections) <= 4


def test_threads_share_one_database_connection(tmp_path: Path) -> None:
    """aiosqlite has a thread of its own, which wakes the loop for each row."""

    async def connect() -> aiosqlite.Connection:
        return await aiosqlite.connect(tmp_path / "rows.db")

    async def insert(connection: aiosqlite.Connection, n: int) -> None:
        await connection.execute("insert into rows values (?)", (n,))

    @syncline.synced
    async def rows(connection: aiosqlite.Connection):  # type: ignore[no-untyped-def]
        async with connection.execute("select n from rows order by n") as cursor:
            async for (n,) in cursor:
                yield n

    connection = syncline.run_sync(connect)
    syncline.run_sync(connection.execute, "create table rows (n)")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: syncline.run_sync(insert, connection, n), range(40)))
    syncline.run_sync(connection.commit)
    assert list(rows(connection)) == list(range(40))
    syncline.run_sync(connection.close)
