"""Where finalizers run: a loop, what is left to be done there, and what is to be done now.

1. What an object's end does (`Home.tell`) takes no lock and may be broken off and done again.
2. A loop's end does what is left: by an async generator, which a loop closes at its end (`shutdown_asyncgens`). Nothing
   of the loop's is replaced.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import inspect
import logging
import threading
import time
from asyncio import events
from typing import TYPE_CHECKING, Any, Protocol

from . import _raised
from ._core import BridgeLoop
from ._kinds import named

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
    from contextvars import Context

    Call = tuple[Callable[..., Awaitable[Any]], tuple[Any, ...], dict[str, Any]]
    Waiter = concurrent.futures.Future[Any]


class Due(Protocol):
    """A finalizer, as its home sees it."""

    atexit: bool
    number: int
    context: Context

    def take(self) -> Call | None:
        """Takes the right to run; None if somebody else has it."""


class Home:
    """A loop, and what is to be finalized there."""

    cancelled: type[BaseException]
    """What a cancelled task of that loop raises."""

    def __init__(self, key: Any, homes: MutableMapping[Any, Home]) -> None:
        self._key = key
        self._homes = homes
        self.left: dict[Any, None] = {}
        """The finalizers that have not run."""
        self.due: dict[Any, Waiter | None] = {}
        """Those that are to run now, and who waits for the result."""

    def is_here(self) -> bool:
        """Whether the loop runs the present code."""
        raise NotImplementedError

    def runs(self) -> bool:
        raise NotImplementedError

    def tell(self) -> None:
        """By 1: has the loop call `begin_due`. Does nothing if the loop has ended."""
        raise NotImplementedError

    def finish_at_exit(self, deadline: float) -> None:
        """Does what is left, until this time of the monotonic clock, if the loop can still do it."""
        raise NotImplementedError

    def start(self, call: Call, context: Context, waiter: Waiter | None, shielded: bool = False) -> None:
        """Starts a task. `shielded`: as a part of the loop's end, which doesn't cancel it."""
        raise NotImplementedError

    async def settled(self) -> None:
        """Waits until no task that was started runs."""
        raise NotImplementedError

    def ask(self, finalizer: Due) -> Waiter:
        """Has it run now; for code that isn't on this loop."""
        waiter: Waiter = concurrent.futures.Future()
        self.due[finalizer] = waiter
        self.tell()
        return waiter

    def begin_due(self) -> None:
        for finalizer, waiter in list(self.due.items()):
            call = finalizer.take()
            if call is not None:
                self.start(call, finalizer.context, waiter)
            elif waiter is not None and not waiter.done():
                waiter.set_result(None)

    async def finish(self) -> None:
        """Does what is left, the latest first."""
        self.begin_due()
        await self.settled()
        for finalizer in sorted(self.left, key=lambda each: each.number, reverse=True):
            if finalizer.atexit and (call := finalizer.take()) is not None:
                self.start(call, finalizer.context, None, shielded=True)
                await self.settled()

    def forget(self) -> None:
        """The loop ends: whoever wants its home after that gets a new one."""
        self._homes.pop(self._key, None)

    def report_lost(self) -> None:
        """Logs how many objects were collected whose cleanup the loop, which is closed, did not do."""
        lost = [call for finalizer in list(self.due) if (call := finalizer.take()) is not None]
        if lost:
            logging.getLogger("syncline").warning(
                "the cleanup of %d collected objects was never done (the first: %s): their loop was closed before, and "
                "not by asyncio.run() or after loop.shutdown_asyncgens(), which would have done it",
                len(lost),
                _name(lost[0][0]),
            )

    async def run(self, call: Call, waiter: Waiter | None) -> None:
        try:
            result = await made_by(call)
        except self.cancelled:
            if waiter is not None:
                waiter.cancel()
            raise
        except BaseException as error:
            if waiter is None:
                logging.getLogger("syncline").error(
                    "the cleanup %s of an object failed", _name(call[0]), exc_info=_raised.exc_info(error)
                )
            elif not waiter.done():
                waiter.set_exception(error)
        else:
            if waiter is not None and not waiter.done():
                waiter.set_result(result)


class AsyncioHome(Home):
    """A loop of asyncio's kind."""

    cancelled = asyncio.CancelledError

    def __init__(self, loop: asyncio.AbstractEventLoop, homes: MutableMapping[Any, Home]) -> None:
        super().__init__(loop, homes)
        self._loop = loop
        self._thread = threading.get_ident()
        self._tasks: set[asyncio.Task[None]] = set()
        self._end = self._until_end()
        # To its first `yield`: the loop takes note of a generator at its first step.
        with contextlib.suppress(StopIteration):
            self._end.asend(None).send(None)

    def is_here(self) -> bool:
        return events._get_running_loop() is self._loop

    def runs(self) -> bool:
        return self._loop.is_running()

    def tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed; the exit says what that has cost.
            self._loop.call_soon_threadsafe(self.begin_due)

    def start(self, call: Call, context: Context, waiter: Waiter | None, shielded: bool = False) -> None:
        task = self._loop.create_task(self.run(call, waiter), context=context)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if waiter is not None:
            waiter.add_done_callback(functools.partial(self._cancel, task))

    def _cancel(self, task: asyncio.Task[None], waiter: Waiter) -> None:
        if waiter.cancelled():
            with contextlib.suppress(RuntimeError):  # closed, and the task with it
                self._loop.call_soon_threadsafe(task.cancel)

    async def settled(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _until_end(self) -> AsyncGenerator[None]:
        """By 2."""
        try:
            yield
        finally:
            self.forget()
            await self.finish()

    def finish_at_exit(self, deadline: float) -> None:
        if self._loop.is_closed():
            self.report_lost()
        elif self.runs():
            done = asyncio.run_coroutine_threadsafe(self.finish(), self._loop)
            concurrent.futures.wait([done], max(0.0, deadline - time.monotonic()))
        elif self._thread == threading.get_ident() and not isinstance(self._loop, BridgeLoop):
            # A loop that this thread has left open. Bridges end theirs by themselves.
            self._loop.run_until_complete(self.finish())


def made_by(call: Call) -> Awaitable[Any]:
    """What is to be awaited for a cleanup. Raises TypeError where its function turns out to be sync."""
    function, args, kwargs = call
    made: Any = function(*args, **kwargs)
    if inspect.isawaitable(made):
        return made
    raise TypeError(
        f"finalize() got the sync function {_name(function)!r}, which has run, and returned {type(made).__name__}; use "
        "weakref.finalize, or make it an async function"
    )


def _name(function: object) -> str:
    return str(named(function).__qualname__)
