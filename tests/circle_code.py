"""How a task has an async function run on another bridge, for tests of calls that come back to where they began.

Each call is made by the one before it. Where that goes on beside its maker, one kind waits for it at once, and the
other, `_later`, when the next call is placed already.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import syncline
from syncline import Bridge

Function = Callable[[], Coroutine[Any, Any, int]]
Ask = Callable[[Bridge, Function], Coroutine[Any, Any, int]]
"""How a task has an async function run on another bridge, while its own loop goes on."""


async def by_run_async(bridge: Bridge, fn: Function) -> int:
    return await bridge.run_async(fn)


async def by_worker(bridge: Bridge, fn: Function) -> int:
    return await syncline.to_thread(bridge.run_sync, fn)


async def by_worker_with_own_loop(bridge: Bridge, fn: Function) -> int:
    return await syncline.to_thread(Bridge(scope="caller").run_sync, by_run_async, bridge, fn)


async def by_parked_call(bridge: Bridge, fn: Function) -> int:
    return bridge.run_sync(fn)


async def by_iterator_in_worker(bridge: Bridge, fn: Function) -> int:
    return await syncline.to_thread(lambda: next(bridge.iterate(items(fn), prefetch=2)))


async def by_map_in_worker(bridge: Bridge, fn: Function) -> int:
    return await syncline.to_thread(lambda: next(bridge.map(lambda _: fn(), [None])))


async def by_future_in_worker(bridge: Bridge, fn: Function) -> int:
    return await syncline.to_thread(lambda: bridge.submit(fn).result())


async def by_group_in_worker(bridge: Bridge, fn: Function) -> int:
    def waits() -> int:
        with bridge.group() as group:
            return group.start(fn).result()

    return await syncline.to_thread(waits)


def placing(fn: Function) -> tuple[Function, threading.Event]:
    """The same function, and what is set when it has made its first step: its call has a place by then."""
    is_placed = threading.Event()

    async def places() -> int:
        asyncio.get_running_loop().call_soon(is_placed.set)
        return await fn()

    return places, is_placed


async def by_future_in_worker_later(bridge: Bridge, fn: Function) -> int:
    def waits() -> int:
        begun, is_placed = placing(fn)
        future = bridge.submit(begun)
        is_placed.wait()
        return future.result()

    return await syncline.to_thread(waits)


async def by_group_in_worker_later(bridge: Bridge, fn: Function) -> int:
    def waits() -> int:
        begun, is_placed = placing(fn)
        with bridge.group() as group:
            task = group.start(begun)
            is_placed.wait()
            return task.result()

    return await syncline.to_thread(waits)


async def by_future_later(bridge: Bridge, fn: Function) -> int:
    begun, is_placed = placing(fn)
    future = bridge.submit(begun)
    is_placed.wait()
    return await asyncio.wrap_future(future)


async def by_iterator_at_home(bridge: Bridge, fn: Function) -> int:
    async for item in bridge.iterate(items(fn)):
        return item
    raise AssertionError("nothing came")


async def by_group(bridge: Bridge, fn: Function) -> int:
    async with bridge.group() as group:
        started = group.start(fn)
    return started.result()


async def items(fn: Function) -> AsyncGenerator[int, None]:
    yield await fn()


WAYS: list[Ask] = [
    by_run_async,
    by_worker,
    by_worker_with_own_loop,
    by_parked_call,
    by_iterator_in_worker,
    by_map_in_worker,
    by_future_in_worker,
    by_group_in_worker,
    by_future_in_worker_later,
    by_group_in_worker_later,
    by_future_later,
    by_iterator_at_home,
    by_group,
]
