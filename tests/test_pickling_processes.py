"""Work for other processes: bound methods and objects for both worlds go there, and are called there."""

from __future__ import annotations

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import pytest

import syncline

pytestmark = [
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
    # eventlet says so where a test has imported it.
    pytest.mark.filterwarnings("ignore:Using fork.* is a bad idea:DeprecationWarning"),
]

bridge = syncline.Bridge(name="here", scope="thread")


class Client:
    """What a user decorates by hand."""

    def __init__(self, base: int) -> None:
        self.base = base

    @syncline.synced
    async def get(self, key: int) -> int:
        await asyncio.sleep(0)
        return self.base + key

    @bridge.sync_compatible
    async def either(self, key: int) -> int:
        await asyncio.sleep(0)
        return self.base + key

    @syncline.synced
    @classmethod
    async def named(cls, key: int) -> tuple[str, int]:
        await asyncio.sleep(0)
        return cls.__name__, key


class Numbers:
    """Something to iterate over."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = numbers

    async def __aiter__(self) -> AsyncIterator[int]:
        for number in self.numbers:
            await asyncio.sleep(0)
            yield number


def use(what: Any) -> Any:
    """Does in the other process what this object is for."""
    if isinstance(what, syncline.Bridge):
        return what.name, what.scope, what.run_sync(asyncio.sleep, 0, "ran")
    return list(what)


@pytest.fixture(scope="module", params=["fork", "spawn", "forkserver"])
def pool(request: pytest.FixtureRequest) -> Iterator[ProcessPoolExecutor]:
    """One other process, started in each way that there is."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(request.param)) as pool:
        yield pool


def test_bound_methods_are_mapped(pool: ProcessPoolExecutor) -> None:
    """By each decorator that makes methods."""
    client = Client(10)
    assert client.get(0) == 10  # the loop of this process runs when the other one is started
    assert list(pool.map(client.get, range(3))) == [10, 11, 12]
    assert list(pool.map(client.either, range(3))) == [10, 11, 12]
    assert list(pool.map(Client.named, range(2))) == [("Client", 0), ("Client", 1)]


def test_bridges_and_iterators_are_sent(pool: ProcessPoolExecutor) -> None:
    """A bridge as its options, an iterator with what it iterates over."""
    assert list(pool.map(use, [bridge, bridge.iterate(Numbers(1, 2))])) == [
        ("here", "thread", "ran"),
        [1, 2],
    ]
