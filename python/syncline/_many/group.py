"""`with syncline.group() as group:` a task group for sync code.

It is not built on the groups of asyncio, anyio or trio: where a call fails, those cancel the task that has entered the
group, which waits for sync code here and can't be cancelled; and anyio's on asyncio cancels again and again, which
breaks off cleanup.

1. Only the loop's thread touches the children. Sync code, in whatever thread, tells the loop what to do, and waits for
   a future if it has to.
2. Each child's future is settled when the child ends, however that is; that of one which never began is cancelled.
   Where the loop ends first, RunnerClosedError settles it; so it does where nobody runs somebody else's loop any more
   while a thread waits.
3. A child is cancelled once.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import CancelledError, InvalidStateError
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from inspect import isawaitable
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, TypeVarTuple, overload
from weakref import ref

from .._core import Bridge, RunnerClosedError, epoch, is_of_handler
from .._dual import DualContextManager, run_by
from .._futures import SafeFuture
from .._groups import no_function
from .._kinds import name_of
from .._raised import exc_info, is_a
from .._standing import LONGEST_STAND, watch
from .tasks import Task, error_of, here
from .watched import watching

R = TypeVar("R")
Args = TypeVarTuple("Args")


class GroupTask(Generic[R]):
    """A call that `Group.start` has begun. May be used by any thread."""

    def __init__(self, group: Group, name: str) -> None:
        self._group = group
        self._name = str(name)
        self._future: SafeFuture[R] = SafeFuture()
        self._task: Task | None = None
        self._is_cancelled = False

    def result(self, timeout: float | None = None) -> R:
        """Waits for the result, for at most `timeout` seconds.

        Raises what the call raises, which ends the group as well; `concurrent.futures.CancelledError` where it was
        cancelled; TimeoutError.
        """
        self._group._wait(self._future, timeout)
        return self._future.result()

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """As `result`, but returns what the call raises, or None."""
        self._group._wait(self._future, timeout)
        return self._future.exception()

    def done(self) -> bool:
        """Whether it has ended."""
        return self._future.done()

    def cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._future.cancelled()

    def cancel(self) -> None:
        """Cancels this call; the others of the group go on. Does not wait for its cleanup."""
        self._group._tell(self._cancel)

    def _cancel(self) -> None:
        """On the loop (by 3)."""
        if self._task is None:
            self._future.cancel()
        elif not self._is_cancelled:
            self._task.cancel()
        self._is_cancelled = True

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "pending"
        return f"<GroupTask {self._name}: {state}>"


class Group(DualContextManager["Group"]):
    """Calls that end together; see `syncline.group`. Used once."""

    def __init__(self, bridge: Bridge, timeout: float | None) -> None:
        super().__init__()
        self._timeout = timeout
        self._is_open = False
        self._is_cancelled = False
        self._was_told_to_cancel = False
        self._has_timed_out = False
        self._unbegun: dict[GroupTask[Any], Callable[[], None]] = {}
        self._children: dict[Task, GroupTask[Any]] = {}
        self._errors: list[BaseException] = []
        run_by(bridge, self)

    @overload
    def start(
        self,
        fn: Callable[[*Args], Awaitable[R]],
        /,
        *args: *Args,
        wait_started: Literal[False] = False,
        name: str | None = None,
    ) -> GroupTask[R]: ...
    @overload
    def start(
        self,
        fn: Callable[..., Awaitable[Any]],
        /,
        *args: object,
        wait_started: Literal[True],
        name: str | None = None,
    ) -> Any: ...
    def start(
        self,
        fn: Callable[..., Awaitable[Any]],
        /,
        *args: object,
        wait_started: bool = False,
        name: str | None = None,
    ) -> Any:
        """Starts the async function `fn` in the group; returns a `GroupTask`, whose `result()` waits for it.

        wait_started: waits until `fn` says that it has started, and returns what it says: it is called with a
            `task_status`, as by anyio's and trio's groups, and calls `task_status.started(value)`.
        name: for messages.

        It sees the caller's context variables. May be called from any thread, and by the group's own calls, while the
        block runs. For keyword arguments take `functools.partial`.

        Raises TypeError for what is no function, RuntimeError outside of the block, and with `wait_started` what `fn`
        raises before it has started.
        """
        if (mistake := no_function("start", fn)) is not None:
            raise TypeError(mistake)
        if not self._is_open:
            raise RuntimeError(
                "start() works inside of the group's block: with syncline.group() as group: ..."
            )
        task: GroupTask[Any] = GroupTask(self, name or name_of(fn))
        try:
            self._unbegun[task] = begin = partial(self._begin, task, fn, args, wait_started, copy_context())
            self._tell(begin)
        except BaseException:
            # The end of the block must not wait for what the loop was not told of.
            self._unbegun.pop(task, None)
            raise
        return task.result() if wait_started else task

    def cancel(self) -> None:
        """Cancels all calls of the group. The block then ends without an error, unless one of them fails meanwhile."""
        self._was_told_to_cancel = True
        self._tell(self._cancel)

    def _tell(self, callback: Callable[[], object]) -> None:
        """Has the group's loop call this, soon (by 2)."""
        self._check_process()
        try:
            self._tasks.call_soon(callback)
        except RuntimeError:
            raise RunnerClosedError("the group's loop has ended") from None

    def _check_process(self) -> None:
        if self._epoch != epoch():
            raise RunnerClosedError(
                "the group is of the process that this one was forked from, whose loop has it; make a new one here"
            )

    def _wait(self, future: SafeFuture[Any], timeout: float | None) -> None:
        if not future.done():
            self._check_process()
            with StandingLoop(self):
                self.bridge._run_at_home(arrival(future), timeout)

    # On the loop

    async def __aenter__(self) -> Self:
        if hasattr(self, "_epoch"):
            raise RuntimeError("a group is used once; make another one: syncline.group()")
        self._epoch = epoch()
        self._tasks = here()
        self._news = self._tasks.new_bell()
        if self._timeout is not None:
            self._end_timer = self._tasks.call_later(self._timeout, self._time_out)
        self._loop_end = self._tasks.tell_of_end(partial(_lose, ref(self)))
        self._is_open = True
        return self

    def _begin(
        self, task: GroupTask[Any], fn: Any, args: tuple[Any, ...], wait_started: bool, context: Context
    ) -> None:
        if self._unbegun.pop(task, None) is None:
            return  # `start` was broken off, or the block's end came first
        self._news.ring()
        if self._is_cancelled or not self._is_open or task.cancelled():
            task._future.cancel()
            return
        try:
            watch = watching(fn, "group")
            coroutine: Any = self._carry(task, fn, args, wait_started)
            coroutine.__qualname__ = task._name  # for what shows tasks
            self._note(task, self._tasks.start(coroutine, context, watch), context)
        except BaseException as error:  # out of a first step that ends the program: there is no task
            is_handlers = is_of_handler(error)
            self._errors.append(error)
            if is_handlers and (begun := self._tasks.started_in(context)) is not None:
                begun.remove_done_callback(self._child_ended)
                self._note(task, begun, context)
            else:
                task._future.cancel()
            self._cancel()
            if is_handlers:
                raise  # of whatever this thread waits for

    def _note(self, task: GroupTask[Any], started: Task, context: Context) -> None:
        task._task = started
        self._children[started] = task
        if started.done():
            self._child_ended(started)
        else:
            started.add_done_callback(self._child_ended, context=context)

    async def _carry(self, task: GroupTask[Any], fn: Any, args: tuple[Any, ...], wait_started: bool) -> None:
        """Runs one call of the group."""
        future = task._future
        try:
            made = fn(*args, task_status=Starting(future)) if wait_started else fn(*args)
            if not isawaitable(made):
                raise TypeError(_sync_function(fn, made))
            result = await made
            if not wait_started:
                future.set_result(result)
            elif not future.done():
                name = name_of(fn)
                raise RuntimeError(f"{name!r} has ended without a call of task_status.started()")
        except Exception as error:
            if future.done():
                raise
            future.set_exception(error)
            if not wait_started:  # else `start` raises it
                raise
        except (SystemExit, KeyboardInterrupt) as error:
            if is_of_handler(error):
                raise
            # The task ends without it: it would end the loop, which may be somebody else's.
            self._errors.append(error)
            self._cancel()
        finally:
            future.cancel()  # if nothing else has settled it

    def _catch_up(self) -> None:
        """A Ctrl-C in the middle of a turn costs the loop a callback, in scope "caller" that of any call."""
        for begin in tuple(self._unbegun.values()):
            begin()
        for child in [child for child in self._children if child.done()]:
            self._child_ended(child)

    def _child_ended(self, child: Task) -> None:
        task = self._children.pop(child, None)
        if task is None:
            return
        task._future.cancel()  # of one that was cancelled before its first step
        error = error_of(child)
        if error is not None and not child.cancelled():
            self._errors.append(error)
            self._cancel()
        self._news.ring()

    def _cancel(self) -> None:
        self._is_cancelled = True
        for task in self._children.values():
            task._cancel()

    def _time_out(self) -> None:
        self._has_timed_out = True
        self._cancel()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        if exc_value is not None:
            self._cancel()
        try:
            self._catch_up()
            while self._unbegun or self._children:
                await self._news.wait()
        except BaseException:
            self._cancel()
            await self._tasks.all_end(list(self._children))
            self._log(self._errors)
            raise
        finally:
            self._is_open = False
            if self._timeout is not None:
                self._end_timer()
        errors, self._errors = self._errors, []
        fatal = [error for error in errors if not is_a(error, Exception)]
        if fatal:
            self._log(errors)
            raise fatal[0]
        if exc_value is not None and not is_a(exc_value, Exception):
            self._log(errors)
            return False
        if is_a(exc_value, CancelledError) and (errors or self._has_timed_out or self._was_told_to_cancel):
            exc_value = (
                None  # of a body that has waited for what was cancelled with the group: what counts is why
            )
        if exc_value is not None and not any(error is exc_value for error in errors):
            errors.insert(0, exc_value)
        if errors:
            raise BaseExceptionGroup("unhandled errors in a group", errors)
        if self._has_timed_out:
            raise TimeoutError(f"the group did not end within {self._timeout} s; its calls were cancelled")
        return True

    def _log(self, errors: Iterable[BaseException]) -> None:
        """For those that nobody gets, as something else ends the block, such as what a signal handler has raised."""
        for error in errors:
            if is_a(error, Exception) and not is_of_handler(error):
                logging.getLogger("syncline").error("a call of a group failed", exc_info=exc_info(error))


