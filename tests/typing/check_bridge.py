"""What mypy and pyright infer for bridges, their options and statistics; checked by them, never run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Literal, TypeVar, assert_type

import syncline

T = TypeVar("T")


async def fetch(url: str, *, retries: int = 1) -> bytes:
    return url.encode() * retries


async def first(items: list[T]) -> T:
    return items[0]


def load() -> int:
    return 1


with syncline.Bridge(scope="caller", loop_factory=asyncio.SelectorEventLoop, stall_after=1) as bridge:
    assert_type(bridge, syncline.Bridge)
    assert_type(bridge.run_sync(fetch, "url", retries=2), bytes)
    assert_type(bridge.run_sync(first, [1]), int)
    assert_type(bridge.run_sync(asyncio.sleep, 0, "value"), str)
    assert_type(bridge.run(fetch("url"), timeout=0.5), bytes)
    assert_type(bridge.run(fetch("url"), timeout=None), bytes)
    assert_type(bridge.submit(fetch, "url"), Future[bytes])
    assert_type(bridge.submit(fetch, "url").result(), bytes)
    assert_type(bridge.stats(), syncline.BridgeStats)
    assert_type(bridge.stats()["runners"], int)
    assert_type(bridge.stats()["spins_lost"], int)
    assert_type(bridge.name, str)
    assert_type(bridge.scope, Literal["process", "thread", "caller"])
    assert_type(bridge.closed, bool)


async def inside(task: asyncio.Task[int], future: asyncio.Future[str], any_of: Awaitable[float]) -> None:
    assert_type(syncline.run(task), int)
    assert_type(syncline.run(future), str)
    assert_type(syncline.run(any_of), float)
    assert_type(await asyncio.wrap_future(syncline.submit(fetch, "url")), bytes)


class Counting(syncline.Bridge):
    def run_twice(self, url: str) -> tuple[bytes, bytes]:
        return self.run_sync(fetch, url), self.run_sync(fetch, url)


with Counting(name="sub") as counting:
    assert_type(counting, Counting)

syncline.run_sync(load)  # type: ignore[arg-type,type-var]  # pyright: ignore[reportArgumentType]
syncline.run(fetch)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
syncline.run(fetch("url"), 5)  # type: ignore[call-arg,misc]  # pyright: ignore[reportCallIssue]
syncline.run(fetch("url"), timeout="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
syncline.submit(fetch, 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
syncline.submit(fetch)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
syncline.Bridge("thread")  # type: ignore[misc]  # pyright: ignore[reportCallIssue]
syncline.Bridge(nested="switch")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
syncline.Bridge(cleanup_timeout="5")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
bridge.scope = "thread"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
bridge.stats()["nonsense"]  # type: ignore[typeddict-item]  # pyright: ignore[reportTypedDictNotRequiredAccess, reportGeneralTypeIssues]
