"""The stacks of visible tasks that wait for an async generator, or for another object that drives a coroutine and is
written in C."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any

import pytest

import syncline


class Gate:
    """Where a generator waits for a future, in a frame of its own."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.future: asyncio.Future[int] | None = None

    async def numbers(self) -> AsyncGenerator[int, None]:
        self.future = asyncio.get_running_loop().create_future()
        self.entered.set()
        yield await self.future

    async def number(self) -> int:
        async for each in self.numbers():
            return each
        raise AssertionError

    def let_through(self) -> None:
        assert self.future is not None
        self.future.set_result(1)


class Wrapped:
    """Awaits a coroutine by an object that has no frame."""

    def __init__(self, awaited: Any) -> None:
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, int]:
        made: Generator[Any, Any, int] = self._awaited.__await__()
        return made


async def by_for(gate: Gate) -> int:
    return await gate.number()


async def by_anext(gate: Gate) -> int:
    return await anext(gate.numbers())


async def by_anext_with_a_default(gate: Gate) -> int:
    return await anext(gate.numbers(), 5)


async def by_asend(gate: Gate) -> int:
    return await gate.numbers().asend(None)


async def by_await(gate: Gate) -> int:
    return await Wrapped(gate.number())


Way = Callable[[Gate], Awaitable[int]]
WAYS: list[Way] = [by_for, by_anext, by_anext_with_a_default, by_asend, by_await]
by_way = pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)


def seen_from_its_loop(
    bridge: syncline.Bridge, gate: Gate, call: Callable[[Gate], Awaitable[int]]
) -> list[Any]:
    """What `asyncio` has of the call's task while it waits at the gate: the task's stack, and its coroutine's."""

    async def look() -> list[Any]:
        [task] = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        level: Any = task.get_coro()
        awaited: list[str] = []
        while hasattr(level, "cr_frame") and level.cr_frame is not None:
            awaited.append(level.cr_frame.f_code.co_name)
            level = level.cr_await
        return [[frame.f_code.co_name for frame in task.get_stack()], awaited]

    future = bridge.submit(call, gate)
    assert gate.entered.wait(20)
    seen = bridge.run_sync(look)
    bridge.call(gate.let_through)
    assert future.result(20) == 1
    return seen


@by_way
def test_a_stack_goes_down_into_the_generator_that_a_task_waits_for(way: Way) -> None:
    """`Task.get_stack` ends in the generator's frame."""
    with syncline.Bridge(visible=True) as bridge:
        stack, _ = seen_from_its_loop(bridge, Gate(), way)
    assert (stack[0], stack[-1]) == (way.__name__, "numbers")


@by_way
def test_a_nested_call_that_waits_for_a_generator_is_shown_to_the_end(way: Way) -> None:
    """By the task's stack, and along `cr_await` from the task's coroutine on, on a bridge that is not visible, too."""
    for visible in (False, True):
        with syncline.Bridge(visible=visible) as bridge:

            async def parks(gate: Gate, bridge: syncline.Bridge = bridge) -> int:
                return bridge.run_sync(way, gate)

            stack, awaited = seen_from_its_loop(bridge, Gate(), parks)
        assert awaited[:2] == ["parks", way.__name__]
        assert awaited[-1] == "numbers"
        assert stack == awaited or not visible


@pytest.mark.parametrize("prefetch", [0, 4])
def test_what_iterates_over_a_generator_shows_it(prefetch: int) -> None:
    """While it is suspended, and to the generator itself; also where its items are fetched ahead."""
    gate = Gate()
    own: list[str] = []

    def stack_of(task: asyncio.Task[Any] | None) -> list[str]:
        assert task is not None
        return [frame.f_code.co_name for frame in task.get_stack()]

    async def looks_first() -> AsyncGenerator[int, None]:
        own.extend(stack_of(asyncio.current_task()))
        async for each in gate.numbers():
            yield each

    async def look() -> list[list[str]]:
        return [stack_of(task) for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    with syncline.Bridge(visible=True) as bridge:
        taken: list[int] = []
        taking = threading.Thread(
            target=lambda: taken.extend(bridge.iterate(looks_first(), prefetch=prefetch))
        )
        taking.start()
        assert gate.entered.wait(20)
        assert bridge.run_sync(look) == [["looks_first", "numbers"]]
        bridge.call(gate.let_through)
        taking.join(20)
    assert taken == [1]
    assert own[-1] == "looks_first"
