"""Async code calls sync code, in worker threads, and these call back.

Imports nothing heavy: `import syncline` has to be cheap, and threads come with the first call.
"""

from __future__ import annotations

from . import _core
from ._core import SynclineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from types import TracebackType
    from typing import Any, ParamSpec, TypeVar, overload

    P = ParamSpec("P")
    R = TypeVar("R")
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


@overload
def threaded(
    fn: Callable[P, R], /, *, limiter: ThreadLimiter | None = None
) -> Callable[P, Coroutine[Any, Any, R]]: ...
@overload
def threaded(
    *, limiter: ThreadLimiter | None = None
) -> Callable[[Callable[P, R]], Callable[P, Coroutine[Any, Any, R]]]: ...
def threaded(fn: Callable[..., Any] | None = None, /, *, limiter: ThreadLimiter | None = None) -> Any:
    """Makes an async function of a sync one, that runs it in a worker thread as `to_thread` does.

    Works on functions and methods, as `@threaded` or `@threaded(limiter=...)`. Name, docstring and signature are kept;
    `__wrapped__` is the original. limiter: whose tokens the calls use; `thread_limiter()` by default.

    Raises TypeError for generator functions, whose code would run where they are iterated over, and async ones.
    """
    if fn is None:

        def decorate(fn: Callable[..., Any]) -> Any:
            return threaded(fn, limiter=limiter)

        return decorate
    import functools

    from ._mistakes import running_in_threads

    if (mistake := running_in_threads(fn)) is not None:
        raise TypeError(mistake)
    call = (limiter or _limiter)._call

    @functools.wraps(fn)
    async def in_thread(*args: Any, **kwargs: Any) -> Any:
        return await call(fn, args, kwargs or None)

    return in_thread


from_thread = _core.from_thread
check_cancelled = _core.check_cancelled
in_worker_thread = _core.in_worker_thread
in_event_loop = _core.in_event_loop
mark_as_worker_thread = _core.mark_as_worker_thread
call_with_mark = _core.call_with_mark
