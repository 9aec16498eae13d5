"""Dual objects with trio code in them, used by sync code through a trio bridge, and by trio programs."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import trio

import syncline
from closing import Caller, is_closed_error
from trio_code import add, bridge, count, places

__all__ = ["bridge"]


@places
def test_dual_objects_are_used_in_sync_code(bridge: syncline.Bridge, inside: Any) -> None:
    """Each kind, with trio code in it."""
    log: list[str] = []

    @bridge.generator
    async def echo() -> AsyncGenerator[Any, Any]:
        sent = None
        while True:
            await trio.lowlevel.checkpoint()
            try:
                sent = yield sent
            except KeyError:
                sent = "caught"

    @bridge.contextmanager
    async def hold() -> AsyncIterator[int]:
        try:
            yield 42
        finally:
            await trio.lowlevel.checkpoint()
            log.append("left")

    def body() -> list[Any]:
        generator = echo()
        steps = [next(generator), generator.send(1), generator.throw(KeyError())]
        generator.close()
        with hold() as value:
            items = list(bridge.iterate(count(3), prefetch=2))
        return [bridge.coroutine(add)(1).run(), list(bridge.iterator(count)(2)), steps, value, items]

    assert inside(body) == [2, [0, 1], [None, 1, "caught"], 42, [0, 1, 2]]
    assert log == ["left"]


@places
def test_scopes_and_nurseries_live_across_steps(bridge: syncline.Bridge, inside: Any) -> None:
    """In one task: a cancel scope across yields, a nursery across yields and held by a `with` (case 28)."""
    log: list[str] = []

    async def child(number: int) -> None:
        await trio.lowlevel.checkpoint()
        log.append(f"child {number}")

    @bridge.iterator
    async def scoped() -> AsyncIterator[Any]:
        task = trio.lowlevel.current_task()
        with trio.move_on_after(0.02) as scope:
            yield "in a time limit"
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, 1)
            yield scope.cancelled_caught
        yield trio.lowlevel.current_task() is task

    async def make() -> Any:
        return trio.open_nursery()  # which can be made only where trio runs

    async def spawn(nursery: trio.Nursery) -> None:
        nursery.start_soon(child, 2)

    def body() -> list[Any]:
        with bridge.enter(bridge.run_sync(make)) as nursery:
            bridge.run_sync(spawn, nursery)
        return list(scoped())

    assert inside(body) == ["in a time limit", True, True]
    assert log == ["child 2", "child 1"]


def test_breaking_off_closes_the_generator_at_once(bridge: syncline.Bridge) -> None:
    """Its finally, with trio's checkpoints in it, has run when the loop is left (case 36)."""
    log: list[str] = []

    @bridge.iterator
    async def endless() -> AsyncIterator[int]:
        task = trio.lowlevel.current_task()
        try:
            while True:
                yield 1
        finally:
            await trio.lowlevel.checkpoint()
            log.append("closed" if trio.lowlevel.current_task() is task else "closed elsewhere")

    for _ in endless():
        break
    assert log == ["closed"]


def test_dual_objects_are_awaited_in_trio_programs() -> None:
    """In the user's own task, with nothing of ours in between: of any bridge, the default one too."""
    tasks: list[Any] = []

    @syncline.iterator
    async def steps() -> AsyncIterator[int]:
        tasks.append(trio.lowlevel.current_task())
        await trio.lowlevel.checkpoint()
        yield 1

    @syncline.generator
    async def echo() -> AsyncGenerator[Any, Any]:
        tasks.append(trio.lowlevel.current_task())
        yield (yield 2)

    @syncline.contextmanager
    async def hold() -> AsyncIterator[int]:
        tasks.append(trio.lowlevel.current_task())
        yield 4

    async def main() -> list[Any]:
        found = [await syncline.coroutine(add)(-1)]
        found += [number async for number in steps()]
        generator = echo()
        found += [await anext(generator), await generator.asend(3)]
        await generator.aclose()
        async with hold() as value:
            found.append(value)
        assert set(tasks) == {trio.lowlevel.current_task()}
        return found

    assert trio.run(main) == [0, 1, 2, 3, 4]
    assert len(tasks) == 3


def test_trio_iterators_begun_in_sync_code_stay_there(bridge: syncline.Bridge) -> None:
    """`async for` in another trio program would change their loop: RuntimeError."""
    dual = bridge.iterator(count)(3)
    assert next(dual) == 0

    async def main() -> None:
        async for _ in dual:
            pass

    with pytest.raises(RuntimeError, match="sync"):
        trio.run(main)
    assert list(dual) == [1, 2]


