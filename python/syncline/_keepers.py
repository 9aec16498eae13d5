"""What holds a resource open: a task of its own on each loop that uses it. Imported at the first use, as it needs
asyncio.

1. An object is opened and closed in one task, as cancel scopes and task groups want it, and in the context in which the
   resource was made: whoever happens to come first lends it neither its task nor its context variables.
2. Who stops waiting does not end the opening, unless nobody else waits for it.
3. Keepers belong to a loop, and are touched on its thread only. On a bridge's loop they end when all other tasks have,
   what was opened last first (`close_kept`, which the core calls).
4. A forked child leaves its parent's objects alone. It doesn't even free them, as that would run their finalizers.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import os
import sys
from time import monotonic
from typing import TYPE_CHECKING, Any

from . import _core, _raised
from ._kinds import is_async_manager, loaded_trio, trio_here, type_of
from ._nested import within

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from contextlib import AbstractAsyncContextManager
    from contextvars import Context
    from typing import Protocol

    class Resource(Protocol):
        """What keepers know of a resource."""

        __qualname__: str
        _make: Callable[[], Any]
        _close: Callable[[Any], object] | None
        _context: Context


kept: dict[Any, dict[Resource, Keeper]] = {}
"""The keepers of each loop; those whose objects are open stand in the order in which they were opened."""
keeping_tasks: set[asyncio.Task[None]] = set()
"""asyncio's tasks of all keepers: a bridge's loop that ends leaves them to `close_kept` (by 3)."""


def _has_ended(task: asyncio.Task[None]) -> None:
    keeping_tasks.discard(task)
    if not task.cancelled():
        task.exception()  # whoever drives the loop has got it


class _Event:
    """As asyncio's. But if a signal handler has broken off `set`, its next call wakes those who are left."""

    def __init__(self) -> None:
        self._is_set = False
        self._waiters: set[asyncio.Future[None]] = set()

    def is_set(self) -> bool:
        return self._is_set

    def set(self) -> None:
        self._is_set = True
        for waiter in [*self._waiters]:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self) -> None:
        if not self._is_set:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)


class _Asyncio:
    """What a keeper needs of a loop of asyncio's kind."""

    Event = _Event

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None

    def start(self, keeper: Keeper, context: Context) -> None:
        # Until it begins nobody else has it, should the loop lose its first step. It may end before it has begun.
        task = self._task = _core.start_task(self.loop, keeper.keep(), context)
        task.add_done_callback(_has_ended)
        task.add_done_callback(keeper.leave)

    async def begin(self, name: str) -> None:
        """All that makes the task a keeper's is done in it. So what a signal handler raises meanwhile leaves none that
        nobody knows."""
        task = self._task = asyncio.current_task()
        assert task is not None
        keeping_tasks.add(task)
        task.set_name(f"resource {name}")
        if sys.version_info >= (3, 12):
            await asyncio.sleep(0)  # it begins eagerly, before anyone waits for it

    def is_current(self) -> bool:
        return self._task is not None and asyncio.current_task() is self._task

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def until(self, told: _Event) -> None:
        """Waits until the keeper is told to end: by the event, or by its loop, which cancels it."""
        try:
            await told.wait()
        except asyncio.CancelledError:
            if self._task is not None:
                self._task.uncancel()

    def shield(self) -> contextlib.AbstractContextManager[object]:
        """For the wait for what was cancelled just now."""
        return contextlib.nullcontext()


def _place() -> Any:
    if trio_here() is not None:
        from ._trio_keepers import Trio

        return Trio()
    return _Asyncio()


