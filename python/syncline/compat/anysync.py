"""AnySync's names: `import syncline.compat.anysync as anysync` in the place of `import anysync`.

`f().run()` runs on the calling thread's own loop, as AnySync's does; inside a running loop, and for nested calls, on
one background thread, which is shared. What differs is in docs/dual.md: changes to contextvars reach the caller,
exceptions arrive as themselves, nothing is fetched ahead, a nested call starts no thread of its own, and loops live on
between calls.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, ParamSpec, TypeVar

from .._bridge import Bridge
from .._dual import DualContextManager, DualCoroutine, DualGenerator, DualIterator, decorated, managed
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

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S")
Y = TypeVar("Y")

_bridge = Bridge(scope="caller", name="anysync", nested="thread")


class AnySyncCoroutine(DualCoroutine[R]):
    """A coroutine with `run(timeout=None)`."""

    bridge = _bridge


class AnySyncIterator(DualIterator[Y]):
    """An async iterator for `for` too; a subclass defines `__aiter__` or `__anext__`."""

    bridge = _bridge


class AnySyncGenerator(DualGenerator[Y, S], AnySyncIterator[Y]):
    """An async generator with `send`, `throw` and `close`; a subclass defines `asend` and `athrow`."""


class AnySyncContextManager(DualContextManager[R]):
    """An async context manager for `with` too; a subclass defines `__aenter__` and `__aexit__`."""

    bridge = _bridge


def coroutine(func: Callable[P, Awaitable[R]]) -> Callable[P, AnySyncCoroutine[R]]:
    """`await f()`, or `f().run()` in sync code."""
    if (mistake := decorating("coroutine", func)) is not None:
        raise TypeError(mistake)
    return decorated(_bridge, "coroutine", func, AnySyncCoroutine)


anysync = coroutine


def iterator(func: Callable[P, AsyncIterator[Y]]) -> Callable[P, AnySyncIterator[Y]]:
    """`async for`, or `for` in sync code."""
    if (mistake := decorating("iterator", func)) is not None:
        raise TypeError(mistake)
    return decorated(_bridge, "iterator", func, AnySyncIterator)


def generator(func: Callable[P, AsyncGenerator[Y, S]]) -> Callable[P, AnySyncGenerator[Y, S]]:
    """As `iterator`, with `send`, `throw` and `close`."""
    if (mistake := decorating("generator", func)) is not None:
        raise TypeError(mistake)
    return decorated(_bridge, "generator", func, AnySyncGenerator)


def contextmanager(func: Callable[P, AsyncIterator[R]]) -> Callable[P, AnySyncContextManager[R]]:
    """`async with`, or `with` in sync code."""
    if (mistake := decorating("contextmanager", func)) is not None:
        raise TypeError(mistake)
    return decorated(_bridge, "contextmanager", func, lambda agen: managed(AnySyncContextManager, agen))


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
