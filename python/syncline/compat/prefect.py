"""What `prefect.utilities.asyncutils` offers, under the same names, without Prefect: only the import changes.

    from syncline.compat.prefect import run_coro_as_sync, sync_compatible

As there:

1. Coroutines that sync code runs share one loop, "run sync", on a thread of its own. A call that one of them
   makes from sync code, however indirectly and in whatever thread, runs on a new loop in a new thread: "run
   sync" may be waiting for it. The loop that makes a call waits for it, with all its tasks.
2. What a coroutine changes in context variables stays in it.

Otherwise than there:

3. Every wait ends: SystemExit in a coroutine, a wait for oneself, an exit, a fork leave nobody waiting.
4. `sync_compatible` decides by the running loop alone, since there are no flow or task runs here. In a worker thread
   it uses the loop that sent the worker, as Prefect documents. Where a sync function gets the coroutine, it logs a
   warning, once for each function; a Python warning would be an error in the tests of Prefect's users.
5. Worker threads are syncline's; a thread is a worker for as long as it works for somebody. anyio's serve as well.
6. With `wait_for_result=False` a coroutine runs to its end, on the "run sync" loop or in a thread of its own, and an
   error of it is logged.

The task groups need anyio: `pip install "syncline[anyio]"`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import os
import sys
import threading
import uuid
import warnings
from contextvars import ContextVar
from typing import (
    TYPE_CHECKING,
    Any,
    Concatenate,
    Literal,
    NamedTuple,
    NoReturn,
    ParamSpec,
    TypeVar,
    cast,
    overload,
)

from .. import _core, _groups, _kinds
from .._bridge import Bridge
from .._compatible import Trap, call_from_sync
from .._core import from_thread, in_event_loop, mark_as_worker_thread
from .._core import in_worker_thread as in_async_worker_thread
from .._groups import GatherIncomplete
from .._threads import thread_limiter as get_thread_limiter
from .._threads import to_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager
    from typing import TypeGuard

    from anyio.abc import TaskGroup


__all__ = [
    "EventLoopThread",
    "GatherIncomplete",
    "GatherTaskGroup",
    "LazySemaphore",
    "add_event_loop_shutdown_callback",
    "asyncnullcontext",
    "call_with_mark",
    "create_gather_task_group",
    "create_task",
    "gather",
    "get_run_sync_loop",
    "get_thread_limiter",
    "in_async_main_thread",
    "in_async_worker_thread",
    "in_run_sync_loop",
    "is_async_fn",
    "is_async_gen_fn",
    "mark_as_worker_thread",
    "run_async_from_worker_thread",
    "run_async_in_new_loop",
    "run_coro_as_sync",
    "run_sync_in_worker_thread",
    "sync",
    "sync_compatible",
]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_logger = logging.getLogger("syncline")

# Async generators that wait for the end of their loop. Nobody else keeps them.
_at_shutdown: set[AsyncGenerator[None]] = set()


# From sync code to async code


class EventLoopThread(NamedTuple):
    """The "run sync" loop and its thread, as `get_run_sync_loop` returns them."""

    thread: threading.Thread
    loop: asyncio.AbstractEventLoop

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return self.loop

    @property
    def name(self) -> str:
        """The thread's."""
        return self.thread.name

    @property
    def running(self) -> bool:
        """Whether the loop takes calls."""
        return not self.loop.is_closed()


class _RunSync(Bridge):
    """The bridge of the "run sync" loop. Calls from within that loop go elsewhere (by 1)."""

    # Asked for before anything else runs there: on the loop's own thread nobody could wait for the answer.
    place: EventLoopThread | None = None

    def run_sync(self, fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return _run(Bridge.run_sync, fn, *args, **kwargs)


_bridge = _RunSync(name="run sync", nested="thread", context="copy")

# True in all that a coroutine of this module calls, in whatever thread (by 1).
_is_within: ContextVar[bool] = ContextVar("syncline.compat.prefect", default=False)


def get_run_sync_loop() -> EventLoopThread:
    """The "run sync" loop and its thread. Starts it if it isn't there."""
    place = _bridge.place
    if place is None or not place.running:
        place = _bridge.place = Bridge.run_sync(_bridge, _where)
    return place


def in_run_sync_loop() -> bool:
    """Whether the "run sync" loop runs in this thread. Starts nothing."""
    place = _bridge.place
    return place is not None and threading.current_thread() is place.thread


async def _where() -> EventLoopThread:
    return EventLoopThread(threading.current_thread(), asyncio.get_running_loop())


def _forget_the_parents() -> None:
    _bridge.place = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_the_parents)


