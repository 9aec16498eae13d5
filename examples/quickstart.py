"""The main job: plain sync code, in several threads, uses ONE async HTTP client.

Run it with `make demo`, or `python examples/quickstart.py` where syncline and httpx are installed.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

import syncline


class Pages(BaseHTTPRequestHandler):
    """A small real server: /page/N is JSON, /lines/N streams N lines, /slow answers after a second."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        kind, _, number = self.path.strip("/").partition("/")
        if kind == "lines":
            self.stream(int(number))
            return
        if kind == "slow":
            time.sleep(1)
        body = json.dumps({"page": int(number or 0)}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, lines: int) -> None:
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(lines):
            line = f"line {number}\n".encode()
            self.wfile.write(b"%x\r\n%b\r\n" % (len(line), line))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Keeps the output to what the demo prints."""


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that gives up is a part of the demo, not an error."""


@contextmanager
def server() -> Iterator[str]:
    """Serves on a free local port, for as long as the block runs."""
    with Server(("127.0.0.1", 0), Pages) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}"
        httpd.shutdown()


def fetch_in_threads(client: httpx.AsyncClient) -> list[int]:
    """Four threads, one client: its connections are shared, as all calls run on one loop."""
    with ThreadPoolExecutor(4) as pool:
        pages = pool.map(lambda n: syncline.run_sync(client.get, f"/page/{n}").json()["page"], range(20))
        return list(pages)


def make_lines(client: httpx.AsyncClient) -> Callable[[int], Iterator[str]]:
    """An async generator function becomes a sync one; each line is fetched when it is asked for."""

    @syncline.synced
    async def lines(count: int) -> AsyncIterator[str]:
        async with client.stream("GET", f"/lines/{count}") as response:
            async for line in response.aiter_lines():
                yield line

    return lines  # type: ignore[return-value]


def inside_a_running_loop(client: httpx.AsyncClient) -> int:
    """Sync code may call the bridge even where an event loop runs, as in a notebook or a web view."""

    def sync_helper() -> int:
        return int(syncline.run_sync(client.get, "/page/42").json()["page"])

    async def main() -> int:
        return sync_helper()

    return asyncio.run(main())


def microseconds(call: Callable[[], object], times: int = 300) -> float:
    """The median time of a call."""
    spans = []
    for _ in range(times):
        begun = time.perf_counter()
        call()
        spans.append(time.perf_counter() - begun)
    return statistics.median(spans) * 1e6


def compare_with_the_reference(base_url: str) -> None:
    """The same calls through `asyncio.run_coroutine_threadsafe(...).result()`, in this very process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def reference(coro_fn: Callable[..., object], *args: object) -> object:
        return asyncio.run_coroutine_threadsafe(coro_fn(*args), loop).result()  # type: ignore[arg-type]

    async def nothing() -> None:
        pass

    ours, theirs = httpx.AsyncClient(base_url=base_url), httpx.AsyncClient(base_url=base_url)
    rows = {
        "a coroutine that does nothing": (
            microseconds(lambda: syncline.run_sync(nothing), 3000),
            microseconds(lambda: reference(nothing), 3000),
        ),
        "one HTTP request": (
            microseconds(lambda: syncline.run_sync(ours.get, "/page/1")),
            microseconds(lambda: reference(theirs.get, "/page/1")),
        ),
    }
    print(f"\n{'median microseconds a call':32}{'syncline':>10}{'reference':>11}{'ratio':>8}")
    for name, (us, them) in rows.items():
        print(f"{name:32}{us:10.1f}{them:11.1f}{us / them:8.2f}")
    syncline.run_sync(ours.aclose)
    reference(theirs.aclose)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def main() -> None:
    with server() as base_url:
        client = httpx.AsyncClient(base_url=base_url)

        pages = fetch_in_threads(client)
        print(f"{len(pages)} pages, fetched by 4 threads through one client: {pages[:5]} ...")
        assert pages == list(range(20))

        received = list(make_lines(client)(1000))
        print(
            f"{len(received)} lines, streamed through a sync generator: {received[0]!r} ... {received[-1]!r}"
        )
        assert received == [f"line {n}" for n in range(1000)]

        page = inside_a_running_loop(client)
        print(f"page {page}, fetched by sync code inside a running event loop")
        assert page == 42

        begun = time.perf_counter()
        try:
            syncline.run(client.get("/slow"), timeout=0.2)
        except TimeoutError as error:
            took = time.perf_counter() - begun
            print(f"a slow page, given up after {took:.2f} s: {error}")
        assert took < 0.9

        syncline.run_sync(client.aclose)
        compare_with_the_reference(base_url)


if __name__ == "__main__":
    main()
