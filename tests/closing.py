"""What the tests of close() share: calls in other threads, and coroutines that last, block or count."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
import trio

import syncline
from neutral import cleanup, end_of_loop, sleep_forever, soon

MakeBridge = Callable[..., syncline.Bridge]
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller", "trio"])
asyncio_scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])
BUSY_MACHINE = 3.0


def bound(cleanup: float) -> float:
    """What is documented: twice the cleanup time and a second."""
    return 2 * cleanup + 1 + BUSY_MACHINE


class Caller(threading.Thread):
    """A thread that makes one call, and what it got."""

    def __init__(self, call: Callable[[], object], after: Callable[[], None] = lambda: None) -> None:
        super().__init__(daemon=True)
        self.call, self.after = call, after
        self.got: object = None
        self.has_got = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            self.got = self.call()
        except BaseException as error:
            self.got = error
        self.has_got.set()
        self.after()


class WatchedLoop(asyncio.SelectorEventLoop):
    """Remembers which thread closed it."""

    closed_by: int | None = None

    def close(self) -> None:
        if not self.is_closed():
            self.closed_by = threading.get_ident()
        super().close()


class Held:
    """Coroutines that last until they are cancelled, and where each of them cleaned up."""

    def __init__(self, count: int = 1) -> None:
        self.all_begun = threading.Event()
        self.count, self.held = count, 0
        self.cleaned: list[int] = []
        self.ends: list[Callable[[], bool]] = []
        self.loops: list[asyncio.AbstractEventLoop] = []

    def suspended(self) -> None:
        """Counts a coroutine; called in the turn after the one in which it was suspended."""
        self.held += 1
        if self.held == self.count:
            self.all_begun.set()

    async def hold(self) -> None:
        soon(self.suspended)
        self.ends.append(end_of_loop())
        if not trio.lowlevel.in_trio_task():
            self.loops.append(asyncio.get_running_loop())
        try:
            await sleep_forever()
        finally:
            await cleanup()
            self.cleaned.append(threading.get_ident())


class Blocked:
    """A coroutine that blocks its loop until it is released."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.release = threading.Event()
        self.ended = threading.Event()

    async def block(self) -> None:
        self.begun.set()
        self.release.wait(30)
        self.ended.set()


def is_closed_error(error: object) -> bool:
    return isinstance(error, syncline.RunnerClosedError)
