"""Async cleanup when an object is collected, or when its loop or the interpreter ends: `finalize`.

1. An object is collected in the middle of anything, in any thread, by code that may hold any lock. There only a note is
   made, and the loop is told (`call_soon_threadsafe`, which takes no lock). The cleanup is a task of that loop.
2. A finalizer has one right to run, and whoever takes it runs it: the loop, a caller, the end.
3. What is left when its loop ends runs then: by an async generator, which a loop closes at its end
   (`shutdown_asyncgens`). Nothing of the loop's is replaced.
4. At the interpreter's exit what is left runs first, while all loops of bridges still go on with all their tasks.
5. A forked child has the objects, but none of the loops: it forgets what is to be done there.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import contextvars
import functools
import inspect
import itertools
import logging
import os
import threading
import time
import weakref
from asyncio import events
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from ._core import Collected, DeadlockError, RunnerClosedError, can_await_here

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from ._core import Bridge

P = ParamSpec("P")
R = TypeVar("R")

_PATIENCE = 5.0
"""Seconds that all cleanups together may take at exit before the loops are closed."""
_numbers = itertools.count()


class Finalizer(Generic[R]):
    """An async cleanup that is still to be done. `finalize` makes them; all methods may be called from any thread."""

    atexit = True
    """Whether it also runs when its loop or the interpreter ends and the object is still there. May be set."""

    def __init__(
        self,
        bridge: Bridge,
        home: _Home,
        owner: object,
        afn: Callable[..., Awaitable[R]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        self._bridge = bridge
        self._home = home
        self._call: tuple[Callable[..., Awaitable[R]], tuple[Any, ...], dict[str, Any]] | None = (
            afn,
            args,
            kwargs,
        )
        self._right = [None]
        self._number = next(_numbers)
        self._context = contextvars.copy_context()
        home.left[self] = None
        self._owner: weakref.ref[Any] | None = weakref.ref(owner, Collected(self._note))

    def __repr__(self) -> str:
        call = self._call
        name = "dead" if call is None else f"{getattr(call[0], '__qualname__', call[0])}"
        return f"<syncline.Finalizer {name}>"

    @property
    def alive(self) -> bool:
        """Whether the cleanup is still to be begun, and the object is there."""
        return bool(self._right) and self._object() is not None

    def peek(self) -> tuple[Any, Callable[..., Awaitable[R]], tuple[Any, ...], dict[str, Any]] | None:
        """The object, the function and its arguments, if it is alive; else None."""
        owner, call = self._object(), self._call
        return None if owner is None or call is None or not self._right else (owner, *call)

    def detach(self) -> tuple[Any, Callable[..., Awaitable[R]], tuple[Any, ...], dict[str, Any]] | None:
        """What `peek` gives, and the cleanup won't be done."""
        found = self.peek()
        if found is None or self._take() is None:
            return None
        return found

    def __call__(self) -> R | None:
        """Does the cleanup now, on its loop, and waits; returns its result, or None if it isn't alive any more.

        Raises what the function raises; RunnerClosedError if its loop does not run; DeadlockError on that loop itself,
        where the call can't await in place: write `await finalizer.aio()` there.
        """
        if not self.alive:
            return None
        if self._home.is_here() and not can_await_here():
            raise DeadlockError(
                "this call would block the loop that is to do the cleanup; write `await finalizer.aio()` instead"
            )
        return self._bridge.run_sync(self.aio)

    async def aio(self) -> R | None:
        """The same for async code, on any loop of asyncio's: `await finalizer.aio()`."""
        if not self.alive:
            return None
        if self._home.is_here():
            call = self._take()
            return None if call is None else await call[0](*call[1], **call[2])
        if not self._home.runs():
            raise RunnerClosedError("the loop that is to do this cleanup does not run")
        result: R | None = await self._home.ask(self)
        return result

    def _object(self) -> object:
        reference = self._owner
        return None if reference is None else reference()

    def _note(self) -> None:
        """The object was collected. By 1; a signal handler may break it off, and then it is called again."""
        if self._right:
            self._home.due[self] = None
            self._home.tell()

    def _take(self) -> tuple[Callable[..., Awaitable[R]], tuple[Any, ...], dict[str, Any]] | None:
        """Takes the right to run, by 2, if nobody has taken it; returns what is to be called."""
        try:
            self._right.pop()
        except IndexError:
            return None
        call, self._call, self._owner = self._call, None, None
        self._home.left.pop(self, None)
        self._home.due.pop(self, None)
        return call


