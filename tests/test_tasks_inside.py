"""Sync code that calls the bridge, inside every kind of task (cases 5, 14, 16, 18, 28, 29, 52, 54, 57)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import syncline


async def answer() -> int:
    await asyncio.sleep(0)
    return 42


def sync_answer() -> int:
    return syncline.run_sync(answer)


async def calls() -> int:
    return sync_answer()


WAYS: dict[str, Callable[[], Awaitable[Any]]] = {
    "create_task": lambda: asyncio.create_task(calls()),
    "gather": lambda: asyncio.gather(calls()),
    "wait_for": lambda: asyncio.wait_for(calls(), 10),
    "shield": lambda: asyncio.shield(calls()),
    "to_thread": lambda: asyncio.to_thread(sync_answer),
    "executor": lambda: asyncio.get_running_loop().run_in_executor(None, sync_answer),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("host", ["asyncio.run", "the bridge"])
def test_sync_code_calls_inside_every_kind_of_task(way: str, host: str) -> None:
    """It works under all of asyncio's wrappers (case 5)."""

    async def main() -> Any:
        result = await WAYS[way]()
        return result[0] if isinstance(result, list) else result

    assert (asyncio.run(main()) if host == "asyncio.run" else syncline.run_sync(main)) == 42


def test_of_two_nested_siblings_the_short_one_is_not_held_up() -> None:
    """The one that began first, and is short, returns before the long one has begun to wait (case 14)."""
    order: list[str] = []

    async def nested(name: str, seconds: float) -> None:
        syncline.run_sync(asyncio.sleep, seconds)
        order.append(name)

    async def main() -> float:
        begun = time.monotonic()
        short = asyncio.create_task(nested("short", 0.05))
        long = asyncio.create_task(nested("long", 0.2))
        await short
        took = time.monotonic() - begun
        await long
        return took

    syncline.run_sync(main)
    assert order == ["short", "long"]


def test_a_nested_wait_for_an_ancestor_is_an_error() -> None:
    """The nested call awaits the task that it is nested in: an error, not an endless wait (case 15)."""
    bridge = syncline.Bridge(nested="thread")

    async def ancestor() -> None:
        me = asyncio.current_task()
        assert me is not None

        async def wait_for_ancestor() -> None:
            await me

        bridge.run_sync(wait_for_ancestor)

    with bridge, pytest.raises(RuntimeError, match="different loop"):
        bridge.run_sync(ancestor)


def test_eager_task_factories_are_honoured() -> None:
    """A loop with an eager task factory runs bridge calls right, on its own thread (case 18)."""
    if not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("eager tasks came with Python 3.12")

    def factory() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop()
        loop.set_task_factory(asyncio.eager_task_factory)
        return loop

    async def where() -> int:
        task = asyncio.create_task(answer())
        assert await task == 42
        return threading.get_ident()

    with syncline.Bridge(loop_factory=factory) as bridge:
        assert bridge.run_sync(where) != threading.get_ident()


def test_a_context_manager_is_entered_and_left_in_one_task() -> None:
    """Within a call, as it should be (case 28)."""
    tasks: list[Any] = []

    @contextlib.asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        tasks.append(asyncio.current_task())
        yield
        tasks.append(asyncio.current_task())

    async def use() -> None:
        async with manager():
            await asyncio.sleep(0)

    syncline.run_sync(use)
    assert tasks[0] is tasks[1]


def test_a_failing_child_ends_its_task_group_only() -> None:
    """The error comes out at the group's end, and the next call is not cancelled (case 29)."""

    async def fail() -> None:
        raise ValueError("child")

    async def use() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.sleep(60)

    with pytest.raises(ExceptionGroup) as caught:
        syncline.run_sync(use)
    assert isinstance(caught.value.exceptions[0], ValueError)
    assert syncline.run_sync(answer) == 42


def test_a_caller_that_is_cancelled_as_the_result_lands_is_cancelled() -> None:
    """And the inner call has settled (case 52). Cancelling before the loop sees the result forces the order; on Python
    3.14 and later one that is there when `to_thread` has begun is seen at once."""
    begun, done = threading.Event(), threading.Event()

    async def inner() -> int:
        begun.wait(10)
        done.set()
        return 1

    async def main() -> None:
        task = asyncio.create_task(asyncio.to_thread(syncline.run_sync, inner))
        await asyncio.sleep(0)
        begun.set()
        done.wait(10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert syncline.run_sync(answer) == 42


def test_cancelling_counts_are_balanced() -> None:
    """A call made in a task changes nothing about that task's cancellation (case 54)."""

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(TimeoutError):
            syncline.run(asyncio.sleep(60), timeout=0.01)
        assert task.cancelling() == 0

    asyncio.run(main())


def test_a_call_in_the_handler_of_a_cancellation_works() -> None:
    """Sync cleanup may use the bridge (case 57)."""
    seen: list[int] = []

    async def cancelled() -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            seen.append(sync_answer())
            raise

    async def main() -> None:
        task = asyncio.create_task(cancelled())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    syncline.run_sync(main)
    assert seen == [42, 42]


def test_a_handler_that_leaves_does_not_block_its_loop() -> None:
    """A request is cancelled while its worker thread waits in the bridge; the loop goes on (case 8)."""
    begun, release = threading.Event(), threading.Event()
    results: list[int] = []

    async def held() -> int:
        begun.set()
        while not release.is_set():
            await asyncio.sleep(0.01)
        return 7

    def worker() -> None:
        results.append(syncline.run_sync(held))

    async def main() -> None:
        request = asyncio.create_task(asyncio.to_thread(worker))
        while not begun.is_set():
            await asyncio.sleep(0.01)
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        turns = 0
        async with asyncio.timeout(10):
            while turns < 10:
                await asyncio.sleep(0)
                turns += 1
        release.set()

    asyncio.run(main())
    assert results == [7]
