"""Twins of real clients, against real servers and files: httpx, aiosqlite, aiohttp."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiosqlite
import httpx
import pytest

import syncline
from child import run_script
from recipe_servers import free_port
from test_real_http import Server, server

__all__ = ["server"]


def surface(cls: type) -> dict[str, Any]:
    """The public methods, each with its parameters."""
    return {
        name: [(each.name, each.kind, each.default) for each in inspect.signature(member).parameters.values()]
        for name, member in inspect.getmembers(cls, inspect.isfunction)
        if name[0] != "_" or name in ("__enter__", "__iter__")
    }


def test_the_twin_of_httpx_s_client_has_the_surface_of_its_sync_client() -> None:
    """Which its authors wrote by hand: the same names, properties, and parameters with the same defaults."""
    twin = syncline.Bridge().blocking(httpx.AsyncClient)
    assert surface(twin) == surface(httpx.Client)
    public = [name for name in dir(httpx.Client) if not name.startswith("_")]
    assert [name for name in dir(twin) if not name.startswith("_") and name != "aio"] == public
    response = syncline.Bridge().blocking(httpx.Response)
    assert {name for name in dir(httpx.Response) if not name.startswith(("_", "a"))} <= set(dir(response))


def test_httpx_requests_and_streams(server: Server, make_bridge: Callable[..., syncline.Bridge]) -> None:
    """On one connection, which outlives the calls; the response streams by its twin."""
    bridge = make_bridge()
    client_of = bridge.blocking(httpx.AsyncClient)
    with client_of(base_url=server.url, timeout=30) as client:
        for number in range(3):
            assert client.get(f"/double/{number}").json() == {"double": 2 * number}
        assert server.connections == 1
        bridge.blocking(httpx.Response)
        with client.stream("GET", "/lines") as response:
            assert response.status_code == 200
            assert list(response.iter_lines()) == [f"line {number}" for number in range(100)]
        with client.stream("GET", "/lines") as response:
            assert len(response.read().splitlines()) == 100
        request = client.build_request("GET", "/double/4")
        assert client.send(request).json() == {"double": 8}
        with pytest.raises(httpx.UnsupportedProtocol):
            client.get("gopher://host/")
        assert not client.is_closed
    assert client.is_closed


def test_threads_share_one_httpx_client(server: Server, make_bridge: Callable[..., syncline.Bridge]) -> None:
    """And async code on another loop, too, by `.aio`."""
    bridge = make_bridge()
    client_of = bridge.blocking(httpx.AsyncClient)
    bridge.blocking(httpx.Response)
    limits = httpx.Limits(max_connections=4)
    with client_of(base_url=server.url, timeout=30, limits=limits) as client:

        def double(number: int) -> int:
            return int(client.get(f"/double/{number}").json()["double"])

        async def main() -> list[int]:
            responses = await asyncio.gather(*(client.aio.get(f"/double/{number}") for number in range(8)))
            async with client.aio.stream("GET", "/lines") as response:
                lines = [line async for line in response.aiter_lines()]
            assert len(lines) == 100
            return [response.json()["double"] for response in responses]

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(double, range(40))) == [2 * number for number in range(40)]
        assert asyncio.run(main()) == [2 * number for number in range(8)]
        assert server.connections <= 5


def test_aiosqlite_works_with_rows(tmp_path: Path, make_bridge: Callable[..., syncline.Bridge]) -> None:
    """The connection's own thread, cursors as twins, `with`, iteration and transactions."""
    bridge = make_bridge()
    cursor_of = bridge.blocking(aiosqlite.Cursor)
    connection_of = bridge.blocking(aiosqlite.Connection)
    with bridge.blocking(aiosqlite.connect(tmp_path / "rows.db")) as connection:
        assert type(connection) is connection_of
        connection.execute("create table rows (number)")
        with connection.execute("insert into rows values (1), (2), (3)") as cursor:
            assert type(cursor) is cursor_of
            assert cursor.rowcount == 3
        assert connection.in_transaction
        connection.commit()
        cursor = connection.execute("select number from rows order by number")
        assert cursor.fetchone() == (1,)
        assert list(cursor) == [(2,), (3,)]
        cursor.close()
        connection.row_factory = aiosqlite.Row
        (row,) = connection.execute_fetchall("select max(number) as most from rows")
        assert row["most"] == 3
        connection.execute("delete from rows")
        connection.rollback()
        assert connection.total_changes >= 3
        assert [row[0] for row in connection.execute("select number from rows")] == [1, 2, 3]
        with pytest.raises(aiosqlite.OperationalError, match="no such table"):
            connection.execute("select * from no_rows")
    with pytest.raises(ValueError, match="no active connection"):
        connection.execute("select 1")


def test_an_aiosqlite_connection_is_opened_by_run(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """As `await` opens it."""
    connection = make_bridge().blocking(aiosqlite.connect(":memory:")).run()
    assert connection.execute_fetchall("select 1") == [(1,)]
    connection.close()


def test_aiohttp_s_session_is_made_and_used(
    server: Server, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """Its constructor needs the running loop; its responses come as twins, which are read on it."""
    aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    bridge = make_bridge()
    session_of = bridge.blocking(aiohttp.ClientSession)
    response_of = bridge.blocking(aiohttp.ClientResponse)
    assert session_of.__name__ == "BlockingClientSession"
    with session_of(base_url=server.url) as session:
        with session.get("/double/4") as response:
            assert type(response) is response_of
            assert (response.status, response.json(content_type=None)) == (200, {"double": 8})
        response = session.get("/double/5")
        assert response.text() == '{"double": 10}'
        response.release()
        with session.get("/lines") as response:
            assert list(response.content)[-1] == b"line 99\n"
        assert not session.closed
        with pytest.raises(aiohttp.ClientConnectionError):
            session.get(f"http://127.0.0.1:{free_port()}/")
    assert session.closed


def test_a_session_of_aiohttp_that_is_dropped_unclosed_says_so() -> None:
    """As it does in async code: its `__del__` warns, on its loop."""
    pytest.importorskip("aiohttp", reason="aiohttp is not installed")
    finished = run_script(
        """
        import aiohttp, logging, syncline, threading
        logging.basicConfig(format="%(threadName)s %(message)s")
        session = syncline.blocking(aiohttp.ClientSession)()
        del session
        syncline.run_sync(__import__("asyncio").sleep, 0)
        """,
        flags=["-W", "always"],
    )
    assert finished.status == 0
    assert "ResourceWarning: Unclosed client session" in finished.err
    assert "syncline Unclosed client session" in finished.err


def test_the_loop_is_not_needed_for_what_a_twin_only_holds(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """Attributes are read while the loop is blocked."""
    bridge = make_bridge()
    client = bridge.blocking(httpx.AsyncClient)(timeout=3)
    go_on = threading.Event()

    async def block() -> None:
        await asyncio.sleep(0)
        assert go_on.wait(30)

    future = bridge.submit(block)
    assert client.timeout == httpx.Timeout(3)
    go_on.set()
    future.result()
    client.close()
