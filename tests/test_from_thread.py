"""from_thread(fn, ...): a worker thread runs an async function on the loop that sent it there."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import syncline
from worker_code import LIMIT, Run, double, with_time_limit

number: contextvars.ContextVar[int] = contextvars.ContextVar("number")


def test_an_async_function_runs_on_the_loop_of_the_await(anywhere: Run) -> None:
    """It runs in the loop's thread, with its arguments, and its result comes back."""

    async def where() -> int:
        await anyio.lowlevel.checkpoint()
        return threading.get_ident()

    def function() -> list[int]:
        return [syncline.from_thread(double, 2, plus=1), syncline.from_thread(where)]

    async def main() -> None:
        assert await syncline.to_thread(function) == [5, threading.get_ident()]

    anywhere(main)


def test_an_error_reaches_the_worker(anywhere: Run) -> None:
    """What the coroutine raises is raised by from_thread(), as the same object, and can be caught there."""
    error = LookupError("gone")

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    def function() -> None:
        with pytest.raises(LookupError) as caught:
            syncline.from_thread(fail)
        assert caught.value is error

    async def main() -> None:
        await syncline.to_thread(function)

    anywhere(main)


def test_context_variables_flow_through_both_ways(anywhere: Run) -> None:
    """Task, worker, coroutine: each sees what the one before has set, and afterwards what the next one set."""

    async def inner() -> None:
        await anyio.lowlevel.checkpoint()
        number.set(number.get() * 10)

    def function() -> None:
        number.set(number.get() + 1)
        syncline.from_thread(inner)
        number.set(number.get() + 1)

    async def main() -> None:
        number.set(1)
        await syncline.to_thread(function)
        assert number.get() == 21

    anywhere(main)


def test_ten_levels_deep(anywhere: Run) -> None:
    """Loop, worker, loop, worker ... works while the limiter allows, each level in a thread of its own."""
    threads: list[int] = []

    def down(levels: int) -> int:
        threads.append(threading.get_ident())
        return syncline.from_thread(level, levels - 1)

    async def level(levels: int) -> int:
        if levels == 0:
            return 42
        return await syncline.to_thread(down, levels)

    async def main() -> None:
        assert await level(10) == 42

    anywhere(main)
    assert len(set(threads)) == 10


def test_cancelling_the_await_cancels_the_coroutine(anywhere: Run) -> None:
    """The coroutine that the worker waits for is cancelled and cleans up; the worker gets the cancellation."""
    begun, ends = threading.Event(), []
    ended = threading.Event()

    async def inner() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("inner")

    def function() -> None:
        try:
            syncline.from_thread(inner)
        except BaseException as error:
            ends.append(type(error).__name__)
            with pytest.raises(asyncio.CancelledError):
                syncline.check_cancelled()
            with pytest.raises(asyncio.CancelledError):
                syncline.from_thread(double, 1)
            ends.append("done")
            raise
        finally:
            ended.set()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(syncline.to_thread, function)
            assert await syncline.to_thread(begun.wait, LIMIT)
            group.cancel_scope.cancel()
        assert await syncline.to_thread(ended.wait, LIMIT)

    with_time_limit(anywhere, main)
    assert [ends[0], ends[-1]] == ["inner", "done"]
    assert ends[1] in {"CancelledError", "Cancelled"}