def test_steps_and_idle_generators_end_with_the_bridge() -> None:
    """As on asyncio: a step under way raises RunnerClosedError after its cleanup, and what is idle is closed."""
    bridge = syncline.Bridge(backend="trio")
    log: list[str] = []
    begun = threading.Event()

    async def lasting(name: str) -> AsyncIterator[int]:
        try:
            yield 1
            begun.set()
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            log.append(name)

    idle, under_way = bridge.iterate(lasting("idle")), bridge.iterate(lasting("under way"))
    assert next(idle) == next(under_way) == 1
    caller = Caller(lambda: next(under_way))
    assert begun.wait(10)
    bridge.close()
    assert sorted(log) == ["idle", "under way"]
    caller.join(10)
    assert is_closed_error(caller.got)
    with pytest.raises(syncline.RunnerClosedError):
        next(idle)


class Endless:
    """An iterable that is no native generator: an exception does not end it, `aclose` does."""

    def __init__(self, log: list[str]) -> None:
        self.log = log
        self.task: trio.lowlevel.Task | None = None
        self.waits = threading.Event()

    def __aiter__(self) -> Endless:
        return self

    async def __anext__(self) -> int:
        if self.task is None:
            self.task = trio.lowlevel.current_task()
            return 1
        self.waits.set()
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            self.log.append("cancelled")
            raise

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        assert trio.lowlevel.current_task() is self.task
        self.log.append("closed")


@pytest.mark.parametrize("way", ["close", "break", "generator"])
def test_prefetching_that_is_left_in_the_middle_of_an_await_is_closed(
    bridge: syncline.Bridge, way: str
) -> None:
    """The fetch is cancelled; then what was iterated over is closed in the same task, which may await again."""
    log: list[str] = []
    source = Endless(log)

    async def generator() -> AsyncIterator[int]:
        try:
            async for number in source:
                yield number
        finally:
            # Awaits, though a cancellation has ended the loop.
            with trio.CancelScope(shield=True):
                await source.aclose()

    numbers = bridge.iterate(generator() if way == "generator" else source, prefetch=1)
    for _ in numbers:
        # The consumer leaves while the producer waits for the second item.
        assert source.waits.wait(20)
        break
    if way == "close":
        numbers.close()
    del numbers
    assert log == ["cancelled", "closed"]
    assert bridge.run_sync(add, 1) == 2


def test_a_loop_that_ends_lets_a_cancelled_session_close_what_it_holds() -> None:
    """Of a step under way at the close, the awaits are cancelled; then the iterable is closed, and may await."""
    log: list[str] = []
    source = Endless(log)
    bridge = syncline.Bridge(backend="trio")
    numbers = bridge.iterate(source)
    assert next(numbers) == 1
    caller = Caller(lambda: next(numbers))
    assert source.waits.wait(20)
    bridge.close()
    caller.join(20)
    assert is_closed_error(caller.got)
    assert log == ["cancelled", "closed"]


def test_managers_that_are_open_at_the_close_leave_as_if_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    """They see trio's Cancelled, a nursery among them, and nothing is logged."""
    log: list[object] = []
    bridge = syncline.Bridge(backend="trio")

    class Manager:
        async def __aenter__(self) -> None:
            self.nursery = trio.open_nursery()
            nursery = await self.nursery.__aenter__()
            nursery.start_soon(trio.sleep_forever)

        async def __aexit__(self, *raised: object) -> None:
            log.append(raised[0])
            await self.nursery.__aexit__(*raised)  # type: ignore[arg-type]

    bridge.enter(Manager()).__enter__()
    bridge.close()
    assert log == [trio.Cancelled]
    assert caplog.records == []


@pytest.mark.parametrize("ends", ["close", "bridge"])
def test_a_producer_may_be_cancelled_in_the_turn_in_which_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, ends: str
) -> None:
    """It has found room as it began to wait for that, or has made a pause. trio takes what is due in any order, which
    takes some tries. Another thread ends it, as the main one does not tell trio by `run_sync_soon`."""
    tell = trio.lowlevel.TrioToken.run_sync_soon
    reached, told = threading.Event(), threading.Event()

    def tells(*args: Any, **options: Any) -> None:
        tell(*args, **options)
        if reached.is_set():
            told.set()

    async def items(last: int) -> AsyncIterator[int]:
        for number in range(1000):
            if number == last:
                # Interleaving: the consumer ends it during this fetch, after which it waits for room, or pauses.
                reached.set()
                assert told.wait(10)
            yield number

    monkeypatch.setattr(trio.lowlevel.TrioToken, "run_sync_soon", tells)
    for _ in range(16):
        reached.clear()
        told.clear()
        with syncline.Bridge(backend="trio") as bridge:
            made = bridge.iterate(
                items(1 if ends == "close" else 250), prefetch=1 if ends == "close" else 1000
            )
            with ThreadPoolExecutor(2) as threads:
                if ends == "close":
                    assert next(made) == 0
                    assert reached.wait(10)
                    threads.submit(made.close).result()
                else:
                    waits = threads.submit(list, made)
                    assert reached.wait(10)
                    threads.submit(bridge.close).result()
                    with pytest.raises(syncline.RunnerClosedError):
                        waits.result()
    assert not caplog.records
