"""What is measured.

How a sample is taken, `syncline._bench.samples` says, which has those that `python -m syncline bench` takes, too.
"""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal

import many
from echo_server import NOW, WAIT, EchoServer
from peers import AsyncFunction, Peer

from syncline._bench.placement import Placement
from syncline._bench.samples import (
    Clock,
    Sample,
    answer,
    calling,
    entering,
    in_worker_threads,
    iterating,
    nested,
    seconds_a_call,
    turn,
    warm,
)

Unit = Literal["s", "calls/s", "left"]
NAP_SECONDS = 0.001
BUSY_BEFORE_SECONDS = 0.02
"""Some turns of the interpreter: long enough for the computing thread to be at it, and to hold the interpreter."""
BUSY_SECONDS = 0.3
"""Some sixty turns of the interpreter, which changes hands every 5 ms: in a few calls, who held it first decides."""
SHORT_THREADS = 200
AT_A_TIME = 8
LEFTOVERS_MAY_TAKE = 0.5


# What is called


async def nap() -> None:
    """Waits for a timer."""
    await asyncio.sleep(NAP_SECONDS)


# How


class Setting:
    """Where samples are taken: the placement, and a connection to a server."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self._cleanup = ExitStack()
        self._asks: dict[bytes, AsyncFunction] = {}

    def ask(self, message: bytes) -> AsyncFunction:
        """An async function that sends one byte to a server in another process and receives one."""
        if not self._asks:
            server = self._cleanup.enter_context(EchoServer(self.placement.server_core))
            connected = self._cleanup.enter_context(server.connect())
            for each in (NOW, WAIT):
                self._asks[each] = _asking(connected, each)
        return self._asks[message]

    def close(self) -> None:
        self._cleanup.close()


def _asking(connected: Any, message: bytes) -> AsyncFunction:
    async def ask() -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(connected, message)
        if await loop.sock_recv(connected, 1) != message:
            raise ConnectionError("the echo server is gone")

    return ask


def asking(message: bytes, clock: Clock = time.perf_counter) -> Sample:
    """One thread whose coroutines ask a server over a socket."""

    def sample(setting: Setting, peer: Peer, count: int) -> float:
        return calling(setting.ask(message), clock)(setting, peer, count)

    return sample


def inside_loop(setting: Setting, peer: Peer, count: int) -> float:
    """Sync code that a coroutine on asyncio's own loop called."""

    async def main() -> float:
        await peer.inside_loop()
        return calling(answer)(setting, peer, count)

    return asyncio.run(main())


def beside_busy_thread(setting: Setting, peer: Peer, count: int) -> float:
    """While another thread computes in Python: for a time, not a number of calls, `count` at a time."""
    started, done = threading.Event(), False

    def compute() -> None:
        setting.placement.free()
        started.set()
        while not done:
            pass

    warm(setting, peer, answer)
    busy = threading.Thread(target=compute)
    busy.start()
    try:
        started.wait()
        time.sleep(BUSY_BEFORE_SECONDS)
        made, start = 0, time.perf_counter()
        while (took := time.perf_counter() - start) < BUSY_SECONDS:
            seconds_a_call(peer, answer, count)
            made += count
        return took / made
    finally:
        done = True
        busy.join()


def threads(number: int) -> Sample:
    """Several threads that do nothing but call."""

    def sample(setting: Setting, peer: Peer, count: int) -> float:
        ends: list[float] = []
        failures: list[BaseException] = []

        def caller() -> None:
            try:
                setting.placement.free()
                peer.call(answer)
                warmed.wait()
                peer.call(answer)
                ready.wait()
                seconds_a_call(peer, answer, count)
                ends.append(time.perf_counter())
            except BaseException as error:
                failures.append(error)
                warmed.abort()
                ready.abort()

        callers = [threading.Thread(target=caller) for _ in range(number)]
        warmed = threading.Barrier(number, lambda: setting.placement.pin(callers))
        starts: list[float] = []
        ready = threading.Barrier(number, lambda: starts.append(time.perf_counter()))
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join()
        if failures:
            # The others may have failed because this one did.
            raise next(
                (error for error in failures if not isinstance(error, threading.BrokenBarrierError)),
                failures[0],
            )
        return (max(ends) - starts[0]) / (number * count)

    return sample


# What is not a call


def importing(setting: Setting, peer: Peer, count: int) -> float:
    """A process that imports the library, less one that does nothing: the fastest of a few, as others only slow it."""
    bare: list[float] = []
    with_import: list[float] = []
    for _ in range(count):
        bare.append(_seconds_of("pass"))
        with_import.append(_seconds_of(f"import {peer.module}"))
    return min(with_import) - min(bare)