class _Home:
    """A loop, and what is to be finalized there."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.thread = threading.get_ident()
        self.left: dict[Finalizer[Any], None] = {}
        """All that are still to run."""
        self.due: dict[Finalizer[Any], concurrent.futures.Future[Any] | None] = {}
        """Those that are to run now, and who waits for the result."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._end = self._until_end()
        # To its first `yield`: the loop takes note of a generator at its first step.
        with contextlib.suppress(StopIteration):
            self._end.asend(None).send(None)

    def is_here(self) -> bool:
        return events._get_running_loop() is self.loop

    def runs(self) -> bool:
        return self.loop.is_running()

    def tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # The loop is closed; `_at_exit` says what that has cost.
            self.loop.call_soon_threadsafe(self._begin_due)

    def ask(self, finalizer: Finalizer[R]) -> asyncio.Future[R | None]:
        """Has it run now, for code on another loop."""
        future: concurrent.futures.Future[R | None] = concurrent.futures.Future()
        self.due[finalizer] = future
        self.tell()
        return asyncio.wrap_future(future)

    def _begin_due(self) -> None:
        for finalizer, future in list(self.due.items()):
            call = finalizer._take()
            if call is None:
                if future is not None and not future.done():
                    future.set_result(None)
                continue
            work = _run(call, future)
            task = self.loop.create_task(work, context=finalizer._context)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            if future is not None:
                future.add_done_callback(functools.partial(self._cancel, task))

    def _cancel(self, task: asyncio.Task[None], future: concurrent.futures.Future[Any]) -> None:
        if future.cancelled():
            with contextlib.suppress(RuntimeError):  # closed, and the task with it
                self.loop.call_soon_threadsafe(task.cancel)

    async def _until_end(self) -> AsyncGenerator[None]:
        """By 3."""
        try:
            yield
        finally:
            _homes.pop(self.loop, None)
            await self._finish()

    async def _finish(self) -> None:
        """Runs what is left, the latest first."""
        self._begin_due()
        while self._tasks:
            await asyncio.wait(self._tasks)
        for finalizer in sorted(self.left, key=lambda each: each._number, reverse=True):
            if finalizer.atexit and (call := finalizer._take()) is not None:
                work = asyncio.get_running_loop().create_task(_run(call, None), context=finalizer._context)
                await asyncio.wait([work])

    def finish_at_exit(self, deadline: float) -> None:
        """By 4, for a loop that runs in another thread, or one of this thread that does not run any more."""
        if self.loop.is_closed():
            _report_lost(self)
        elif self.runs():
            done = asyncio.run_coroutine_threadsafe(self._finish(), self.loop)
            concurrent.futures.wait([done], max(0.0, deadline - time.monotonic()))
        elif (
            self.thread == threading.get_ident()
            and events._get_running_loop() is None
            and not _is_ours(self.loop)
        ):
            self.loop.run_until_complete(self._finish())


def _is_ours(loop: object) -> bool:
    """Whether a bridge closes this loop at exit, as it does the others."""
    from ._core import BridgeLoop

    return isinstance(loop, BridgeLoop)


async def _run(
    call: tuple[Callable[..., Awaitable[Any]], tuple[Any, ...], dict[str, Any]],
    future: concurrent.futures.Future[Any] | None,
) -> None:
    function, args, kwargs = call
    try:
        result = await function(*args, **kwargs)
    except asyncio.CancelledError:
        if future is not None:
            future.cancel()
        raise
    except BaseException as error:
        if future is None:
            logging.getLogger("syncline").error(
                "the cleanup %s of an object failed", _name(function), exc_info=error
            )
        elif not future.done():
            future.set_exception(error)
    else:
        if future is not None and not future.done():
            future.set_result(result)


def _name(function: object) -> str:
    return getattr(function, "__qualname__", None) or repr(function)


def _report_lost(home: _Home) -> None:
    lost = [call for finalizer in list(home.due) if (call := finalizer._take()) is not None]
    if lost:
        logging.getLogger("syncline").warning(
            "the cleanup of %d collected objects was never done (the first: %s): their loop was closed before, and not "
            "by asyncio.run() or after loop.shutdown_asyncgens(), which would have done it",
            len(lost),
            _name(lost[0][0]),
        )


_homes: dict[asyncio.AbstractEventLoop, _Home] = {}
_parents: list[_Home] = []
"""In a forked child: its parent's. They are kept, as an async generator that goes away tells its loop."""


def _home() -> _Home:
    """That of the running loop."""
    loop = events._get_running_loop()
    if loop is None:
        raise RuntimeError(
            "finalize() works on loops of asyncio's kind; in trio code use `async with` or a nursery"
        )
    home = _homes.get(loop)
    if home is None:
        home = _homes[loop] = _Home(loop)
    return home


async def _home_there() -> _Home:
    return _home()


def _forget_parents() -> None:
    """By 5."""
    _parents.extend(_homes.values())
    for home in _homes.values():
        for finalizer in [*home.left, *home.due]:
            finalizer._right.clear()
        home.left.clear()
        home.due.clear()
    _homes.clear()


def _at_exit() -> None:
    deadline = time.monotonic() + _PATIENCE
    for home in sorted(
        _homes.values(), key=lambda home: max((each._number for each in home.left), default=-1)
    ):
        home.finish_at_exit(deadline)


# Before the loops of bridges end, as this comes later than the core: Python calls the latest first.
atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)


def finalize(
    bridge: Bridge,
    is_at_home: bool,
    owner: object,
    afn: Callable[P, Awaitable[R]],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Finalizer[R]:
    """As `Bridge.finalize`; if `is_at_home`, for the running loop."""
    if (mistake := _mistake(owner, afn, args, kwargs)) is not None:
        raise TypeError(mistake)
    home = _home() if is_at_home else bridge.run_sync(_home_there)
    return Finalizer(bridge, home, owner, afn, args, kwargs)


def _mistake(owner: object, afn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if inspect.iscoroutine(afn):
        afn.close()
        return f"finalize() got a coroutine; give it the function: finalize(owner, {afn.__name__}, ...)"
    if not callable(afn):
        return f"finalize() takes an object and an async function, not {type(afn).__name__}"
    if getattr(afn, "__self__", None) is owner or any(each is owner for each in (*args, *kwargs.values())):
        return (
            "finalize() got a function that keeps its object alive, as a method of it or by an argument, so that it "
            "would never be collected; give it what has to be closed: finalize(owner, owner.client.aclose)"
        )
    return None
