"""What is called, and how a sample of it is taken.

`sample(setting, peer, count)` makes `count` calls and returns what one of them cost, so that less is better everywhere.
It begins with calls that don't count, which start and warm what the peer keeps; only then are threads pinned.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import repeat
from typing import Any, Protocol

from .peers import AsyncFunction, Peer
from .placement import Placement


class Placed(Protocol):
    """Where samples are taken."""

    placement: Placement


Sample = Callable[[Any, Peer, int], float]
Clock = Callable[[], float]
FEWEST_CALLS = 3


# What is called


async def answer() -> int:
    """Never suspends."""
    return 1


async def turn() -> None:
    """Suspends for one turn of the loop."""
    await asyncio.sleep(0)


async def numbers(count: int) -> AsyncIterator[int]:
    """An async generator that never suspends otherwise."""
    for number in range(count):
        yield number


class Manager:
    """An async context manager that never suspends."""

    async def __aenter__(self) -> None:
        pass

    async def __aexit__(self, *exc_info: object) -> None:
        pass


# How


def seconds_a_call(peer: Peer, fn: AsyncFunction, count: int, clock: Clock = time.perf_counter) -> float:
    """What one of `count` calls takes."""
    call = peer.call
    start = clock()
    for _ in repeat(None, count):
        call(fn)
    return (clock() - start) / count


def warm(setting: Placed, peer: Peer, fn: AsyncFunction) -> None:
    """Makes the calls that don't count, and pins the threads in between."""
    setting.placement.free()
    peer.call(fn)
    setting.placement.pin([threading.current_thread()])
    peer.call(fn)


def calling(fn: AsyncFunction, clock: Clock = time.perf_counter) -> Sample:
    """One thread that does nothing but call."""

    def sample(setting: Placed, peer: Peer, count: int) -> float:
        warm(setting, peer, fn)
        return seconds_a_call(peer, fn, count, clock)

    return sample


def nested(fn: AsyncFunction) -> Sample:
    """By sync code that a coroutine on the peer's own loop called; for the reference, calls that aren't nested."""

    def sample(setting: Placed, peer: Peer, count: int) -> float:
        warm(setting, peer, answer)
        if peer.name == "reference":
            return seconds_a_call(peer, fn, count)
        if not peer.nests:
            raise NotImplementedError("refuses or hangs")

        async def main() -> float:
            peer.call(fn)
            return seconds_a_call(peer, fn, count)

        took: float = peer.call(main)
        return took

    return sample


def iterating(ahead: int) -> Sample:
    """Items of an async generator in a `for`; for the reference, a call for each."""

    def sample(setting: Placed, peer: Peer, count: int) -> float:
        warm(setting, peer, answer)
        if peer.name == "reference":
            return seconds_a_call(peer, answer, count)
        start = time.perf_counter()
        made = sum(1 for _ in peer.iterate(numbers(count), ahead))
        took = time.perf_counter() - start
        assert made == count
        return took / count

    return sample


def entering(setting: Placed, peer: Peer, count: int) -> float:
    """A `with` that enters and leaves an async context manager; for the reference, one call."""
    warm(setting, peer, answer)
    if peer.name == "reference":
        return seconds_a_call(peer, answer, count)
    with peer.enter(Manager()):
        pass
    start = time.perf_counter()
    for _ in repeat(None, count):
        with peer.enter(Manager()):
            pass
    return (time.perf_counter() - start) / count


def in_worker_threads(at_a_time: int, *, on_its_loop: bool = False) -> Sample:
    """Sync functions that a task sends to other threads, so many at a time; on asyncio's own loop, or on the peer's."""

    def sample(setting: Placed, peer: Peer, count: int) -> float:
        async def main() -> float:
            await gathered()
            setting.placement.pin([threading.current_thread()])
            start = time.perf_counter()
            for _ in range(count):
                await gathered()
            return (time.perf_counter() - start) / (count * at_a_time)

        async def gathered() -> None:
            if at_a_time == 1:
                await peer.to_thread(int)
            else:
                await asyncio.gather(*(peer.to_thread(int) for _ in range(at_a_time)))

        setting.placement.free()
        took: float = peer.call(main) if on_its_loop else asyncio.run(main())
        return took

    return sample


def fitting_count(setting: Placed, peer: Peer, sample: Sample, seconds: float, threads: int = 0) -> int:
    """How many calls take about that long. Where a sample starts `threads` which all make so many calls, these calls
    alone are to take that long: else there would be hardly any, and it were threads that start and end."""
    count = FEWEST_CALLS
    while True:
        start = time.perf_counter()
        seconds_a_call = sample(setting, peer, count)
        took = seconds_a_call * count * threads if threads else time.perf_counter() - start
        if took >= seconds / 4:
            return max(FEWEST_CALLS, round(count * seconds / took))
        count *= 4


def in_turns(
    setting: Placed, sample: Sample, counts: dict[Peer, int], rounds: Iterator[object]
) -> dict[Peer, list[float]]:
    """A sample of each peer in each round: what disturbs the machine disturbs all of them."""
    taken: dict[Peer, list[float]] = {peer: [] for peer in counts}
    for _ in rounds:
        for peer, count in counts.items():
            taken[peer].append(sample(setting, peer, count))
    return taken
