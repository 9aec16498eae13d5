"""What mypy and pyright infer for what async code uses: tasks, threads, and tasks that opted in; checked, never run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from typing import Any, Self, TypeVar, assert_type

import syncline
from syncline._groups import GatherTaskGroup
from syncline._steps import ThreadIterator, ThreadManager

T = TypeVar("T")
limiter = syncline.ThreadLimiter(2)
worker = syncline.Worker()


@syncline.nestable
async def page(number: int, /, *more: int, retries: int = 1) -> str:
    return str(number * retries)


@syncline.nestable
async def first(items: list[T]) -> T:
    return items[0]


async def fetch(number: int, *, retries: int = 1) -> str:
    return str(number * retries)


def load(path: str, *, limit: int = 1) -> bytes:
    return path.encode()[:limit]


def later(number: int) -> Awaitable[float]:
    raise NotImplementedError


@contextmanager
def opened(path: str) -> Generator[bytes]:
    yield path.encode()


@syncline.threaded
def read(path: str, /, *more: str, limit: int = 1) -> bytes:
    return path.encode()[:limit]


@syncline.threaded(limiter=limiter)
def limited(path: str) -> int:
    return len(path)


@syncline.threaded()
def plainly(path: str) -> list[str]:
    return [path]


@syncline.threaded(limiter=worker)
def rows(count: int) -> Generator[str, None, int]:
    yield "row" * count
    return count


@syncline.threaded
def same(value: T) -> T:
    return value


@syncline.threaded
def listed(value: T) -> list[T]:
    return [value]


async def generic() -> None:
    assert_type(await listed(3), list[int])
    # mypy lets a bare type variable be a generator, and so takes the first overload, with whatever bounds and markers
    # that is said. It understands a protocol whose `__call__` has overloads by the type of `self`, but that is no
    # function any more: class methods of it lose their `cls`. mypy will say so when it takes the second overload.
    assert_type(await same(3), int)  # type: ignore[arg-type, assert-type, misc]
    assert_type(await syncline.to_thread(undecorated, 3), int)


def undecorated(value: T) -> T:
    return value


class Store:
    @syncline.threaded
    def get(self, key: str) -> float:
        return float(key)

    @syncline.threaded
    def again(self) -> Self:
        return self

    @syncline.threaded
    def keys(self, prefix: str) -> Generator[str, None, None]:
        yield prefix

    @staticmethod
    @syncline.threaded
    def count(of: str) -> int:
        return len(of)

    @classmethod
    @syncline.threaded
    def named(cls, suffix: str) -> str:
        return cls.__name__ + suffix

    @syncline.nestable
    async def put(self, key: str, value: float) -> None: ...


async def decorated(store: Store) -> None:
    made: Coroutine[Any, Any, str] = page(1, 2, retries=2)
    assert_type(await made, str)
    assert_type(await page(1), str)
    assert_type(await first([1.5]), float)
    await store.put("a", 1.0)
    _ = assert_type(read("a", "b", limit=2), Coroutine[Any, Any, bytes])
    assert_type(await limited("a"), int)
    assert_type(await plainly("a"), list[str])
    assert_type(await store.get("a"), float)
    assert_type(await store.again(), Store)
    assert_type(await Store.count("a"), int)
    assert_type(await store.named("a"), str)
    assert_type(rows(2), ThreadIterator[str])
    assert_type([row async for row in rows(2)], list[str])
    assert_type([key async for key in store.keys("a")], list[str])
    await page("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await store.put("a", "1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await read("a", limit="2")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await store.get(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    store.keys(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def called() -> None:
    task = syncline.create_task(page(1), name="page")
    assert_type(await task, str)
    started: asyncio.Task[str] = task
    assert_type(await syncline.create_task(fetch(1)), str)
    await started
    _ = syncline.create_task(later(1))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(await syncline.run_nestable(fetch, 1, retries=2), str)
    assert_type(await syncline.run_nestable(later, 1), float)
    assert_type(await syncline.run_nestable(load, "a", limit=2), bytes)
    assert_type(await syncline.run_nestable(page, 1, 2, retries=2), str)
    assert_type(await syncline.run_nestable(first, [1.5]), float)
    await syncline.run_nestable(page, "1")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
    with syncline.no_switch() as nothing:
        assert_type(nothing, None)
    undo = syncline.install()
    assert_type(undo, Callable[[], None])
    assert_type(undo(), None)


async def borrowed() -> None:
    assert_type(syncline.aiterate(["a"], prefetch=2, worker=worker), ThreadIterator[str])
    assert_type([item async for item in syncline.aiterate(iter([1]))], list[int])
    assert_type(await anext(syncline.aiterate({1: "a"})), int)
    assert_type(syncline.aenter(opened("a")), ThreadManager[bytes])
    async with syncline.aenter(opened("a"), worker=worker) as content:
        assert_type(content, bytes)
    async with syncline.create_gather_task_group() as group:
        assert_type(group, GatherTaskGroup)
        key = group.start_soon(page, 1)
        assert_type(group.get_result(key), str)
    syncline.aiterate(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    syncline.aenter(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


assert_type(syncline.is_async_fn(page), bool)
assert_type(syncline.is_async_gen_fn(page), bool)
assert_type(syncline.in_event_loop(), bool)
assert_type(syncline.check_cancelled(), None)
assert_type(syncline.mark_as_worker_thread(), None)
assert_type(syncline.default_bridge(), syncline.Bridge)
assert_type(syncline.configure(scope="thread", stall_after=5), None)
assert_type(syncline.default_bridge().stats(), syncline.BridgeStats)
assert_type(syncline.trace("out.json"), syncline.Trace)
assert_type(syncline.run_in_new_loop(page, 1), str)
