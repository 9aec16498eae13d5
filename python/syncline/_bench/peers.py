"""The ways to call an async function from sync code, behind one protocol: the standard library's and ours.

1. `call` is what a user would write, with everything warm that may be kept between calls. Where a library has a
   function with just this signature, `call` is that function, and nobody pays for a wrapper.
2. A peer that can't do what a scenario asks just raises: what it says is what the table shows.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any, Literal

from .._bridge import Bridge
from .._threads import to_thread

AsyncFunction = Callable[..., Coroutine[Any, Any, Any]]


class Peer:
    """One way to call an async function from sync code. Calls may come from any thread."""

    name = ""
    module = ""
    """What users import."""
    needs: tuple[str, ...] = ()
    """What has to be installed."""
    ours = False
    loops: Literal["process", "thread", "call"] = "process"
    """Whose loop it is that a call runs on: one for all threads, each thread's own, or a new one each time."""
    nests = False
    """Whether sync code that a coroutine of its loop called can call it again. (Others hang.)"""
    patches = False
    """Whether it changes asyncio for the whole process: then the reference is measured before that."""

    call: Callable[..., Any]
    """`call(fn, *args)` calls the async function `fn`, waits, and returns what it returns. Made by `open`."""

    @classmethod
    def missing(cls) -> str | None:
        """What is not installed that this needs."""
        absent = [module for module in cls.needs if importlib.util.find_spec(module) is None]
        return f"not installed: {', '.join(absent)}" if absent else None

    def open(self) -> None:
        """Makes `call`, and what is kept between calls."""
        raise NotImplementedError

    def close(self) -> None:
        """Undoes `open`, as far as the library can."""

    def iterate(self, source: AsyncIterator[Any], ahead: int) -> Iterator[Any]:
        """Iterates in sync code, with at most `ahead` items fetched ahead."""
        raise NotImplementedError("has no sync use of async iterators")

    def map(self, fn: AsyncFunction, items: Iterable[Any], limit: int) -> Iterator[Any]:
        """The results of calls for all items, at most `limit` at a time."""
        raise NotImplementedError("has no calls for many items")

    def enter(self, manager: AbstractAsyncContextManager[Any]) -> AbstractContextManager[Any]:
        """Uses an async context manager in sync code."""
        raise NotImplementedError("has no sync use of async context managers")

    async def to_thread(self, fn: Callable[[], Any]) -> Any:
        """The other way: calls a sync function in another thread."""
        raise NotImplementedError("has no worker threads")

    async def inside_loop(self) -> None:
        """Awaited by a task on another loop whose sync code is going to call."""


class Reference(Peer):
    """The standard library's way: a loop that runs in another thread."""

    name = "reference"
    module = "asyncio"

    def open(self) -> None:
        loop = self._loop = self._new_loop()
        self._thread = threading.Thread(target=loop.run_forever, daemon=True)
        self._thread.start()

        def call(fn: AsyncFunction, *args: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(fn(*args), loop).result()

        self.call = call

    async def to_thread(self, fn: Callable[[], Any]) -> Any:
        return await asyncio.to_thread(fn)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._loop.shutdown_default_executor(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()


class Syncline(Peer):
    """A loop in another thread, shared by all."""

    name = "syncline"
    module = "syncline"
    nests = True
    needs: tuple[str, ...] = ("syncline",)
    ours = True
    scope: Literal["process", "thread", "caller"] = "process"

    def open(self) -> None:
        self._bridge = Bridge(scope=self.scope, loop_factory=self._loop_factory())
        self.call = self._bridge.run_sync

    def iterate(self, source: AsyncIterator[Any], ahead: int) -> Iterator[Any]:
        items: Iterator[Any] = self._bridge.iterate(source, prefetch=ahead)
        return items

    def map(self, fn: AsyncFunction, items: Iterable[Any], limit: int) -> Iterator[Any]:
        return self._bridge.map(fn, items, limit=limit)

    def enter(self, manager: AbstractAsyncContextManager[Any]) -> AbstractContextManager[Any]:
        return self._bridge.enter(manager)

    async def to_thread(self, fn: Callable[[], Any]) -> Any:
        return await to_thread(fn)

    def close(self) -> None:
        self._bridge.close()

    def _loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop] | None:
        return None


class SynclineThread(Syncline):
    """A loop in another thread for each calling thread."""

    name = "syncline-thread"
    loops = "thread"
    scope = "thread"


class SynclineCaller(Syncline):
    """A loop for each thread, which that thread runs."""

    name = "syncline-caller"
    loops = "thread"
    scope = "caller"
