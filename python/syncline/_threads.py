"""Async code calls sync code, in worker threads, and these call back.

Imports nothing heavy: `import syncline` has to be cheap, and threads come with the first call.
"""

from __future__ import annotations

from . import _core
from ._core import SynclineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Iterable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from typing import Any, ParamSpec, Self, TypeVar, overload

    from ._steps import Threaded, ThreadIterator, ThreadManager

    P = ParamSpec("P")
    R = TypeVar("R")
    Y = TypeVar("Y")
else:

    def overload(function):
        return function


class WouldBlock(SynclineError):  # noqa: N818 -- anyio's and trio's name for it
    """A limiter has no token left, and `acquire_nowait` does not wait."""


class ThreadLimiter(_core.LimiterBase):
    """How many worker threads may be busy at once, for calls that are made through it: `total_tokens` of them.

    It has the methods of `anyio.CapacityLimiter`, works in asyncio and in trio, and may be used from several loops
    and threads at once. A token belongs to whoever borrowed it: to a task (`async with limiter`), to an object that
    you name (`acquire_on_behalf_of`), or to a call in a worker thread (`limiter.to_thread`), which gives it back when
    the function has ended, even if nobody waits for it any more. First come, first served.

    `total_tokens` can be set at any time; `math.inf` is no limit. Those that are borrowed beyond a lower total stay so.
    """

    def __new__(cls, total_tokens: float) -> Self:  # its name is in the messages of the interpreter
        return super().__new__(cls, total_tokens)

    def __reduce__(self) -> Any:
        # With its total only, as tokens are borrowed in this process. The default limiter arrives as the one
        # of the other process.
        if self is _limiter:
            return thread_limiter, ()
        return type(self), (self.total_tokens,)

    async def to_thread(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `syncline.to_thread`, with a token of this limiter."""
        return await self._call(fn, args, kwargs or None)

    async def acquire(self) -> None:
        """Borrows a token for the current task; waits until there is one."""
        await self._acquire()

    async def acquire_on_behalf_of(self, borrower: object) -> None:
        """Borrows a token for `borrower`; waits until there is one."""
        await self._acquire_on_behalf_of(borrower)

    async def __aenter__(self) -> None:
        await self._acquire()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


_limiter = ThreadLimiter(250)
_call = _limiter._call
_errand = _core.errand


def thread_limiter() -> ThreadLimiter:
    """The limiter of `to_thread` and `threaded`, one for the process: 250 tokens, unless you set `total_tokens`."""
    return _limiter


async def to_thread(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Calls the sync function `fn` in a worker thread, and returns its result; in asyncio and in trio.

    `fn` sees the context variables of the awaiting task, and what it sets in them that task sees afterwards. Threads
    are made on demand, kept for the next call, and end when they were idle for 10 seconds. At most
    `thread_limiter().total_tokens` are busy at once; further calls wait their turn.

    All arguments are the function's: no keyword is kept back for an option. Another limit is chosen by whose method is
    called, `ThreadLimiter(4).to_thread(fn, ...)`, or where a function is decorated, `threaded(fn, limiter=...)`.

    Cancelling the await abandons the call: the thread finishes it, its result is dropped, and an error is logged. The
    function can ask (`check_cancelled`).

    Raises what `fn` raises (RuntimeError for StopIteration, which can't pass through a coroutine); DeadlockError where
    all threads that the limiter allows wait for this one.
    """
    return await _call(fn, args, kwargs or None)


async def to_caller(fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
    """Has the sync function `fn` called by the thread that waits for this coroutine, and returns its result.

        async def save(connection: sqlite3.Connection, row: Row) -> None:  # run_sync(save, connection, row)
            await syncline.to_caller(connection.execute, INSERT, await fetch(row))

    For what belongs to that thread: sqlite3 connections, a database transaction, a GUI, thread-locals. The thread runs
    it while it waits for the call (`run_sync` and all others that wait; `from_thread` in a worker); so it works in the
    call's coroutine and in the tasks that this starts. Below a nested call that awaits in place the waiting code is in
    the loop's own thread, and `fn` is called there at once.

    What one call sends runs one by one, in order. `fn` may call the bridge again. It sees this task's context
    variables, and what it sets in them the task sees afterwards. Cancelling the await withdraws a function that has not
    begun; one that has begun runs to its end, and its result is dropped.

    Raises what `fn` raises (RuntimeError for StopIteration), and RuntimeError where no sync code waits: the task was
    started by a loop or by `submit`, or the call that it comes from has ended.
    """
    pending = _errand(fn, args, kwargs or None)
    return fn(*args, **kwargs) if pending is None else await pending


class Worker(_core.OwnThread):
    """A worker thread of one's own: all that it is given runs in that thread, one after the other.

        async with syncline.Worker() as worker:
            connection = await worker.to_thread(sqlite3.connect, path)
            rows = await worker.to_thread(read_all, connection)

    For what belongs to one thread: sqlite3 connections, sync Playwright, clients with thread-locals. It may be used
    from several loops, tasks and threads. The thread starts with the first call. `close()`, and the end of a `with` or
    `async with` block, end it when it has done what it was asked for; at the end of an `async with` that is waited for.
    Calls that come later raise RuntimeError. A worker that nobody refers to any more ends, too.

    `threaded(fn, limiter=worker)` decorates functions for it, and `aiterate` and `aenter` take it as `worker`.
    """

    def __new__(cls) -> Self:  # its name is in the messages of the interpreter
        return super().__new__(cls)

    async def to_thread(self, fn: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        """As `syncline.to_thread`, in this thread."""
        return await self._call(fn, args, kwargs or None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        try:
            if not self.closed:
                await self._call(bool, (), None)
        finally:
            self.close()


@overload  # What is narrower comes first: a generator function is a function.
def threaded(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    fn: Callable[P, Generator[Y, None, Any]], /, *, limiter: ThreadLimiter | Worker | None = None
) -> Callable[P, ThreadIterator[Y]]: ...
@overload
def threaded(
    fn: Callable[P, R], /, *, limiter: ThreadLimiter | Worker | None = None
) -> Callable[P, Coroutine[Any, Any, R]]: ...
@overload
def threaded(*, limiter: ThreadLimiter | Worker | None = None) -> Threaded: ...
def threaded(
    fn: Callable[..., Any] | None = None, /, *, limiter: ThreadLimiter | Worker | None = None
) -> Any:
    """Makes an async function of a sync one, that runs it in a worker thread as `to_thread` does; and of a generator
    function one whose calls give async iterators, as `aiterate` does.

    Works on functions and methods, as `@threaded` or `@threaded(limiter=...)`. Name, docstring and signature are kept;
    `__wrapped__` is the original. limiter: whose tokens the calls use, `thread_limiter()` by default, or the `Worker`
    that makes them. An iterator uses a token of a limiter that is given for as long as it lasts, and none by default.

    Type checkers tell a generator function by its annotation: `Generator[...]`, and not `Iterator[...]`.

    Raises TypeError for async functions.
    """
    if fn is None:

        def decorate(fn: Callable[..., Any]) -> Any:
            return threaded(fn, limiter=limiter)

        return decorate
    import functools
    import inspect

    from ._mistakes import running_in_threads

    if (mistake := running_in_threads(fn, limiter, (ThreadLimiter, Worker))) is not None:
        raise TypeError(mistake)
    function = fn
    if inspect.isgeneratorfunction(fn):
        from ._steps import ThreadIterator

        of_worker = isinstance(limiter, Worker)
        options: Any = {"worker" if of_worker else "limiter": limiter}

        @functools.wraps(fn)
        def iterated(*args: Any, **kwargs: Any) -> Any:
            return ThreadIterator(functools.partial(function, *args, **kwargs), **options)

        return iterated
    call = (_limiter if limiter is None else limiter)._call

    @functools.wraps(fn)
    async def in_thread(*args: Any, **kwargs: Any) -> Any:
        return await call(function, args, kwargs or None)

    return in_thread


def aiterate(
    iterable: Iterable[Y], /, *, prefetch: int = 0, worker: Worker | None = None
) -> ThreadIterator[Y]:
    """Iterates over any sync iterable in async code: `async for row in aiterate(cursor)`.

    All steps are made in one worker thread, and in one context: a copy of the context of the task that takes the first
    item. The thread is the iteration's own, or `worker`. prefetch: how many items may be fetched ahead of the loop.
    They arrive in order, an error after the items before it. 0 fetches nothing ahead.

    A generator is closed by its thread in any case, and so is another iterator that `iter(iterable)` makes: where the
    task is cancelled in a step, by `await it.aclose()` (which waits for that, as `contextlib.aclosing` does), and where
    nobody refers to the iteration any more, as after a `break`. A step that is under way is not broken off. What that,
    or the close, raises when nobody waits for it is logged.

    Raises TypeError for what is no sync iterable, and what the iteration raises.
    """
    from ._steps import ThreadIterator, iterating

    if (mistake := iterating("aiterate", iterable, prefetch)) is not None:
        raise TypeError(mistake)
    if prefetch < 0:
        raise ValueError(f"prefetch must be 0 or more, not {prefetch}")
    return ThreadIterator(lambda: iterable, prefetch=prefetch, worker=worker)


def aenter(
    manager: AbstractContextManager[Y, bool | None], /, *, worker: Worker | None = None
) -> ThreadManager[Y]:
    """Uses any sync context manager in async code: `async with aenter(pool.connection()) as connection`.

    It is entered and left in one worker thread, its own or `worker`, and in one context. It is left in any case: also
    where the task is cancelled while it is entered, or while it is left; then an error that comes late is logged.

    Raises TypeError for what is no sync context manager, and what the manager raises.
    """
    from ._steps import ThreadManager, entering

    if (mistake := entering(manager)) is not None:
        raise TypeError(mistake)
    return ThreadManager(manager, worker)