def _run(
    run: Callable[Concatenate[Bridge, P], R],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    """Calls a method of `Bridge` for the "run sync" loop; for a call from within that, for a new thread (by
    1)."""
    if _is_within.get() or in_run_sync_loop():
        return _run_in_new_thread(run, *args, **kwargs)
    get_run_sync_loop()
    token = _is_within.set(True)
    try:
        return run(_bridge, *args, **kwargs)
    finally:
        _is_within.reset(token)


def _run_in_new_thread(
    run: Callable[Concatenate[Bridge, P], R],
    /,
    *args: P.args,
    **kwargs: P.kwargs,
) -> R:
    token = _is_within.set(True)
    try:
        with Bridge(name="run sync, new thread", nested="thread", context="copy") as bridge:
            return run(bridge, *args, **kwargs)
    finally:
        _is_within.reset(token)


@overload
def run_coro_as_sync(
    coroutine: Coroutine[Any, Any, R], *, force_new_thread: bool = ..., wait_for_result: Literal[True] = ...
) -> R: ...
@overload
def run_coro_as_sync(
    coroutine: Coroutine[Any, Any, R], *, force_new_thread: bool = ..., wait_for_result: Literal[False]
) -> None: ...
@overload
def run_coro_as_sync(
    coroutine: Coroutine[Any, Any, R], *, force_new_thread: bool = ..., wait_for_result: bool
) -> R | None: ...
def run_coro_as_sync(
    coroutine: Coroutine[Any, Any, R], *, force_new_thread: bool = False, wait_for_result: bool = True
) -> R | None:
    """Runs a coroutine from sync code, on the "run sync" loop; called from within that, on a new loop in a new thread.

    force_new_thread: run it on a new loop in a new thread instead.
    wait_for_result: wait, and return the result. Otherwise return None at once; an error is logged.
    """
    if wait_for_result:
        return (_run_in_new_thread if force_new_thread else _run)(Bridge.run, coroutine)
    if not asyncio.iscoroutine(coroutine):
        raise TypeError(f"run_coro_as_sync() takes a coroutine, not {type(coroutine).__name__}")
    context = contextvars.copy_context()
    context.run(_is_within.set, True)
    if force_new_thread:
        call = functools.partial(_new_loop, _logged, coroutine)
        threading.Thread(target=context.run, args=(call,), name="run sync, new thread", daemon=True).start()
    else:
        get_run_sync_loop()
        context.run(_bridge.submit, _logged, coroutine)
    return None


async def _logged(coroutine: Coroutine[Any, Any, Any]) -> None:
    try:
        await coroutine
    except Exception:
        _logger.exception("a coroutine that run_coro_as_sync() didn't wait for failed: %r", coroutine)


def sync(async_fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Calls an async function from sync code, on the loop that sent this worker thread here, else on a new loop.

    Called where an event loop runs, it warns that one should `await` there, and runs the function on a loop in another
    thread.
    """
    if in_async_main_thread():
        warnings.warn(
            "`sync` called from an asynchronous context; "
            "you should `await` the async function directly instead.",
            stacklevel=2,
        )
    elif in_async_worker_thread():
        return run_async_from_worker_thread(async_fn, *args, **kwargs)
    return _new_loop(async_fn, *args, **kwargs)


def run_async_in_new_loop(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls an async function on a new event loop in this thread. Raises RuntimeError if a loop runs here already."""
    if in_event_loop():
        raise RuntimeError(
            "Already running an event loop in this thread: `await` the function, or use syncline.run_in_new_loop(), "
            "which takes another thread"
        )
    return _new_loop(fn, *args, **kwargs)


def _new_loop(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
    with Bridge(scope="caller", name="new loop", nested="thread", context="copy") as bridge:
        return bridge.run_sync(fn, *args, **kwargs)


def sync_compatible(async_fn: Callable[P, Coroutine[Any, Any, R]]) -> Callable[P, Any]:
    """Makes an async function serve both worlds: where an event loop runs in this thread, a call returns the coroutine;
    elsewhere the result. `_sync=True` and `_sync=False` force one of them; `.aio` is the original function.

    A plain function, as Prefect's is; `syncline.sync_compatible` makes one that type checkers know more about.
    """
    name = getattr(async_fn, "__name__", type(async_fn).__name__)
    if is_async_gen_fn(async_fn):
        raise ValueError(
            f"Async generators cannot yet be marked as `sync_compatible`: use @syncline.iterator for {name!r}"
        )
    if not _kinds.is_async_fn(async_fn):
        raise TypeError(f"The decorated function must be async, and {name!r} is not")
    # The line that the record gives is the caller's: `check` and `wrapper` are in between.
    trap = Trap(name, functools.partial(_logger.warning, stacklevel=3))

    def wrapper(*args: Any, _sync: bool | None = None, **kwargs: Any) -> Any:
        if _sync is None and in_event_loop():
            trap.check(sys._getframe().f_back)
            _sync = False
        if _sync is False:
            return async_fn(*args, **kwargs)
        if _sync is None and in_async_worker_thread():
            return call_from_sync(_bridge, async_fn, args, kwargs)
        if _sync is None and _is_anyios():
            return run_async_from_worker_thread(async_fn, *args, **kwargs)
        return _run(Bridge.run_sync, async_fn, *args, **kwargs)

    made: Any = functools.update_wrapper(wrapper, async_fn)
    made.aio = async_fn
    return cast("Callable[P, Any]", made)


# Worker threads


async def run_sync_in_worker_thread(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls a sync function in a worker thread, in a copy of the caller's context. If this is cancelled, the function
    goes on, and its result is dropped."""
    context = contextvars.copy_context()

    def work() -> R:
        return context.run(fn, *args, **kwargs)

    return await to_thread(work)


def run_async_from_worker_thread(fn: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls an async function on the loop that sent this worker thread here, and waits for its result. What it changes
    in context variables stays in it."""
    return contextvars.copy_context().run(from_thread, fn, *args, **kwargs)


def _is_anyios() -> bool:
    """Whether this is a worker thread of anyio's."""
    if "anyio" not in sys.modules:
        return False
    from .._anyio import sender

    return sender() is not None


def call_with_mark(call: Callable[[], R]) -> R:
    """Calls a function; while it runs, this thread counts as a worker thread."""
    return _core.call_with_mark(call)


def in_async_main_thread() -> bool:
    """Whether an event loop runs in this thread, and it is no worker thread."""
    return in_event_loop() and not in_async_worker_thread()


# Functions


def is_async_fn(func: Callable[P, Any]) -> TypeGuard[Callable[P, Coroutine[Any, Any, Any]]]:
    """Whether calls of this function give coroutines, as `syncline.is_async_fn`."""
    return _kinds.is_async_fn(func)


def is_async_gen_fn(func: Callable[P, Any]) -> TypeGuard[Callable[P, AsyncGenerator[Any, Any]]]:
    """Whether this is an async generator function, as `syncline.is_async_gen_fn`."""
    return _kinds.is_async_gen_fn(func)


# Tasks


def create_task(coroutine: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
    """As `asyncio.create_task`, for tasks that nobody else keeps."""
    return _groups.create_task(coroutine)


class GatherTaskGroup(_groups.GatherTaskGroup):
    """A task group that keeps results; its keys are UUIDs. Made by `create_gather_task_group`."""

    def __init__(self, task_group: TaskGroup) -> None:
        _groups._anyio("GatherTaskGroup")
        super().__init__(task_group)

    async def start(self, func: object, *args: object, name: object = None, **kwargs: object) -> NoReturn:
        """Raises RuntimeError: what it would have to return is not a key."""
        raise RuntimeError(
            "`GatherTaskGroup` does not support `start`: there would be no key. Use start_soon()"
        )

    def get_result(self, key: Any) -> Any:
        """The result of the task with this key. Raises GatherIncomplete if there is none, KeyError for other keys."""
        if self._results[key] is None:
            raise GatherIncomplete(
                "Task is not complete. Results should not be retrieved until the task group exits, and a task that was "
                "cancelled or failed has none."
            )
        return super().get_result(key)

    def _make_key(self, name: str) -> Any:
        return uuid.uuid4()


def create_gather_task_group() -> GatherTaskGroup:
    """Makes a task group that keeps results. Errors come as an ExceptionGroup."""
    return GatherTaskGroup(_groups._anyio("create_gather_task_group").create_task_group())


async def gather(*calls: Callable[[], Coroutine[Any, Any, T]]) -> list[T]:
    """Runs async functions (not coroutines) at the same time; returns their results in order."""
    return await _groups.gather(*calls)


async def add_event_loop_shutdown_callback(coroutine_fn: Callable[[], Awaitable[Any]]) -> None:
    """Has an async function called when the running event loop shuts its async generators down: at the end of
    `asyncio.run`, of a runner of syncline's; not if a loop is closed without that."""

    async def until_shutdown() -> AsyncGenerator[None]:
        try:
            yield
        finally:
            _at_shutdown.discard(waiting)
            await coroutine_fn()

    waiting = until_shutdown()
    _at_shutdown.add(waiting)
    await anext(waiting)


class LazySemaphore:
    """An `asyncio.Semaphore` whose value is asked for when it is first entered."""

    def __init__(self, initial_value_func: Callable[[], int]) -> None:
        self._semaphore: asyncio.Semaphore | None = None
        self._initial_value_func = initial_value_func

    def _initialize_semaphore(self) -> asyncio.Semaphore:
        if self._semaphore is None:
            self._semaphore = asyncio.Semaphore(self._initial_value_func())
        return self._semaphore

    async def __aenter__(self) -> asyncio.Semaphore:
        semaphore = self._initialize_semaphore()
        await semaphore.acquire()
        return semaphore

    async def __aexit__(self, *_exc_info: object) -> None:
        self._initialize_semaphore().release()


@overload
def asyncnullcontext(
    value: None = None, *args: Any, **kwargs: Any
) -> AbstractAsyncContextManager[None, None]: ...
@overload
def asyncnullcontext(value: R, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[R, None]: ...
def asyncnullcontext(value: Any = None, *args: Any, **kwargs: Any) -> Any:
    """An async context manager, or decorator, that does nothing, and gives `value`; other arguments are ignored."""
    return _null(value)


@contextlib.asynccontextmanager
async def _null(value: Any) -> AsyncGenerator[Any]:
    yield value


with contextlib.suppress(ImportError):  # then it is said where a group is made
    _groups._anyio("GatherTaskGroup")  # makes the class one of anyio's task groups, also for who makes none
