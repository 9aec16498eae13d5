"""A loop's thread that waits for a lock which the waiting thread holds.

Other threads' frames stand still only as long as this thread holds the interpreter, so what they say is checked twice
before it is believed.
"""

from __future__ import annotations

import dis
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, cast

from .stacks import format_frame, parked_frames, stack_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType, FrameType

_SECOND_LOOK_AFTER = 0.005
"""Seconds. Long enough for a thread that is only passing to have moved on."""
_LOCK_TYPES = (type(threading.Lock()), type(threading.RLock()))
_MISSING = object()


def blocked_on_lock(loop_thread_id: int, waiter_thread_id: int) -> str | None:
    """Says so, with both stacks, if the loop's thread waits for a lock that the thread which waits for it holds."""
    first = acquiring_in(loop_thread_id)
    if first is None:
        return None
    if holder_in_thread(loop_thread_id, first):
        return _blocked_on_own_lock(loop_thread_id, waiter_thread_id, first)
    if not _holds(waiter_thread_id, first[2]):
        return None
    # Production code that polls another thread: there is no event to wait for.
    time.sleep(_SECOND_LOOK_AFTER)
    second = acquiring_in(loop_thread_id)
    if (
        second is None
        or first[:2] != second[:2]
        or first[2] is not second[2]
        or not _holds(waiter_thread_id, first[2])
    ):
        return None
    return (
        f"the coroutine waits for {first[2]!r}, which the thread that waits for the coroutine holds; release the lock "
        f"before the call, or use an asyncio lock\n"
        f"this thread:\n{stack_of(waiter_thread_id)}\nthe loop's thread:\n{stack_of(loop_thread_id)}"
    )


def _blocked_on_own_lock(
    loop_thread_id: int, waiter_thread_id: int, first: tuple[FrameType, int, Any]
) -> str | None:
    """The same if the loop's thread holds it itself: sync code took it, and a nested call below takes it again; or so
    does another task, while the nested call awaits."""
    time.sleep(_SECOND_LOOK_AFTER)
    second = acquiring_in(loop_thread_id)
    if second is None or first[:2] != second[:2] or first[2] is not second[2]:
        return None
    holder = holder_in_thread(loop_thread_id, second)
    if holder is None:
        return None
    reason = (
        f"a coroutine waits for {first[2]!r}, which sync code in the same thread holds, below a nested call"
    )
    parts = [
        f"{reason}; release the lock before the call, or use an asyncio lock",
        f"the loop's thread:\n{stack_of(loop_thread_id)}",
        "" if holder[0] is second[0] else f"the holder, parked in a nested call:\n{format_frame(holder[0])}",
        f"this thread:\n{stack_of(waiter_thread_id)}",
    ]
    return "\n".join(part for part in parts if part)


def holder_in_thread(
    thread_id: int, acquiring: tuple[FrameType, int, Any]
) -> tuple[FrameType, FrameType] | None:
    """The stack, present or parked, in which that thread itself is in the `with` block of the same plain lock, by its
    innermost frame; and the frame with the block. (`acquire` alone proves nothing: another thread may be the one that
    releases.)"""
    frame, _, lock = acquiring
    if not isinstance(lock, _LOCK_TYPES[0]):
        return None
    starts = [(frame, frame.f_back), *((left, left) for left in parked_frames(thread_id))]
    for innermost, start in starts:
        each = start
        while each is not None:
            if any(held is lock for held in _locks_held_in(each, by_with_only=True)):
                return innermost, each
            each = each.f_back
    return None


def acquiring_in(thread_id: int) -> tuple[FrameType, int, Any] | None:
    """The frame, instruction and lock at which a thread is about to take, or waits for, a lock that is taken."""
    frame = sys._current_frames().get(thread_id)
    if frame is None:
        return None
    lock = _lock_at(frame)
    return None if lock is None or not _is_locked(lock) else (frame, frame.f_lasti, lock)


def _lock_at(frame: FrameType) -> Any:
    code = frame.f_code
    instructions = _instructions(code)
    index = next((i for i, each in enumerate(instructions) if each.offset == frame.f_lasti), None)
    if index is None:
        return None
    at = instructions[index]
    if at.opname == "BEFORE_WITH" or (at.opname == "CALL" and _is_enter(instructions, index)):
        return _inner_lock(_evaluate(frame, instructions[:index]))
    if at.opname.startswith("CALL"):
        return _inner_lock(_acquired_by_call(frame, instructions[:index]))
    return None


def _is_enter(instructions: Sequence[dis.Instruction], index: int) -> bool:
    """3.14: `with` loads `__exit__` and `__enter__` as special methods, then calls the latter."""
    before = instructions[index - 1]
    return before.opname == "LOAD_SPECIAL" and "__enter__" in before.argrepr


def _instructions(code: CodeType) -> list[dis.Instruction]:
    skipped = {"CACHE", "PRECALL", "PUSH_NULL", "NOP", "EXTENDED_ARG", "COPY", "SWAP", "RESUME"}
    return [each for each in dis.get_instructions(code) if each.opname not in skipped]


