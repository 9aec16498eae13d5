"""From a task to the innermost code that it waits in: through coroutines, generators, and nested calls."""

from __future__ import annotations

import asyncio
import dis
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from .. import _core
from .._logical import stack_of_parked, step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

_ASYNC_FRAMES = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR | inspect.CO_ITERABLE_COROUTINE
_AWAITS = ("SEND", "YIELD")
"""What the names of instructions begin with in which a coroutine awaits another one."""


class Chain(NamedTuple):
    """A coroutine, and whatever it waits for by `await` or by a nested call."""

    segments: list[list[FrameType]]
    """The frames, the outermost first. Each segment but the last ends in code that a nested call of the next one
    blocks."""
    leaf: Any
    """What the innermost coroutine awaits, which is none itself; None where it runs, or has not begun."""


def coroutine_of(task: Any) -> Any:
    """What a task of asyncio's, of trio's or of ours runs."""
    if hasattr(task, "get_coro"):
        return task.get_coro()
    return getattr(task, "coroutine", None) or getattr(task, "coro", None)


def chain_of(awaited: Any) -> Chain:
    """From that coroutine on."""
    segments: list[list[FrameType]] = [[]]
    while awaited is not None:
        calls = _core.nested_calls(awaited)
        if calls:
            for greenlet, _ in calls:
                segments.extend(segments_of(reversed(list(stack_of_parked(greenlet))), segments.pop()))
                segments.append([])
            awaited = calls[-1][1]
            continue
        # A coroutine of ours shows the frame of the one that it runs, and what that awaits.
        frame, inner = step(awaited)
        if frame is None and inner is None:
            break
        if frame is not None:
            segments[-1].append(frame)
        awaited = inner
    return Chain(segments, awaited)


def makes_nested_call(task: Any) -> bool:
    """Whether a task is parked in a nested call."""
    awaited = coroutine_of(task)
    while awaited is not None:
        if _core.nested_calls(awaited):
            return True
        awaited = step(awaited)[1]
    return False


def segments_of(stack: Iterable[FrameType], before: list[FrameType]) -> list[list[FrameType]]:
    """A stack, the outermost frame first, in the segments of a `Chain`. `before` is what the first segment has already,
    and what awaits the first frame."""
    segments = [before]
    last: FrameType | None = None
    for frame in stack:
        if last is not None and is_async(frame) and not _awaits(last):
            segments.append([])
        segments[-1].append(frame)
        last = frame
    return segments


def frames_of(task: Any) -> Iterator[FrameType]:
    """All frames of a task, the outermost first."""
    for segment in chain_of(coroutine_of(task)).segments:
        yield from segment


def is_async(frame: FrameType) -> bool:
    """Whether it is that of a coroutine, or of an async generator."""
    return bool(frame.f_code.co_flags & _ASYNC_FRAMES)


def _awaits(frame: FrameType) -> bool:
    """Whether what runs above this frame is awaited by it, and not called."""
    if not is_async(frame):
        return False
    code, at = frame.f_code.co_code, frame.f_lasti
    # While another frame runs above, `f_lasti` may point into the caches behind the instruction.
    while at > 0 and dis.opname[code[at]] == "CACHE":
        at -= 2
    return at >= 0 and dis.opname[code[at]].startswith(_AWAITS)


def tasks_awaited(waiting: Any, innermost: FrameType | None) -> list[Any]:
    """The tasks that a task waits for, in whose innermost coroutine it does so."""
    waiter = getattr(waiting, "_fut_waiter", None)
    if isinstance(waiter, asyncio.Task):
        return [waiter]
    children = getattr(waiter, "_children", None)
    if children:  # asyncio.gather
        return [each for each in children if isinstance(each, asyncio.Task) and not each.done()]
    if innermost is None or not _is_of_library(innermost):
        return []
    # asyncio.wait, wait_for, a task group, anyio's: they keep the tasks in their variables.
    local = innermost.f_locals
    held = [*local.values(), getattr(local.get("self"), "_tasks", None)]
    found = {id(task): task for each in held for task in _tasks_in(each)}
    return [task for task in found.values() if task is not waiting and not task.done()]


def _is_of_library(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    return isinstance(module, str) and module.partition(".")[0] in ("asyncio", "anyio")


def _tasks_in(held: Any) -> list[Any]:
    if isinstance(held, asyncio.Task):
        return [held]
    if isinstance(held, (set, frozenset, list, tuple)):
        return [each for each in tuple(cast("Iterable[Any]", held)) if isinstance(each, asyncio.Task)]
    return []
