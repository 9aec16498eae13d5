"""AnySync's names: `import syncline.compat.anysync as anysync` in the place of `import anysync`.

1. `f().run()` runs in the calling thread if no event loop runs there. Inside a running loop it runs on a
   background thread, which all calls share. What runs on that may call `run()` again: such a call gets a new
   thread. The loop that makes a call waits for it, with all its tasks.
2. Iterators, generators and managers of sync code live on the background thread, so that what they started goes on
   between the steps; all steps of one of them are made in one task and one context.
3. What any of them sets in contextvars stays in it: sync code doesn't see it.

What differs is in docs/dual.md: exceptions arrive as themselves, nothing is fetched ahead, loops live on between calls.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

from .._bridge import Bridge
from .._core import Bridge as AnyBridge
from .._core import Leaving, ManagerBase, in_event_loop
from .._dual import (
    DualContextManager,
    DualCoroutine,
    DualGenerator,
    DualIterator,
    decorated,
    enter_wholly,
    managed,
)
from .._mistakes import decorating

__all__ = [
    "AnySyncContextManager",
    "AnySyncCoroutine",
    "AnySyncGenerator",
    "AnySyncIterator",
    "anysync",
    "contextmanager",
    "coroutine",
    "generator",
    "iterator",
    "run",
    "wrap_async_context_manager",
    "wrap_async_generator",
    "wrap_async_iterator",
    "wrap_coroutine",
]

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Y = TypeVar("Y")

_own = Bridge(scope="caller", name="anysync", nested="thread", context="copy")
_background = Bridge(name="anysync", nested="thread", context="copy")

# True in all that a coroutine on the background thread calls, in whatever thread: that loop may be waiting
# for it.
_is_in_background: ContextVar[bool] = ContextVar("syncline.compat.anysync", default=False)


class AnySyncCoroutine(DualCoroutine[R]):
    """A coroutine with `run(timeout=None)`. What it wraps is `coro`."""

    bridge: AnyBridge = _own

    def __init__(self, coro: Awaitable[R]) -> None:
        super().__init__(coro)
        self.coro = coro

    def run(self, timeout: float | None = None) -> R:
        """Runs it from sync code, wherever that is (by 1), and returns its result. `timeout` in seconds."""
        if not in_event_loop():
            return super().run(timeout)
        token = _is_in_background.set(True)
        try:
            if token.old_value is not True:
                return _background.run(self, timeout=timeout)
            with Bridge(name="anysync, new thread", nested="thread", context="copy") as bridge:
                return bridge.run(self, timeout=timeout)
        finally:
            _is_in_background.reset(token)


class AnySyncIterator(DualIterator[Y]):
    """An async iterator for `for` too; a subclass defines `__aiter__` or `__anext__`."""

    bridge: AnyBridge = _background


class AnySyncGenerator(DualGenerator[Y, S], AnySyncIterator[Y]):
    """An async generator with `send`, `throw` and `close`; a subclass defines `asend` and `athrow`."""


def _surely(leave: F) -> F:
    """An `__exit__` that a signal can't keep from leaving."""
    manager: Any = ManagerBase
    made: Any = Leaving(leave, manager._is_entered, manager._leave_again)
    surely: F = made
    return surely


class AnySyncContextManager(DualContextManager[R]):
    """An async context manager for `with` too, good for one; a subclass defines `__aenter__` and `__aexit__`."""

    bridge: AnyBridge = _background
    _dirty = False

    def __enter__(self) -> R:
        if self._dirty:
            raise RuntimeError(
                "Cannot reuse async context manager when executed synchronously; make another one for each `with`"
            )
        self._dirty = True
        entered: R = enter_wholly(self, super().__enter__)
        return entered

    @_surely
    def __exit__(
        self,
        typ: type[BaseException] | None = None,
        val: BaseException | None = None,
        tb: TracebackType | None = None,
        /,
    ) -> bool | None:
        return super().__exit__(typ, val, tb)


def coroutine(func: Callable[P, Awaitable[R]]) -> Callable[P, AnySyncCoroutine[R]]:
    """`await f()`, or `f().run()` in sync code."""
    if (mistake := decorating("coroutine", func)) is not None:
        raise TypeError(mistake)
    return decorated(_own, "coroutine", func, AnySyncCoroutine)


anysync = coroutine


def iterator(func: Callable[P, AsyncIterator[Y]]) -> Callable[P, AnySyncIterator[Y]]:
    """`async for`, or `for` in sync code."""
    if (mistake := decorating("iterator", func)) is not None:
        raise TypeError(mistake)
    return decorated(_background, "iterator", func, AnySyncIterator)


def generator(func: Callable[P, AsyncGenerator[Y, S]]) -> Callable[P, AnySyncGenerator[Y, S]]:
    """As `iterator`, with `send`, `throw` and `close`."""
    if (mistake := decorating("generator", func)) is not None:
        raise TypeError(mistake)
    return decorated(_background, "generator", func, AnySyncGenerator)


def contextmanager(func: Callable[P, AsyncIterator[R]]) -> Callable[P, AnySyncContextManager[R]]:
    """`async with`, or `with` in sync code."""
    if (mistake := decorating("contextmanager", func)) is not None:
        raise TypeError(mistake)
    return decorated(_background, "contextmanager", func, lambda agen: managed(AnySyncContextManager, agen))


def run(coro: Awaitable[R]) -> R:
    """Runs a coroutine from sync code."""
    return wrap_coroutine(coro).run()


def wrap_coroutine(coroutine: Awaitable[R]) -> AnySyncCoroutine[R]:
    """The coroutine itself if it has `run` already."""
    return coroutine if isinstance(coroutine, AnySyncCoroutine) else AnySyncCoroutine(coroutine)


def wrap_async_iterator(iterator: AsyncIterator[Y]) -> AnySyncIterator[Y]:
    """The iterator itself if it serves both worlds already."""
    return iterator if isinstance(iterator, AnySyncIterator) else AnySyncIterator(iterator)


def wrap_async_generator(generator: AsyncGenerator[Y, S]) -> AnySyncGenerator[Y, S]:
    """The generator itself if it serves both worlds already."""
    return generator if isinstance(generator, AnySyncGenerator) else AnySyncGenerator(generator)


def wrap_async_context_manager(manager: AbstractAsyncContextManager[R, Any]) -> AnySyncContextManager[R]:
    """The manager itself if it serves both worlds already."""
    return manager if isinstance(manager, AnySyncContextManager) else AnySyncContextManager(manager)
