"""What is many: a queue is left, and looked at, in the same time however long it is, and a thousand loops end like
ten."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import syncline
from child import eventually

MakeBridge = Callable[..., syncline.Bridge]
FEW, MANY = 1000, 8000
TOLERATED = 2.5
"""Eight times as many may take so many times eight times as long: caches. A search for each would take 64 times."""


@contextmanager
def without_collector() -> Iterator[None]:
    """Which goes through all objects that live, again and again."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def cancelled(waiting: Callable[[], Awaitable[Any]], count: int) -> float:
    """CPU seconds that it takes to cancel so many tasks that wait, the last one first."""
    tasks = [asyncio.ensure_future(_awaited(waiting)) for _ in range(count)]
    for _ in range(3):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    begun = time.thread_time()
    for task in reversed(tasks):
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    took = time.thread_time() - begun
    assert all(task.cancelled() for task in tasks)
    return took


async def _awaited(waiting: Callable[[], Awaitable[Any]]) -> None:
    await waiting()


async def for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def queue_of_a_limiter(count: int) -> float:
    """Calls that queue for a worker thread."""
    limiter, gate = syncline.ThreadLimiter(1), threading.Event()
    first = asyncio.create_task(limiter.to_thread(gate.wait))
    await asyncio.sleep(0)
    took = await cancelled(lambda: limiter.to_thread(int), count)
    gate.set()
    await first
    return took


async def tokens_of_a_limiter(count: int) -> float:
    """Tasks that wait for a token of their own."""
    limiter = syncline.ThreadLimiter(1)
    async with limiter:
        return await cancelled(limiter.acquire, count)


async def queue_of_one_worker(count: int) -> float:
    """Calls that belong to one thread, which is busy."""
    gate = threading.Event()
    async with syncline.Worker() as worker:
        first = asyncio.create_task(worker.to_thread(gate.wait))
        await asyncio.sleep(0)
        took = await cancelled(lambda: worker.to_thread(int), count)
        gate.set()
        await first
    return took


async def calls_of_another_loop(count: int) -> float:
    """Calls that tasks of one loop make on another."""
    with syncline.Bridge() as bridge:
        return await cancelled(lambda: bridge.run_async(for_ever), count)


async def errands(count: int) -> float:
    """Functions for a thread that is busy with another one."""
    gate, busy = threading.Event(), threading.Event()

    def stay() -> None:
        busy.set()
        gate.wait(20)

    async def main() -> float:
        first = asyncio.create_task(syncline.to_caller(stay))
        await asyncio.sleep(0)
        assert await asyncio.to_thread(busy.wait, 20)
        took = await cancelled(lambda: syncline.to_caller(int), count)
        gate.set()
        await first
        return took

    with syncline.Bridge() as bridge:
        return await asyncio.to_thread(bridge.run_sync, main)


async def a_group(count: int) -> float:
    """The calls of a group that one of them ends by its error."""

    async def fails() -> None:
        raise LookupError

    def run() -> float:
        begun = 0.0
        with pytest.raises(ExceptionGroup), syncline.Bridge() as bridge, bridge.group() as group:
            for _ in range(count):
                group.start(for_ever)
            begun = time.process_time()
            group.start(fails)
        return time.process_time() - begun

    return await asyncio.to_thread(run)


async def a_map(count: int) -> float:
    """The calls of a map that is left early."""

    async def one(item: int) -> int:
        if item:
            await for_ever()
        return item

    def run() -> float:
        with syncline.Bridge() as bridge, bridge.map(one, range(count), limit=count) as results:
            assert next(results) == 0
            begun = time.process_time()
            results.close()
            return time.process_time() - begun

    return await asyncio.to_thread(run)


async def futures(count: int) -> float:
    """Calls that were submitted."""

    async def turn() -> None:
        await asyncio.sleep(0)

    def run() -> float:
        with syncline.Bridge() as bridge:
            submitted = [bridge.submit(for_ever) for _ in range(count)]
            bridge.run_sync(turn)
            begun = time.process_time()
            for future in reversed(submitted):
                assert future.cancel()
            bridge.run_sync(turn)
            bridge.run_sync(turn)
            return time.process_time() - begun

    return await asyncio.to_thread(run)


@pytest.mark.parametrize(
    "queue",
    [
        queue_of_a_limiter,
        tokens_of_a_limiter,
        queue_of_one_worker,
        calls_of_another_loop,
        errands,
        a_group,
        a_map,
        futures,
    ],
)
def test_leaving_a_queue_takes_as_long_however_long_it_is(
    queue: Callable[[int], Coroutine[Any, Any, float]],
) -> None:
    """CPU time of many and of few, in turns, the best of each: what else the machine does makes them longer only."""
    few, many = [], []
    with without_collector():
        for _ in range(3):
            few.append(asyncio.run(queue(FEW)))
            many.append(asyncio.run(queue(MANY)))
    assert min(many) < TOLERATED * min(few) * MANY / FEW


def looked_at(count: int) -> tuple[float, str]:
    """The CPU seconds of one look at so many calls that queue for a worker thread, and its text."""
    gate = threading.Event()

    async def main() -> None:
        limiter = syncline.ThreadLimiter(1)
        queued = (limiter.to_thread(int) for _ in range(count))
        await asyncio.gather(limiter.to_thread(gate.wait), *queued)

    def is_there() -> bool:
        seen = syncline.waits()
        return seen.blocked == 1 and [each.waiting for each in seen.limiters] == [count]

    with syncline.Bridge() as bridge:
        caller = threading.Thread(target=bridge.run_sync, args=(main,))
        caller.start()
        try:
            assert eventually(is_there)
            begun = time.thread_time()
            text = syncline.dump()
            took = time.thread_time() - begun
        finally:
            gate.set()
            caller.join()
    return took, text


def test_a_look_at_a_queue_takes_as_long_a_call_however_long_it_is() -> None:
    """And its text shows calls that queue for the same once, with their number."""
    few, many = [], []
    with without_collector():
        for _ in range(3):
            few.append(looked_at(FEW)[0])
            took, text = looked_at(MANY)
            many.append(took)
            assert text.count("in the queue") == 1, text
            assert f"one of {MANY} in the queue" in text
            assert f"and {MANY - 1:,} more like it" in text
    assert min(many) < TOLERATED * min(few) * MANY / FEW


def test_loops_that_are_slow_to_end_do_not_hold_up_others(make_bridge: MakeBridge) -> None:
    """Many loops are told to end some at a time. Here each one's cleanup waits until all others are at theirs."""
    count = 100
    bridge = make_bridge(scope="thread")
    met = threading.Barrier(count)
    begun, end = threading.Semaphore(0), threading.Event()

    async def meets() -> None:
        try:
            await for_ever()
        finally:
            met.wait(20)

    async def start() -> None:
        task = asyncio.create_task(meets())
        tasks.append(task)
        await asyncio.sleep(0)

    def caller() -> None:
        bridge.run_sync(start)
        begun.release()
        end.wait(30)

    tasks: list[asyncio.Task[None]] = []
    threads = [threading.Thread(target=caller) for _ in range(count)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=20)
    bridge.close()
    end.set()
    for thread in threads:
        thread.join()
    assert not met.broken
    assert all(task.cancelled() for task in tasks)
