"""A real workload: sync threads that fetch from an HTTP server, through one shared async client or a sync one.

    python bench/workload.py --quick
    python bench/workload.py --check --python /path/to/bin/python   # another environment, with flytekit and prefect

The server runs in a process of its own (http_server.py), and so does each peer. They take turns, sample by sample. A
sample is: so many threads fetch for a while, as fast as they can; the figures are medians of the requests a second and
of the CPU time that the peer's process takes for a request.

A peer whose loop is a thread's own has a client for each thread; one that makes a loop for each call makes a client for
each call, too, as a client does not outlive its loop.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from peers import PEERS, Peer, imported

from syncline._bench.placement import PLACEMENTS, Placement, possible_placements

HERE = Path(__file__)
BRIDGES = (
    "syncline",
    "syncline-caller",
    "reference",
    "flytekit",
    "prefect",
    "anysync",
    "asgiref",
    "anyio-portal",
    "synchronicity",
)
CLIENTS = ("aiohttp", "httpx")
PLAIN = {"httpx.Client": "httpx", "requests": "requests"}
THREADS = (1, 8, 64)
AT_LEAST = {8: 0.9, 64: 1.0}
"""Of the best plain client's requests a second."""
CONNECTIONS = 100
LIMIT = 60.0
"""Seconds without an answer, after which a peer counts as hanging."""

Fetch = Callable[[], None]


# In a peer's process


class Aiohttp:
    """Fetches by aiohttp."""

    def open(self) -> AbstractAsyncContextManager[Any]:
        session: AbstractAsyncContextManager[Any] = imported("aiohttp", "ClientSession")()
        return session

    async def fetch(self, client: Any, url: str) -> None:
        async with client.get(url) as response:
            assert await response.read()


class Httpx:
    """Fetches by httpx."""

    def open(self) -> AbstractAsyncContextManager[Any]:
        client: AbstractAsyncContextManager[Any] = imported("httpx", "AsyncClient")(**httpx_options())
        return client

    async def fetch(self, client: Any, url: str) -> None:
        response = await client.get(url)
        assert response.content


