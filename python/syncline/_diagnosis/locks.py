"""Circles of waits: a loop's thread waits for a lock, or a module, that the thread waiting for the loop
holds, or for the end of that thread.

The search begins at the loop's thread. Each thread that can't go on leads to the one that it waits for: the
owner of a lock, the importer of a module, one that it joins or that runs its call in a pool, the thread of a
loop that has to run a call. If the way comes back to the waiting thread, nothing can end the wait. The same
goes for a circle further on, unless a call is part of it: then that call's caller is told.

1. A circle counts when it is seen twice, as other threads stand still only while this one holds the
   interpreter.
2. What a thread waits for is looked up once in a while, however many callers wait for it.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _core
from .frames import holds, is_plain, lock_waited_for, may_hold, may_release, owner_of
from .imports import module_waited_for
from .joined import joined_by
from .stacks import format_frame, stack_of, stacks_left

if TYPE_CHECKING:
    from types import FrameType

_SECOND_LOOK_AFTER = 0.005
"""Seconds. Long enough for a thread that is only passing to have moved on."""
_LOOK_AGAIN_AFTER = 0.9
"""Seconds. Each waiting caller looks once a second."""


class Step(NamedTuple):
    """A thread that can't go on before another one does."""

    key: tuple[object, ...]
    """Equal for two steps if they are the same wait."""
    blocker: int
    what: str | None
    """What it waits for, in words; None for a call."""
    module: str | None = None
    is_joined: bool = False
    """Whether it waits for what the other thread does, and not for what that holds."""


_seen: dict[int, tuple[float, int | None]] = {}
"""What was seen of threads (by 2): for each one until when that is believed, and the thread that it waits
for."""


def blocked_on_lock(loop_thread_id: int, waiter_thread_id: int) -> str | None:
    """Says so, with all stacks, if the loop's thread can't go on before the thread that waits for it does."""
    if not _closed_way(loop_thread_id, waiter_thread_id):
        return None
    first = _circle(loop_thread_id, waiter_thread_id)
    if first is None:
        return None
    # A sleep, as there is no event to wait for: this looks at other threads from outside.
    time.sleep(_SECOND_LOOK_AFTER)
    second = _circle(loop_thread_id, waiter_thread_id)
    if second is None or [step.key for _, step in first] != [step.key for _, step in second]:
        return None
    return _report(second, waiter_thread_id)


def way_into_a_circle(loop_thread_id: int) -> list[int]:
    """The threads of a circle that the loop's thread seems to be part of, or to wait for, and those on the way there;
    none if there is no circle. Those of them that wait for the loop have to look for themselves."""
    return _closed_way(loop_thread_id, None)


def _closed_way(thread: int, waiter: int | None) -> list[int]:
    """The threads from that one on, each of which waits for the next, if the way seems to come to `waiter` or to one of
    them again, by what was seen a short time ago (2); else none. A cheap look before `_circle` searches."""
    now = time.monotonic()
    way: list[int] = []
    while thread not in (*way, waiter):
        way.append(thread)
        good_until, blocker = _seen.get(thread, (0.0, None))
        if good_until <= now:
            step = _step_from(thread)
            blocker = None if step is None else step.blocker
            for gone in [each for each, (until, _) in list(_seen.items()) if until <= now]:
                _seen.pop(gone, None)
            _seen[thread] = (now + _LOOK_AGAIN_AFTER, blocker)
        if blocker is None:
            return []
        thread = blocker
    return way


def _circle(thread: int, waiter: int) -> list[tuple[int, Step]] | None:
    way: list[tuple[int, Step]] = []
    while True:
        step = _step_from(thread)
        if step is None:
            return None
        way.append((thread, step))
        if step.blocker == waiter:
            return way
        at = next((index for index, (known, _) in enumerate(way) if known == step.blocker), None)
        if at is not None:
            # Where a call is part of a circle, its caller is told, and the others go on.
            return None if any(each.what is None for _, each in way[at:]) else way
        thread = step.blocker


