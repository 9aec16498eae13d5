"""close() cancels what calls have begun once: a second cancellation would break its cleanup off."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

import syncline
from closing import Caller, MakeBridge, asyncio_scopes, is_closed_error

CHILDREN = 8
ROUNDS = 5
"""In which order tasks are cancelled the loop says, each time another one: children before the task that has begun
them, or after it."""


class Children:
    """Coroutines that last until they are cancelled, and then clean up; how often each was cancelled."""

    def __init__(self) -> None:
        self.all_wait = threading.Event()
        self.waiting = 0
        self.cancelled: list[int] = []

    def waits(self) -> None:
        self.waiting += 1
        if self.waiting == CHILDREN:
            self.all_wait.set()

    async def child(self, *_: object) -> None:
        count = 0
        asyncio.get_running_loop().call_soon(self.waits)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            count += 1
            raise
        finally:
            for _turn in range(5):
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    count += 1
            self.cancelled.append(count)


def in_a_group(bridge: syncline.Bridge, children: Children) -> None:
    with bridge.group() as group:
        for _ in range(CHILDREN):
            group.start(children.child)


def in_a_map(bridge: syncline.Bridge, children: Children) -> None:
    list(bridge.map(children.child, range(CHILDREN), limit=CHILDREN))


def from_workers(bridge: syncline.Bridge, children: Children) -> None:
    async def sends() -> None:
        await asyncio.gather(
            *(syncline.to_thread(syncline.from_thread, children.child) for _ in range(CHILDREN))
        )

    bridge.run_sync(sends)


def in_task_groups(bridge: syncline.Bridge, children: Children) -> None:
    async def groups(depth: int = 3) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(CHILDREN if depth == 0 else 1):
                group.create_task(children.child() if depth == 0 else groups(depth - 1))

    bridge.run_sync(groups)


def in_asyncios_gather(bridge: syncline.Bridge, children: Children) -> None:
    async def gathers() -> None:
        await asyncio.gather(*(children.child() for _ in range(CHILDREN)))

    bridge.run_sync(gathers)


def on_their_own(bridge: syncline.Bridge, children: Children) -> None:
    async def starts() -> None:
        tasks = [asyncio.create_task(children.child()) for _ in range(CHILDREN)]
        await asyncio.Event().wait()
        del tasks

    bridge.run_sync(starts)


KINDS: list[Callable[[syncline.Bridge, Children], Any]] = [
    in_a_group,
    in_a_map,
    from_workers,
    in_task_groups,
    in_asyncios_gather,
    on_their_own,
]


@asyncio_scopes
@pytest.mark.parametrize("kind", KINDS)
def test_children_are_cancelled_once(
    make_bridge: MakeBridge, scope: str, kind: Callable[[syncline.Bridge, Children], Any]
) -> None:
    """By whatever has begun them, or by close() itself, if that does not."""
    for _ in range(ROUNDS):
        bridge, children = make_bridge(scope=scope), Children()
        user = Caller(partial(kind, bridge, children))
        assert children.all_wait.wait(10)
        bridge.close()
        assert user.has_got.wait(10)
        assert is_closed_error(user.got)
        assert children.cancelled == [1] * CHILDREN
        user.join(10)


@asyncio_scopes
def test_one_that_was_cancelled_before_is_told_all_the_same(make_bridge: MakeBridge, scope: str) -> None:
    """It has gone on in spite of that, and has not said so by `uncancel`. The close waits for nothing."""
    bridge = make_bridge(scope=scope, cleanup_timeout=60)
    goes_on, told = threading.Event(), []

    async def refuses_once() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            asyncio.get_running_loop().call_soon(goes_on.set)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            told.append("again")
            raise

    async def starts() -> None:
        task = asyncio.create_task(refuses_once())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.Event().wait()

    user = Caller(partial(bridge.run_sync, starts))
    assert goes_on.wait(10)
    bridge.close()  # half of the time for cleanup would be half a minute
    assert told == ["again"]
    assert user.has_got.wait(1)
