"""A coroutine that stops its loop ends the runner. Calls that lie there by then, and have not begun, go to the next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from queue import Queue

import pytest

import syncline
from child import eventually

pytestmark = pytest.mark.timeout(60)
LIMIT = 20


@pytest.fixture(params=["process", "thread"])
def bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    with syncline.Bridge(scope=request.param) as one:
        yield one


class Loops:
    """Where coroutines ran."""

    def __init__(self) -> None:
        self.seen: list[asyncio.AbstractEventLoop] = []

    async def answer(self, value: int = 5) -> int:
        self.seen.append(asyncio.get_running_loop())
        await asyncio.sleep(0)
        return value

    async def items(self) -> AsyncIterator[int]:
        yield await self.answer(1)
        yield await self.answer(2)

    @asynccontextmanager
    async def manager(self) -> AsyncIterator[int]:
        yield await self.answer(7)
        assert await self.answer(8) == 8


def by_enter(bridge: syncline.Bridge, loops: Loops) -> int:
    with bridge.enter(loops.manager()) as value:
        assert bridge.run_sync(loops.answer) == 5
        return value


def by_group(bridge: syncline.Bridge, loops: Loops) -> int:
    with bridge.group() as group:
        return group.start(loops.answer, 6).result()


WAYS: dict[str, tuple[Callable[[syncline.Bridge, Loops], object], object]] = {
    "run_sync": (lambda bridge, loops: bridge.run_sync(loops.answer), 5),
    "run": (lambda bridge, loops: bridge.run(loops.answer(), timeout=LIMIT), 5),
    "call": (lambda bridge, _: bridge.call(int, "4"), 4),
    "iterate": (lambda bridge, loops: list(bridge.iterate(loops.items())), [1, 2]),
    "enter": (by_enter, 7),
    "group": (by_group, 6),
    "map": (lambda bridge, loops: list(bridge.map(loops.answer, range(3))), [0, 1, 2]),
    "a decorated function": (lambda bridge, loops: bridge.synced(loops.answer)(3), 3),
}


def stopping(bridge: syncline.Bridge) -> asyncio.AbstractEventLoop:
    """Has a coroutine stop the bridge's loop, and go on until a second call has been sent there. Returns the loop."""
    loops: Queue[asyncio.AbstractEventLoop] = Queue()

    async def stop() -> None:
        asyncio.get_running_loop().stop()
        loops.put(asyncio.get_running_loop())
        assert eventually(lambda: bridge.stats()["active"] == 2, LIMIT)

    bridge.submit(stop)
    return loops.get(timeout=LIMIT)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_a_call_that_lies_in_a_loop_that_was_stopped_runs_on_the_next_one(
    bridge: syncline.Bridge, way: tuple[Callable[[syncline.Bridge, Loops], object], object]
) -> None:
    use, result = way
    for _ in range(2):
        stopped = stopping(bridge)
        loops = Loops()
        assert use(bridge, loops) == result
        assert stopped not in loops.seen


def test_a_call_that_has_begun_there_ends_with_the_loop(bridge: syncline.Bridge) -> None:
    """It could not go on elsewhere."""

    async def stop() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.Event().wait()

    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(stop)
    assert bridge.run_sync(Loops().answer) == 5