def test_a_second_cancel_does_not_deadlock(run_async: Run) -> None:
    """A task that is cancelled again while its worker's coroutine cleans up ends at once (case 55)."""
    begun, cleaning, release, ended = (threading.Event() for _ in range(4))

    async def inner() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cleaning.set()
            while not release.is_set():
                await asyncio.sleep(0.001)

    def function() -> None:
        try:
            syncline.from_thread(inner)
        finally:
            ended.set()

    async def main() -> None:
        async def outer() -> None:
            try:
                await syncline.to_thread(function)
            except asyncio.CancelledError:
                await syncline.to_thread(cleaning.wait, LIMIT)
                await asyncio.sleep(3600)

        task = asyncio.create_task(outer())
        assert await syncline.to_thread(begun.wait, LIMIT)
        task.cancel()
        assert await syncline.to_thread(cleaning.wait, LIMIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        assert await syncline.to_thread(ended.wait, LIMIT)

    run_async(main)


def test_a_worker_can_ask_whether_it_was_cancelled(anywhere: Run) -> None:
    """check_cancelled() returns until the await is cancelled, and raises from then on (case 55)."""
    begun, told = threading.Event(), threading.Event()

    def function() -> None:
        syncline.check_cancelled()
        begun.set()
        try:
            while True:
                syncline.check_cancelled()
        except asyncio.CancelledError:
            told.set()
            raise

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(syncline.to_thread, function)
            assert await syncline.to_thread(begun.wait, LIMIT)
            group.cancel_scope.cancel()
        assert await syncline.to_thread(told.wait, LIMIT)

    with_time_limit(anywhere, main)


@pytest.mark.parametrize(
    "ask", [lambda: syncline.from_thread(double, 1), syncline.check_cancelled], ids=["from_thread", "check"]
)
def test_outside_of_a_worker_it_says_what_to_call(ask: Callable[[], Any]) -> None:
    """In a thread that no loop sent: RuntimeError with the right call."""
    with pytest.raises(RuntimeError, match="to_thread"):
        ask()


def test_wrong_targets_are_named(anywhere: Run) -> None:
    """A sync function, a coroutine and a number are refused, with the caller's own name in the message."""

    async def main() -> None:
        with pytest.raises(TypeError, match=r"from_thread\(\) got the sync function .abs."):
            await syncline.to_thread(syncline.from_thread, abs, 1)  # type: ignore[arg-type]
        coroutine = double(1)
        with pytest.raises(TypeError, match=r"from_thread\(\) got a coroutine"):
            await syncline.to_thread(syncline.from_thread, coroutine)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"from_thread\(\) takes an async function"):
            await syncline.to_thread(syncline.from_thread, 3)  # type: ignore[arg-type]

    anywhere(main)


def test_run_sync_in_a_worker_uses_the_bridges_own_loop(anywhere: Run) -> None:
    """A worker may use the bridge as any thread: from a loop of the bridge's, too."""

    def function() -> int:
        return syncline.run_sync(double, 4)

    async def main() -> None:
        assert await syncline.to_thread(function) == 8

    with_time_limit(anywhere, main)


def test_a_bridge_may_prefer_the_loop_that_sent_the_worker(
    anywhere: Run, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """Bridge(in_worker="sender"): run_sync, run and synced functions join that loop, variables and errors as ever;
    in other threads the bridge's own loop is used."""
    bridge = make_bridge(in_worker="sender")

    async def where() -> int:
        await anyio.lowlevel.checkpoint()
        number.set(number.get() + 1)
        return threading.get_ident()

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise LookupError

    def function() -> list[int]:
        with pytest.raises(LookupError):
            bridge.run_sync(fail)
        return [bridge.run_sync(where), bridge.run(where()), bridge.synced(where)()]

    async def main() -> None:
        number.set(0)
        assert await syncline.to_thread(function) == [threading.get_ident()] * 3
        assert number.get() == 3

    anywhere(main)
    number.set(0)
    assert bridge.run_sync(where) != threading.get_ident()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_worker_that_runs_a_loop_itself_joins_no_other(
    anywhere: Run, make_bridge: Callable[..., syncline.Bridge], backend: str
) -> None:
    """Below a loop of the worker's own, of either library, a call runs where it does in any other thread."""
    bridge = make_bridge(in_worker="sender")

    async def where() -> int:
        await anyio.lowlevel.checkpoint()
        return threading.get_ident()

    async def inner() -> int:
        return bridge.run_sync(where)

    async def main() -> None:
        assert await syncline.to_thread(anyio.run, inner, backend=backend) != threading.get_ident()

    anywhere(main)


def test_a_time_limit_holds_on_that_loop_too(
    anywhere: Run, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """run(timeout=...) on the loop that sent the worker: TimeoutError after the coroutine has cleaned up."""
    bridge = make_bridge(in_worker="sender")
    ends: list[str] = []

    async def inner() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("cleaned up")

    def function() -> None:
        limit = 0.01
        while not ends:  # on a busy machine the time is over before it begins
            with pytest.raises(TimeoutError):
                bridge.run(inner(), timeout=limit)
            limit *= 2
        ends.append("told")

    async def main() -> None:
        await syncline.to_thread(function)

    with_time_limit(anywhere, main)
    assert ends == ["cleaned up", "told"]


def test_workers_and_nested_calls_in_turns() -> None:
    """run_sync in a coroutine on our loop, whose worker calls run_sync again, and so on: no circle, no hang."""

    def sync_to_async(levels: int) -> int:
        return syncline.run_sync(through_worker, levels) if levels else 42

    async def through_worker(levels: int) -> int:
        return await syncline.to_thread(nested, levels)

    def nested(levels: int) -> int:
        return syncline.run_sync(blocking, levels)

    async def blocking(levels: int) -> int:
        return sync_to_async(levels - 1)

    with_time_limit(lambda main: main(), lambda: sync_to_async(6))
    assert sync_to_async(3) == 42
