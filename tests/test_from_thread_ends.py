"""from_thread() where the loop ends, has ended or is closed: the worker is told, and waits no longer."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import uvloop

import syncline
from child import eventually
from worker_code import LIMIT, double


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize("end", ["closed", "stopped"])
def test_a_loop_that_ended_is_named_and_not_waited_for(new_loop: Callable[[], Any], end: str) -> None:
    """A worker that outlives its loop gets RunnerClosedError, whether the loop was closed or only stopped (case 7)."""
    begun, release = threading.Event(), threading.Event()
    results: list[object] = []

    def function() -> None:
        begun.set()
        assert release.wait(LIMIT)
        try:
            results.append(syncline.from_thread(double, 1))
        except BaseException as error:
            results.append(error)

    async def main() -> None:
        tasks.append(asyncio.create_task(syncline.to_thread(function)))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    loop = new_loop()
    loop.run_until_complete(main())
    assert begun.wait(LIMIT)
    if end == "closed":
        loop.close()
        tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]
    release.set()
    assert eventually(lambda: bool(results))
    assert isinstance(results[0], syncline.RunnerClosedError)
    if end == "stopped":
        loop.run_until_complete(tasks[0])
        loop.close()


def test_a_loop_that_closes_during_the_wait_ends_it() -> None:
    """The loop goes away while the coroutine waits: RunnerClosedError in the worker."""
    begun = threading.Event()
    results: list[BaseException] = []

    async def inner() -> None:
        begun.set()
        await asyncio.Event().wait()

    def function() -> None:
        try:
            syncline.from_thread(inner)
        except BaseException as error:
            results.append(error)

    async def main() -> None:
        tasks.append(asyncio.create_task(syncline.to_thread(function)))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        tasks.extend(task for task in asyncio.all_tasks() if task is not asyncio.current_task())

    tasks: list[asyncio.Task[Any]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert eventually(lambda: bool(results))
    assert isinstance(results[0], syncline.RunnerClosedError)


def test_a_trio_run_that_ended_is_not_waited_for() -> None:
    """The same where the loop was trio's."""
    begun, release = threading.Event(), threading.Event()
    results: list[BaseException] = []

    def function() -> None:
        begun.set()
        assert release.wait(LIMIT)
        try:
            syncline.from_thread(double, 1)
        except BaseException as error:
            results.append(error)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(syncline.to_thread, function)
            await syncline.to_thread(begun.wait, LIMIT)
            nursery.cancel_scope.cancel()

    trio.run(main)
    release.set()
    assert eventually(lambda: bool(results))
    assert isinstance(results[0], asyncio.CancelledError)


def test_a_bridge_that_closes_ends_the_workers_wait(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """The bridge's loop is closed while a worker of its waits for it."""
    bridge = make_bridge(cleanup_timeout=1.0)
    begun = threading.Event()
    results: list[BaseException] = []

    async def inner() -> None:
        begun.set()
        await asyncio.Event().wait()

    def function() -> None:
        try:
            syncline.from_thread(inner)
        except BaseException as error:
            results.append(error)

    future = bridge.submit(syncline.to_thread, function)
    assert begun.wait(LIMIT)
    bridge.close()
    with pytest.raises(syncline.RunnerClosedError):
        future.result(LIMIT)
    assert eventually(lambda: bool(results))
    # Which of its two tasks the closing loop cancels first is the loop's business.
    assert isinstance(results[0], (syncline.RunnerClosedError, asyncio.CancelledError))
