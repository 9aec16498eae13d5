"""Many calls at once: what is measured of `map`.

The reference's way depends on the question: a call for each item; its calls from 100 threads of a pool, which is what
sync code does without us; or no sync code at all, but a coroutine that starts all calls behind a semaphore.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from peers import Peer

    from syncline._bench.placement import Placement

AT_ONCE = 100
NAP_SECONDS = 0.001


class Placed(Protocol):
    """A setting, as far as it concerns us."""

    placement: Placement


async def same(item: int) -> int:
    """Never suspends."""
    return item


async def nap(item: int) -> int:
    """Waits for a timer."""
    await asyncio.sleep(NAP_SECONDS)
    return item


Way = Callable[[Placed, "Peer", int], float]


def one_by_one(setting: Placed, peer: Peer, count: int) -> float:
    """A call for each item."""
    _warm(setting, peer)
    start = time.perf_counter()
    for item in range(count):
        peer.call(same, item)
    return (time.perf_counter() - start) / count


def in_threads(setting: Placed, peer: Peer, count: int) -> float:
    """From the threads of a pool."""

    def call(item: int) -> Any:
        return peer.call(nap, item)

    setting.placement.free()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        _exhaust(pool.map(call, range(2 * AT_ONCE)))
        setting.placement.pin([threading.current_thread(), *pool._threads])
        start = time.perf_counter()
        _exhaust(pool.map(call, range(count)))
        return (time.perf_counter() - start) / count


def behind_semaphore(setting: Placed, peer: Peer, count: int) -> float:
    """In one coroutine, with a task for each item."""
    _warm(setting, peer)

    async def main() -> float:
        semaphore = asyncio.Semaphore(AT_ONCE)

        async def call(item: int) -> int:
            async with semaphore:
                return await nap(item)

        start = time.perf_counter()
        await asyncio.gather(*(call(item) for item in range(count)))
        return (time.perf_counter() - start) / count

    took: float = peer.call(main)
    return took


def mapping(fn: Any, reference: Way) -> Way:
    """An item of a `map`; for the reference, an item in its way."""

    def sample(setting: Placed, peer: Peer, count: int) -> float:
        if peer.name == "reference":
            return reference(setting, peer, count)
        _warm(setting, peer)
        _exhaust(peer.map(fn, range(AT_ONCE), AT_ONCE))
        start = time.perf_counter()
        _exhaust(peer.map(fn, range(count), AT_ONCE))
        return (time.perf_counter() - start) / count

    return sample


def _warm(setting: Placed, peer: Peer) -> None:
    setting.placement.free()
    peer.call(same, 0)
    setting.placement.pin([threading.current_thread()])
    peer.call(same, 0)


def _exhaust(results: Any) -> None:
    for _ in results:
        pass
