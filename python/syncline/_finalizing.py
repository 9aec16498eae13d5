"""Async cleanup when an object is collected, or when its loop or the interpreter ends: `finalize`.

1. An object is collected in the middle of anything, in any thread, by code that may hold any lock. There only a note is
   made, and the loop is told (`_homes.py`). The cleanup is a task of that loop.
2. A finalizer has one right to run, and whoever takes it runs it: the loop, a caller, the end.
3. At the interpreter's exit what is left runs first, while all loops of bridges still go on with all their tasks.
4. A forked child has the objects, but none of the loops: it forgets what is to be done there.
"""

from __future__ import annotations

import asyncio
import atexit
import contextvars
import itertools
import os
import time
import weakref
from asyncio import events
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from ._core import Collected, DeadlockError, RunnerClosedError, await_here, can_await_here
from ._homes import AsyncioHome, Home, made_by
from ._kinds import closed_if_coroutine, trio_here, type_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

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
        home: Home,
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
        self.number: int = next(_numbers)
        self.context: contextvars.Context = contextvars.copy_context()
        self._owner: weakref.ref[Any] | None = weakref.ref(owner, Collected(self._note))
        home.left[self] = None

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
        return None if found is None or self.take() is None else found

    def __call__(self) -> R | None:
        """Does the cleanup now, on its loop, and waits; returns its result, or None if it isn't alive any more.

        Raises what the function raises; RunnerClosedError if its loop does not run; DeadlockError on that loop itself,
        where the call can't await in place: write `await finalizer.aio()` there.
        """
        if not self.alive:
            return None
        if not self._home.is_here():
            return self._bridge.run_sync(self.aio)
        if can_await_here():
            return await_here(self.aio())
        raise DeadlockError(
            "this call would block the loop that is to do the cleanup; write `await finalizer.aio()` instead"
        )

    async def aio(self) -> R | None:
        """The same for async code, on any loop: `await finalizer.aio()`."""
        if not self.alive:
            return None
        if self._home.is_here():
            call = self.take()
            return None if call is None else await made_by(call)
        if not self._home.runs():
            raise RunnerClosedError("the loop that is to do this cleanup does not run")
        result: R | None
        if _is_in_trio():
            from ._homes_trio import wait_for

            result = await wait_for(self._home.ask(self))
        else:
            result = await asyncio.wrap_future(self._home.ask(self))
        return result

    def take(self) -> tuple[Callable[..., Awaitable[R]], tuple[Any, ...], dict[str, Any]] | None:
        """For the loop that runs it: what is to be called; None if somebody has taken it. It is dead then."""
        try:
            self._right.pop()
        except IndexError:
            return None
        call, self._call, self._owner = self._call, None, None
        self._home.left.pop(self, None)
        self._home.due.pop(self, None)
        return call

    def _object(self) -> object:
        reference = self._owner
        return None if reference is None else reference()

    def _note(self) -> None:
        """The object was collected. By 1; a signal handler may break it off, and then it is called again."""
        if self._right:
            self._home.due[self] = None
            self._home.tell()


_homes: dict[Any, Home] = {}
_parents: list[Home] = []
"""In a forked child: the homes of its parent, kept because their async generators would tell the parent's loops of
their end."""


def _is_in_trio() -> bool:
    return trio_here() is not None and events._get_running_loop() is None


def _home_here() -> Home:
    """The home of the running loop."""
    if _is_in_trio():
        from trio.lowlevel import current_trio_token

        from ._homes_trio import TrioHome

        key: Any = current_trio_token()
        return _homes.get(key) or _homes.setdefault(key, TrioHome(key, _homes))
    key = asyncio.get_running_loop()
    return _homes.get(key) or _homes.setdefault(key, AsyncioHome(key, _homes))


async def _home_there() -> Home:
    return _home_here()


def _forget_parents() -> None:
    """By 4."""
    _parents.extend(_homes.values())
    for home in _homes.values():
        for finalizer in [*home.left, *home.due]:
            finalizer._right.clear()
        home.left.clear()
        home.due.clear()
    _homes.clear()


def _at_exit() -> None:
    """By 3. First the loop that has the latest finalizer."""
    deadline = time.monotonic() + _PATIENCE
    latest = {home: max((each.number for each in home.left), default=-1) for home in _homes.values()}
    for home in sorted(latest, key=latest.__getitem__, reverse=True):
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
    home = _home_here() if is_at_home else bridge.run_sync(_home_there)
    return Finalizer(bridge, home, owner, afn, args, kwargs)


def _mistake(owner: object, afn: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str | None:
    if closed_if_coroutine(afn):
        return f"finalize() got a coroutine; give it the function: finalize(owner, {afn.__name__}, ...)"
    if not callable(afn):
        return f"finalize() takes an object and an async function, not {type(afn).__name__}"
    if getattr(afn, "__self__", None) is owner or any(each is owner for each in (*args, *kwargs.values())):
        return (
            "finalize() got a function that keeps its object alive, as a method of it or by an argument, so that it "
            "would never be collected; give it what has to be closed: finalize(owner, owner.client.aclose)"
        )
    try:
        weakref.ref(owner)
    except TypeError:
        return (
            "finalize() keeps a weak reference to the object, and there can be none to one of the type "
            f"{type_of(owner).__name__}; give it one of a class of yours (with __slots__: that has '__weakref__')"
        )
    return None
