"""Rings that lead through objects of ours are found by Python's collector of garbage, and closed on the way."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import syncline
from child import eventually, open_descriptors
from neutral import make_bridge_of, with_asyncio
from places import in_thread

Where = Callable[[syncline.Bridge, Callable[[], Any]], Any]


def collected(references: list[weakref.ref[Any]], bridge: syncline.Bridge | None = None) -> bool:
    """Whether all are freed; what closes them may run on another thread's loop, or on the bridge's, which moves during
    calls where its caller drives it: of objects in a circle Python 3.15 lets the loop close the generator first."""

    def freed() -> bool:
        gc.collect()
        if bridge is not None:
            bridge.run_sync(asyncio.sleep, 0)
        return all(reference() is None for reference in references)

    return eventually(freed)


def plainly(bridge: syncline.Bridge, body: Callable[[], Any]) -> Any:
    return body()


def in_its_task(bridge: syncline.Bridge, body: Callable[[], Any]) -> Any:
    """In sync code that a coroutine of the bridge calls."""

    async def main() -> Any:
        await asyncio.sleep(0)
        return body()

    return bridge.run_sync(main)


wherever = pytest.mark.parametrize("where", [plainly, in_its_task])
suspending = pytest.mark.parametrize("suspends", [False, True], ids=["at once", "suspending"])


class Log:
    """What generators note when they are closed."""

    def __init__(self, suspends: bool) -> None:
        self.closed: list[int] = []
        self.suspends = suspends

    async def close(self, number: int) -> None:
        if self.suspends:
            await asyncio.sleep(0)
        self.closed.append(number)

    def has(self, bridge: syncline.Bridge, numbers: range) -> bool:
        """Whether those are closed; a loop that its caller drives moves during calls."""
        bridge.run_sync(asyncio.sleep, 0)
        return sorted(self.closed) == list(numbers)


class Numbers(syncline.DualIterator[int]):
    """A subclass whose `__aiter__` is an async generator, which refers to it."""

    log: Log
    number: int

    async def __aiter__(self) -> AsyncGenerator[int, None]:  # type: ignore[override]
        try:
            for number in range(10):
                yield number
        finally:
            await self.log.close(self.number)


class Owner:
    """Has an iterator over its own async generator, and a generator likewise."""

    def __init__(self, bridge: syncline.Bridge, log: Log, number: int, kind: str) -> None:
        self.log, self.number = log, number
        self.it: Iterator[int] = (bridge.iterator if kind == "iterator" else bridge.generator)(self.numbers)()

    async def numbers(self) -> AsyncGenerator[int, None]:
        try:
            for number in range(10):
                yield number
        finally:
            await self.log.close(self.number)


@with_asyncio
@wherever
@suspending
def test_a_subclass_with_an_async_generator_is_closed_when_it_is_dropped(
    each_bridge: syncline.Bridge, where: Where, suspends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its generator refers to it and it to its generator; a `for` that is left early closes it all the same."""
    log = Log(suspends)

    def use(number: int) -> weakref.ref[Any]:
        class Bridged(Numbers):
            bridge = each_bridge

        numbers = Bridged()
        numbers.log, numbers.number = log, number
        for seen in numbers:
            if seen == 2:
                break
        return weakref.ref(numbers)

    def body() -> list[weakref.ref[Any]]:
        return [use(number) for number in range(10)]

    assert collected(where(each_bridge, body), each_bridge)
    assert eventually(lambda: log.has(each_bridge, range(10)))
    assert not caplog.records


