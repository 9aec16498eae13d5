"""Where sync code may be that makes a call: a thread, or inside a program that runs; and where the call runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import trio
import uvloop

import syncline
from neutral import turn

R = TypeVar("R")
OPTIONS: dict[str, dict[str, Any]] = {
    "process": {},
    "thread": {"scope": "thread"},
    "caller": {"scope": "caller"},
    "uvloop": {"loop_factory": uvloop.new_event_loop},
}
"""What bridges are made with, of each scope and on another kind of loop."""


def in_asyncio(body: Callable[[], R]) -> R:
    """Runs sync code inside an asyncio program."""

    async def main() -> R:
        await asyncio.sleep(0)
        return body()

    return asyncio.run(main())


def in_uvloop(body: Callable[[], R]) -> R:
    """Runs sync code inside a program on uvloop."""

    async def main() -> R:
        await asyncio.sleep(0)
        return body()

    return uvloop.run(main())


def in_trio(body: Callable[[], R]) -> R:
    """Runs sync code inside a trio program."""

    async def main() -> R:
        await trio.lowlevel.checkpoint()
        return body()

    return trio.run(main)


def on_our_loop(body: Callable[[], R], *, bridge: syncline.Bridge | None = None) -> R:
    """Runs sync code inside a coroutine on a loop of ours: of the default bridge, or of another."""

    async def main() -> R:
        await turn()
        return body()

    return bridge.run_sync(main) if bridge else syncline.run_sync(main)


def in_thread(work: Callable[[], R], name: str | None = None) -> R:
    """The result of `work` in a thread that has ended when this returns."""
    result: Future[R] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    thread = threading.Thread(target=run, name=name)
    thread.start()
    thread.join()
    return result.result()


async def installed(main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Runs an async program in a task that opted in by `install`."""
    undo = syncline.install()
    try:
        return await asyncio.create_task(main())
    finally:
        undo()


async def own_loop() -> asyncio.AbstractEventLoop:
    """The loop that this call runs on, after a suspension."""
    await asyncio.sleep(0)
    return asyncio.get_running_loop()


async def own_thread() -> threading.Thread:
    """The thread that this call runs in."""
    return threading.current_thread()


async def in_tasks(how: str, call: Callable[[int], Coroutine[Any, Any, R]]) -> list[R]:
    """What three calls return that run in tasks, which are started in this way."""
    if how == "create_task":
        return [await task for task in [asyncio.create_task(call(n)) for n in range(3)]]
    if how == "gather":
        return await asyncio.gather(*(call(n) for n in range(3)))
    if how == "wait_for":
        return [await asyncio.wait_for(call(n), 10) for n in range(3)]
    if how == "shield":
        return [await asyncio.shield(call(n)) for n in range(3)]
    assert how == "task_group"
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call(n)) for n in range(3)]
    return [task.result() for task in tasks]


async def side_by_side(nested: Callable[[Callable[[], Coroutine[Any, Any, None]]], Any]) -> list[str]:
    """What two tasks do whose sync code makes a nested call each: "begin" and "end", as they come."""
    steps: list[str] = []

    async def long_enough() -> None:
        # Interleaving: a loop that isn't blocked meanwhile has time to begin the second task.
        for _ in range(5):
            await asyncio.sleep(0.001)

    async def task(name: str) -> None:
        steps.append(f"{name} begins")
        nested(long_enough)
        steps.append(f"{name} ends")

    await asyncio.gather(task("first"), task("second"))
    return steps


ONE_BY_ONE = ["first begins", "first ends", "second begins", "second ends"]
"""What `side_by_side` gives where a nested call blocks its loop."""
