"""Cancellation where trio takes part: each task sees its own library's, whatever ran below, and no run ends by it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import trio
import trio.testing

import syncline
from closing import Caller, MakeBridge, is_closed_error
from trio_code import add, bridge

__all__ = ["bridge"]

LIBRARIES: dict[str, Any] = {"trio": trio, "asyncio": asyncio}
CANCELLED: dict[str, Any] = {"trio": trio.Cancelled, "asyncio": asyncio.CancelledError}


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What was logged, asyncio's complaints included."""
    with caplog.at_level(logging.WARNING):
        yield lambda: [record.getMessage() for record in caplog.records]


def make(stack: ExitStack, backend: str, **options: Any) -> syncline.Bridge:
    return stack.enter_context(syncline.Bridge(backend=backend, **options))


class Waiting:
    """Async code of a library that waits for ever, and what became of it."""

    def __init__(self, backend: str) -> None:
        self.library, self.cancelled = LIBRARIES[backend], CANCELLED[backend]
        self.begun = threading.Event()
        self.log: list[str] = []

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await self.library.Event().wait()
        except self.cancelled:
            self.log.append("inner")
            raise


@pytest.mark.parametrize("scope", ["process", "thread"])
@pytest.mark.parametrize("nested", ["switch", "thread"])
@pytest.mark.parametrize("inner", ["asyncio", "trio", "itself"])
@pytest.mark.parametrize("outer", ["asyncio", "trio"])
def test_a_cancelled_task_gets_its_own_librarys_exception(
    outer: str, inner: str, nested: str, scope: str, logged: Callable[[], list[str]]
) -> None:
    """Its future is cancelled while it waits for a call of another loop: inner and outer code clean up, each by its own
    library's rules, the loop's other calls go on, and nothing is logged (case 53)."""
    with ExitStack() as stack:
        there = make(stack, outer, nested=nested, scope=scope)
        other = there if inner == "itself" else make(stack, inner, nested=nested, scope=scope)
        waiting = Waiting(outer if inner == "itself" else inner)
        bystander_may_end = threading.Event()
        ended = threading.Event()

        async def task() -> None:
            try:
                other.run_sync(waiting)
            except CANCELLED[outer]:
                waiting.log.append("outer")
                raise
            finally:
                ended.set()

        async def bystander() -> str:
            while not bystander_may_end.is_set():
                await LIBRARIES[outer].sleep(0)
            return "fine"

        beside = there.submit(bystander)
        future = there.submit(task)
        assert waiting.begun.wait(20)
        assert future.cancel()
        assert ended.wait(20)
        bystander_may_end.set()
        assert beside.result(20) == "fine"
        assert waiting.log == ["inner", "outer"]
    assert logged() == []


@pytest.mark.parametrize("inner", ["asyncio", "trio"])
def test_trio_code_that_is_shielded_is_not_cancelled(bridge: syncline.Bridge, inner: str) -> None:
    """A call that blocks a trio task goes on if the user's scope shields it; what comes after that is cancelled."""
    begun, may_end, over = threading.Event(), threading.Event(), threading.Event()
    log: list[str] = []
    with ExitStack() as stack:
        other = make(stack, inner)

        async def protected() -> str:
            begun.set()
            while not may_end.is_set():
                await LIBRARIES[inner].sleep(0)
            return "whole"

        async def task() -> None:
            try:
                with trio.CancelScope(shield=True):  # noqa: ASYNC100 -- the call waits
                    log.append(other.run_sync(protected))
                await trio.sleep_forever()
            except trio.Cancelled:
                log.append("cancelled")
                raise
            finally:
                over.set()

        future = bridge.submit(task)
        assert begun.wait(20)
        assert future.cancel()
        # The blocked wait looks every 10 ms whether it is to end, and says nothing where it is not.
        threading.Timer(0.05, may_end.set).start()
        assert over.wait(20)
    assert log == ["whole", "cancelled"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("foreign", ["asyncio", "trio"])
def test_a_foreign_cancellation_is_an_exception_like_others(backend: str, foreign: str) -> None:
    """Code that raises the other library's cancellation itself ends its own call only."""
    with ExitStack() as stack:
        there = make(stack, backend)
        if foreign == "asyncio":
            error: BaseException = asyncio.CancelledError()
        else:
            error = cancelled_by_trio()

        async def fail() -> None:
            raise error

        with pytest.raises(CANCELLED[foreign]) as caught:
            there.run_sync(fail)
        assert caught.value is error

        async def answer() -> int:
            return 42

        assert there.run_sync(answer) == 42


def cancelled_by_trio() -> BaseException:
    async def main() -> BaseException:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.lowlevel.checkpoint()
            except trio.Cancelled as error:
                caught = error
                raise
        return caught

    return trio.run(main)


# A nursery raises a group of the Cancelled of its children.


async def one_child() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.sleep_forever)


