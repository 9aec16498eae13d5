"""The stack of a suspended task as its author thinks of it: coroutines that await each other, and the sync code between
them where a nested call awaits in place.

The core hands over layers: a coroutine; and, if it is in the middle of a nested call, the greenlet that is parked
there, and the coroutine that the call drives.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._carriers import carry

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType


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
        below: list[FrameType] = []
        frame: FrameType | None = greenlet.gr_frame
        while frame is not None and frame.f_code is not carry.__code__:
            below.append(frame)
            frame = frame.f_back
        yield from reversed(below)
        yield from awaited_frames(nested)


def awaited_frames(awaited: Any) -> Iterator[FrameType]:
    """The frames of a coroutine and of all that it awaits in turn, as far as each says what it awaits."""
    while awaited is not None:
        for frame_name, next_name in _NAMES:
            frame = getattr(awaited, frame_name, None)
            if frame is not None:
                yield frame
                awaited = getattr(awaited, next_name, None)
                break
        else:
            return


_NAMES = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))
