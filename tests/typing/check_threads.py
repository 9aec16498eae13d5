"""What mypy and pyright infer for worker threads; checked by them, never run (case 90)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, assert_type

import syncline


def load(name: str, *, retries: int = 1) -> bytes:
    return name.encode() * retries


async def fetch(page: int) -> str:
    return str(page)


@syncline.threaded
def read(path: str, *, limit: int = 1) -> bytes:
    return path.encode()[:limit]


limiter = syncline.ThreadLimiter(2)


@syncline.threaded(limiter=limiter)
def count(path: str) -> int:
    return len(path)


@syncline.threaded
def numbers(*, count: int) -> Generator[int, None, None]:
    yield count


worker = syncline.Worker()


@syncline.threaded(limiter=worker)
def columns(count: int) -> Generator[str, None, None]:
    yield "column" * count


class Store:
    @syncline.threaded
    def get(self, key: str) -> float:
        return float(key)


async def main() -> None:
    assert_type(await syncline.to_thread(load, "a", retries=2), bytes)
    assert_type(await limiter.to_thread(load, "a"), bytes)
    assert_type(await read("a", limit=2), bytes)
    assert_type(await count("a"), int)
    assert_type(await Store().get("1"), float)
    await syncline.to_thread(load, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await count(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await syncline.to_caller(load, "a", retries=2), bytes)
    await syncline.to_caller(load, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    async for number in syncline.aiterate([1], prefetch=2, worker=worker):
        assert_type(number, int)
    async with syncline.aenter(ThreadPoolExecutor(1)) as pool:
        assert_type(pool, ThreadPoolExecutor)
    async for value in numbers(count=1):
        assert_type(value, int)
    async for column in columns(1):
        assert_type(column, str)
    numbers(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    async with worker as entered:
        assert_type(await entered.to_thread(load, "a"), bytes)
    async with limiter:
        assert_type(limiter.statistics().tasks_waiting, int)
    limiter.total_tokens = 3
    limiter.total_tokens = float("inf")


made: Callable[[str], Coroutine[Any, Any, int]] = count
assert_type(syncline.from_thread(fetch, 1), str)
syncline.from_thread(fetch, "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
assert_type(syncline.call_with_mark(load, "a"), bytes)
assert_type(syncline.in_worker_thread(), bool)
assert_type(syncline.thread_limiter(), syncline.ThreadLimiter)
