"""Loops that somebody else runs, in a thread of their own, for tests of `Bridge(loop=...)`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import anyio
import trio
import uvloop

R = TypeVar("R")
KINDS = ["asyncio", "uvloop", "trio"]


class Host:
    """A program of the user's, whose loop runs in a thread until it is left."""

    loop: Any
    thread: int

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._begun = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"host of {kind}")
        self._thread.start()
        assert self._begun.wait(10)

    def _run(self) -> None:
        if self.kind == "trio":
            trio.run(self._main)
        else:
            (uvloop if self.kind == "uvloop" else asyncio).run(self._main())

    async def _main(self) -> None:
        self._stop = anyio.Event()
        self.anyio_token = anyio.lowlevel.current_token()
        self.loop = trio.lowlevel.current_trio_token() if self.kind == "trio" else asyncio.get_running_loop()
        self.thread = threading.get_ident()
        self._tasks: set[asyncio.Task[Any]] = set()
        if self.kind == "trio":
            async with trio.open_nursery() as self._nursery:
                await self._until_stopped()
                self._nursery.cancel_scope.cancel()
        else:
            await self._until_stopped()  # asyncio cancels its tasks

    async def _until_stopped(self) -> None:
        self._begun.set()
        await self._stop.wait()

    def start(self, fn: Callable[[], Coroutine[Any, Any, object]]) -> None:
        """Starts a task of the program's."""
        if self.kind == "trio":
            self.call_soon(lambda: self._nursery.start_soon(fn))
        else:
            self.call_soon(lambda: self._tasks.add(self.loop.create_task(fn())))

    def call_soon(self, callback: Callable[[], object]) -> None:
        if self.kind == "trio":
            self.loop.run_sync_soon(callback)
        else:
            self.loop.call_soon_threadsafe(callback)

    def run(self, fn: Callable[[], Awaitable[R]]) -> R:
        """The result of an async function in a task of the program's own, made without a bridge."""
        result: Future[R] = Future()

        async def body() -> None:
            try:
                result.set_result(await fn())
            except BaseException as error:
                result.set_exception(error)

        self.start(body)
        return result.result(20)

    def end(self) -> None:
        """The program ends as programs do: what still runs is cancelled, and the loop closed."""
        self.call_soon(self._stop.set)
        self._thread.join(20)
        assert not self._thread.is_alive()


@contextmanager
def hosted(kind: str) -> Iterator[Host]:
    """Such a program, which ends at the end unless the test has ended it."""
    host = Host(kind)
    yield host
    if host._thread.is_alive():
        host.end()


class Theirs:
    """A loop that a thread runs, until it is stopped."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.loop = make()
        self.run()

    def run(self) -> None:
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()


@contextmanager
def stopping(make: Callable[[], Any]) -> Iterator[Theirs]:
    """One that is stopped and closed at the end."""
    theirs = Theirs(make)
    try:
        yield theirs
    finally:
        theirs.stop()
        theirs.loop.close()