FIRST_CALLS = {
    "reference": "import asyncio; asyncio.run(answer())",
    "syncline": "import syncline; syncline.run_sync(answer)",
    "syncline-caller": "import syncline; syncline.Bridge(scope='caller').run_sync(answer)",
    "floor-hop": "import asyncio, greenlet, threading; loop = asyncio.new_event_loop(); "
    "threading.Thread(target=loop.run_forever, daemon=True).start(); "
    "asyncio.run_coroutine_threadsafe(answer(), loop).result()",
}


def first_call(setting: Setting, peer: Peer, count: int) -> float:
    """A process that imports the library, makes one call, and ends: the fastest of a few, as others only slow it."""
    if peer.name not in FIRST_CALLS:
        raise NotImplementedError("measured for ours only")
    code = f"async def answer(): return 1\n{FIRST_CALLS[peer.name]}"
    return min(_seconds_of(code) for _ in range(count))


def _seconds_of(code: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True)
    return time.perf_counter() - start


def leftovers(kind: Literal["task", "fd"]) -> Sample:
    """Threads ("task") or file descriptors that are left of short threads which each made a call."""

    def sample(setting: Setting, peer: Peer, count: int) -> float:
        peer.call(turn)
        before = _fewest_entries(kind, 0)
        for _ in range(SHORT_THREADS // AT_A_TIME):
            started = [threading.Thread(target=peer.call, args=(turn,)) for _ in range(AT_A_TIME)]
            for thread in started:
                thread.start()
            for thread in started:
                thread.join()
        return float(max(0, _fewest_entries(kind, before) - before))

    return sample


def _fewest_entries(kind: str, enough: int) -> int:
    """How many there are when all that was to end has ended."""
    fewest = sys.maxsize
    give_up = time.perf_counter() + LEFTOVERS_MAY_TAKE
    while fewest > enough and time.perf_counter() < give_up:
        gc.collect()
        fewest = min(fewest, len(os.listdir(f"/proc/self/{kind}")))
        time.sleep(0.01)
    return fewest


# The list


@dataclass(frozen=True)
class Scenario:
    """One column of the table."""

    name: str
    title: str
    sample: Sample
    unit: Unit = "s"
    slices: int = 1
    """How long a sample is, in time slices: more where the calls themselves are long."""
    fixed_count: int | None = None
    """How many calls make a sample, where that is not a matter of time."""
    placed: bool = True
    """Whether the placement of threads has any bearing on it; else it is measured unpinned only."""
    threads: int = 0
    """How many a sample starts, which make the calls."""


_IN_ORDER = (
    Scenario("plain", "a coroutine that never suspends", calling(answer)),
    Scenario("sleep0", "asyncio.sleep(0)", calling(turn)),
    Scenario("socket", "a byte to a server and back", asking(NOW)),
    Scenario("in-loop", "called inside a running loop", inside_loop),
    *(
        Scenario(
            f"threads-{number}",
            f"calls a second from {number} thread{'s'[: number > 1]}",
            threads(number),
            "calls/s",
            slices=4,
            threads=number,
        )
        for number in (1, 2, 4, 8)
    ),
    Scenario("nested", "nested on the peer's own loop, never suspends", nested(answer)),
    Scenario("nested-sleep0", "the same with asyncio.sleep(0)", nested(turn)),
    Scenario("items", "an item of an async generator, in a for", iterating(0)),
    Scenario("items-ahead", "the same with up to 64 items fetched ahead", iterating(64)),
    Scenario(
        "map",
        "an item of a map, never suspends",
        many.mapping(many.same, many.one_by_one),
        fixed_count=5000,
    ),
    Scenario(
        "map-io",
        "an item that takes 1 ms, 100 at a time; the reference in 100 threads",
        many.mapping(many.nap, many.in_threads),
        fixed_count=3000,
    ),
    Scenario(
        "map-async",
        "the same; the reference in one coroutine, behind a semaphore",
        many.mapping(many.nap, many.behind_semaphore),
        fixed_count=3000,
    ),
    Scenario("enter", "entering and leaving an async context manager", entering),
    Scenario("to-thread", "the other way: a sync function in a worker thread", in_worker_threads(1)),
    Scenario("to-thread-100", "the same, 100 at a time", in_worker_threads(100), slices=4),
    Scenario("busy", "beside a thread that computes", beside_busy_thread, fixed_count=3),
    Scenario("cpu", "CPU time, never suspends", calling(answer, time.process_time)),
    Scenario("cpu-nap", "CPU time, asyncio.sleep of 1 ms", calling(nap, time.process_time), slices=2),
    Scenario(
        "cpu-socket", "CPU time, a server's answer after 1 ms", asking(WAIT, time.process_time), slices=2
    ),
    Scenario("import", "import, over bare Python", importing, fixed_count=5, placed=False),
    Scenario("first-call", "a process that makes one call", first_call, fixed_count=5),
    Scenario(
        "threads-left", "threads left of 200 that made a call", leftovers("task"), "left", 1, 1, placed=False
    ),
    Scenario("files-left", "files left open by them", leftovers("fd"), "left", 1, 1, placed=False),
)
SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in _IN_ORDER}
