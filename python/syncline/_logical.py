"""The stack of a suspended task as its author thinks of it: coroutines that await each other, and the sync code between
them where a nested call awaits in place.

The core hands over layers: a coroutine; and, if it is in the middle of a nested call, the greenlet that is parked
there, and the coroutine that the call drives.
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from ._carriers import carry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType


_NAMES = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))
_WRITTEN_IN_C = ("async_generator_asend", "async_generator_athrow", "anext_awaitable", "coroutine_wrapper")
"""What drives a coroutine or a generator, and has no frame."""


class Level:
    """One frame of a stack. It has what a coroutine has for those who look at stacks."""

    __slots__ = ("cr_await", "cr_frame")

    def __init__(self, frame: FrameType | None, inner: Level | None) -> None:
        self.cr_frame = frame
        self.cr_await = inner


def linked(layers: Iterable[tuple[Any, Any, Any]]) -> Level:
    """The frames as levels that lead from one to the next, outermost first."""
    level = None
    for frame in reversed(list(frames(layers))):
        level = Level(frame, level)
    return level or Level(None, None)


def frames(layers: Iterable[tuple[Any, Any, Any]]) -> Iterator[FrameType]:
    """The frames of all layers, outermost first."""
    for coroutine, greenlet, nested in layers:
        if greenlet is None:
            yield from awaited_frames(coroutine)
            continue
        yield from reversed(list(stack_of_parked(greenlet)))
        yield from awaited_frames(nested)


def awaited_frames(awaited: Any) -> Iterator[FrameType]:
    """The frames of a coroutine and of all that it awaits in turn, as far as each says what it awaits."""
    while awaited is not None:
        frame, awaited = step(awaited)
        if frame is not None:
            yield frame


def step(awaited: Any) -> tuple[FrameType | None, Any]:
    """The frame of a coroutine or a generator, and what it awaits; of what has no frame, what it drives."""
    for frame_name, await_name in _NAMES:
        frame = getattr(awaited, frame_name, None)
        if frame is not None:
            return frame, getattr(awaited, await_name, None)
    if type(awaited).__name__ in _WRITTEN_IN_C:
        # They show what they drive to the garbage collector only.
        for held in gc.get_referents(awaited):
            if type(held).__name__ in _WRITTEN_IN_C or any(hasattr(held, name) for name, _ in _NAMES):
                return None, held
    return None, None


def stack_of_parked(greenlet: Any) -> Iterator[FrameType]:
    """The frames of a greenlet that is parked, the innermost first."""
    frame = greenlet.gr_frame
    while frame is not None and frame.f_code is not carry.__code__:
        yield frame
        frame = frame.f_back