@with_asyncio
@wherever
@suspending
@pytest.mark.parametrize("kind", ["iterator", "generator"])
def test_an_object_is_freed_that_has_an_iterator_over_itself(
    each_bridge: syncline.Bridge, where: Where, suspends: bool, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """In the middle of the iteration, which is closed; before it has begun, too."""
    log = Log(suspends)

    def use(number: int) -> weakref.ref[Any]:
        owner = Owner(each_bridge, log, number, kind)
        if number % 2:
            assert [next(owner.it), next(owner.it)] == [0, 1]
        return weakref.ref(owner)

    assert collected(where(each_bridge, lambda: [use(number) for number in range(10)]), each_bridge)
    assert eventually(lambda: log.has(each_bridge, range(1, 10, 2)))
    assert not caplog.records


def test_an_iterator_that_another_thread_drops_is_closed_with_its_loop(leaks_nothing: None) -> None:
    """Scope "caller": only the thread that began it can close it, and its loop keeps what it needs for that."""

    class Source:
        """Not a generator, of which a loop hears by itself."""

        def __init__(self, closed: list[int]) -> None:
            self.closed = closed

        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            return 1

        async def aclose(self) -> None:
            self.closed.append(1)

    closed: list[int] = []
    with syncline.Bridge(scope="caller") as bridge:
        held = [bridge.iterate(Source(closed))]
        assert next(held[0]) == 1
        in_thread(held.clear)
        gc.collect()
        assert closed == []
    assert closed == [1]


def test_a_coroutine_is_freed_that_refers_to_what_wraps_it() -> None:
    """Also once it has been driven by hand."""

    class Owner:
        def __init__(self) -> None:
            self.coroutine = syncline.DualCoroutine(self.waits())

        async def waits(self) -> None:
            await asyncio.sleep(0)

    def use() -> weakref.ref[Any]:
        owner = Owner()
        assert owner.coroutine.send(None) is None
        return weakref.ref(owner)

    assert collected([use() for _ in range(10)])


@with_asyncio
def test_a_manager_is_freed_that_refers_to_what_wraps_it(each_bridge: syncline.Bridge) -> None:
    """Before it is entered, and after it was left."""

    class Manager:
        wrapper: syncline.DualContextManager[int]

        async def __aenter__(self) -> int:
            return 1

        async def __aexit__(self, *_: object) -> None: ...

    def use(enters: bool) -> weakref.ref[Any]:
        manager = Manager()
        manager.wrapper = each_bridge.enter(manager)
        if enters:
            with manager.wrapper as one:
                assert one == 1
        return weakref.ref(manager)

    assert collected([use(enters) for enters in (True, False) * 5])


class Big:
    """What a coroutine holds."""


@pytest.mark.parametrize("nested", ["switch", "thread"])
@pytest.mark.parametrize("kind", ["process", "thread", "caller", "uvloop", "installed"])
@pytest.mark.parametrize("how", ["create_task", "ensure_future", "run_coroutine_threadsafe"])
def test_a_pending_task_that_nobody_has_is_freed(
    how: str, kind: str, nested: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As on any other loop of asyncio, which reports it."""
    caplog.set_level(logging.CRITICAL + 1)

    async def waits(big: Big) -> None:
        await asyncio.get_running_loop().create_future()

    async def begin() -> list[weakref.ref[Any]]:
        loop, references = asyncio.get_running_loop(), []
        for _ in range(10):
            big = Big()
            references.append(weakref.ref(big))
            if how == "create_task":
                task: Any = asyncio.create_task(waits(big))
            elif how == "ensure_future":
                task = asyncio.ensure_future(waits(big))
            else:
                task = asyncio.run_coroutine_threadsafe(waits(big), loop)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            del task, big
        return references

    async def main() -> bool:
        references = await begin()
        await asyncio.sleep(0)
        gc.collect()
        return all(reference() is None for reference in references)

    if kind == "installed":

        async def install() -> bool:
            syncline.install()
            return await main()

        assert asyncio.run(install())
        return
    with make_bridge_of(kind, nested=nested) as bridge:
        assert bridge.run_sync(main)


@with_asyncio
def test_a_task_that_works_is_not_taken_for_garbage(each_bridge: syncline.Bridge) -> None:
    """Whatever is shown to the collector, what is in use stays: it comes at every moment here."""

    async def child(number: int) -> int:
        await asyncio.sleep(0)
        return each_bridge.run_sync(asyncio.sleep, 0, number)

    @each_bridge.iterator
    async def numbers() -> AsyncIterator[int]:
        for number in range(20):
            yield sum(await asyncio.gather(child(number), child(number)))

    threshold = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        for _ in range(3):
            assert list(numbers()) == [2 * number for number in range(20)]
            iterator = numbers()
            assert next(iterator) == 0
            del iterator
    finally:
        gc.set_threshold(*threshold)


@pytest.mark.parametrize("awaited", ["run_async", "to_thread", "to_caller"])
def test_an_error_that_is_kept_keeps_no_descriptor(awaited: str) -> None:
    """Its traceback shows what awaited the other thread, and that has what told the loop: which is closed by now."""

    syncline.run_sync(syncline.to_thread, int)
    before = open_descriptors()

    async def raises() -> None:
        raise LookupError

    def fail() -> None:
        raise LookupError

    async def awaits() -> None:
        awaiting = {
            "run_async": lambda: syncline.run_async(raises),
            "to_thread": lambda: syncline.to_thread(fail),
            "to_caller": lambda: syncline.to_caller(fail),
        }[awaited]()
        await awaiting

    with syncline.Bridge(scope="caller") as bridge, pytest.raises(LookupError) as caught:
        bridge.run_sync(awaits)
    gc.collect()
    assert eventually(lambda: open_descriptors() <= before)
    assert caught