def _step_from(thread: int) -> Step | None:
    module = module_waited_for(thread)
    if module is not None:
        lock, importer, name = module
        return Step(
            (id(lock), importer), importer, f"the import of {name!r}, which another thread is importing"
        )
    frame = _core.current_frames().get(thread)
    if frame is None:
        return None
    joined = joined_by(frame)
    if joined is not None:
        return Step((id(frame), frame.f_lasti, joined.thread), joined.thread, joined.what, is_joined=True)
    lock = lock_waited_for(frame)
    if lock is not None:
        owner = owner_of(lock) or _holder(lock, thread)
        return None if owner is None else Step((id(frame), frame.f_lasti, id(lock), owner), owner, repr(lock))
    call = _core.long_wait_of(thread)
    return None if call is None else Step(call, call[1], None)


def _holder(lock: Any, thread: int) -> int | None:
    """The thread that holds a plain lock, if it is certain: one stack surely holds it, and no other may."""
    holders: list[int] = []
    for each, innermost in _core.current_frames().items():
        stacks = [innermost, *stacks_left(each)] if each == thread else [innermost]
        for stack in stacks:
            is_certain, may_be = _stack_holds(stack, lock)
            if is_certain is not None:
                holders.append(each)
            elif may_be:
                return None
    return holders[0] if is_plain(lock) and len(holders) == 1 else None


def _stack_holds(innermost: FrameType, lock: Any) -> tuple[FrameType | None, bool]:
    """The frame of this stack that holds the lock for certain, if one does, and whether any frame may hold
    it."""
    frame: FrameType | None = innermost
    may_be = is_released = False
    while frame is not None:
        if not is_released and holds(frame, lock):
            return frame, True
        may_be = may_be or may_hold(frame, lock)
        # A frame further up may have had the lock released by a function that it called: this one.
        is_released = is_released or may_release(frame, lock)
        frame = frame.f_back
    return None, may_be


def held_by_itself(thread: int) -> tuple[Any, FrameType, FrameType] | None:
    """A lock that a thread waits for and holds itself, further up, on a parked stack or in a suspended coroutine: the
    lock, the innermost frame of the stack in which it is held, and the frame that took it."""
    frame = _core.current_frames().get(thread)
    lock = None if frame is None else lock_waited_for(frame)
    if frame is None or lock is None or _holder(lock, thread) != thread:
        return None
    for innermost in (frame, *stacks_left(thread)):
        taken_in, _ = _stack_holds(innermost, lock)
        if taken_in is not None:
            return lock, innermost, taken_in
    return None


def _report(way: list[tuple[int, Step]], waiter: int) -> str:
    thread, step = next(((thread, step) for thread, step in way if step.what is not None), way[0])
    if step.what is None:
        holder = ""
    elif step.is_joined:
        holder = "this thread" if step.blocker == waiter else "another thread"
    elif step.blocker == thread:
        holder = "other code in the same thread"
    elif step.blocker == waiter:
        holder = "the thread that waits for the coroutine"
    else:
        holder = "another thread, which waits for this one,"
    if step.module is None:
        does, advice = "holds", "release the lock before the call, or use an asyncio lock"
    else:
        does = "is importing"
        advice = f"make the call after the import, in a function, or import {step.module!r} before the coroutine does"
    if step.what is None:  # calls only, of which one goes to a loop that somebody else runs
        what = "the loop's thread waits for a call that ends only when this thread goes on, and this thread for a call"
        parts = [f"{what} on that loop; await one of the two"]
    elif step.is_joined:
        advice = "await that there, by `await syncline.to_thread(fn)`, or make the call without a wait, by `submit`"
        parts = [f"a coroutine waits for {step.what}, and {holder} for the loop which that blocks; {advice}"]
    else:
        parts = [f"a coroutine waits for {step.what}, which {holder} {does}; {advice}"]
    for index, (each, _) in enumerate(way):
        if each != waiter:
            whose = "the loop's thread" if index == 0 else "a thread that is waited for"
            parts.append(f"{whose}:\n{stack_of(each)}")
    held = held_by_itself(thread) if step.blocker == thread else None
    if held is not None and held[1] is not _core.current_frames().get(thread):
        parts.append(f"the holder, which waits in between:\n{format_frame(held[1])}")
    parts.append(f"this thread:\n{stack_of(waiter)}")
    return "\n".join(parts)
