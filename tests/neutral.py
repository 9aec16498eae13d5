"""Async code that runs with either library, for tests of bridges of both kinds."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext
from typing import Any, TypeVar

import pytest
import trio
import uvloop

import syncline

R = TypeVar("R")

CANCELLED = asyncio.CancelledError, trio.Cancelled
"""What cancelled code sees, in one library or the other."""


with_asyncio = pytest.mark.parametrize(
    "each_bridge", ["process", "thread", "caller", "uvloop"], indirect=True
)
"""For code that only asyncio runs."""


def make_bridge_of(kind: str, **options: Any) -> syncline.Bridge:
    """A bridge of that scope; or one whose loops are uvloop's, or whose coroutines run with trio."""
    return syncline.Bridge(**of_kind(kind), **options)


def of_kind(kind: str) -> dict[str, Any]:
    """Its options."""
    if kind == "uvloop":
        return {"loop_factory": uvloop.new_event_loop}
    return {"backend" if kind == "trio" else "scope": kind}


async def turn() -> None:
    """Suspends, and goes on in the loop's next turn."""
    await sleep(0)


async def items_of(items: Any) -> None:
    async for _ in items:
        pass


async def entered(manager: Any) -> None:
    async with manager:
        pass


async def sleep(seconds: float, result: Any = None) -> Any:
    if trio.lowlevel.in_trio_task():
        await trio.sleep(seconds)
    else:
        await asyncio.sleep(seconds)
    return result


async def sleep_forever() -> None:
    await sleep(math.inf) if trio.lowlevel.in_trio_task() else await asyncio.Event().wait()


async def cleanup(seconds: float = 0) -> None:
    """An await that may be made by what was cancelled."""
    if not trio.lowlevel.in_trio_task():
        await asyncio.sleep(seconds)
        return
    with trio.CancelScope(shield=True):
        await trio.sleep(seconds)


def shielded() -> AbstractContextManager[object]:
    """Around blocking calls in the cleanup of what was cancelled: trio goes on cancelling what is not shielded."""
    return trio.CancelScope(shield=True) if trio.lowlevel.in_trio_task() else nullcontext()


def soon(callback: Callable[[], object]) -> None:
    """Has the loop call it in its next turn."""
    if trio.lowlevel.in_trio_task():
        trio.lowlevel.current_trio_token().run_sync_soon(callback)
    else:
        asyncio.get_running_loop().call_soon(callback)


def end_of_loop() -> Callable[[], bool]:
    """What says whether the loop of this thread is closed, or its trio run is over."""
    if not trio.lowlevel.in_trio_task():
        return asyncio.get_running_loop().is_closed
    token = trio.lowlevel.current_trio_token()

    def is_over() -> bool:
        try:
            token.run_sync_soon(bool)
        except trio.RunFinishedError:
            return True
        return False

    return is_over


def new_event() -> Any:
    return trio.Event() if trio.lowlevel.in_trio_task() else asyncio.Event()


def this_task() -> Any:
    return trio.lowlevel.current_task() if trio.lowlevel.in_trio_task() else asyncio.current_task()


def this_loop() -> int:
    """The identity of the loop, or trio run, of this thread."""
    if trio.lowlevel.in_trio_task():
        return id(trio.lowlevel.current_trio_token())
    return id(asyncio.get_running_loop())


class Group:
    """A task group of asyncio's, or a nursery."""

    def __init__(self) -> None:
        if trio.lowlevel.in_trio_task():
            self.group: AbstractAsyncContextManager[Any] = trio.open_nursery()
        else:
            self.group = asyncio.TaskGroup()

    async def __aenter__(self) -> Callable[..., object]:
        group = await self.group.__aenter__()
        if isinstance(group, trio.Nursery):
            return group.start_soon
        return lambda fn, *args: group.create_task(fn(*args))

    async def __aexit__(self, *raised: object) -> bool | None:
        return await self.group.__aexit__(*raised)  # type: ignore[arg-type]


async def other_tasks() -> list[str]:
    """The names of the tasks of this loop that a bridge has begun, but for the one that asks."""
    if not trio.lowlevel.in_trio_task():
        return [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    found: list[str] = []
    left = [trio.lowlevel.current_root_task()]
    while left:
        task = left.pop()
        if task is None:
            continue
        left += [child for nursery in task.child_nurseries for child in nursery.child_tasks]
        if task is not trio.lowlevel.current_task() and task.name.startswith(("<session", "<bridged")):
            found.append(task.name)
    return found
