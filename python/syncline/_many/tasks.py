"""What the engine needs of the loop that it runs on: tasks, waking up, and their end. For asyncio; trio's is
`trio_tasks`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextvars import Context
from functools import partial
from typing import Any, Protocol, cast

from .. import _core
from .._kinds import trio_here
from .._raised import is_a
from .._visible import awaited_by_this_task
from .watched import Watch

END: Any = object()
"""What `following` gives after the last item, where it does not raise StopAsyncIteration."""

if sys.version_info >= (3, 15):

    def following(items: AsyncIterator[Any]) -> Awaitable[Any]:
        """`anext`, for coroutines that other coroutines await. Its default is for Python 3.15's compiler, which else
        loses what is awaited, once an async generator that has always suspended gives an item at once
        (`findings/compiler-async-generator.sh`)."""
        return anext(items, END)

else:
    following = anext


class Task(Protocol):
    """As much of `asyncio.Task` as both have."""

    def done(self) -> bool: ...
    def cancel(self) -> object: ...
    def cancelled(self) -> bool: ...
    def exception(self) -> BaseException | None: ...
    def result(self) -> Any: ...
    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context) -> object: ...
    def remove_done_callback(self, callback: Callable[[Any], object], /) -> object: ...


class Start(Protocol):
    """Starts a task; see `Tasks.start`."""

    def __call__(
        self, coroutine: Coroutine[Any, Any, Any], context: Context, watch: Watch | None = None, /
    ) -> Task: ...


class Bell(Protocol):
    """Wakes the one task that waits for it."""

    def ring(self) -> None:
        """Ends the wait, or the next one if there is none."""

    async def wait(self) -> None:
        """Waits until it rings."""


class Tasks(Protocol):
    """The loop that is running."""

    @property
    def start(self) -> Start:
        """Starts a task. On Python 3.12 and newer, asyncio's makes its first step now, and may have ended.

        Its third argument, if it is given, wraps what the task runs (`watched`).
        """
        ...

    def started_in(self, context: Context) -> Task | None:
        """The task that runs in this context, which was made for it, if there is one: what a signal handler has raised
        as it was started may have kept it from whoever starts it."""
        ...

    def call_soon(self, callback: Callable[[], object]) -> None:
        """From any thread. Raises RuntimeError where the loop has ended."""

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Callable[[], object]:
        """On the loop. Returns a function that keeps it from being called."""
        ...

    def tell_of_end(self, tell: Callable[[], object]) -> _core.LoopEnd | None:
        """On the loop. As long as what this returns is there, `tell` is called, maybe more than once, when the loop is
        gone, with what it has not ended."""
        ...

    def new_bell(self) -> Bell:
        """What one task waits for, and code of this loop rings."""
        ...

    async def turn(self) -> None:
        """Lets the others have their turn."""

    async def all_end(self, tasks: Iterable[Task]) -> None:
        """Waits until these tasks have ended."""


class Left(Exception):  # noqa: N818 - it is no error
    """What ends a program, out of a task on a loop that somebody else runs: raised there as itself, it would end that
    loop."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.error = error


def error_of(task: Task) -> BaseException | None:
    """What a task that has ended has raised, its cancellation too."""
    try:
        raised = task.exception()
    except asyncio.CancelledError as error:
        return error
    return cast("Left", raised).error if is_a(raised, Left) else raised


async def _leaving(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        return await coroutine
    except (SystemExit, KeyboardInterrupt) as error:
        if _core.is_of_handler(error):
            raise
        raise Left(error) from None


def here() -> Tasks:
    """The loop, or trio run, that the calling task belongs to."""
    if trio_here() is not None:
        from .trio_tasks import OnTrio

        return OnTrio()
    return OnAsyncio()


def _opting_in(start: Start) -> Start:
    """As `start`, for tasks in which nested calls await in place as in the one that starts them, on a loop that may
    be somebody else's."""

    def start_nestable(
        coroutine: Coroutine[Any, Any, Any], context: Context, watch: Watch | None = None, /
    ) -> Task:
        leaving: Any = _leaving(coroutine)
        leaving.__qualname__ = getattr(coroutine, "__qualname__", leaving.__qualname__)
        return start(_core.Nestable(leaving), context, watch)

    return start_nestable


class OnAsyncio:
    """A loop of asyncio's or of uvloop's."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        start: Start = partial(_core.start_task, self._loop)
        self.start: Start = awaited_by_this_task(_opting_in(start) if _core.has_opted_in() else start)

    def started_in(self, context: Context) -> Task | None:
        if sys.version_info < (3, 12):
            return None  # tasks don't tell
        found = (task for task in asyncio.all_tasks(self._loop) if task.get_context() is context)
        return next(found, None)

    def call_soon(self, callback: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(callback)

    def call_later(self, seconds: float, callback: Callable[[], object]) -> Callable[[], object]:
        return self._loop.call_later(seconds, callback).cancel

    def tell_of_end(self, tell: Callable[[], object]) -> _core.LoopEnd | None:
        return _core.LoopEnd(tell)

    def new_bell(self) -> Bell:
        return AsyncioBell(self._loop)

    async def turn(self) -> None:
        await asyncio.sleep(0)

    async def all_end(self, tasks: Iterable[Any]) -> None:
        left: set[Any] = {task for task in tasks if not task.done()}
        cancelled = None
        while left:  # whoever cancels this wait has it end when they have ended, as with asyncio's own groups
            try:
                await asyncio.wait(left)
            except asyncio.CancelledError as error:
                cancelled = error
            left = {task for task in left if not task.done()}
        if cancelled is not None:
            try:
                raise cancelled
            finally:
                del cancelled


class AsyncioBell:
    """A future that is made when somebody waits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiter: asyncio.Future[None] | None = None
        self._has_rung = False

    def ring(self) -> None:
        self._has_rung = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def wait(self) -> None:
        if not self._has_rung:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        self._has_rung = False
