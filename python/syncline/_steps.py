"""Sync iterables and context managers in async code: each has a worker thread of its own, and a context.

What runs in the thread is kept apart from what users hold: the thread has a `_Source`, which refers to no user's object
but what it iterates over. So an iterator that nobody holds any more ends, and its `_Source` is closed by the thread.
"""

from __future__ import annotations

import contextvars
import sys
from collections import deque
from collections.abc import AsyncIterator, Generator
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from . import _core
from ._kinds import closed_if_coroutine, name_of
from ._raised import hide_ours

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import ParamSpec, Protocol, overload

    P = ParamSpec("P")
    R = TypeVar("R")

    class Threaded(Protocol):
        """What `threaded(limiter=...)` returns."""

        @overload
        def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
            self, fn: Callable[P, Generator[Y, None, Any]], /
        ) -> Callable[P, ThreadIterator[Y]]: ...
        @overload
        def __call__(self, fn: Callable[P, R], /) -> Callable[P, Coroutine[Any, Any, R]]: ...


Y = TypeVar("Y")


def _nothing() -> None:
    """Called by a thread that is waited for."""


class _Source(Generic[Y]):
    """What the thread does for an iterator, and what it shares with the consumer, which is on the loop."""

    def __init__(self, make: Callable[[], Iterable[Y]], prefetch: int) -> None:
        self._make = make
        self._iterable: Iterable[Y] | None = None
        self._iterator: Iterator[Y] | None = None
        self._prefetch = prefetch
        self.items: deque[Y] = deque()
        self.error: BaseException | None = None
        self.has_ended = False
        self.is_wanted = False
        """The consumer waits: whoever fetches ahead makes way."""
        self.is_closed = False
        self.goes_ahead = False
        self.has_failed_ahead = False
        """The error is that of an item for which nobody has waited."""
        self.go_on: Callable[[], None] | None = None
        """Has the thread go ahead."""

    def fetch(self) -> None:
        """For a consumer that waits: sees to it that there is an item, or the end."""
        if not (self.items or self.has_ended or self.is_closed):
            self._step()
        self.is_wanted = False
        go_on = self.go_on
        if go_on is not None and not (self.goes_ahead or self.has_ended or self.is_closed):
            # This thread does that next, while the consumer is on its way.
            self.goes_ahead = True
            go_on()

    def go_ahead(self) -> None:
        """For nobody: fetches until there are as many items as may lie there, or until somebody waits."""
        while len(self.items) < self._prefetch and not (self.has_ended or self.is_wanted or self.is_closed):
            self._step()
        self.has_failed_ahead = self.has_ended and not self.is_wanted
        self.goes_ahead = False

    def _step(self) -> None:
        try:
            if self._iterator is None:
                self._iterable = self._make()
                self._iterator = iter(self._iterable)
            self.items.append(next(self._iterator))
        except StopIteration:
            self.has_ended = True
        except StopAsyncIteration as error:
            # It would end the consumer's `async for`, as if there were no more items.
            self.error, self.has_ended = RuntimeError("a sync iterator raised StopAsyncIteration"), True
            self.error.__cause__ = error
        except BaseException as error:  # raised where the consumer is
            self.error, self.has_ended = error, True

    def close(self) -> None:
        """Closes a generator, or an iterator that was made here. A file that is iterated over is the user's."""
        iterator: Any = self._iterator
        self._iterator = None
        is_ours = issubclass(type(iterator), Generator) or iterator is not self._iterable
        if is_ours and not self.has_ended:
            close: Callable[[], object] | None = getattr(iterator, "close", None)
            if close is not None:
                try:
                    close()
                except BaseException as error:  # raised by `aclose`
                    self.error = error
        self.has_ended = True

    def report(self) -> None:
        """After the last step and `close`, if the consumer has left before they ended: raises what they have raised,
        which is logged."""
        error, self.error = self.error, None
        if error is not None and not self.has_failed_ahead:
            try:
                raise error
            finally:
                del error


