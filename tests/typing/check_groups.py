"""What mypy and pyright infer for groups, tasks and questions about functions; checked by them, never run."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, assert_type

import syncline
from syncline.compat import prefect


async def fetch(number: int) -> str:
    return str(number)


async def count() -> int:
    return 1


def either(fn: Callable[[int], Any]) -> None:
    if syncline.is_async_fn(fn):
        fn(1).close()
    if syncline.is_async_gen_fn(fn):
        fn(1).aclose().__await__()


async def in_async_code() -> None:
    assert_type(await syncline.gather(count, count), list[int])
    assert_type(await syncline.gather(partial(fetch, 1), unwrap=True), list[str])
    async with syncline.create_gather_task_group(unwrap=True) as group:
        key = group.start_soon(fetch, 1)
        other = group.start_soon(count, name="count")
        group.start_soon(fetch, "one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        group.start_soon(fetch)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(key, syncline.GatherKey[str])
    assert_type(group.get_result(key), str)
    assert_type(group.get_result(other), int)
    task = syncline.create_task(fetch(1), name="fetch")
    _ = assert_type(task, asyncio.Task[str])
    assert_type(await task, str)
    assert_type(await prefect.run_sync_in_worker_thread(len, "abc"), int)
    assert_type(await prefect.gather(count), list[int])
    async with prefect.asyncnullcontext(5) as five, prefect.asyncnullcontext() as nothing:
        assert_type(five, int)
        assert_type(nothing, None)


assert_type(syncline.run_in_new_loop(fetch, 1), str)
assert_type(prefect.run_coro_as_sync(fetch(1)), str)
assert_type(prefect.get_run_sync_loop().thread, threading.Thread)
assert_type(prefect.get_run_sync_loop().loop, asyncio.AbstractEventLoop)
assert_type(prefect.run_coro_as_sync(fetch(1), force_new_thread=True, wait_for_result=True), str)
prefect.run_coro_as_sync(fetch(1), wait_for_result=False)
assert_type(prefect.sync(fetch, 1), str)
assert_type(prefect.run_async_in_new_loop(fetch, 1), str)
assert_type(prefect.run_async_from_worker_thread(fetch, 1), str)
assert_type(prefect.call_with_mark(lambda: 1), int)
syncline.run_in_new_loop(fetch, "one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
