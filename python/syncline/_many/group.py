"""`with syncline.group() as group:` a task group for sync code, on anyio's.

1. anyio's group lives in a task of its own, the host, which waits until the block ends. So a child that fails cancels
   the host and the other children, and never the task that enters and leaves the block: that one may wait for sync code
   meanwhile, which can't be cancelled.
2. Sync code, in whatever thread, tells the loop what to do, and waits for a future if it has to.
3. Each task's future is settled when the task ends, however that is; one that never began is cancelled.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from concurrent.futures import CancelledError
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from types import TracebackType
from typing import Any, Generic, Literal, Self, TypeVar, TypeVarTuple, overload

from .._core import Bridge, RunnerClosedError
from .._dual import DualContextManager, run_by
from .._futures import SafeFuture
from .._groups import check_function, import_anyio, name_of
from .tasks import here

R = TypeVar("R")
Args = TypeVarTuple("Args")


class GroupTask(Generic[R]):
    """A call that `Group.start` has begun. Sync code waits by `result()`, async code by `await`."""

    def __init__(self, group: Group, name: str) -> None:
        self._group = group
        self._name = name
        self._future: SafeFuture[R] = SafeFuture()
        self._scope: Any = None

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
        if self._scope is None:
            self._future.cancel()
        else:
            self._scope.cancel()

    def __await__(self) -> Generator[Any, Any, R]:
        yield from _arrival(self._future).__await__()
        return self._future.result()

    def __repr__(self) -> str:
        state = "cancelled" if self.cancelled() else "done" if self.done() else "pending"
        return f"<GroupTask {self._name}: {state}>"


class Group(DualContextManager["Group"]):
    """Calls that end together; see `syncline.group`. For `with` and for `async with`; used once."""

    def __init__(self, bridge: Bridge, timeout: float | None) -> None:
        self._anyio = import_anyio("group")
        super().__init__()
        self._timeout = timeout
        self._is_open = False
        self._block_is_over = False
        self._was_cancelled = False
        self._error: BaseException | None = None
        self._to_begin: deque[tuple[GroupTask[Any], Callable[[], None]]] = deque()
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
        check_function("start", fn)
        if not self._is_open:
            raise RuntimeError(
                "start() works inside of the group's block: with syncline.group() as group: ..."
            )
        task: GroupTask[Any] = GroupTask(self, name or name_of(fn))
        carry = self._carry_until_started if wait_started else self._carry
        self._to_begin.append((task, partial(copy_context().run, self._begin, task, carry, fn, args)))
        self._tell(self._begin_all_soon)
        return task.result() if wait_started else task

    def cancel(self) -> None:
        """Cancels all calls of the group. The block then ends without an error, unless one of them fails meanwhile."""
        self._was_cancelled = True
        self._tell(self._cancel)

    def _tell(self, callback: Callable[[], object]) -> None:
        """Has the group's loop call this, soon (by 2)."""
        self._check_process()
        try:
            self._tasks.call_soon(callback)
        except RuntimeError:
            raise RunnerClosedError("the group's loop has ended") from None

    def _check_process(self) -> None:
        if self._process != os.getpid():
            raise RunnerClosedError(
                "the group is of the process that this one was forked from, whose loop has it; make a new one here"
            )

    def _wait(self, future: SafeFuture[Any], timeout: float | None) -> None:
        if not future.done():
            self._check_process()
            self.bridge.run(_arrival(future), timeout=timeout)

    # On the loop

    async def __aenter__(self) -> Self:
        if hasattr(self, "_process"):
            raise RuntimeError("a group is used once; make another one: syncline.group()")
        self._process = os.getpid()
        self._tasks = here()
        event = self._anyio.Event
        self._opened, self._ended, self._news = event(), event(), self._tasks.new_bell()
        self._host = self._tasks.start(self._run(), copy_context())
        await self._opened.wait()
        self._is_open = True
        return self

    async def _run(self) -> None:
        """The host (by 1)."""
        try:
            with self._anyio.move_on_after(self._timeout) as deadline:
                async with self._anyio.create_task_group() as self._task_group:
                    self._opened.set()
                    while self._to_begin or not self._block_is_over:
                        if self._to_begin:
                            self._to_begin.popleft()[1]()
                        else:
                            await self._news.wait()
            if deadline.cancelled_caught:
                self._error = TimeoutError(
                    f"the group did not end within {self._timeout} s; its calls were cancelled"
                )
        except BaseException as error:
            self._error = error
        finally:
            self._opened.set()
            self._ended.set()
            self._begin_none()

    def _begin_all_soon(self) -> None:
        self._news.ring()
        if self._ended.is_set():
            self._begin_none()

    def _begin_none(self) -> None:
        while self._to_begin:
            self._to_begin.popleft()[0]._future.cancel()

    def _begin(self, task: GroupTask[Any], carry: Callable[..., Any], fn: Any, args: tuple[Any, ...]) -> None:
        if not task.cancelled():
            task._scope = self._anyio.CancelScope()
            self._task_group.start_soon(carry, task, fn, args, name=task._name)

    async def _carry(self, task: GroupTask[Any], fn: Any, args: tuple[Any, ...]) -> None:
        """Runs one task of the group."""
        try:
            with task._scope:
                made = fn(*args)
                if not hasattr(made, "__await__"):
                    raise TypeError(_sync_function(fn, made))
                task._future.set_result(await made)
        except Exception as error:
            task._future.set_exception(error)
            raise
        finally:
            task._future.cancel()  # if nothing else has settled it

    async def _carry_until_started(self, task: GroupTask[Any], fn: Any, args: tuple[Any, ...]) -> None:
        try:
            task._future.set_result(await self._task_group.start(fn, *args, name=task._name))
        except Exception as error:  # for whoever waits, and not for the group
            task._future.set_exception(error)
        finally:
            task._future.cancel()

    def _cancel(self) -> None:
        self._task_group.cancel_scope.cancel()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._is_open = False
        self._block_is_over = True
        self._news.ring()
        if exc_value is not None:
            self._cancel()
        try:
            await self._ended.wait()
        except BaseException:
            self._cancel()
            with self._anyio.CancelScope(shield=True):
                await self._ended.wait()
            raise
        error, self._error = self._error, None
        if exc_value is None or isinstance(exc_value, CancelledError):
            # Of a body that has waited for a call which was cancelled with the group: the reason is what counts.
            if error is not None:
                raise error
            return exc_value is not None and self._was_cancelled
        if not isinstance(exc_value, Exception):
            return False
        errors = _errors(error)
        if not any(each is exc_value for each in _leaves(errors)):
            errors = [exc_value, *errors]
        raise BaseExceptionGroup("unhandled errors in a group", errors)


async def _arrival(future: SafeFuture[Any]) -> None:
    """Waits until a future of another thread is done. Cancelling the wait leaves the future alone."""
    tasks = here()
    bell = tasks.new_bell()

    def ring(_: object) -> None:
        with suppress(RuntimeError):  # the loop that waits has ended, and the wait with it
            tasks.call_soon(bell.ring)

    future.add_done_callback(ring)
    await bell.wait()


def _errors(error: BaseException | None) -> list[BaseException]:
    if error is None:
        return []
    return list(error.exceptions) if isinstance(error, BaseExceptionGroup) else [error]


def _leaves(errors: list[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in errors:
        found += _leaves(list(error.exceptions)) if isinstance(error, BaseExceptionGroup) else [error]
    return found


def _sync_function(fn: Any, made: object) -> str:
    name = name_of(fn)
    return (
        f"a group runs async functions, and the sync function {name!r} returned {type(made).__name__}; call it "
        f"directly, or in a worker thread: group.start(syncline.to_thread, {name})"
    )