class StandingLoop:
    """While a thread waits in its block, the group's loop is looked at: where somebody else has stopped it, and runs it
    no more, the group's calls are cancelled, which they learn if it is run again, and who waits for them is freed (by
    2)."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self._stands_since: float | None = None
        self._is_over = False

    def __enter__(self) -> None:
        end = self._group._loop_end
        if end is not None and end.is_of_others:
            # At the exit no thread starts any more, which the wait finds as well.
            with suppress(RuntimeError):
                watch(self)

    def __exit__(self, *_: object) -> None:
        self._is_over = True

    def look(self) -> bool:
        """Called from time to time, in another thread. False once there is nothing more to look for."""
        end = self._group._loop_end
        if self._is_over or end is None:
            return False
        if not end.stands():
            self._stands_since = None
            return True
        now = time.monotonic()
        if self._stands_since is None:
            self._stands_since = now
        if now - self._stands_since < LONGEST_STAND:
            return True
        with suppress(RunnerClosedError):
            self._group._tell(self._group._cancel)
        _lose(ref(self._group))
        return False


def _lose(known: ref[Group]) -> None:
    """The group's loop is gone: frees whoever waits for what it has not ended (by 2). In whichever thread."""
    group = known()
    for task in () if group is None else (*tuple(group._unbegun), *tuple(group._children.values())):
        with suppress(InvalidStateError):
            task._future.set_exception(
                RunnerClosedError(
                    "the group's loop was closed or stopped before the call ended, or nobody has run it; the coroutine "
                    "was cancelled"
                )
            )


class Starting:
    """The `task_status` of a call that `start` waits for."""

    def __init__(self, future: SafeFuture[Any]) -> None:
        self._future = future

    def started(self, value: Any = None) -> None:
        """Ends the wait of `start`, which returns the value."""
        if self._future.done():
            raise RuntimeError("task_status.started() was called before")
        self._future.set_result(value)


async def arrival(future: SafeFuture[Any]) -> None:
    """Waits until a future of another thread is done. Cancelling the wait leaves the future alone."""
    tasks = here()
    bell = tasks.new_bell()

    def ring(_: object) -> None:
        with suppress(RuntimeError):  # the loop that waits has ended, and the wait with it
            tasks.call_soon(bell.ring)

    future.add_done_callback(ring)
    await bell.wait()


def _sync_function(fn: Any, made: object) -> str:
    name = name_of(fn)
    return (
        f"a group runs async functions, and the sync function {name!r} has run and returned {type(made).__name__}; "
        f"call it directly, or in a worker thread: group.start(syncline.to_thread, {name})"
    )