class ThreadIterator(AsyncIterator[Y]):
    """What `aiterate` returns, and a generator function that `threaded` decorates."""

    def __init__(
        self,
        make: Callable[[], Iterable[Y]],
        *,
        prefetch: int = 0,
        worker: _core.OwnThread | None = None,
        limiter: _core.LimiterBase | None = None,
    ) -> None:
        self._source = _Source(make, prefetch)
        self._prefetch = prefetch
        self._worker = worker
        self._is_own = worker is None
        self._limiter = limiter
        self._run: Callable[[Callable[[], None]], None] | None = None
        self._is_busy = False

    def __aiter__(self) -> ThreadIterator[Y]:
        return self

    async def __anext__(self) -> Y:
        source = self._source
        if source.is_closed:
            raise StopAsyncIteration
        if not source.items:
            try:
                await self._wait_for_item()
            except BaseException as error:
                hide_ours(error)
                raise
            if not source.items:
                raise StopAsyncIteration
        item = source.items.popleft()
        may_go_ahead = not (source.goes_ahead or source.has_ended)
        if may_go_ahead and source.go_on is not None and 2 * len(source.items) < self._prefetch:
            source.goes_ahead = True
            source.go_on()
        return item

    async def _wait_for_item(self) -> None:
        source = self._source
        if self._is_busy:
            raise RuntimeError("another task waits for the next item of this iterator")
        self._is_busy = True
        try:
            if not source.has_ended:
                if self._run is None:
                    await self._begin()
                source.is_wanted = True
                run: Any = self._run
                await self._thread._call(run, (source.fetch,), None)
        except BaseException:
            # The task was cancelled: a step is under way, and nothing comes after it.
            self._end()
            raise
        finally:
            self._is_busy = False
        if not source.items:
            error, source.error = source.error, None
            self._end()
            if error is not None:
                try:
                    raise error
                finally:
                    del error

    async def _begin(self) -> None:
        if self._limiter is not None:
            await self._limiter._acquire_on_behalf_of(self._source)
        if self._worker is None:
            self._worker = _core.OwnThread()
        # All steps run in it, one after the other, in one thread.
        run = self._run = _run_in_copy()
        if self._prefetch:
            source = self._source
            source.go_on = partial(self._worker._send, partial(run, source.go_ahead))

    @property
    def _thread(self) -> _core.OwnThread:
        assert self._worker is not None
        return self._worker

    def _send(self, fn: Callable[[], None]) -> None:
        if self._run is not None:
            self._thread._send(partial(self._run, fn))

    def _end(self, is_awaited: bool = False) -> None:
        """Has the thread close what it iterates over, after the step that may be under way."""
        source = self._source
        if source.is_closed:
            return
        source.is_closed = True
        source.go_on = None
        if self._run is None:
            source.has_ended = True
            return
        self._send(source.close)
        if not is_awaited:
            self._send(source.report)
        if self._is_own:
            self._thread.close()
        if self._limiter is not None:
            self._limiter.release_on_behalf_of(source)

    async def aclose(self) -> None:
        """Ends the iteration, and waits until the thread has closed what it iterates over. Raises what that raises.

        Does nothing the second time.
        """
        source = self._source
        if self._is_busy:
            raise RuntimeError("a task waits for the next item of this iterator")
        if source.is_closed or self._run is None:
            self._end()
            return
        source.items.clear()
        source.is_wanted = True  # whoever fetches ahead makes way
        self._is_own, is_own = False, self._is_own
        self._end(is_awaited=True)
        try:
            await self._thread._call(_nothing, (), None)
        except BaseException:
            self._send(source.report)
            raise
        finally:
            if is_own:
                self._thread.close()
        error, source.error = source.error, None
        if error is not None:
            raise error

    def __del__(self) -> None:
        if "_is_busy" in self.__dict__:  # else it was not made
            self._end()