def _acquired_by_call(frame: FrameType, before: Sequence[dis.Instruction]) -> Any:
    """For `X.acquire()`: X. With arguments it may give up by itself, and then nothing is certain."""
    last = before[-1] if before else None
    if last is not None and last.opname in ("LOAD_METHOD", "LOAD_ATTR") and last.argval == "acquire":
        return _evaluate(frame, before[:-1])
    return None


def _evaluate(frame: FrameType, before: Sequence[dis.Instruction]) -> Any:
    """The value of the name, or chain of attributes, that the last instructions load; runs no code of the user's."""
    attributes: list[str] = []
    for each in reversed(before):
        if each.opname == "LOAD_SPECIAL":
            continue
        if each.opname == "LOAD_ATTR":
            attributes.append(each.argval)
            continue
        value = _variable(frame, each)
        for name in reversed(attributes):
            value = _attribute(value, name)
        return value
    return _MISSING


def _variable(frame: FrameType, load: dis.Instruction) -> Any:
    # A fused load, or store and load (3.13), has the names of both.
    argument = cast("Any", load).argval
    if isinstance(argument, tuple):
        argument = cast("Any", argument)[-1]
    if load.opname.startswith(
        ("LOAD_FAST", "STORE_FAST_LOAD_FAST", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_NAME")
    ):
        value = frame.f_locals.get(argument, _MISSING)
        if value is not _MISSING or not load.opname.startswith("LOAD_NAME"):
            return value
    if load.opname.startswith(("LOAD_GLOBAL", "LOAD_NAME")):
        return frame.f_globals.get(argument, _MISSING)
    return _MISSING


def _attribute(owner: Any, name: str) -> Any:
    if owner is _MISSING:
        return _MISSING
    try:
        found = object.__getattribute__(owner, "__dict__").get(name, _MISSING)
    except (AttributeError, TypeError):
        found = _MISSING
    if found is _MISSING:
        # A slot, or a class's attribute; a property would run code, and is left alone.
        for cls in cast("Any", type).__mro__.__get__(type(owner)):
            found = cls.__dict__.get(name, _MISSING)
            if type(found).__name__ == "member_descriptor":
                try:
                    return found.__get__(owner)
                except AttributeError:
                    return _MISSING
            if found is not _MISSING:
                break
    return found


def _inner_lock(value: Any) -> Any:
    """The real lock of a lock, condition or semaphore."""
    if isinstance(value, threading.Semaphore):
        value = _attribute(value, "_cond")
    if isinstance(value, threading.Condition):
        value = _attribute(value, "_lock")
    return value if isinstance(value, _LOCK_TYPES) else None


def _is_locked(lock: Any) -> bool:
    # RLock.locked() came with 3.14; the repr says it in all versions.
    return repr(lock).startswith("<locked ")


def _holds(thread_id: int, lock: Any) -> bool:
    if isinstance(lock, _LOCK_TYPES[1]):
        return f"owner={thread_id} " in repr(lock)
    frame = sys._current_frames().get(thread_id)
    while frame is not None:
        if any(held is lock for held in _locks_held_in(frame)):
            return True
        frame = frame.f_back
    return False


def _locks_held_in(frame: FrameType, *, by_with_only: bool = False) -> Iterator[Any]:
    """Plain locks that this frame has taken: by `with`, whose block it is in, or by `acquire`, not released since."""
    instructions = _instructions(frame.f_code)
    handlers = _enclosing_handlers(frame)
    entered: list[Any] = []
    taken: list[Any] = []
    for index, each in enumerate(instructions):
        if each.offset >= frame.f_lasti:
            break
        is_enter = each.opname == "BEFORE_WITH" or (each.opname == "CALL" and _is_enter(instructions, index))
        if is_enter and _handler_after(frame.f_code, each.offset) in handlers:
            entered.append(_inner_lock(_evaluate(frame, instructions[:index])))
        elif each.opname in ("LOAD_METHOD", "LOAD_ATTR") and each.argval == "acquire":
            taken.append(_inner_lock(_evaluate(frame, instructions[:index])))
        elif each.opname in ("LOAD_METHOD", "LOAD_ATTR") and each.argval == "release":
            released = _inner_lock(_evaluate(frame, instructions[:index]))
            entered = [lock for lock in entered if lock is not released]
            taken = [lock for lock in taken if lock is not released]
    yield from entered
    if not by_with_only:
        yield from taken


def _exception_table(code: CodeType) -> list[tuple[int, int, int]]:
    # `dis` parses the table; there is no public way to have it without printing.
    entries: list[Any] = cast("Any", dis)._parse_exception_table(code)
    return [(entry.start, entry.end, entry.target) for entry in entries]


def _enclosing_handlers(frame: FrameType) -> set[int]:
    """Where an exception raised here would go, and one raised there, and so on: one handler for each block around."""
    table = _exception_table(frame.f_code)
    handlers: set[int] = set()
    at = [frame.f_lasti]
    while at:
        offset = at.pop()
        around = {target for start, end, target in table if start <= offset < end} - handlers
        handlers |= around
        at.extend(around)
    return handlers


def _handler_after(code: CodeType, offset: int) -> int | None:
    """The handler of the `with` block that begins behind this instruction."""
    following = [(start, target) for start, _, target in _exception_table(code) if start > offset]
    return min(following)[1] if following else None


# A loop that waits for a coroutine which needs that loop
