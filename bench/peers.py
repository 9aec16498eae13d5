"""The ways to call an async function from sync code that we compare, beside the standard library's and ours.

1. The protocol, the reference and our own are in the package, `syncline._bench.peers`: `python -m syncline bench`
   measures them, too.
2. Libraries are imported in `open`, so that listing the peers needs none of them.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

from floors import Floor, HopFloor

from syncline._bench.peers import (
    AsyncFunction,
    Peer,
    Reference,
    Syncline,
    SynclineCaller,
    SynclineThread,
)


def imported(module: str, name: str) -> Any:
    """Something out of a library that may not be installed."""
    return getattr(importlib.import_module(module), name)


class ReferenceOnUvloop(Reference):
    """The reference with a faster loop."""

    name = "uvloop"
    module = "uvloop"
    needs = ("uvloop",)

    def _new_loop(self) -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = imported("uvloop", "new_event_loop")()
        return loop


class AsyncioRun(Peer):
    """A new loop for each call."""

    name = "asyncio.run"
    loops = "call"
    module = "asyncio"

    def open(self) -> None:
        self.call = lambda fn, *args: asyncio.run(fn(*args))


class Executor(Peer):
    """Only for calls of sync code: an executor of one's own."""

    name = "run_in_executor"
    module = "concurrent.futures"

    def open(self) -> None:
        self.call = self._refuse
        self._executor = ThreadPoolExecutor(max_workers=100)

    async def to_thread(self, fn: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, fn)

    def close(self) -> None:
        self._executor.shutdown()

    @staticmethod
    def _refuse(fn: AsyncFunction, *args: Any) -> Any:
        raise NotImplementedError("runs sync functions only")


class AsyncioRunner(Peer):
    """A loop for each thread, which that thread runs."""

    name = "asyncio.Runner"
    loops = "thread"
    module = "asyncio"

    def open(self) -> None:
        own = self._own = threading.local()

        def call(fn: AsyncFunction, *args: Any) -> Any:
            try:
                runner = own.runner
            except AttributeError:
                runner = own.runner = asyncio.Runner()
            return runner.run(fn(*args))

        self.call = call

    def close(self) -> None:
        if (runner := getattr(self._own, "runner", None)) is not None:
            runner.close()


class AnyioPortal(Peer):
    """A loop in another thread, with anyio's portal to it."""

    name = "anyio-portal"
    module = "anyio.from_thread"
    needs = ("anyio",)

    def open(self) -> None:
        self._portal = imported("anyio.from_thread", "start_blocking_portal")()
        self._opened = self._portal.__enter__()
        self.call = self._opened.call

    def enter(self, manager: AbstractAsyncContextManager[Any]) -> AbstractContextManager[Any]:
        made: AbstractContextManager[Any] = self._opened.wrap_async_context_manager(manager)
        return made

    async def to_thread(self, fn: Callable[[], Any]) -> Any:
        return await imported("anyio.to_thread", "run_sync")(fn)

    def close(self) -> None:
        self._portal.__exit__(None, None, None)


class AnySync(Peer):
    """A new loop for each call; a loop in another thread for calls from inside a loop."""

    name = "anysync"
    nests = True
    loops = "call"
    module = "anysync"
    needs = ("anysync",)

    def open(self) -> None:
        run = imported("anysync", "run")
        self.call = lambda fn, *args: run(fn(*args))

    def iterate(self, source: AsyncIterator[Any], ahead: int) -> Iterator[Any]:
        if ahead:
            raise NotImplementedError("fetches a fixed number of items ahead")
        items: Iterator[Any] = iter(imported("anysync", "wrap_async_iterator")(source))
        return items

    def enter(self, manager: AbstractAsyncContextManager[Any]) -> AbstractContextManager[Any]:
        made: AbstractContextManager[Any] = imported("anysync", "wrap_async_context_manager")(manager)
        return made


