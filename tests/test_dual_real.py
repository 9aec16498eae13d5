"""Real libraries through dual objects: an HTTP stream, a database cursor, task groups held open by a sync `with`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import aiosqlite
import anyio
import anyio.abc
import httpx
import pytest

import syncline
from neutral import with_asyncio

Inside = Callable[[Callable[[], Any]], Any]
pytestmark = pytest.mark.timeout(60)
LINES = [f"line {number}" for number in range(100)]


class Handler(BaseHTTPRequestHandler):
    """Answers each request with a hundred lines, each in a chunk of its own."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Send them."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in LINES:
            data = line.encode() + b"\n"
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """Waits for its threads, and says nothing of clients that hang up."""

    daemon_threads = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves a stream early is what one test is about."""


@pytest.fixture
def url() -> Iterator[str]:
    """Where a server of this machine answers."""
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


# httpx and httpcore leave generators of their own open where a stream is left early, which trio says aloud.
@pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning")
@pytest.mark.parametrize("prefetch", [0, 8])
def test_a_response_is_streamed_by_sync_code(
    url: str, each_bridge: syncline.Bridge, inside: Inside, prefetch: int
) -> None:
    """Client and response are entered by `with`, the lines come by `for`: all of them, or as many as wanted."""

    def body() -> list[str]:
        with each_bridge.enter(httpx.AsyncClient(timeout=30)) as client:
            with each_bridge.enter(client.stream("GET", url)) as response:
                assert response.status_code == 200
                lines = list(each_bridge.iterate(response.aiter_lines(), prefetch=prefetch))
            assert response.is_closed
            with each_bridge.enter(client.stream("GET", url)) as response:
                for line in each_bridge.iterate(response.aiter_lines(), prefetch=prefetch):
                    if line == "line 3":
                        break
            assert response.is_closed
            assert each_bridge.run_sync(client.get, url).text.splitlines() == LINES
        assert client.is_closed
        return lines

    assert inside(body) == LINES


def test_one_decorated_stream_serves_both_worlds(url: str) -> None:
    """The same function, iterated by sync and by async code."""

    @syncline.iterator
    async def lines() -> AsyncIterator[str]:
        async with httpx.AsyncClient() as client, client.stream("GET", url) as response:
            async for line in response.aiter_lines():
                yield line

    async def main() -> list[str]:
        return [line async for line in lines()]

    assert list(lines()) == LINES
    assert asyncio.run(main()) == LINES


@with_asyncio
def test_a_database_is_read_by_sync_code(
    tmp_path: Path, each_bridge: syncline.Bridge, inside: Inside
) -> None:
    """Connection and cursor are entered by `with`, the rows come by `for`."""

    def body() -> list[int]:
        with each_bridge.enter(aiosqlite.connect(tmp_path / "test.db")) as connection:
            each_bridge.run_sync(connection.execute, "create table numbers (n integer)")
            rows = [(number,) for number in range(50)]
            each_bridge.run_sync(connection.executemany, "insert into numbers values (?)", rows)
            with each_bridge.enter(connection.execute("select n from numbers order by n")) as cursor:
                first = [n for (n,) in each_bridge.iterate(cursor)]
            with each_bridge.enter(connection.execute("select n from numbers order by n")) as cursor:
                for (n,) in each_bridge.iterate(cursor, prefetch=5):
                    if n == 2:
                        break
        # Closed with the connection: its thread has ended.
        with pytest.raises(ValueError, match="no active connection"):
            each_bridge.run_sync(connection.execute, "select 1")
        return first

    assert inside(body) == list(range(50))


@with_asyncio
def test_a_task_group_is_held_open_by_a_with(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """asyncio.TaskGroup: tasks are added by calls inside the `with`, which is left when they are done (case 29)."""
    done: list[int] = []

    async def child(number: int) -> None:
        await asyncio.sleep(0)
        done.append(number)

    async def spawn(group: asyncio.TaskGroup, number: int) -> None:
        group.create_task(child(number))

    def body() -> None:
        with each_bridge.enter(asyncio.TaskGroup()) as group:
            for number in range(5):
                each_bridge.run_sync(spawn, group, number)

    inside(body)
    assert sorted(done) == [0, 1, 2, 3, 4]


@with_asyncio
def test_a_failing_task_ends_the_with(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """The group's own ExceptionGroup at the exit; the other tasks are cancelled (case 29)."""
    problem = ValueError("mine")
    cancelled: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append("wait")
            raise

    async def fail() -> None:
        await asyncio.sleep(0)
        raise problem

    async def spawn(group: asyncio.TaskGroup) -> None:
        group.create_task(wait())
        group.create_task(fail())

    def body() -> None:
        with each_bridge.enter(asyncio.TaskGroup()) as group:
            each_bridge.run_sync(spawn, group)

    with pytest.raises(ExceptionGroup) as caught:
        inside(body)
    assert caught.value.exceptions == (problem,)
    assert cancelled == ["wait"]


def test_an_anyio_task_group_is_held_open_by_a_with(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Its cancel scope ends what runs in it for ever, from a call inside the `with` (cases 28, 29)."""
    log: list[str] = []

    async def serve(*, task_status: anyio.abc.TaskStatus[str]) -> None:
        task_status.started("ready")
        try:
            await anyio.sleep_forever()
        finally:
            log.append("stopped")

    async def stop(group: anyio.abc.TaskGroup) -> None:
        group.cancel_scope.cancel()

    async def make() -> anyio.abc.TaskGroup:
        return anyio.create_task_group()  # which can be made only where a loop runs

    def body() -> None:
        with each_bridge.enter(each_bridge.run_sync(make)) as group:
            log.append(each_bridge.run_sync(group.start, serve))
            each_bridge.run_sync(stop, group)

    inside(body)
    assert log == ["ready", "stopped"]


def test_a_lock_of_the_loop_is_held_by_a_with() -> None:
    """asyncio.Lock, by two threads: the second one gets it when the first one leaves."""
    lock = asyncio.Lock()
    order: list[str] = []
    waiting = threading.Event()

    async def take() -> None:
        waiting.set()
        async with lock:
            order.append("second")

    with syncline.Bridge() as bridge:
        with bridge.enter(lock):
            future = bridge.submit(take)
            # Order: the second one is at the lock before the first one leaves it.
            assert waiting.wait(20)
            order.append("first")
        future.result(20)
    assert order == ["first", "second"]
