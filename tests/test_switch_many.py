"""Nested calls that await in place: deep ones, many at once, and what they leave."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading

import pytest

import syncline
from switching import Place, place, turns

__all__ = ["place"]


def test_1000_levels_of_recursion(place: Place) -> None:
    """Deeper than Python's own recursion limit of 1,000 frames, suspended at each level."""

    async def level(left: int) -> int:
        await asyncio.sleep(0)
        found = place.bridge.run_sync(level, left - 1) + 1 if left else 0
        await asyncio.sleep(0)
        return found

    async def main() -> int:
        return await syncline.run_nestable(level, 1000)

    assert place.run(main) == 1000


def test_endless_recursion_ends_with_advice(place: Place) -> None:
    """At 10,000 levels: RecursionError that says what to do, and everything goes on afterwards."""

    async def endless() -> None:
        place.bridge.run_sync(endless)

    async def main() -> None:
        with pytest.raises(RecursionError, match="await the async function"):
            await syncline.run_nestable(endless)
        await turns()

    place.run(main)
    place.run(main)


def test_300_nested_calls_wait_at_once(place: Place) -> None:
    """All are suspended in the same moment, then all go on, with no thread started for any."""

    async def main() -> int:
        opened = asyncio.Event()
        waiting = 0

        async def wait() -> None:
            nonlocal waiting
            waiting += 1
            await opened.wait()

        async def nested() -> int:
            place.bridge.run_sync(wait)
            return 1

        threads = set(threading.enumerate())
        tasks = [asyncio.create_task(syncline.run_nestable(nested)) for _ in range(300)]
        while waiting < 300:
            await asyncio.sleep(0)
        assert set(threading.enumerate()) <= threads
        opened.set()
        return sum([await task for task in tasks])

    assert place.run(main) == 300


def test_100_chains_100_deep_start_one_thread() -> None:
    """The one runner is all that it takes; no chain starts a thread (case 4)."""
    threads = set(threading.enumerate())
    with syncline.Bridge(nested="switch") as bridge:

        async def level(left: int) -> int:
            await asyncio.sleep(0)
            return bridge.run_sync(level, left - 1) + 1 if left else 0

        async def main() -> list[int]:
            return await asyncio.gather(*(level(100) for _ in range(100)))

        assert bridge.run_sync(main) == [100] * 100
        assert len(set(threading.enumerate()) - threads) == 1
        assert bridge.stats()["runners"] == 1
        assert bridge.stats()["nested"] == 10_000


def test_two_nested_calls_hold_and_let_go_in_any_order(place: Place) -> None:
    """Parked stacks are resumed in the order of events, not in that in which they were left."""

    async def main() -> list[int]:
        events = [asyncio.Event() for _ in range(5)]
        order: list[int] = []

        async def nested(number: int) -> None:
            place.bridge.run_sync(events[number].wait)
            place.bridge.run_sync(turns, number)
            order.append(number)

        tasks = [asyncio.create_task(syncline.run_nestable(nested, n)) for n in range(5)]
        await turns(3)
        for number in (3, 0, 4, 1, 2):
            events[number].set()
            await tasks[number]
        return order

    assert place.run(main) == [3, 0, 4, 1, 2]


def test_a_mixture_of_tasks_with_and_without_nested_calls(place: Place) -> None:
    """50 tasks that nest, await, fail and are cancelled in turns leave each other alone."""

    async def work(number: int) -> int:
        for turn in range(10):
            if (number + turn) % 3 == 0:
                place.bridge.run_sync(turns, 2)
            elif (number + turn) % 3 == 1:
                await turns()
            else:
                with pytest.raises(ValueError, match=f"^{number}$"):
                    place.bridge.run_sync(fail, number)
        return number

    async def fail(number: int) -> None:
        await asyncio.sleep(0)
        raise ValueError(number)

    async def main() -> list[object]:
        tasks = [asyncio.create_task(syncline.run_nestable(work, n)) for n in range(50)]
        await turns(4)
        for task in tasks[::5]:
            task.cancel()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    results = place.run(main)
    assert [result for n, result in enumerate(results) if n % 5] == [n for n in range(50) if n % 5]
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::5])


def test_what_a_nested_call_used_is_freed(place: Place) -> None:
    """When a call is over, nothing keeps its arguments, its locals or its context alive (case 60)."""
    import weakref

    class Thing:
        pass

    held: list[weakref.ref[Thing]] = []
    kept: contextvars.ContextVar[object] = contextvars.ContextVar("kept")

    async def inner(thing: Thing) -> None:
        kept.set(thing)
        await asyncio.sleep(0)

    async def nested() -> None:
        thing = Thing()
        held.append(weakref.ref(thing))
        place.bridge.run_sync(inner, thing)

    async def main() -> bool:
        await asyncio.create_task(syncline.run_nestable(nested))
        await turns(2)
        gc.collect()
        return held[0]() is None

    assert place.run(main)
