"""What the tests of waits that could last for ever share.

"In time" means the check interval of about a second, with room for a busy machine; the limit below only has to be far
from "for ever".
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

import syncline
from child import eventually
from syncline.waiting import Wait

Scope = Literal["process", "thread", "caller"]
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])
IN_TIME = 6.0


@pytest.fixture
def bridge() -> Iterator[syncline.Bridge]:
    """A bridge of this test's own, with a short time for cleanup so that a failing test ends soon."""
    with syncline.Bridge(name="knot", cleanup_timeout=1.0) as one:
        yield one


@contextlib.contextmanager
def in_time() -> Iterator[None]:
    """The block ends in time."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < IN_TIME


async def answer() -> int:
    """A call that must work after everything else."""
    await asyncio.sleep(0)
    return 42


class Gate:
    """Where coroutines of any number of loops wait, each known to the test, until they are let through."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._open: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []

    async def wait(self) -> str:
        """Waits, on asyncio's kind of loop."""
        event = asyncio.Event()
        self._open.append((asyncio.get_running_loop(), event))
        self.entered.release()
        await event.wait()
        return "through"

    def await_entered(self, count: int = 1) -> None:
        for _ in range(count):
            assert self.entered.acquire(timeout=20)

    def let_through(self) -> None:
        """From any thread."""
        for loop, event in self._open:
            if not loop.is_closed():
                loop.call_soon_threadsafe(event.set)


@contextlib.contextmanager
def in_thread(
    function: Callable[[], Any], name: str, let_go: Callable[[], object]
) -> Iterator[threading.Thread]:
    """Runs it in a thread of that name, which is let go and waited for at the end, however the block ends."""
    thread = threading.Thread(target=function, name=name)
    thread.start()
    try:
        yield thread
    finally:
        let_go()
        thread.join(30)
    assert not thread.is_alive()


def root(name: str) -> Wait:
    """The tree of the thread of that name, once it is seen to wait."""
    assert eventually(lambda: any(wait.name == name for wait in syncline.waits()))
    return next(wait for wait in syncline.waits() if wait.name == name)


def chain(wait: Wait) -> list[Wait]:
    """That one, and what it waits for, as long as that is one thing."""
    found = [wait]
    while len(found[-1].waits_for) == 1:
        found += found[-1].waits_for
    return found


@contextlib.contextmanager
def in_a_circle(name: str) -> Iterator[None]:
    """A thread of that name waits for two tasks that wait for each other, and is seen to."""
    begun = threading.Semaphore(0)
    first: list[asyncio.Task[None]] = []

    async def waits_for(other: list[asyncio.Task[None]]) -> None:
        begun.release()
        await asyncio.wait(other)

    async def main() -> None:
        second = [asyncio.create_task(waits_for(first))]
        first.append(asyncio.create_task(waits_for(second)))
        await asyncio.wait(first)

    def let_go() -> None:
        for task in first:
            task.get_loop().call_soon_threadsafe(task.cancel)

    with in_thread(lambda: syncline.run_sync(main), name, let_go):
        for _ in range(2):
            assert begun.acquire(timeout=20)
        assert eventually(lambda: chain(root(name))[-1].closes_circle)
        yield
