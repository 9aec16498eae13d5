"""Awaiting in place, for asyncio's own functions, which `nest_asyncio.apply` has patched.

1. What is awaited runs in a task of its own, as with asyncio's functions, and its caller waits: in a strand, or, where
   the present stack is none, while `_turning` turns the loop.
2. SystemExit and KeyboardInterrupt would end the loop's run if they left a task. Here they are carried to the caller.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from asyncio import events, tasks
from typing import TYPE_CHECKING, Any, TypeVar

from .. import _core, _turning

if TYPE_CHECKING:
    import contextvars
    from collections.abc import Awaitable, Generator

T = TypeVar("T")
Loop = asyncio.AbstractEventLoop


def refuse_running(loop: Loop) -> None:
    if loop.is_running():
        raise RuntimeError(
            "This event loop is already running, and not here: in another thread, or around the loop that runs here; "
            "from another thread use asyncio.run_coroutine_threadsafe(coroutine, loop).result()"
        )


@contextlib.contextmanager
def hidden(loop: Loop) -> Generator[None]:
    """In its block another loop can run in this thread, while this one waits with all its tasks."""
    task = asyncio.current_task(loop)
    if task is not None:
        tasks._leave_task(loop, task)
    events._set_running_loop(None)
    try:
        yield
    finally:
        events._set_running_loop(loop)
        if task is not None:
            tasks._enter_task(loop, task)


class _Raised:
    """What would end the loop's run if it left its task."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def _guarded(awaitable: Awaitable[T]) -> T | _Raised:
    try:
        return await awaitable
    except (SystemExit, KeyboardInterrupt) as error:
        return _Raised(error)


def run_in(loop: Loop, coro: Awaitable[T], context: contextvars.Context | None) -> T:
    """As `asyncio.run`, in the running loop. As with nest_asyncio, it may be any awaitable."""
    if not inspect.isawaitable(coro):
        raise ValueError(f"a coroutine was expected, got {coro!r}")
    made: T = _made_and_awaited(loop, coro, context)
    return made


def completed(loop: Loop, future: Awaitable[T]) -> T:
    """As `loop.run_until_complete`, in the running loop."""
    if asyncio.isfuture(future):
        known: asyncio.Future[T] = asyncio.ensure_future(future, loop=loop)  # which checks whose it is
        wait(loop, known)
        result: T = known.result()
        return result
    if not inspect.isawaitable(future):
        raise TypeError("An asyncio.Future, a coroutine or an awaitable is required")
    made: T = _made_and_awaited(loop, future, None)
    return made


def _made_and_awaited(loop: Loop, awaitable: Awaitable[T], context: contextvars.Context | None) -> T:
    try:
        _check(loop)
    except BaseException:
        _drop(awaitable)
        raise
    coroutine = _guarded(awaitable)
    for name in ("__name__", "__qualname__"):
        setattr(coroutine, name, getattr(awaitable, name, type(awaitable).__name__))
    task = loop.create_task(coroutine) if context is None else loop.create_task(coroutine, context=context)
    try:
        wait(loop, task)
    except BaseException as error:
        # Nobody waits for it any more, if it goes on.
        task.cancel()
        _drop(awaitable)
        if isinstance(error, KeyboardInterrupt) and not task.done():
            with contextlib.suppress(asyncio.CancelledError):
                wait(loop, task)
        raise
    result: T | _Raised = task.result()
    if isinstance(result, _Raised):
        raise result.error
    return result


def _drop(awaitable: Awaitable[object]) -> None:
    """For what was not begun: else Python warns that it was never awaited."""
    if inspect.iscoroutine(awaitable) and inspect.getcoroutinestate(awaitable) == inspect.CORO_CREATED:
        awaitable.close()


def _check(loop: Loop) -> None:
    """Raises RuntimeError where no nested call can be made."""
    if _core.can_await_here():
        return
    if _turning.can_turn(loop):
        _core.Aside()  # which raises on a bridge's loop
        return
    task = asyncio.current_task(loop)
    what = (
        f"the task {task.get_name()!r} was made before apply(), or past its loop"
        if task
        else "no task runs here"
    )
    raise RuntimeError(
        f"a nested call can't await in place here, as {what}, and a loop of {type(loop).__module__!r} can't be turned "
        "from within; call apply() before the loop runs, make the call in a task (loop.create_task(...)), or below a "
        "function decorated with @syncline.nestable"
    )


def wait(loop: Loop, future: asyncio.Future[Any]) -> None:
    """Awaits the future in place."""
    if future.done():
        return
    task = asyncio.current_task(loop)
    if task is not None and _leads_to(future, task):
        raise _core.DeadlockError(f"this nested call waits for the task that it is made in: {task!r}")
    _check(loop)
    if _core.can_await_here():
        _core.await_here(future)
    else:
        _turning.wait(loop, future)


def _leads_to(future: asyncio.Future[Any], task: asyncio.Task[Any]) -> bool:
    """Whether the future can't end before `task` goes on."""
    seen: set[int] = set()
    left: list[Any] = [future]
    while left:
        each = left.pop()
        if each is task:
            return True
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        left += [getattr(each, "_fut_waiter", None), _turning.waited_for(each)]
        left += getattr(each, "_children", ())  # of what asyncio.gather() has returned
    return False