async def children_with_children() -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one_child)
        nursery.start_soon(one_child)
        await trio.sleep_forever()


WAYS: dict[str, Callable[[syncline.Bridge, Any], Any]] = {
    "run": lambda bridge, fn: bridge.run(fn(), timeout=0.02),
    "coroutine": lambda bridge, fn: bridge.coroutine(fn)().run(timeout=0.02),
    "nested": lambda bridge, fn: bridge.run_sync(nested_run, bridge, fn),
    "nested outer": lambda bridge, fn: bridge.run(nested_sync(bridge, fn), timeout=0.02),
}


async def nested_run(bridge: syncline.Bridge, fn: Any) -> None:
    bridge.run(fn(), timeout=0.02)


async def nested_sync(bridge: syncline.Bridge, fn: Any) -> None:
    bridge.run_sync(fn)


@pytest.mark.parametrize("nested", ["switch", "thread"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("fn", [one_child, children_with_children])
def test_a_timeout_is_one_with_nurseries_too(way: str, fn: Any, nested: str) -> None:
    """TimeoutError, wherever the coroutine runs (case 50)."""
    with syncline.Bridge(backend="trio", nested=nested) as bridge:
        with pytest.raises(TimeoutError, match=r"0\.02 s"):
            WAYS[way](bridge, fn)
        assert bridge.run_sync(add, 1) == 2


@pytest.mark.parametrize("way", WAYS)
def test_an_error_beside_cancellations_is_not_lost(bridge: syncline.Bridge, way: str) -> None:
    """A child that fails as it is cancelled: the caller gets its error, in the nursery's group, and no Cancelled."""
    problem = ValueError("in the cleanup")

    async def fails() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise problem

    async def parent() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails)
            nursery.start_soon(one_child)

    with pytest.raises(ExceptionGroup) as caught:
        WAYS[way](bridge, parent)
    assert caught.value.exceptions == (problem,)


def test_a_cancelled_future_with_a_nursery_is_quiet(
    bridge: syncline.Bridge, logged: Callable[[], list[str]]
) -> None:
    """The future is cancelled, the children end, nothing is logged."""
    begun, ended = threading.Event(), threading.Event()

    async def parent() -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                begun.set()
        finally:
            ended.set()

    future = bridge.submit(parent)
    assert begun.wait(20)
    assert future.cancel()
    assert ended.wait(20)
    assert bridge.run_sync(add, 1) == 2
    assert logged() == []


def test_closing_ends_nurseries_as_it_ends_all(logged: Callable[[], list[str]]) -> None:
    """RunnerClosedError for who waits, in whatever way; and nothing is logged."""
    bridge = syncline.Bridge(backend="trio")
    begun = threading.Semaphore(0)

    async def parent() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one_child)
            begun.release()

    async def nested() -> None:
        bridge.run_sync(parent)

    callers = [Caller(lambda: bridge.run_sync(parent)), Caller(lambda: bridge.run_sync(nested))]
    future = bridge.submit(parent)
    for _ in range(3):
        assert begun.acquire(timeout=20)
    bridge.close()
    for caller in callers:
        caller.join(20)
        assert is_closed_error(caller.got)
    with pytest.raises(syncline.RunnerClosedError):
        future.result(20)
    assert logged() == []


def test_a_task_that_is_cancelled_before_its_turn_makes_no_call_that_blocks_its_run(
    make_bridge: MakeBridge,
) -> None:
    """trio tells a task so where it awaits next. A nested call on another run is such a place, too.

    The order is forced but for one step: the task is ready when it is cancelled, and trio makes the turns of the task
    and of what cancels it in any order.
    """
    made = make_bridge(backend="trio", nested="thread")
    for _ in range(10):
        ready, is_ready, goes_on = made.call(trio.Event), threading.Event(), threading.Event()

        async def waits(ready: trio.Event = ready) -> None:
            await ready.wait()
            made.run_sync(trio.sleep_forever)

        async def blocks(
            ready: trio.Event = ready,
            is_ready: threading.Event = is_ready,
            goes_on: threading.Event = goes_on,
        ) -> None:
            ready.set()
            is_ready.set()
            goes_on.wait(10)

        future = made.submit(waits)
        made.run_sync(trio.testing.wait_all_tasks_blocked)
        blocked = made.submit(blocks)
        assert is_ready.wait(10)
        future.cancel()
        goes_on.set()
        blocked.result(10)
        assert made.run(add(1), timeout=5) == 2
