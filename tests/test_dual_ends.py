"""Dual objects that nobody ends properly: dropped elsewhere, interrupted, open when the interpreter exits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import syncline
from child import DEV, eventually
from scripts import exiting, interrupted

scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


class Numbers:
    """An async generator function that writes down how it ends."""

    def __init__(self) -> None:
        self.log: list[str] = []

    async def count(self) -> AsyncIterator[int]:
        task = asyncio.current_task()
        try:
            for number in range(10):
                yield number
        finally:
            await asyncio.sleep(0)
            self.log.append("closed" if asyncio.current_task() is task else "closed in another task")

    async def one(self) -> AsyncIterator[int]:
        try:
            yield 0
        finally:
            self.log.append("closed")


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_it_may_be_dropped_by_another_thread(scope: Any) -> None:
    """Where it is closed in its own task all the same."""
    numbers = Numbers()
    with syncline.Bridge(scope=scope) as bridge:
        held = [bridge.iterate(numbers.count())]
        assert next(held[0]) == 0
        thread = threading.Thread(target=held.clear)
        thread.start()
        thread.join()
        assert numbers.log == ["closed"]


@pytest.mark.parametrize("scope", ["process", "thread"])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_loop_that_drops_what_another_thread_began_goes_on(
    run_async: Callable[[Callable[[], Any]], Any], scope: Any, prefetch: int
) -> None:
    """Its cleanup takes as long as it takes; the collector, too, may drop it in a coroutine of anybody's."""
    closed: list[int] = []
    go_on = threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            while True:
                await asyncio.sleep(0)
                yield 1
        finally:
            await asyncio.to_thread(go_on.wait, 20)
            closed.append(1)

    with syncline.Bridge(scope=scope) as bridge:
        held = [bridge.iterate(numbers(), prefetch=prefetch)]
        begun, stay = threading.Event(), threading.Event()

        def begin() -> None:
            next(held[0])
            begun.set()
            # In scope "thread" the generator's loop lives as long as this thread does.
            stay.wait(20)

        thread = threading.Thread(target=begin)
        thread.start()
        assert begun.wait(10)

        async def drop() -> None:
            # Interleaving: the cleanup ends only when this coroutine has gone on.
            held.clear()
            go_on.set()

        run_async(drop)
        assert eventually(lambda: closed == [1])
        stay.set()
        thread.join()


def test_dropping_it_on_its_own_loops_thread_does_not_hang() -> None:
    """A drop there can't wait for what only that thread can do; it is closed as soon as the loop turns."""
    numbers = Numbers()
    with syncline.Bridge() as bridge:
        held = [bridge.iterate(numbers.count())]
        assert next(held[0]) == 0

        async def drop() -> None:
            held.clear()

        bridge.run_sync(drop)
        assert eventually(lambda: numbers.log == ["closed"])


@scopes
@pytest.mark.parametrize("flags", [(), DEV], ids=["plain", "dev-and-errors"])
def test_one_that_is_open_at_exit_is_closed(scope: str, flags: tuple[str, ...]) -> None:
    """Its finally runs before the interpreter ends, and nothing is printed (cases 36, 84, 87)."""
    end = exiting(
        scope,
        """
async def numbers(label):
    try:
        for number in range(1, 10):
            yield number
    finally:
        await asyncio.sleep(0.01)
        os.write(1, f"{label} closed\\n".encode())

keep.append(bridge.iterate(numbers("ahead"), prefetch=2))
keep.append(bridge.iterator(numbers)("iterator"))
keep.append(bridge.generator(numbers)("generator"))
assert [next(dual) for dual in keep] == [1, 1, 1]
""",
        flags=flags,
    )
    assert sorted(end.lines) == ["ahead closed", "generator closed", "iterator closed"]
    end.assert_clean()


@scopes
def test_ctrl_c_during_a_step_cancels_it(scope: str) -> None:
    """Its cleanup runs, then KeyboardInterrupt; it is finished, and the bridge goes on (case 44)."""
    end = interrupted(
        scope,
        """
async def numbers():
    yield 1
    await work()

it = bridge.iterate(numbers())
assert next(it) == 1
try:
    next(it)
except KeyboardInterrupt:
    print("caught", list(it), flush=True)
print(bridge.run_sync(answer), flush=True)
""",
    )
    assert end.lines == ["cancelled", "cleaned up", "caught []", "42"], end.err
    end.assert_clean()


@scopes
@pytest.mark.parametrize("flags", [(), DEV], ids=["plain", "dev-and-errors"])
def test_a_manager_that_is_entered_at_exit_is_left(scope: str, flags: tuple[str, ...]) -> None:
    """Its finally runs before the interpreter ends, and nothing is printed (cases 84, 87)."""
    end = exiting(
        scope,
        """
@bridge.contextmanager
async def held():
    try:
        yield 42
    finally:
        await asyncio.sleep(0.01)
        os.write(1, b"left\\n")

keep.append(held())
assert keep[0].__enter__() == 42
""",
        flags=flags,
    )
    assert end.lines == ["left"]
    end.assert_clean()


@scopes
def test_ctrl_c_in_the_body_of_a_with_reaches_the_manager(scope: str) -> None:
    """KeyboardInterrupt is what it sees, as an error of the body; its cleanup runs (case 44)."""
    end = interrupted(
        scope,
        """
@bridge.contextmanager
async def held():
    try:
        yield
    except KeyboardInterrupt:
        await asyncio.sleep(0.01)
        print("seen", flush=True)
        raise

try:
    with held():
        ready(still=False)
        while True:
            sum(range(1000))
except KeyboardInterrupt:
    print("caught", flush=True)
""",
    )
    assert end.lines == ["seen", "caught"], end.err
    end.assert_clean()


@scopes
def test_ctrl_c_while_a_manager_is_entered_cancels_that(scope: str) -> None:
    """What it began is cleaned up, it is not entered, and the body doesn't run (cases 30, 44)."""
    end = interrupted(
        scope,
        """
@bridge.contextmanager
async def slow():
    await work()
    yield

try:
    with slow():
        print("entered", flush=True)
except KeyboardInterrupt:
    print("caught", flush=True)
print(bridge.run_sync(answer), flush=True)
""",
    )
    assert end.lines == ["cancelled", "cleaned up", "caught", "42"], end.err
    end.assert_clean()


def test_objects_that_are_used_up_leave_nothing_behind(leaks_nothing: None) -> None:
    """A hundred of each, finished, left early or dropped: no thread, no descriptor, no task."""
    numbers = Numbers()

    async def other_tasks() -> int:
        return len(asyncio.all_tasks()) - 1

    with syncline.Bridge() as bridge:
        count, held = bridge.iterator(numbers.count), bridge.contextmanager(numbers.one)
        for _ in range(100):
            assert len(list(count())) == 10
            assert next(count()) == 0
            assert next(bridge.iterate(numbers.count(), prefetch=3)) == 0
            with held() as value:
                assert value == 0
        assert eventually(lambda: bridge.run_sync(other_tasks) == 0)
    assert numbers.log == ["closed"] * 400
