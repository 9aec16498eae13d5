"""What `prefect.utilities.asyncutils` offers, under the same names, without Prefect: only the import changes.

    from syncline.compat.prefect import run_coro_as_sync, sync_compatible

As there, coroutines that sync code runs share one "run sync" loop on a thread of its own, calls made by sync code on
that loop run off its thread, and what a coroutine changes in context variables stays in it. Otherwise than there:

1. A nested call starts no new thread: the loop that it runs on is kept for the next one.
2. Every wait ends: SystemExit in a coroutine, a wait for oneself, an exit, a fork leave nobody waiting.
3. `sync_compatible` decides by the running loop alone, since there are no flow or task runs here. In a worker thread
   it uses the loop that sent the worker, as Prefect documents. It warns, once for each function, where a sync function
   gets the coroutine.
4. Worker threads are syncline's; a thread is a worker for as long as it works for somebody. anyio's serve as well.
5. With `wait_for_result=False` a coroutine runs to its end, also in a thread of its own, and an error of it is logged.

The task groups need anyio: `pip install "syncline[anyio]"`.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import sys
import threading
import uuid
import warnings
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast, overload

from .. import _groups
from .._bridge import Bridge
from .._compatible import Trap, call_from_sync
from .._groups import GatherIncomplete
from .._kinds import is_async_fn, is_async_gen_fn
from .._threads import (
    call_with_mark,
    from_thread,
    in_event_loop,
    mark_as_worker_thread,
    to_thread,
)
from .._threads import in_worker_thread as in_async_worker_thread
from .._threads import thread_limiter as get_thread_limiter

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
    from contextlib import AbstractAsyncContextManager

    from anyio.abc import TaskGroup


__all__ = [
    "GatherIncomplete",
    "GatherTaskGroup",
    "LazySemaphore",
    "add_event_loop_shutdown_callback",
    "asyncnullcontext",
    "call_with_mark",
    "create_gather_task_group",
    "create_task",
    "gather",
    "get_thread_limiter",
    "in_async_main_thread",
    "in_async_worker_thread",
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

# The "run sync" loop. Its contexts are copies, as Prefect's are.
_bridge = Bridge(name="run sync", nested="thread", context="copy")

# Generators that wait for the end of their loop; nobody else keeps them.
_at_shutdown: set[AsyncGenerator[None]] = set()


# From sync code to async code


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
    """Runs a coroutine from sync code, on the "run sync" loop; called on that loop's own thread, off it.

    force_new_thread: run it on a new loop in a new thread instead.
    wait_for_result: wait, and return the result. Otherwise return None at once; an error is logged.
    """
    if wait_for_result:
        if not force_new_thread:
            return _bridge.run(coroutine)
        with Bridge(name="run sync, new thread", context="copy") as bridge:
            return bridge.run(coroutine)
    if not asyncio.iscoroutine(coroutine):
        raise TypeError(f"run_coro_as_sync() takes a coroutine, not {type(coroutine).__name__}")
    if force_new_thread:
        context = contextvars.copy_context()
        call = functools.partial(_new_loop, _logged, coroutine)
        threading.Thread(target=context.run, args=(call,), name="run sync, new thread", daemon=True).start()
    else:
        _bridge.submit(_logged, coroutine)
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
    with Bridge(scope="caller", name="new loop", context="copy") as bridge:
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
    if not is_async_fn(async_fn):
        raise TypeError(f"The decorated function must be async, and {name!r} is not")
    trap = Trap(name)

    def wrapper(*args: Any, _sync: bool | None = None, **kwargs: Any) -> Any:
        if _sync is None and in_event_loop():
            trap.check(sys._getframe().f_back)
            _sync = False
        if _sync is False:
            return async_fn(*args, **kwargs)
        if _sync is True:
            return _bridge.run_sync(async_fn, *args, **kwargs)
        return call_from_sync(_bridge, async_fn, args, kwargs)

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
    """Calls an async function on the loop that sent this worker thread here, and waits for its result."""
    if "anyio" in sys.modules and _is_anyios():
        import anyio.from_thread

        async def call() -> R:
            return await fn(*args, **kwargs)

        return anyio.from_thread.run(call)
    return from_thread(fn, *args, **kwargs)


def _is_anyios() -> bool:
    """Whether this is a worker thread of anyio's."""
    import anyio.from_thread

    try:
        anyio.from_thread.check_cancelled()
    except RuntimeError:
        return False
    except BaseException:  # cancelled, in the words of whatever library runs the loop
        return True
    return True


def in_async_main_thread() -> bool:
    """Whether an event loop runs in this thread, and it is no worker thread."""
    return in_event_loop() and not in_async_worker_thread()


# Tasks


def create_task(coroutine: Coroutine[Any, Any, R]) -> asyncio.Task[R]:
    """As `asyncio.create_task`, for tasks that nobody else keeps."""
    return _groups.create_task(coroutine)


class GatherTaskGroup(_groups.GatherTaskGroup):
    """A task group that keeps results; its keys are UUIDs. Made by `create_gather_task_group`."""

    def __init__(self, task_group: TaskGroup) -> None:
        super().__init__(task_group)

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
def asyncnullcontext(value: Any = None, *args: Any, **kwargs: Any) -> AbstractAsyncContextManager[Any, None]:
    """An async context manager that does nothing, and gives `value`; other arguments are ignored."""
    return contextlib.nullcontext(value)