def _run_in_copy() -> Any:
    """Calls functions in a copy of the present context, always in the same worker thread."""
    context = contextvars.copy_context()
    if "asgiref.local" not in sys.modules:
        return context.run
    from ._asgiref import move_here

    def run(fn: Callable[..., Any], *args: Any) -> Any:
        move_here(context)
        return context.run(fn, *args)

    return run


class ThreadManager(Generic[Y]):
    """What `aenter` returns."""

    def __init__(
        self, manager: AbstractContextManager[Y, bool | None], worker: _core.OwnThread | None
    ) -> None:
        self._manager = manager
        self._worker = worker
        self._is_own = worker is None
        self._run: Any = None
        self._is_entered = False
        self._left: bool | None = None
        self._error: BaseException | None = None

    async def __aenter__(self) -> Y:
        if self._run is not None:
            raise RuntimeError("this has been entered already; make another one: aenter(...)")
        self._run = _run_in_copy()
        worker = self._worker = self._worker or _core.OwnThread()
        try:
            entered: Y = await worker._call(self._run, (self._enter,), None)
        except BaseException as error:
            # The task was cancelled, and the thread may enter all the same: it leaves again.
            worker._send(partial(self._run, self._leave, type(error), error, None))
            worker._send(self._report)
            self._close()
            hide_ours(error)
            raise
        return entered

    def _enter(self) -> Y:
        entered = type(self._manager).__enter__(self._manager)
        self._is_entered = True
        return entered

    def _leave(self, *raised: Any) -> None:
        if not self._is_entered:
            return
        self._is_entered = False
        try:
            self._left = type(self._manager).__exit__(self._manager, *raised)
        except BaseException as error:  # raised where the block is
            self._error = error

    def _report(self) -> None:
        """After `_leave`, if the task has gone on without: raises what that has raised, which is logged."""
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> bool | None:
        worker = self._worker
        if worker is None:
            raise RuntimeError("this has not been entered")
        # Sent, and not called: a task that is cancelled meanwhile does not take it back.
        worker._send(partial(self._run, self._leave, exc_type, exc_value, traceback))
        try:
            await worker._call(_nothing, (), None)
        except BaseException:
            worker._send(self._report)
            raise
        finally:
            self._close()
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self._left

    def _close(self) -> None:
        if self._is_own and self._worker is not None:
            self._worker.close()


def iterating(name: str, iterable: Any, prefetch: Any) -> str | None:
    """What is wrong with `aiterate(iterable)`."""
    kind = type(iterable).__name__
    if hasattr(iterable, "__aiter__"):
        return f"{name}() takes a sync iterable, and this {kind} is async: use `async for` on it as it is"
    if not (hasattr(iterable, "__iter__") or hasattr(iterable, "__getitem__")):
        if closed_if_coroutine(iterable):
            called = f"; await it, and iterate over its result: {name}(await {name_of(iterable)}(...))"
        else:
            called = f"; call it: {name}({name_of(iterable)}(...))" if callable(iterable) else ""
        return f"{name}() takes an iterable, not {kind}{called}"
    if not isinstance(prefetch, int) or isinstance(prefetch, bool):
        return f"prefetch must be an int, not {type(prefetch).__name__}"
    return None


def entering(manager: Any) -> str | None:
    """What is wrong with `aenter(manager)`."""
    made_by: type[Any] = manager.__class__
    kind = made_by.__name__
    if issubclass(made_by, type):
        name = manager.__name__
        return f"aenter() takes a context manager, not the class {name!r}; make one: aenter({name}(...))"
    if hasattr(made_by, "__enter__"):
        return None
    if hasattr(made_by, "__aenter__"):
        return f"aenter() takes a sync context manager, and this {kind} is async: use `async with` on it as it is"
    if closed_if_coroutine(manager):
        return f"aenter() takes a sync context manager, not {kind}; await it: aenter(await {name_of(manager)}(...))"
    called = f"; call it: aenter({name_of(manager)}(...))" if callable(manager) else ""
    return f"aenter() takes a context manager, not {kind}{called}"
