"""What `flytekit.utils.asyn` offers, under the same names: change the import, and nothing else.

    from syncline.compat.flytekit import run_sync

    async def async_add(a: int, b: int) -> int:
        return a + b

    result = run_sync(async_add, a=10, b=12)

As there, each calling thread has an event loop of its own, on a daemon thread of its own, and a nested call
gets the loop of the loop thread that makes it. That loop waits meanwhile, with all its tasks: sync code relies on
that nobody else changes what it has begun to change (flytekit's own stack of contexts). Otherwise than there:

1. The loop of a thread that has ended is closed, its tasks cancelled, its thread ended: nothing piles up.
2. Threads that share a name share nothing else. The first has flytekit's key in `_runner_map`, others add
   "#2" and so on to it.
3. Every wait ends: a coroutine that raises SystemExit, a runner that is closed, an exit, a fork leave nobody
   waiting.
4. At exit pending tasks are cancelled and their cleanup runs. No event loop policy is ever touched.

A coroutine sees its caller's contextvars, and as in flytekit its caller doesn't see what it changes.
"""

from __future__ import annotations

import asyncio
import functools
import itertools
import logging
import os
import sys
import threading
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from syncline import Bridge
from syncline._core import epoch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

P = ParamSpec("P")
T = TypeVar("T")

logger: logging.Logger = logging.getLogger(__name__)

_MANY_RUNNERS = 500


@contextmanager
def _selector_policy() -> Generator[None]:
    """Within it, `asyncio.new_event_loop()` makes a selector loop on Windows too. Ours need none."""
    if sys.platform != "win32":
        # Elsewhere selector loops are made anyway, and to set a policy is deprecated.
        yield
        return
    original = asyncio.get_event_loop_policy()
    asyncio.set_event_loop_policy(asyncio.WindowsSelectorEventLoopPolicy())
    try:
        yield
    finally:
        asyncio.set_event_loop_policy(original)


class _TaskRunner:
    """One event loop on a daemon thread of its own, which starts with the first call. Any thread may call it.

    Nothing has to be done at exit: syncline's own exit hook ends all runners.
    """

    _bridge: Bridge | None = None
    # The loop that was given our handler. If it was closed, or is that of the process which forked this one,
    # the next loop needs the handler, too.
    _loop: asyncio.AbstractEventLoop | None = None
    _closed = False

    def __init__(self) -> None:
        """Starts nothing yet."""

    def _close(self) -> None:
        """Ends the loop, cancels what runs there, and waits for that. Later calls raise RunnerClosedError."""
        if self._bridge is not None:
            self._closed = True
            self._bridge.close()

    def get_exc_handler(self) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
        """Returns the loop's exception handler, which logs what nobody else will see as an error."""

        # Read now, so that the handler has no reference to `self`: the loop ends when the runner is dropped,
        # and must not keep it alive.
        name = "no thread" if self._bridge is None else self._bridge.name

        def exc_handler(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            logger.error("Taskrunner for %s caught exception in %s: %s", name, loop, context, exc_info=error)

        return exc_handler

    def run(self, coro: Any) -> Any:
        """Runs a coroutine, or another awaitable, on the loop; returns its result or raises its exception."""
        bridge = self._bridge
        if bridge is None or self._loop is None or self._loop.is_closed():
            try:
                bridge = self._start()
            except BaseException:
                if asyncio.iscoroutine(coro):
                    coro.close()
                raise
        return bridge.run(coro)

    def _start(self) -> Bridge:
        name = f"{threading.current_thread().name} : loop-runner"
        # If several threads come here at once, one wins, as `setdefault` is atomic. A lock could be held at a
        # fork. The other bridges were never called, and so have no threads.
        bridge: Bridge = vars(self).setdefault("_bridge", Bridge(name=name, nested="thread", context="copy"))
        self._loop = bridge.run_sync(_handle_errors_with, self.get_exc_handler())
        _started.add(self)
        return bridge


async def _handle_errors_with(
    handler: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None],
) -> asyncio.AbstractEventLoop:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handler)
    return loop