def httpx_options() -> dict[str, Any]:
    limits = imported("httpx", "Limits")(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    return {"trust_env": False, "limits": limits}


class Bridged:
    """Threads that fetch by an async client through a peer."""

    def __init__(self, peer: Peer, client: str, url: str) -> None:
        self._peer = peer
        kind = {"aiohttp": Aiohttp, "httpx": Httpx}[client]()
        clients: dict[asyncio.AbstractEventLoop, Any] = {}

        async def fetch() -> None:
            loop = asyncio.get_running_loop()
            try:
                client = clients[loop]
            except KeyError:
                client = clients[loop] = await kind.open().__aenter__()
            await kind.fetch(client, url)

        async def fetch_once() -> None:
            async with kind.open() as client:
                await kind.fetch(client, url)

        async def close() -> None:
            await clients.pop(asyncio.get_running_loop()).__aexit__(None, None, None)

        self._close = close
        self._fetch = fetch_once if peer.loops == "call" else fetch

    def fetch(self) -> None:
        self._peer.call(self._fetch)

    def end_thread(self) -> None:
        """At the end of each thread."""
        if self._peer.loops == "thread":
            self._peer.call(self._close)


class PlainHttpx:
    """Threads that share a sync client."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = imported("httpx", "Client")(**httpx_options())

    def fetch(self) -> None:
        assert self._client.get(self._url).content

    def end_thread(self) -> None: ...


class PlainRequests:
    """Threads with a session each, as sessions are not meant to be shared."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._own = threading.local()

    def fetch(self) -> None:
        try:
            session = self._own.session
        except AttributeError:
            session = self._own.session = imported("requests", "Session")()
            session.trust_env = False
        assert session.get(self._url).content

    def end_thread(self) -> None:
        self._own.session.close()


def sample(fetcher: Any, placement: Placement, number: int, seconds: float) -> dict[str, Any]:
    """So many threads fetch for so long."""
    made: list[int] = []
    failures: list[BaseException] = []
    begun: list[tuple[float, float]] = []

    def begin() -> None:
        placement.pin(threads)
        begun.append((time.perf_counter(), time.process_time()))

    def work() -> None:
        try:
            placement.free()
            fetcher.fetch()
            ready.wait(LIMIT)
            count, until = 0, begun[0][0] + seconds
            while time.perf_counter() < until:
                fetcher.fetch()
                count += 1
            made.append(count)
            over.wait(LIMIT)
            fetcher.end_thread()
        except BaseException as error:
            failures.append(error)
            ready.abort()
            over.abort()

    ended: list[tuple[float, float]] = []
    threads = [threading.Thread(target=work) for _ in range(number)]
    ready = threading.Barrier(number, begin)
    over = threading.Barrier(number, lambda: ended.append((time.perf_counter(), time.process_time())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        cause = next((each for each in failures if not isinstance(each, threading.BrokenBarrierError)), None)
        return {"why": f"{type(cause).__name__}: {cause}".splitlines()[0]}
    took, cpu = ended[0][0] - begun[0][0], ended[0][1] - begun[0][1]
    return {"requests": sum(made) / took, "cpu": cpu / sum(made)}


def serve_samples(peer: str, placement: Placement, url: str) -> None:
    """Takes a sample for each line of standard input."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever libraries print goes to standard error
    placement.start()
    fetchers: dict[str, Any] = {}
    if peer in PLAIN:
        fetchers[PLAIN[peer]] = (PlainHttpx if peer == "httpx.Client" else PlainRequests)(url)
    else:
        opened = PEERS[peer]()
        opened.open()
        fetchers |= {client: Bridged(opened, client, url) for client in CLIENTS}
    for line in sys.stdin:
        client, number, seconds = json.loads(line)
        print(json.dumps(sample(fetchers[client], placement, number, seconds)), file=out, flush=True)
    os._exit(0)  # not every peer ends well, and nobody needs it to


# In the process that compares them


@dataclass
class Row:
    """What came of one peer with one client."""

    peer: str
    client: str
    samples: dict[int, list[dict[str, float]]] = field(default_factory=dict)
    why: str = ""

    def median(self, number: int, what: str) -> float | None:
        found = [each[what] for each in self.samples.get(number, ())]
        return statistics.median(found) if found else None


class Process:
    """A peer's process."""

    def __init__(self, python: str, peer: str, placement: str, url: str) -> None:
        command = [python, "-W", "ignore", str(HERE), "--one", peer, "--placement", placement, "--url", url]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def take(self, client: str, number: int, seconds: float) -> dict[str, Any]:
        """A sample, or why there is none."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is not None:
            return {"why": "ended"}
        print(json.dumps([client, number, seconds]), file=self._process.stdin, flush=True)
        watch = threading.Timer(LIMIT + seconds, self._process.kill)
        watch.start()
        try:
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        answer: dict[str, Any] = json.loads(line) if line else {"why": "hangs, or crashed"}
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._process.kill()
        self._process.communicate()


def measured(pythons: dict[str, str], placement: str, rounds: int, seconds: float) -> list[Row]:
    """All peers, in turns."""
    rows = [Row(peer, client) for peer in pythons for client in ([PLAIN[peer]] if peer in PLAIN else CLIENTS)]
    core = PLACEMENTS[placement]().server_core
    server = [sys.executable, str(HERE.with_name("http_server.py")), *([] if core is None else [str(core)])]
    with ExitStack() as stack:
        serving = stack.enter_context(
            subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert serving.stdin is not None
        assert serving.stdout is not None
        stack.callback(serving.stdin.close)
        url = serving.stdout.readline().strip()
        processes = {
            peer: stack.enter_context(Process(python, peer, placement, url))
            for peer, python in pythons.items()
        }
        for row in rows:  # imports, and the first connections
            row.why = processes[row.peer].take(row.client, 1, 0.1).get("why", "")
        for turn in range(rounds):
            for number in THREADS:
                for row in rows:
                    if not row.why:
                        taken = processes[row.peer].take(row.client, number, seconds)
                        row.why = taken.get("why", "")
                        if not row.why:
                            row.samples.setdefault(number, []).append(taken)
            print(f"{placement}: {turn + 1} of {rounds}", file=sys.stderr, flush=True)
    return rows


def table(rows: list[Row]) -> Iterator[str]:
    """The best first, by the requests a second of eight threads."""
    yield "| | client | " + " | ".join(f"{number} thread{'s'[: number > 1]}" for number in THREADS) + " |"
    yield "|---|---|" + "---|" * len(THREADS)
    for row in sorted(rows, key=lambda row: -(row.median(8, "requests") or 0)):
        cells = []
        for number in THREADS:
            requests, cpu = row.median(number, "requests"), row.median(number, "cpu")
            cells.append(
                "-" if requests is None or cpu is None else f"{requests:,.0f}/s, {cpu * 1e6:,.0f} us"
            )
        yield f"| {row.peer} | {row.client} | {' | '.join(cells)} |"
    for row in rows:
        if row.why:
            yield f"\n{row.peer}, {row.client}: {row.why}"


def verdicts(rows: list[Row]) -> Iterator[tuple[bool, str]]:
    """Whether ours is the first of all bridges, by requests and by CPU time, and how it compares with plain clients."""
    for client in CLIENTS:
        bridged = [row for row in rows if row.client == client and row.peer not in PLAIN]
        ours = [row for row in bridged if row.peer.startswith("syncline")]
        others = [row for row in bridged if not row.peer.startswith("syncline")]
        for number in THREADS:
            for what, best in (("requests", max), ("cpu", min)):
                mine = best(filter(None, (row.median(number, what) for row in ours)), default=None)
                theirs = best(filter(None, (row.median(number, what) for row in others)), default=None)
                if mine is not None and theirs is not None:
                    gain = mine / theirs if what == "requests" else theirs / mine
                    yield (
                        gain >= 1,
                        f"{client}, {number} threads, {what}: {gain:.2f} of the best other bridge",
                    )
    for number, least in AT_LEAST.items():
        plain = max(
            filter(None, (row.median(number, "requests") for row in rows if row.peer in PLAIN)), default=None
        )
        mine = max(
            filter(None, (row.median(number, "requests") for row in rows if row.peer.startswith("syncline"))),
            default=None,
        )
        if plain is not None and mine is not None:
            yield (
                mine >= least * plain,
                f"{number} threads: {mine / plain:.2f} of the best plain client ({least})",
            )


def find_pythons(candidates: list[str], wanted: list[str]) -> dict[str, str]:
    """For each peer the first interpreter that has what it needs."""
    look = "import importlib.util, sys; sys.exit(not all(map(importlib.util.find_spec, sys.argv[1:])))"
    found: dict[str, str] = {}
    for peer in wanted:
        needs = [PLAIN[peer]] if peer in PLAIN else [*PEERS[peer].needs, *CLIENTS]
        for python in candidates:
            if subprocess.run([python, "-c", look, *needs]).returncode == 0:
                found[peer] = python
                break
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    everybody = [*BRIDGES, *PLAIN]
    add("--quick", action="store_true", help="one short sample of each: some seconds, and noisy")
    add("--check", action="store_true", help="fail if ours is not first")
    add("--peer", action="append", choices=everybody, metavar="NAME", help="only this; repeatable")
    add("--placement", choices=possible_placements(), help="where the threads run (see README.md)")
    add(
        "--python",
        action="append",
        default=[],
        metavar="PATH",
        help="another interpreter, for peers missing here",
    )
    add("--one", choices=everybody, help=argparse.SUPPRESS)
    add("--url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    placement = options.placement or possible_placements()[0]
    if options.one:
        serve_samples(options.one, PLACEMENTS[placement](), options.url)
    wanted = options.peer or everybody
    pythons = find_pythons([sys.executable, *options.python], wanted)
    rounds, seconds = (1, 0.2) if options.quick else (7, 0.5)
    rows = measured(pythons, placement, rounds, seconds)
    print("\n".join(table(rows)))
    for peer in wanted:
        if peer not in pythons:
            print(f"\n{peer}: not installed")
    if not options.check:
        return 0
    outcomes = list(verdicts(rows))
    for is_reached, text in outcomes:
        print("pass" if is_reached else "MISS", text)
    return 0 if outcomes and all(reached for reached, _ in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
