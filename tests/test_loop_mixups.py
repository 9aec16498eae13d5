"""Objects of one loop that are used on another: the error that says so gets a note with both loops, and what to do."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import httpx
import pytest

import syncline

aiohttp: Any = pytest.importorskip("aiohttp")
MakeBridge = Callable[..., syncline.Bridge]


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")

    def log_message(self, *args: object) -> None:  # type: ignore[override]
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that its client has dropped."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """A server that keeps connections open."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


async def make_aiohttp(url: str) -> Any:
    """A session that belongs to the running loop."""
    return aiohttp.ClientSession()


async def use_aiohttp(session: Any, url: str) -> str:
    """Any request."""
    async with session.get(url) as response:
        return await response.text()


async def make_httpx(url: str) -> Any:
    """A client with a connection on the running loop."""
    client = httpx.AsyncClient()
    await client.get(url)
    return client


async def use_httpx(client: Any, url: str) -> str:
    """Any request, on that connection."""
    return (await client.get(url)).text


async def make_future(url: str) -> Any:
    """A pending future."""
    return asyncio.get_running_loop().create_future()


async def use_future(future: Any, url: str) -> None:
    """Awaits it."""
    await future


async def close(thing: Any) -> None:
    """On the loop that it belongs to."""
    if isinstance(thing, asyncio.Future):
        thing.cancel()
    elif isinstance(thing, httpx.AsyncClient):
        await thing.aclose()
    else:
        await thing.close()


KINDS = {
    "aiohttp": (make_aiohttp, use_aiohttp),
    "httpx": (make_httpx, use_httpx),
    "a future": (make_future, use_future),
}
kinds = pytest.mark.parametrize("kind", KINDS)


def note_of(error: BaseException) -> str:
    """The one note of an error."""
    (note,) = error.__notes__
    return note


@kinds
def test_both_bridges_are_named(kind: str, url: str, make_bridge: MakeBridge) -> None:
    """Whatever words the library has for it."""
    make, use = KINDS[kind]
    one, two = make_bridge(name="one"), make_bridge(name="two")
    thing = one.run_sync(make, url)
    with pytest.raises(RuntimeError) as caught:
        two.run_sync(use, thing, url)
    note = note_of(caught.value)
    assert 'belongs to the loop of the runner "one"' in note
    assert 'used on the loop of the runner "two"' in note
    assert "through the same bridge" in note
    one.run_sync(close, thing)


@kinds
def test_in_scope_thread_the_advice_is_another_scope(kind: str, url: str, make_bridge: MakeBridge) -> None:
    """One bridge is used, and still there are two loops."""
    make, use = KINDS[kind]
    bridge = make_bridge(name="each", scope="thread")
    done, made = threading.Event(), threading.Event()
    things: list[Any] = []

    def in_a_thread() -> None:
        things.append(bridge.run_sync(make, url))
        made.set()
        done.wait(30)
        bridge.run_sync(close, things[0])

    thread = threading.Thread(target=in_a_thread, name="first")
    thread.start()
    assert made.wait(10)
    with pytest.raises(RuntimeError) as caught:
        bridge.run_sync(use, things[0], url)
    note = note_of(caught.value)
    assert '"each-thread-first"' in note
    assert '"each-thread-MainThread"' in note
    assert 'share one bridge of scope "process"' in note
    done.set()
    thread.join()


@kinds
def test_a_loop_of_scope_caller_is_named(kind: str, url: str, make_bridge: MakeBridge) -> None:
    """A thread's own loop has no runner, but a bridge."""
    make, use = KINDS[kind]
    own, other = make_bridge(name="own", scope="caller"), make_bridge(name="other")
    thing = own.run_sync(make, url)
    with pytest.raises(RuntimeError) as caught:
        other.run_sync(use, thing, url)
    note = note_of(caught.value)
    assert 'own loop of the bridge "own"' in note
    assert 'the runner "other"' in note
    assert 'share one bridge of scope "process"' in note
    own.run_sync(close, thing)


async def make_loop(url: str) -> asyncio.AbstractEventLoop:
    """The loop itself."""
    return asyncio.get_running_loop()


async def use_loop(loop: asyncio.AbstractEventLoop, url: str) -> None:
    """As what keeps its loop does."""
    loop.call_soon(int)


@pytest.mark.parametrize("kind", ["aiohttp", "a loop"])
def test_a_loop_that_is_closed_is_named(kind: str, url: str, make_bridge: MakeBridge) -> None:
    """asyncio.run made the client, and its loop is gone: "Event loop is closed" alone doesn't say which."""
    make, use = {**KINDS, "a loop": (make_loop, use_loop)}[kind]
    thing = asyncio.run(make(url))
    with pytest.raises(RuntimeError, match="Event loop is closed") as caught:
        make_bridge(name="two").run_sync(use, thing, url)
    note = note_of(caught.value)
    assert "closed=True" in note
    assert 'the runner "two"' in note
    assert "one and the same bridge" in note
    if isinstance(thing, aiohttp.ClientSession):
        asyncio.run(thing.close())


def test_an_error_that_passes_several_loops_has_one_note(make_bridge: MakeBridge) -> None:
    """It is explained where it is raised."""
    one, two = make_bridge(name="one"), make_bridge(name="two")
    outer = make_bridge(name="outer")
    future = one.run_sync(make_future, "")

    async def further_out() -> None:
        two.run_sync(use_future, future, "")

    with pytest.raises(RuntimeError) as caught:
        outer.run_sync(further_out)
    assert 'the runner "two"' in note_of(caught.value)


def test_the_same_words_about_ones_own_loop_are_not_explained(make_bridge: MakeBridge) -> None:
    """A timer of aiohttp's outside of any task is on the right loop, and lacks a task."""

    async def main() -> BaseException:
        session = aiohttp.ClientSession()
        loop = asyncio.get_running_loop()
        raised: asyncio.Future[BaseException] = loop.create_future()

        def outside_of_tasks() -> None:
            request: Coroutine[Any, Any, Any] = session.get("http://127.0.0.1:9")._coro
            try:
                request.send(None)
            except RuntimeError as error:
                raised.set_result(error)

        loop.call_soon(outside_of_tasks)
        error = await raised
        await session.close()
        return error

    async def raises() -> None:
        raise await main()

    with pytest.raises(RuntimeError, match="inside a task") as caught:
        make_bridge().run_sync(raises)
    assert not hasattr(caught.value, "__notes__")
