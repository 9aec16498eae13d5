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


class Worker:
    """A function for a worker thread, which calls from_thread() once it may, and what came of that."""

    def __init__(self, fn: Callable[..., Any], *args: Any, may_call: bool = False) -> None:
        self.fn, self.args = fn, args
        self.begun, self.release = threading.Event(), threading.Event()
        self.results: list[object] = []
        if may_call:
            self.release.set()

    def __call__(self) -> None:
        self.begun.set()
        assert self.release.wait(LIMIT)
        try:
            self.results.append(syncline.from_thread(self.fn, *self.args))
        except BaseException as error:
            self.results.append(error)

    def result(self) -> object:
        assert eventually(lambda: bool(self.results))
        return self.results[0]


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize("end", ["closed", "stopped"])
def test_a_loop_that_ended_is_named_and_not_waited_for(new_loop: Callable[[], Any], end: str) -> None:
    """A worker that outlives its loop gets RunnerClosedError, whether the loop was closed or only stopped (case 7)."""
    worker = Worker(double, 1)

    async def main() -> None:
        tasks.append(asyncio.create_task(syncline.to_thread(worker)))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    loop = new_loop()
    loop.run_until_complete(main())
    assert worker.begun.wait(LIMIT)
    if end == "closed":
        loop.close()
        tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]
    worker.release.set()
    assert isinstance(worker.result(), syncline.RunnerClosedError)
    if end == "stopped":
        loop.run_until_complete(tasks[0])
        loop.close()


def test_a_loop_that_closes_during_the_wait_ends_it() -> None:
    """The loop goes away while the coroutine waits: RunnerClosedError in the worker."""
    begun = threading.Event()

    async def inner() -> None:
        begun.set()
        await asyncio.Event().wait()

    worker = Worker(inner, may_call=True)

    async def main() -> None:
        tasks.append(asyncio.create_task(syncline.to_thread(worker)))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        tasks.extend(task for task in asyncio.all_tasks() if task is not asyncio.current_task())

    tasks: list[asyncio.Task[Any]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert isinstance(worker.result(), syncline.RunnerClosedError)


def test_a_trio_run_that_ended_is_not_waited_for() -> None:
    """The same where the loop was trio's."""
    worker = Worker(double, 1)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(syncline.to_thread, worker)
            await syncline.to_thread(worker.begun.wait, LIMIT)
            nursery.cancel_scope.cancel()

    trio.run(main)
    worker.release.set()
    assert isinstance(worker.result(), asyncio.CancelledError)


def test_a_bridge_that_closes_ends_the_workers_wait(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """The bridge's loop is closed while a worker of its waits for it."""
    bridge = make_bridge(cleanup_timeout=1.0)
    begun = threading.Event()

    async def inner() -> None:
        begun.set()
        await asyncio.Event().wait()

    worker = Worker(inner, may_call=True)

    future = bridge.submit(syncline.to_thread, worker)
    assert begun.wait(LIMIT)
    bridge.close()
    with pytest.raises(syncline.RunnerClosedError):
        future.result(LIMIT)
    # Which of its two tasks the closing loop cancels first is the loop's business.
    assert isinstance(worker.result(), (syncline.RunnerClosedError, asyncio.CancelledError))
