"""asgiref's thread-sensitive code below `run_sync`. Imported by the core where a program has loaded asgiref.

`sync_to_async(fn)` asks `AsyncToSync.executors.current` where to run `fn`: below `async_to_sync` that is the thread
which waits for the coroutine. Here a thread that waits for a call of a bridge is entered there, so the same holds below
`run_sync`. Nothing of asgiref is patched. What is private to it and used here: values of a `Local` bear the thread that
they belong to, and are given to another one where asgiref moves code between threads; so they are where we do.
"""

from __future__ import annotations

import functools
import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar

import asgiref.local
import asgiref.sync

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context, ContextVar

    from ._core import Caller

    P = ParamSpec("P")
    R = TypeVar("R")

_sync: Any = asgiref.sync
_local: Any = asgiref.local
_executors: Any = _sync.AsyncToSync.executors
executors_variable: ContextVar[Any] | None = getattr(getattr(_executors, "_storage", None), "_data", None)
"""Where asgiref keeps the current executor. It is true of one call only, so no caller gets it back."""
Stored: type[Any] = getattr(_local, "_Storage", type("NothingStored", (), {}))
"""The class of what a `Local` of asgiref's keeps: a value, and the thread that it belongs to (asgiref 3.12)."""


_GONE = "the call that this task was started by has ended, and its thread has gone on"


class WaitingThread(Executor):
    """The thread that waits for a call, as asgiref knows such threads.

    The attributes are those of asgiref's own class: where an inner call of `async_to_sync` has ended, it looks through
    the outer ones for a thread that still waits.
    """

    def __init__(self, caller: Caller, outer: Any) -> None:
        self._caller = caller
        self._old_executor = outer
        self._work_ready = self._work_items = _Queue(caller)

    def submit(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        future: Future[R] = Future()
        call = _without_loop(fn) if self._caller.drives() else fn
        if self._caller.hand_over(future, _within(call), args, kwargs):
            return future
        if self._old_executor is None:
            raise RuntimeError(_GONE)
        submitted: Future[R] = self._old_executor.submit(fn, *args, **kwargs)
        return submitted

    @property
    def _broken(self) -> bool:
        return not self._caller.waits()


class _Queue:
    """What asgiref takes for the queue of a `WaitingThread`, and for its lock."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def append(self, item: Any) -> None:
        """Takes over what was sent to an inner call."""
        unused: Future[None] = Future()
        if not self._caller.hand_over(unused, item.run, (), {}):
            item.future.set_exception(RuntimeError(_GONE))

    def notify(self) -> None:
        """The thread is told already."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass


class _StandsStill:
    """A loop that its thread drives, while that thread runs sync code. `async_to_sync` takes another one."""

    create_task = None

    def call_soon_threadsafe(self, *args: object) -> None:
        raise RuntimeError("this loop stands still while its thread runs sync code")


def _without_loop(fn: Any) -> Any:
    """Keeps asgiref from noting the loop for what the function calls: it would send coroutines there, and wait."""
    is_handler = getattr(getattr(fn, "func", None), "__func__", None) is _sync.SyncToAsync.thread_handler
    return functools.partial(fn.func, _StandsStill(), *fn.args[1:], **fn.keywords) if is_handler else fn


def _within(fn: Callable[P, R]) -> Callable[P, R]:
    """Calls the function, and leaves the thread's own entries as they are: by them asgiref finds the loop that the
    thread's other code belongs to."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        entries: dict[str, Any] = _sync.SyncToAsync.threadlocal.__dict__
        before = entries.copy()
        try:
            return fn(*args, **kwargs)
        finally:
            entries.clear()
            entries.update(before)

    return call


def move_here(context: Context, caller: Caller | None = None) -> None:
    """Gives this thread the values of asgiref's `Local`s in `context`, which is to run here. `caller` is the call that
    runs in it, if the thread that waits for that is to run sync code."""
    here = threading.get_ident()
    moved = [
        (key, value) for key, value in context.items() if type(value) is Stored and value.thread_id != here
    ]
    for variable, value in moved:
        context.run(variable.set, Stored(here, value.data))
    if caller is not None:
        context.run(_enter, caller)


def _enter(caller: Caller) -> None:
    outer = getattr(_executors, "current", None)
    while type(outer) is WaitingThread and outer._broken:
        # The entry of an earlier call, whose context goes on in this one.
        outer = outer._old_executor
    _executors.current = WaitingThread(caller, outer)


def moved_back(before: Any, value: Any) -> Any:
    """What a caller sees of a `Local` after its call, in its own thread. None if nothing has changed there."""
    if type(before) is Stored and before.data is value.data:
        return None
    return Stored(threading.get_ident(), value.data)
