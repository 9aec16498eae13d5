"""Real clients over real sockets: an httpx client and an aiosqlite connection live on from call to call.

What is bound to a loop (connections, background tasks) must meet that same loop in the next call: of any
thread in scope "process", of the same thread in the others.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiosqlite
import httpx
import pytest
import uvloop

import syncline

pytestmark = pytest.mark.timeout(60)
MakeBridge = Callable[..., syncline.Bridge]
each_kind_of_loop = pytest.mark.parametrize(
    "options",
    [{"scope": "process"}, {"scope": "thread"}, {"scope": "caller"}, {"loop_factory": uvloop.new_event_loop}],
    ids=["process", "thread", "caller", "uvloop"],
)
each_loop_that_moves_by_itself = pytest.mark.parametrize(
    "options",
    [{"scope": "process"}, {"scope": "thread"}, {"loop_factory": uvloop.new_event_loop}],
    ids=["process", "thread", "uvloop"],
)


class Server(ThreadingHTTPServer):
    """`/double/N` answers with JSON, `/lines` streams 100 lines, `/held` answers once `release` is set."""

    daemon_threads = False  # closing it waits for them: no thread outlives its test
    request_queue_size = 64

    def __init__(self) -> None:
        self.connections = 0
        self.held, self.release = threading.Event(), threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Count each connection."""
        self.connections += 1
        super().process_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that hang up, which some tests are about."""


class Handler(BaseHTTPRequestHandler):
    """Keeps connections open, and answers in one packet."""

    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def do_GET(self) -> None:
        """Answer as the server's docstring says."""
        kind, _, number = self.path.strip("/").partition("/")
        if kind == "lines":
            self.stream()
            return
        if kind == "held":
            self.server.held.set()
            assert self.server.release.wait(30)
        body = json.dumps({"double": 2 * int(number or 0)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self) -> None:
        """Send each line in a chunk of its own."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(100):
            line = f"line {number}\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server on a free port of this machine."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


async def double(client: httpx.AsyncClient, number: int) -> int:
    """One request."""
    response = await client.get(f"/double/{number}")
    return int(response.raise_for_status().json()["double"])


async def new_client(server: Server, connections: int = 100) -> httpx.AsyncClient:
    """A client that is made on the loop."""
    return httpx.AsyncClient(
        base_url=server.url, limits=httpx.Limits(max_connections=connections), timeout=30
    )


def test_threads_share_one_client_and_its_connections(server: Server, make_bridge: MakeBridge) -> None:
    """16 threads, 160 requests, at most 4 connections: the pool's waiters wake each other (case 25)."""
    bridge = make_bridge()
    client = bridge.run_sync(new_client, server, 4)
    together = threading.Barrier(16)

    def fetch(first: int) -> list[int]:
        together.wait(10)  # all threads are at it at the same time
        return [bridge.run_sync(double, client, first * 10 + step) for step in range(10)]

    with ThreadPoolExecutor(16) as pool:
        results = [number for part in pool.map(fetch, range(16)) for number in part]
    bridge.run_sync(client.aclose)
    assert results == [2 * number for number in range(160)]
    assert 1 <= server.connections <= 4
    assert bridge.stats()["runners"] == 1


@each_kind_of_loop
def test_a_client_made_in_one_call_works_in_the_next(
    server: Server, make_bridge: MakeBridge, options: dict[str, Any]
) -> None:
    """Ten calls over the one connection that the first of them opened (case 25)."""
    bridge = make_bridge(**options)
    client = bridge.run_sync(new_client, server)
    assert [bridge.run_sync(double, client, number) for number in range(10)] == list(range(0, 20, 2))
    bridge.run_sync(client.aclose)
    assert server.connections == 1


@each_kind_of_loop
def test_a_client_that_sync_code_made_works_in_all_calls(
    server: Server, make_bridge: MakeBridge, options: dict[str, Any]
) -> None:
    """It binds to the loop at its first request, not where it is made (case 25)."""
    bridge = make_bridge(**options)
    client = httpx.AsyncClient(base_url=server.url)
    fetch = bridge.synced(double)
    assert bridge.run_sync(client.get, "/double/21").json() == {"double": 42}
    assert [fetch(client, number) for number in range(3)] == [0, 2, 4]
    assert bridge.run(client.get("/double/4")).json() == {"double": 8}
    bridge.run_sync(client.aclose)
    assert server.connections == 1


@each_loop_that_moves_by_itself
def test_a_background_task_advances_between_calls(
    server: Server, make_bridge: MakeBridge, options: dict[str, Any]
) -> None:
    """It makes its requests while no call is in flight, and the next call finds them done (case 26)."""
    bridge = make_bridge(**options)
    finished = threading.Event()

    async def start() -> tuple[httpx.AsyncClient, asyncio.Task[list[int]]]:
        client = await new_client(server)

        async def background() -> list[int]:
            results = [await double(client, number) for number in range(5)]
            finished.set()
            return results

        return client, asyncio.create_task(background())

    async def result_of(task: asyncio.Task[list[int]]) -> list[int]:
        assert task.done()
        return await task

    client, task = bridge.run_sync(start)
    # Interleaving: no call is in flight while this thread waits for what only the background task does.
    assert finished.wait(20)
    assert bridge.run_sync(result_of, task) == [0, 2, 4, 6, 8]
    bridge.run_sync(client.aclose)


def test_a_background_task_of_scope_caller_advances_during_calls(
    server: Server, make_bridge: MakeBridge
) -> None:
    """There nobody drives the loop between calls; what waits goes on with the next one (case 26)."""
    bridge = make_bridge(scope="caller")

    async def start() -> tuple[httpx.AsyncClient, asyncio.Task[int]]:
        client = await new_client(server)
        return client, asyncio.create_task(double(client, 4))

    async def result_of(task: asyncio.Task[int]) -> int:
        return await task

    client, task = bridge.run_sync(start)
    assert not task.done()
    assert bridge.run_sync(result_of, task) == 8
    bridge.run_sync(client.aclose)


@each_kind_of_loop
def test_a_response_is_streamed_through_a_sync_generator(
    server: Server, make_bridge: MakeBridge, options: dict[str, Any]
) -> None:
    """All lines; then, after leaving early, the response is closed, and the client goes on (case 36)."""
    bridge = make_bridge(**options)
    client = bridge.run_sync(new_client, server)
    closed: list[str] = []

    @bridge.synced
    async def lines() -> AsyncGenerator[str, None]:
        async with client.stream("GET", "/lines") as response:
            async for line in response.aiter_lines():
                yield line
        closed.append("to the end")

    @bridge.synced
    async def lines_closing() -> AsyncGenerator[str, None]:
        try:
            async with client.stream("GET", "/lines") as response:
                async for line in response.aiter_lines():
                    yield line
        finally:
            closed.append(str(response.is_closed))

    assert list(lines()) == [f"line {number}" for number in range(100)]
    for line in lines_closing():
        if line == "line 3":
            break
    assert closed == ["to the end", "True"]
    assert bridge.run_sync(double, client, 1) == 2
    bridge.run_sync(client.aclose)


@each_kind_of_loop
def test_a_timed_out_request_is_cancelled_and_the_client_goes_on(
    server: Server, make_bridge: MakeBridge, options: dict[str, Any]
) -> None:
    """The server has the request and doesn't answer; its connection goes back to the pool (case 50)."""
    bridge = make_bridge(**options)
    client = bridge.run_sync(new_client, server, 1)
    with pytest.raises(TimeoutError):
        bridge.run(client.get("/held"), timeout=0.3)
    # With one connection at most, this waits for ever unless the first one was given back.
    assert bridge.run_sync(double, client, 3) == 6
    server.release.set()
    bridge.run_sync(client.aclose)


def test_a_request_in_flight_holds_up_no_other_thread(server: Server, make_bridge: MakeBridge) -> None:
    """While one thread waits for a held answer another makes ten requests with the same client (case 67)."""
    bridge = make_bridge()
    client = bridge.run_sync(new_client, server)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(bridge.run_sync, client.get, "/held/8")
        assert server.held.wait(20)
        assert [bridge.run_sync(double, client, number) for number in range(10)] == list(range(0, 20, 2))
        assert not held.done()
        server.release.set()
        assert held.result(20).json() == {"double": 16}
    bridge.run_sync(client.aclose)


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_sync_code_inside_a_running_loop_uses_the_shared_client(
    server: Server, make_bridge: MakeBridge, run: Callable[[Any], Any]
) -> None:
    """The client that plain sync code uses, from sync code inside another running loop (cases 1, 9)."""
    bridge = make_bridge()
    client = bridge.run_sync(new_client, server)

    def helper(number: int) -> int:
        return bridge.run_sync(double, client, number)

    async def main() -> list[int]:
        await asyncio.sleep(0)
        return [helper(number) for number in range(3)]

    assert run(main()) == [0, 2, 4]
    assert helper(5) == 10
    bridge.run_sync(client.aclose)
    assert server.connections == 1


@each_kind_of_loop
def test_a_database_connection_lives_over_calls(
    tmp_path: Path, make_bridge: MakeBridge, options: dict[str, Any]
) -> None:
    """Connect, write, commit and read are calls of their own (case 25)."""
    bridge = make_bridge(**options)

    async def connect() -> aiosqlite.Connection:
        return await aiosqlite.connect(tmp_path / "test.db")

    async def all_rows(connection: aiosqlite.Connection) -> list[tuple[int]]:
        async with connection.execute("select n from numbers order by n") as cursor:
            return [(row[0],) async for row in cursor]

    connection = bridge.run_sync(connect)
    bridge.run_sync(connection.execute, "create table numbers (n integer)")
    for number in range(5):
        bridge.run_sync(connection.execute, "insert into numbers values (?)", (number,))
    bridge.run_sync(connection.commit)
    assert bridge.run_sync(all_rows, connection) == [(number,) for number in range(5)]
    bridge.run_sync(connection.close)


def test_threads_share_one_database_connection(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """Eight threads write through it; a rolled back transaction leaves nothing (case 25)."""
    bridge = make_bridge()
    together = threading.Barrier(8)

    async def connect() -> aiosqlite.Connection:
        connection = await aiosqlite.connect(tmp_path / "test.db")
        await connection.execute("create table numbers (n integer unique)")
        await connection.commit()
        return connection

    async def total(connection: aiosqlite.Connection) -> tuple[int, int]:
        async with connection.execute("select count(*), sum(n) from numbers") as cursor:
            async for count, sum_of_all in cursor:
                return count, sum_of_all
        raise AssertionError("an aggregate has a row")

    connection = bridge.run_sync(connect)

    def insert(first: int) -> None:
        together.wait(10)
        for step in range(10):
            bridge.run_sync(connection.execute, "insert into numbers values (?)", (first * 10 + step,))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(insert, range(8)))
    bridge.run_sync(connection.commit)
    with pytest.raises(aiosqlite.IntegrityError):
        bridge.run_sync(connection.execute, "insert into numbers values (0)")
    bridge.run_sync(connection.execute, "delete from numbers")
    bridge.run_sync(connection.rollback)
    assert bridge.run_sync(total, connection) == (80, sum(range(80)))
    bridge.run_sync(connection.close)
