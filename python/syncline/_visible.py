"""Tasks of ours as the interpreter's own tools see them: `Bridge(visible=True)`.

Those of Python 3.14 and newer read a process from outside (`python -m asyncio ps`, `python -m profiling.sampling`). Of
a task they read its name, its coroutine, what that awaits, and so on, as long as these are native coroutines; and which
tasks wait for it. A coroutine of ours is not native: it steps the user's, in a greenlet. So the task is given a native
one, `syncline_task`, which has ours make its steps. While the task is suspended, that awaits copies of the frames that
are suspended: native coroutines with the names, files and lines of those frames, and nothing to do.

Invariants:
1. Of what is here one frame, `syncline_task`, may show in a traceback. Errors that the task is to raise in the user's
   coroutine are kept by `Steps`, and pass through no frame of the copies.
2. A task has an edge to the one that waits for it from its first suspension on, until it ends, another one waits, or
   that one stops waiting.
"""

from __future__ import annotations

import asyncio
import sys
import types
import weakref
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ._core import BridgedCoroutine, Nestable, SessionCoroutine, Steps, layers_of, name_of
from ._logical import frames

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context
    from types import FrameType

    _Link = tuple[asyncio.Task[Any], asyncio.Task[Any]]
    """A task, and the one that waits for it."""

R = TypeVar("R")
Start = TypeVar("Start", bound="Callable[..., Any]")

_HAS_TOOLS = sys.version_info >= (3, 14)
_HAS_EAGER_TASKS = sys.version_info >= (3, 12)


class ShownTask(asyncio.Task[R]):
    """A task whose coroutine is `syncline_task`, or one of ours. Whoever asks for its coroutine gets ours: only tools
    that read the process from outside see the other one."""

    __slots__ = ()

    if _HAS_TOOLS:

        def get_coro(self) -> Any:
            return _behind(super().get_coro())

        @property
        def _coro(self) -> Any:
            return self.get_coro()

    if sys.version_info[:2] == (3, 13):

        def set_name(self, value: object, /) -> None:
            """But for None: `create_task` of Python 3.13.0 gives a factory's task the name it was asked for, also where
            that is none."""
            if value is not None:
                super().set_name(value)

    def get_stack(self, *, limit: int | None = None) -> list[FrameType]:
        """As asyncio's, with all frames of a task that is suspended, to the innermost coroutine."""
        layers = [] if self.done() else layers_of(self.get_coro())
        if not layers or _is_running(layers[-1]):
            return super().get_stack(limit=limit)
        shown = list(frames(layers))
        return shown if limit is None else shown[len(shown) - min(limit, len(shown)) :]


def _is_running(layer: tuple[Any, Any, Any]) -> bool:
    coroutine, greenlet, _ = layer
    # A generator counts as running while somebody awaits its step, also where that is suspended.
    is_step = getattr(coroutine, "ag_running", False) and coroutine.ag_await is None
    return greenlet is None and (is_step or getattr(coroutine, "cr_running", False))


def _behind(coroutine: Any) -> Any:
    if getattr(coroutine, "cr_code", None) is not syncline_task.__code__:
        return coroutine
    frame = coroutine.cr_frame
    return coroutine if frame is None else frame.f_locals["steps"].coroutine


def show_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Has all tasks of a new loop of ours shown, unless its maker has put a task factory on it."""
    if loop.get_task_factory() is None:
        loop.set_task_factory(make_shown)


_shown_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def show_calls(loop: asyncio.AbstractEventLoop) -> None:
    """Has the tasks of our calls shown on a loop that somebody else runs."""
    _shown_loops.add(loop)


def is_shown(loop: asyncio.AbstractEventLoop) -> bool:
    return loop in _shown_loops


def make_shown(
    loop: asyncio.AbstractEventLoop,
    coro: Any,
    *,
    name: str | None = None,
    context: Context | None = None,
    **options: Any,
) -> asyncio.Task[Any]:
    """A task factory."""
    is_call = isinstance(coro, (BridgedCoroutine, SessionCoroutine))
    if is_call and _HAS_EAGER_TASKS:
        options["eager_start"] = True
    if name is None:
        name = name_of(coro)
    if _HAS_TOOLS and (is_call or isinstance(coro, Nestable)):
        # So that a cancellation before the task's first step gets to the user's coroutine.
        has_begun = not options.get("eager_start")
        coro = syncline_task(Steps(coro, has_begun=has_begun), has_begun)
        if has_begun:
            coro.send(None)
    return ShownTask(coro, loop=loop, name=name, context=context, **options)


async def syncline_task(steps: Steps, has_begun: bool = False) -> Any:
    """Has a coroutine make its steps; between them, shows where it is suspended."""
    link = None
    try:
        if has_begun:
            await steps
        while True:
            try:
                if not steps.make():
                    return steps.result
                link = _linked(steps, link)
                await steps.copies()
            except GeneratorExit:
                raise
            except BaseException as error:
                if steps.is_over:
                    raise
                if not steps.pass_on(error):
                    steps.give(error)
    finally:
        if link is not None:
            _unlink(link)


def _linked(steps: Steps, link: _Link | None) -> _Link | None:
    """Says which task waits for this one, if any does; what was said before is taken back, by 2."""
    task = steps.waiter()
    if link is not None:
        if link[1] is task:
            return link
        _unlink(link)
    current = None if task is None else asyncio.current_task()
    if current is None or task is None or task is current:
        return None
    cast("Any", asyncio).future_add_to_awaited_by(current, task)
    return current, task


def _unlink(link: _Link) -> None:
    cast("Any", asyncio).future_discard_from_awaited_by(*link)


def add_waiter(task: asyncio.Task[Any] | None) -> asyncio.Task[Any] | None:
    """Says that this thread's task waits for `task`, where both are known. Returns this thread's."""
    loop = asyncio._get_running_loop()
    current = None if loop is None or not _HAS_TOOLS else asyncio.current_task(loop)
    if task is not None and current is not None:
        cast("Any", asyncio).future_add_to_awaited_by(task, current)
    return current


def drop_waiter(task: asyncio.Task[Any], waiter: asyncio.Task[Any]) -> None:
    """Takes that back."""
    _unlink((task, waiter))


def awaited_by_this_task(start: Start) -> Start:
    """What starts tasks, for a task that waits for all of them: where it is shown, so is that."""
    waiter = asyncio.current_task()
    if not _HAS_TOOLS or not isinstance(waiter, ShownTask):
        return start

    def start_awaited(*args: Any) -> Any:
        task = start(*args)
        if not task.done():
            cast("Any", asyncio).future_add_to_awaited_by(task, waiter)
            task.add_done_callback(forget)
        return task

    def forget(task: asyncio.Task[Any]) -> None:
        _unlink((task, waiter))

    return cast("Start", start_awaited)


async def _copy(inner: Any) -> Any: return await inner  # fmt: skip


def new_copy(frame: FrameType) -> Callable[[Any], Coroutine[Any, Any, Any]]:
    """What makes copies of a frame that is suspended where that one is."""
    code, shape = frame.f_code, _copy.__code__
    units = len(shape.co_code) // 2
    # Says that all instructions are on the first line, in no column; an entry is for eight at most.
    entries = [0x80 | 13 << 3 | min(8, units - done) - 1 for done in range(0, units, 8)]
    copied = shape.replace(
        co_name=code.co_name,
        co_qualname=code.co_qualname,
        co_filename=code.co_filename,
        co_firstlineno=frame.f_lineno or code.co_firstlineno,
        co_linetable=b"".join(bytes((entry, 0)) for entry in entries),
    )
    return types.FunctionType(copied, {})