class Asgiref(Peer):
    """A new loop in a new thread for each call, unless a loop sent the caller to its thread."""

    name = "asgiref"
    loops = "call"
    module = "asgiref.sync"
    needs = ("asgiref",)

    def open(self) -> None:
        wrapped = functools.cache(imported("asgiref.sync", "async_to_sync"))
        self.call = lambda fn, *args: wrapped(fn)(*args)
        self._to_async = imported("asgiref.sync", "sync_to_async")

    async def to_thread(self, fn: Callable[[], Any]) -> Any:
        return await self._to_async(fn, thread_sensitive=False)()


class Unsync(Peer):
    """A loop in another thread, and futures that wait for it."""

    name = "unsync"
    module = "unsync"
    needs = ("unsync",)

    def open(self) -> None:
        wrapped = functools.cache(imported("unsync", "unsync"))
        self.call = lambda fn, *args: wrapped(fn)(*args).result()


class Synchronicity(Peer):
    """A loop in another thread, and functions made to call it."""

    name = "synchronicity"
    module = "synchronicity"
    needs = ("synchronicity",)

    def open(self) -> None:
        synchronizer = imported("synchronicity", "Synchronizer")()

        @functools.cache
        def wrapped(fn: AsyncFunction) -> Callable[..., Any]:
            made: Callable[..., Any] = synchronizer.create_blocking(fn, fn.__name__)
            return made

        self.call = lambda fn, *args: wrapped(fn)(*args)


class NestAsyncio2(Peer):
    """Patches asyncio, so that asyncio.run works inside a loop, and keeps its loop."""

    name = "nest_asyncio2"
    nests = True
    module = "nest_asyncio2"
    needs = ("nest_asyncio2",)
    patches = True

    def open(self) -> None:
        imported("nest_asyncio2", "apply")()
        self.call = lambda fn, *args: asyncio.run(fn(*args))


class Greenback(Peer):
    """Switches greenlets in tasks that asked for it, and so works inside a running loop only."""

    name = "greenback"
    module = "greenback"
    needs = ("greenback",)

    def open(self) -> None:
        wait = imported("greenback", "await_")
        self.call = lambda fn, *args: wait(fn(*args))

    async def inside_loop(self) -> None:
        await imported("greenback", "ensure_portal")()


class Flytekit(Peer):
    """A loop in another thread for each calling thread."""

    name = "flytekit"
    nests = True
    loops = "thread"
    module = "flytekit.utils.asyn"
    needs = ("flytekit",)

    def open(self) -> None:
        self.call = imported("flytekit.utils.asyn", "run_sync")


class Prefect(Peer):
    """A loop in another thread, shared by all."""

    name = "prefect"
    nests = True
    module = "prefect.utilities.asyncutils"
    needs = ("prefect",)

    def open(self) -> None:
        run = imported("prefect.utilities.asyncutils", "run_coro_as_sync")
        self.call = lambda fn, *args: run(fn(*args))


class SynclineOnUvloop(Syncline):
    """As the first, with uvloop's loop in the place of asyncio's."""

    name = "syncline-uvloop"
    needs = ("syncline", "uvloop")

    def _loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        factory: Callable[[], asyncio.AbstractEventLoop] = imported("uvloop", "new_event_loop")
        return factory


_IN_ORDER: tuple[type[Peer], ...] = (
    Syncline,
    SynclineThread,
    SynclineCaller,
    SynclineOnUvloop,
    Reference,  # against itself: shows the noise
    ReferenceOnUvloop,
    AsyncioRun,
    AsyncioRunner,
    Executor,
    AnyioPortal,
    AnySync,
    Asgiref,
    Unsync,
    Synchronicity,
    NestAsyncio2,
    Greenback,
    Floor,
    HopFloor,
    Flytekit,
    Prefect,
)
PEERS: dict[str, type[Peer]] = {peer.name: peer for peer in _IN_ORDER}