class _Seat:
    """A thread's place in a manager. It lives in a thread-local, and so is dropped in that thread, when the
    thread ends."""

    def __init__(self, manager: _AsyncLoopManager) -> None:
        self._manager = weakref.ref(manager)
        # Kept here, as the globals of modules may be gone when `__del__` needs these.
        self._epoch_now = epoch
        self._is_finalizing = sys.is_finalizing
        self._epoch = epoch()
        self.key = manager._claim(f"{threading.current_thread().name}PID:{os.getpid()}")

    def __del__(self) -> None:
        manager = self._manager()
        # Not in a forked child, which drops the thread-locals of its parent's other threads. Not at the
        # interpreter's end either: the exit hook has ended all runners by then, or has given up those that
        # are blocked.
        if manager is not None and self._epoch_now() == self._epoch and not self._is_finalizing():
            manager._vacate(self.key)


class _Seats(threading.local):
    mine: _Seat | None = None


class _RunnerMap(dict[str, _TaskRunner]):
    """A thread's entry goes when the thread ends. So that users can go through the keys, a key that is gone
    raises no error."""

    def __missing__(self, key: str) -> _TaskRunner:
        return _TaskRunner()

    def __delitem__(self, key: str) -> None:
        self.pop(key, None)


class _AsyncLoopManager:
    """Knows the runner of each thread: `_runner_map`, by thread name and process id."""

    def __init__(self) -> None:
        self._runner_map: dict[str, _TaskRunner] = _RunnerMap()
        self._claims: dict[str, object] = {}
        self._seats = _Seats()
        _managers.add(self)

    def run_sync(self, coro_func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        This should be called from synchronous functions to run an async function.

        Returns its result, or raises its exception. The function runs on the calling thread's own runner.
        """
        coro = coro_func(*args, **kwargs)
        if not hasattr(coro, "__await__"):
            raise TypeError(_not_async(coro_func, coro))
        return self._runner().run(coro)  # type: ignore[no-any-return]

    def synced(self, coro_func: Callable[P, Awaitable[T]]) -> Callable[P, T]:
        """Makes a sync function of an async one: it runs on the runner of the thread that calls it."""

        @functools.wraps(coro_func)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.run_sync(coro_func, *args, **kwargs)

        return wrapped

    def _runner(self) -> _TaskRunner:
        seat = self._seats.mine
        if seat is None:
            seat = self._seats.mine = _Seat(self)
        runner = self._runner_map.get(seat.key)
        # The entry may be any object with `run`, as users patch _TaskRunner.
        if runner is None or getattr(runner, "_closed", False) is True:
            runner = self._runner_map[seat.key] = _TaskRunner()
            if len(self._runner_map) > _MANY_RUNNERS:
                logger.warning(
                    "More than %d event loop runners are alive: each thread that calls run_sync has one, and "
                    "so has each level of nesting. This could be a case of runaway recursion.",
                    _MANY_RUNNERS,
                )
        return runner

    def _claim(self, name: str) -> str:
        """A key that no other living thread has: the name, if it is free. Takes no lock, for the reason given
        in `_start`."""
        claim = object()
        keys = itertools.chain([name], (f"{name}#{number}" for number in itertools.count(2)))
        return next(key for key in keys if self._claims.setdefault(key, claim) is claim)

    def _vacate(self, key: str) -> None:
        runner = self._runner_map.pop(key, None)
        self._claims.pop(key, None)
        close = getattr(runner, "_close", None)
        if close is not None:
            close()

    def _start_over(self) -> None:
        """For a forked child, which must not use its parent's runners."""
        self._seats = _Seats()
        self._claims.clear()
        self._runner_map.clear()


def _not_async(fn: Callable[..., Any], returned: Any) -> str:
    name = getattr(fn, "__name__", repr(fn))
    if hasattr(returned, "__anext__"):
        return f"run_sync() got the async generator function {name!r}; iterate: syncline.synced({name})(...)"
    return f"run_sync() got the sync function {name!r}; call it directly: {name}(...)"


def _after_fork_in_child() -> None:
    for manager in list(_managers):
        manager._start_over()
    for runner in list(_started):
        runner._loop = None


_managers: weakref.WeakSet[_AsyncLoopManager] = weakref.WeakSet()
_started: weakref.WeakSet[_TaskRunner] = weakref.WeakSet()
if hasattr(os, "register_at_fork"):
    # Registered after syncline's own hook, so it runs after that: bridges know by then that they are in a
    # child.
    os.register_at_fork(after_in_child=_after_fork_in_child)

loop_manager: _AsyncLoopManager = _AsyncLoopManager()
if TYPE_CHECKING:

    def run_sync(coro_func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """
        This should be called from synchronous functions to run an async function.

        Returns its result, or raises its exception. The function runs on the calling thread's own runner.
        """
        ...

else:
    run_sync = loop_manager.run_sync
