"""The ways to call an async function from sync code that we compare, all behind one protocol.

1. `call` is what a user of that library would write, with everything warm that may be kept between calls.
2. A peer that can't do what a scenario asks just raises: what it says is what the table shows.
3. Libraries are imported in `open`, so that listing the peers needs none of them.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import importlib.util
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from typing import Any

AsyncFunction = Callable[..., Coroutine[Any, Any, Any]]
LoopFactory = Callable[[], asyncio.AbstractEventLoop]


class Peer:
    """One way to call an async function from sync code. Calls may come from any thread."""

    name = ""
    module = ""
    """What users import."""
    needs: tuple[str, ...] = ()
    """What has to be installed."""
    ours = False
    patches = False
    """Whether it changes asyncio for the whole process: then the reference is measured before that."""

    @classmethod
    def missing(cls) -> str | None:
        """What is not installed that this needs."""
        absent = [module for module in cls.needs if importlib.util.find_spec(module) is None]
        return f"not installed: {', '.join(absent)}" if absent else None

    def open(self) -> None:
        """Makes what is kept between calls."""

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        """Calls `fn`, waits, and returns what it returns."""
        raise NotImplementedError

    def close(self) -> None:
        """Undoes `open`."""

    async def inside_loop(self) -> None:
        """Awaited by a task on another loop whose sync code is going to call."""


class Reference(Peer):
    """The standard library's way: a loop that runs in another thread."""

    name = "reference"
    module = "asyncio"

    def open(self) -> None:
        self._loop = self._loop_factory()()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(fn(*args), self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _loop_factory(self) -> LoopFactory:
        return asyncio.new_event_loop


class ReferenceOnUvloop(Reference):
    name = "uvloop"
    module = "uvloop"
    needs = ("uvloop",)

    def _loop_factory(self) -> LoopFactory:
        factory: LoopFactory = importlib.import_module("uvloop").new_event_loop
        return factory


class AsyncioRun(Peer):
    """A new loop for each call."""

    name = "asyncio.run"
    module = "asyncio"

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        return asyncio.run(fn(*args))


class AsyncioRunner(Peer):
    """A loop for each thread, which that thread runs."""

    name = "asyncio.Runner"
    module = "asyncio"

    def open(self) -> None:
        self._own = threading.local()

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        try:
            runner = self._own.runner
        except AttributeError:
            runner = self._own.runner = asyncio.Runner()
        return runner.run(fn(*args))

    def close(self) -> None:
        if (runner := getattr(self._own, "runner", None)) is not None:
            runner.close()


class AnyioPortal(Peer):
    name = "anyio portal"
    module = "anyio.from_thread"
    needs = ("anyio",)

    def open(self) -> None:
        start = importlib.import_module("anyio.from_thread").start_blocking_portal
        self._portal: AbstractContextManager[Any] = start()
        self._call = self._portal.__enter__().call

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        return self._call(fn, *args)

    def close(self) -> None:
        self._portal.__exit__(None, None, None)


class AnySync(Peer):
    name = "anysync"
    module = "anysync"
    needs = ("anysync",)

    def open(self) -> None:
        self._run = importlib.import_module("anysync").run

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        return self._run(fn(*args))


class Decorating(Peer):
    """A library that makes a sync function of an async one, which is kept."""

    def open(self) -> None:
        self._wrapped = functools.cache(self._decorator())

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        return self._wrapped(fn)(*args)

    def _decorator(self) -> Callable[[AsyncFunction], Callable[..., Any]]:
        raise NotImplementedError


class Asgiref(Decorating):
    name = "asgiref"
    module = "asgiref.sync"
    needs = ("asgiref",)

    def _decorator(self) -> Callable[[AsyncFunction], Callable[..., Any]]:
        decorator: Callable[[AsyncFunction], Callable[..., Any]] = importlib.import_module("asgiref.sync").async_to_sync
        return decorator


class Unsync(Decorating):
    name = "unsync"
    module = "unsync"
    needs = ("unsync",)

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        return self._wrapped(fn)(*args).result()

    def _decorator(self) -> Callable[[AsyncFunction], Callable[..., Any]]:
        decorator: Callable[[AsyncFunction], Callable[..., Any]] = importlib.import_module("unsync").unsync
        return decorator


class Synchronicity(Decorating):
    name = "synchronicity"
    module = "synchronicity"
    needs = ("synchronicity",)

    def _decorator(self) -> Callable[[AsyncFunction], Callable[..., Any]]:
        synchronizer = importlib.import_module("synchronicity").Synchronizer()
        return lambda fn: synchronizer.create_blocking(fn, fn.__name__)


class NestAsyncio2(Peer):
    """Patches asyncio, so that asyncio.run works inside a loop and keeps its loop."""

    name = "nest_asyncio2"
    module = "nest_asyncio2"
    needs = ("nest_asyncio2",)
    patches = True

    def open(self) -> None:
        importlib.import_module("nest_asyncio2").apply()

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        return asyncio.run(fn(*args))


class Greenback(Peer):
    """Works in tasks that asked for it only: inside a running loop."""

    name = "greenback"
    module = "greenback"
    needs = ("greenback",)

    def open(self) -> None:
        self._library = importlib.import_module("greenback")
        self._await = self._library.await_

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        return self._await(fn(*args))

    async def inside_loop(self) -> None:
        await self._library.ensure_portal()


class Flytekit(Peer):
    name = "flytekit"
    module = "flytekit.utils.asyn"
    needs = ("flytekit",)

    def open(self) -> None:
        self._run_sync = importlib.import_module("flytekit.utils.asyn").run_sync

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        return self._run_sync(fn, *args)


class Prefect(Peer):
    name = "prefect"
    module = "prefect.utilities.asyncutils"
    needs = ("prefect",)

    def open(self) -> None:
        self._run = importlib.import_module("prefect.utilities.asyncutils").run_coro_as_sync

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        return self._run(fn(*args))


class Syncline(Peer):
    name = "syncline"
    module = "syncline"
    needs = ("syncline",)
    ours = True
    scope = "process"

    def open(self) -> None:
        self._bridge = importlib.import_module("syncline").Bridge(scope=self.scope, loop_factory=self._loop_factory())
        self._run_sync = self._bridge.run_sync

    def call(self, fn: AsyncFunction, /, *args: Any) -> Any:
        return self._run_sync(fn, *args)

    def close(self) -> None:
        self._bridge.close()

    def _loop_factory(self) -> LoopFactory | None:
        return None


class SynclineThread(Syncline):
    name = "syncline thread"
    scope = "thread"


class SynclineCaller(Syncline):
    name = "syncline caller"
    scope = "caller"


class SynclineOnUvloop(Syncline):
    name = "syncline uvloop"
    needs = ("syncline", "uvloop")

    def _loop_factory(self) -> LoopFactory:
        factory: LoopFactory = importlib.import_module("uvloop").new_event_loop
        return factory


PEERS: dict[str, type[Peer]] = {
    peer.name: peer
    for peer in (
        Syncline,
        SynclineThread,
        SynclineCaller,
        SynclineOnUvloop,
        Reference,
        ReferenceOnUvloop,
        AsyncioRun,
        AsyncioRunner,
        AnyioPortal,
        AnySync,
        Asgiref,
        Unsync,
        Synchronicity,
        NestAsyncio2,
        Greenback,
        Flytekit,
        Prefect,
    )
}
