"""A loop that runs on and refuses to be told of what other threads have for it: nobody waits for that."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any, NoReturn

import pytest

import syncline
from places import in_thread


class BrokenError(Exception):
    """What the loop raises."""


class Refusing(asyncio.SelectorEventLoop):
    """Can be told of nothing as long as it is broken."""

    is_broken = False

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
        """Refuse."""
        if self.is_broken:
            raise BrokenError
        return super().call_soon_threadsafe(*args, **kwargs)


async def double(n: int) -> int:
    await asyncio.sleep(0)
    return 2 * n


async def items() -> AsyncIterator[int]:
    yield 1


@asynccontextmanager
async def manager() -> AsyncIterator[None]:
    yield


def enter(bridge: syncline.Bridge) -> None:
    with bridge.enter(manager()):
        pass


def away(bridge: syncline.Bridge) -> None:
    async def main() -> None:
        await bridge.run_async(double, 1)

    asyncio.run(main())


WAYS: dict[str, Callable[[syncline.Bridge], object]] = {
    "run_sync": lambda bridge: bridge.run_sync(double, 1),
    "run": lambda bridge: bridge.run(double(1), timeout=60),
    "submit": lambda bridge: bridge.submit(double, 1).result(),
    "run_async": away,
    "iterate": lambda bridge: next(bridge.iterate(items())),
    "prefetch": lambda bridge: next(bridge.iterate(items(), prefetch=1)),
    "enter": enter,
    "map": lambda bridge: list(bridge.map(double, [1])),
}


@pytest.fixture(params=["its own", "somebody's"])
def refusing(
    request: pytest.FixtureRequest, make_bridge: Callable[..., syncline.Bridge]
) -> Iterator[tuple[syncline.Bridge, Refusing]]:
    """A bridge and its loop, which runs."""
    loop = Refusing()
    if request.param == "its own":
        bridge = make_bridge(loop_factory=lambda: loop, cleanup_timeout=0.1)
        bridge.run_sync(double, 1)
        yield bridge, loop
        return
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    bridge = make_bridge(loop=loop, cleanup_timeout=0.1)
    yield bridge, loop
    bridge.close()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


@pytest.mark.timeout(20)
@pytest.mark.parametrize("place", [lambda body: body(), in_thread], ids=["main thread", "thread"])
@pytest.mark.parametrize("way", WAYS)
def test_a_call_ends_with_the_error(
    way: str, place: Callable[[Callable[[], Any]], Any], refusing: tuple[syncline.Bridge, Refusing]
) -> None:
    """At once, as the cause of a RunnerClosedError, in each kind of call. A loop that listens again runs calls."""
    bridge, loop = refusing
    assert bridge.run_sync(double, 2) == 4
    loop.is_broken = True
    try:
        with pytest.raises(syncline.RunnerClosedError, match="could not be told of the call") as raised:
            place(lambda: WAYS[way](bridge))
    finally:
        loop.is_broken = False
    if way != "prefetch":  # whose first step nobody waits for
        assert isinstance(raised.value.__cause__, BrokenError)
    assert bridge.run_sync(double, 2) == 4


class Watchless(Refusing):
    """Can watch no descriptor either."""

    def add_reader(self, *_: Any) -> NoReturn:
        """Refuse."""
        raise NotImplementedError


def test_a_result_that_the_loop_was_not_told_of_comes_with_the_next_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The task that waits for it is not left behind."""
    loop = Watchless()
    told: list[logging.LogRecord] = caplog.records

    async def begun(goes_on: threading.Event) -> asyncio.Task[bool]:
        # Not to end at once: a result that comes so soon meets the loop's thread, which needs not be told.
        task = asyncio.create_task(syncline.to_thread(goes_on.wait))
        await asyncio.sleep(0)
        return task

    async def main() -> list[bool]:
        first, second = threading.Event(), threading.Event()
        tasks = [await begun(first), await begun(second)]
        loop.is_broken = True
        first.set()
        while not told:
            await asyncio.sleep(0)
        loop.is_broken = False
        second.set()
        return await asyncio.gather(*tasks)

    assert loop.run_until_complete(main()) == [True, True]
    loop.close()
    assert ["could not be told of a result" in record.getMessage() for record in told] == [True]


class Dead(Watchless):
    """Says that it is closed, as trio's runs do that have died."""

    def is_closed(self) -> bool:
        """Whether it takes nothing."""
        return self.is_broken or super().is_closed()


def test_a_result_for_a_loop_that_is_gone_is_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """Though the error of the loop, by its traceback, keeps the callback whose drop says so."""
    loop, worker, goes_on = Dead(), syncline.Worker(), threading.Event()

    async def main() -> None:
        task = asyncio.create_task(worker.to_thread(goes_on.wait))
        await asyncio.sleep(0)
        loop.is_broken = True
        goes_on.set()
        # Interleaving: the worker's next job ends after the first one's result was refused; this thread waits.
        assert in_thread(lambda: asyncio.run(worker.to_thread(int))) == 0
        loop.is_broken = False
        task.cancel()

    loop.run_until_complete(main())
    worker.close()
    loop.close()
    assert caplog.messages == []