class Keeper:
    """One object, from its opening to its end."""

    def __init__(self, resource: Resource, place: Any) -> None:
        self.is_open = False
        self.is_ending = False
        self.name = resource.__qualname__
        self.waits_for: Keeper | None = None
        self.value: Any = None
        self._resource = resource
        self._place = place
        self._askers = 0
        self._error: BaseException | None = None
        self._settled = place.Event()
        self._told = place.Event()
        self._ended = place.Event()
        for loop in [*kept]:
            if loop is not place.loop and getattr(loop, "is_closed", bool)():
                del kept[loop]  # somebody has closed it without ending its tasks
        try:
            kept.setdefault(place.loop, {})[resource] = self
            place.start(self, resource._context.copy())
        except BaseException:  # a signal handler's
            self.tell()
            self.leave()
            place.cancel()
            raise

    async def keep(self) -> None:
        try:
            await self._place.begin(self.name)
            if self.is_ending:
                return  # nobody waits for it any more
            async with await _manager(self._resource) as self.value:
                if self.value is None:
                    raise TypeError(
                        f"the resource {self.name!r} got None; its function has to return the object or to `yield` it, "
                        "and to `yield` one that is not to be entered, such as a lock"
                    )
                here = kept[self._place.loop]
                here[self._resource] = here.pop(self._resource)
                self.is_open = not self.is_ending
                self._settled.set()
                await self._place.until(self._told)
                self.tell()
        except BaseException as error:
            if _core.is_of_handler(error):
                # For whoever drives the loop: what it has interrupted may be how those are woken who wait.
                raise
            if self._ended.is_set():
                return  # who has made it knows
            if self._askers:
                self._error = _raised.with_traceback(error, _raised.of_users(_raised.traceback_of(error)))
            elif not _is_cancellation(error):
                what = "failed" if self._settled.is_set() else "could not be opened"
                logging.getLogger("syncline").error(
                    "the resource %r %s", self.name, what, exc_info=_raised.exc_info(error)
                )
            elif self._settled.is_set():
                logging.getLogger("syncline").warning("the resource %r was not closed in time", self.name)
        finally:
            self.tell()
            self.value = None
            self.leave()

    def leave(self, _task: object = None) -> None:
        """It has ended, or never began."""
        try:
            self._free()
        except BaseException:  # a signal handler's
            self._free()
            raise

    def _free(self) -> None:
        """Frees all who wait, and the place for a new one."""
        here = kept.get(self._place.loop, {})
        if here.get(self._resource) is self:
            del here[self._resource]
        self._settled.set()
        self._ended.set()

    def is_current(self) -> bool:
        """Whether the running task is this one's."""
        current: bool = self._place.is_current()
        return current

    def tell(self) -> None:
        """Tells it to close its object. One that opens it does that first."""
        self.is_open, self.is_ending = False, True
        self._told.set()

    async def until_open(self) -> BaseException | None:
        """Waits until it is open, or has been; returns what the opening raised."""
        self._askers += 1
        try:
            await self._settled.wait()
        except BaseException:
            if self._askers == 1 and not self._settled.is_set():  # by 2
                self.tell()
                self._place.cancel()
                with self._place.shield():
                    await self._ended.wait()
            raise
        finally:
            self._askers -= 1
        return self._take_error()

    async def until_ended(self) -> None:
        """Waits until it has ended. Its error is for others."""
        await self._ended.wait()

    async def close(self) -> BaseException | None:
        """Closes the object; returns what that raised."""
        self.tell()
        self._askers += 1
        try:
            await self._ended.wait()
        finally:
            self._askers -= 1
        return self._take_error()

    def _take_error(self) -> BaseException | None:
        error = self._error
        if not self._askers:
            self._error = None
        if error is not None and _is_cancellation(error):  # another task's, which means nothing in this one
            cancelled = RuntimeError(f"the opening or closing of the resource {self.name!r} was cancelled")
            cancelled.__cause__ = error
            return cancelled
        return error


def _is_cancellation(error: BaseException) -> bool:
    trio = loaded_trio()
    return _raised.is_a(error, asyncio.CancelledError) or (
        trio is not None and _raised.is_a(error, trio.Cancelled)
    )


async def _manager(resource: Resource) -> AbstractAsyncContextManager[Any]:
    """Calls the resource's function, and makes a context manager of what it returns."""
    made, close = resource._make(), resource._close
    if inspect.isasyncgen(made):
        generator: Any = made
        return contextlib.asynccontextmanager(lambda: generator)()
    is_entered = close is None
    if not (is_entered and is_async_manager(made)) and inspect.isawaitable(made):
        made = await made
    if is_entered and is_async_manager(made):
        manager: AbstractAsyncContextManager[Any] = made
        return manager
    kind = type_of(made)
    return _closing(made, close or getattr(kind, "aclose", None) or getattr(kind, "close", None))


@contextlib.asynccontextmanager
async def _closing(made: Any, close: Callable[[Any], object] | None) -> AsyncGenerator[Any, None]:
    try:
        yield made
    finally:
        if close is not None and inspect.isawaitable(closed := close(made)):
            await closed


async def opened(resource: Resource) -> tuple[Any, BaseException | None]:
    """The object of the running loop, or what was raised instead."""
    place = _place()
    while True:
        keeper = kept.get(place.loop, {}).get(resource)
        if keeper is None:
            keeper = Keeper(resource, place)
            place = _place()
        if keeper.is_open:
            return keeper.value, None
        asker = next((each for each in kept[place.loop].values() if each.is_current()), None)
        _refuse_circle(asker, keeper)
        if asker is not None:
            asker.waits_for = keeper
        try:
            if keeper.is_ending:
                await keeper.until_ended()
            elif (error := await keeper.until_open()) is not None:
                return None, error
        finally:
            if asker is not None:
                asker.waits_for = None


async def closed(resource: Resource) -> BaseException | None:
    """Closes the object of the running loop, if there is one; returns what that raised."""
    keeper = kept.get(_place().loop, {}).get(resource)
    if keeper is None:
        return None
    _refuse_circle(keeper if keeper.is_current() else None, keeper)
    return await keeper.close()


def _refuse_circle(asker: Keeper | None, keeper: Keeper) -> None:
    """Raises DeadlockError if the keeper that asks would wait for itself."""
    names: list[str] = []
    at: Keeper | None = keeper
    while asker is not None and at is not None:
        names.append(repr(at.name))
        if at is asker:
            needed = " needs ".join([names[-1], *names])
            raise _core.DeadlockError(f"a resource can't be opened or closed by means of itself: {needed}")
        at = at.waits_for


def is_kept(resource: Resource) -> bool:
    """Whether an object of it is open on any loop, or about to be."""
    return any(resource in here for here in [*kept.values()])


async def close_kept(loop: Any, seconds: float) -> None:
    """Closes what is open on a loop, or in a trio run, of a bridge that ends, in that time (by 3). What takes longer is
    cancelled with the last tasks."""
    due = monotonic() + seconds
    for keeper in reversed([*kept.get(loop, {}).values()]):
        keeper.tell()
        # Half of what is left: one that takes for ever leaves time for the others.
        with contextlib.suppress(TimeoutError):
            await within(keeper.until_ended().__await__(), (due - monotonic()) / 2)


def _leave_parents() -> None:
    """By 4."""
    _core.keep_for_ever(({**kept}, {*keeping_tasks}))
    kept.clear()
    keeping_tasks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_parents)
