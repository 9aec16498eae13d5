"""Who blocks whom: looked at only when a wait has gone on for a while.

The core calls these functions in the waiting thread. They look at other threads' frames, which stand still only as long
as this thread holds the interpreter, so what they say is checked twice before it is believed.

A deadlock is reported only when it is certain; a stall may be one or not, and is described.
"""

from __future__ import annotations

import asyncio
import dis
import gc
import os
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING, Any, cast

from ._nestable import carriers_of, carry

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import CodeType, FrameType

_SECOND_LOOK_AFTER = 0.005
"""Seconds. Long enough for a thread that is only passing to have moved on."""
_LOCK_TYPES = (type(threading.Lock()), type(threading.RLock()))
_OUR_FOLDER = os.path.dirname(__file__)
_ASYNCIO_FOLDER = os.path.dirname(asyncio.__file__)
_MISSING = object()
_MOST_STACKS = 10
"""Of parked stacks, so many different ones are shown at most."""


# Stacks


def stack_of(thread_id: int) -> str:
    """The stack of a thread, innermost call last, without asyncio's frames and ours where the user has frames."""
    frame = sys._current_frames().get(thread_id)
    return "  (not running any Python code)" if frame is None else _format(frame)


def _format(frame: FrameType) -> str:
    summaries = traceback.extract_stack(frame)
    ours = (_OUR_FOLDER, _ASYNCIO_FOLDER, threading.__file__)
    users = [summary for summary in summaries if not summary.filename.startswith(ours)]
    return "".join(traceback.format_list(users or summaries)).rstrip("\n")


def _parked_frames(thread_id: int) -> list[FrameType]:
    """The innermost frame of each stack that this thread has left, to come back to it: those of nested calls that
    await, and of whatever started another task in the middle of its own step."""
    carriers: list[Any] = list(carriers_of(thread_id))
    found = carriers
    kind: Any = carriers[0].__class__ if carriers else object
    while found:
        # Greenlets of others, such as SQLAlchemy's, have the one that made them for a parent: there, too, nested calls
        # are made.
        known = {id(each) for each in carriers}
        near = [each for each in gc.get_referrers(*found) if isinstance(each, kind)]
        found = [each for each in near if id(each) not in known and id(each.parent) in known]
        carriers += found
    # None for the one that runs; one at rest has no frame but its base.
    frames = [carrier.gr_frame for carrier in carriers]
    return [frame for frame in frames if frame is not None and frame.f_code is not carry.__code__]


def _parked_stacks(thread_id: int) -> str:
    """Those stacks, each kind once."""
    counts: dict[str, int] = {}
    for frame in _parked_frames(thread_id):
        text = _format(frame)
        counts[text] = counts.get(text, 0) + 1
    shown = [
        f"{'a stack' if count == 1 else f'{count} stacks'} of the same thread, parked in a nested call:\n{text}"
        for text, count in list(counts.items())[:_MOST_STACKS]
    ]
    if len(counts) > _MOST_STACKS:
        shown.append(f"and {len(counts) - _MOST_STACKS} other parked stacks")
    return "\n".join(shown)


def _stacks_of_tasks(loop: asyncio.AbstractEventLoop) -> str:
    tasks = [task for task in _copy(asyncio.all_tasks, loop) if not task.done()]
    return "\n".join(_stack_of_task(task) for task in tasks) or "  (no task)"


def _stack_of_task(task: asyncio.Task[Any]) -> str:
    lines = [f"  task {task.get_name()}:"]
    awaited: Any = task.get_coro()
    while awaited is not None:
        frame = getattr(awaited, "cr_frame", None) or getattr(awaited, "ag_frame", None)
        if frame is not None:
            entry = traceback.FrameSummary(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_name)
            line = "".join(traceback.format_list([entry])).rstrip("\n")
            if line != lines[-1]:
                lines.append(line)
        awaited = getattr(awaited, "cr_await", None)
    return "\n".join(lines)


def _copy(read: Any, *args: Any) -> list[Any]:
    """A list of what another thread may be changing; asks again if it did."""
    while True:
        try:
            return list(read(*args))
        except RuntimeError:
            continue


# A loop's thread that waits for a lock which the waiting thread holds


def blocked_on_lock(loop_thread_id: int, waiter_thread_id: int) -> str | None:
    """Says so, with both stacks, if the loop's thread waits for a lock that the thread which waits for it holds."""
    first = _acquiring(loop_thread_id)
    if first is None:
        return None
    if _holder_in_thread(loop_thread_id, first):
        return _blocked_on_own_lock(loop_thread_id, waiter_thread_id, first)
    if not _holds(waiter_thread_id, first[2]):
        return None
    # Production code that polls another thread: there is no event to wait for.
    time.sleep(_SECOND_LOOK_AFTER)
    second = _acquiring(loop_thread_id)
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
    second = _acquiring(loop_thread_id)
    if second is None or first[:2] != second[:2] or first[2] is not second[2]:
        return None
    holder = _holder_in_thread(loop_thread_id, second)
    if holder is None:
        return None
    reason = (
        f"a coroutine waits for {first[2]!r}, which sync code in the same thread holds, below a nested call"
    )
    parts = [
        f"{reason}; release the lock before the call, or use an asyncio lock",
        f"the loop's thread:\n{stack_of(loop_thread_id)}",
        "" if holder[0] is second[0] else f"the holder, parked in a nested call:\n{_format(holder[0])}",
        f"this thread:\n{stack_of(waiter_thread_id)}",
    ]
    return "\n".join(part for part in parts if part)


def _holder_in_thread(
    thread_id: int, acquiring: tuple[FrameType, int, Any]
) -> tuple[FrameType, FrameType] | None:
    """The stack, present or parked, in which that thread itself is in the `with` block of the same plain lock, by its
    innermost frame; and the frame with the block. (`acquire` alone proves nothing: another thread may be the one that
    releases.)"""
    frame, _, lock = acquiring
    if not isinstance(lock, _LOCK_TYPES[0]):
        return None
    starts = [(frame, frame.f_back), *((left, left) for left in _parked_frames(thread_id))]
    for innermost, start in starts:
        each = start
        while each is not None:
            if any(held is lock for held in _locks_held_in(each, by_with_only=True)):
                return innermost, each
            each = each.f_back
    return None


def _acquiring(thread_id: int) -> tuple[FrameType, int, Any] | None:
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


def blocked_loop_is_needed(
    waiting_loop: asyncio.AbstractEventLoop, runner_loop: asyncio.AbstractEventLoop, our_threads: set[int]
) -> str | None:
    """Says so, with both stacks, if only the loop that waits could let the coroutine go on that it waits for.

    That is certain if the coroutine's loop has nothing to do and nothing to wait for, the waiting loop has, and no
    other thread is there that could change it.
    """
    if not _has_work(waiting_loop) or not _is_quiescent(runner_loop) or not _nobody_else(our_threads):
        return None
    return (
        "a coroutine waits for something that only this thread's event loop can do, while this thread waits for the "
        "coroutine and so its loop can't turn; await the coroutine instead of calling it from sync code\n"
        f"this thread:\n{stack_of(threading.get_ident())}\nthe coroutine:\n{_stacks_of_tasks(runner_loop)}"
    )


def _has_work(loop: Any) -> bool:
    if getattr(loop, "_ready", ()):
        return True
    return any(
        not timer.cancelled() and timer.when() <= loop.time()
        for timer in list(getattr(loop, "_scheduled", ()))
    )


def _is_quiescent(loop: Any) -> bool:
    try:
        ready, scheduled, selector = loop._ready, loop._scheduled, loop._selector
    except AttributeError:
        return False
    if ready or any(not timer.cancelled() for timer in list(scheduled)):
        return False
    # The one descriptor is the loop's own, by which call_soon_threadsafe wakes it.
    return len(selector.get_map()) <= 1


def _nobody_else(our_threads: set[int]) -> bool:
    threads = [thread for thread in threading.enumerate() if thread.ident is not None]
    known = {*our_threads, threading.get_ident()}
    frames = sys._current_frames()
    if not all(thread.ident in known or _is_idle(frames.get(thread.ident or 0)) for thread in threads):
        return False
    try:
        return len(os.listdir("/proc/self/task")) == len(threads)
    except OSError:
        return False


def _is_idle(frame: FrameType | None) -> bool:
    """Whether this is a pool's thread that waits for work."""
    return (
        frame is not None and frame.f_code.co_name == "_worker" and "concurrent" in frame.f_code.co_filename
    )


# A loop that does not turn


def stall_report(
    loop_thread_id: int, waiter_thread_id: int, loop_name: str, seconds: float, waiters: int
) -> str:
    """Words for a loop that has not turned for a while: what blocks it, who waits, and what to do."""
    frame = sys._current_frames().get(loop_thread_id)
    culprit = "unknown code" if frame is None else _culprit(frame)
    advice = _advice_about_lock(loop_thread_id) or (
        "run blocking code with `await asyncio.to_thread(...)`, or use an async API"
    )
    stalled = f"the loop {loop_name!r} has not turned for {seconds:.2f} s"
    parts = [
        f"{stalled}: {culprit} blocks it, and {waiters} calls wait; {advice}",
        f"the loop's thread:\n{stack_of(loop_thread_id)}",
        _parked_stacks(loop_thread_id),
        f"a waiting thread:\n{stack_of(waiter_thread_id)}",
    ]
    return "\n".join(part for part in parts if part)


def _advice_about_lock(loop_thread_id: int) -> str | None:
    acquiring = _acquiring(loop_thread_id)
    holder = None if acquiring is None else _holder_in_thread(loop_thread_id, acquiring)
    if acquiring is None or holder is None:
        return None
    code, line = holder[1].f_code, holder[1].f_lineno
    return (
        f"it waits for {acquiring[2]!r}, which {code.co_name}() at {code.co_filename}:{line} holds in the same thread, "
        "below a nested call, and can't release; use an asyncio lock, or `with syncline.no_switch()` where it is held"
    )


def own_stall_report(task: Any, runner_name: str, seconds: float) -> str | None:
    """The same for a call that blocks the loop of this very thread; None where there is no loop."""
    loop = _loop_here()
    if loop is None:
        return None
    me = threading.get_ident()
    culprit = f"{_culprit(sys._getframe())} blocks it, waiting for a coroutine on the loop {runner_name!r}"
    advice = (
        "await that, or let the task's calls await in place: `syncline.nestable`, `run_nestable` or `install`"
    )
    parts = [
        f"{loop} has not turned for {seconds:.2f} s: {culprit}; {advice}",
        f"this thread:\n{stack_of(me)}",
        _parked_stacks(me),
        f"the coroutine:\n{_stack_of_task(task) if hasattr(task, 'get_coro') else repr(task)}",
    ]
    return "\n".join(part for part in parts if part)


def _loop_here() -> str | None:
    loop: Any = asyncio._get_running_loop()
    if loop is not None:
        return f"the event loop {loop!r} of the thread {threading.current_thread().name!r}"
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        return f"the trio run of the thread {threading.current_thread().name!r}"
    return None


def _culprit(frame: FrameType) -> str:
    summaries = traceback.extract_stack(frame)
    users = [
        each
        for each in summaries
        if not each.filename.startswith((_OUR_FOLDER, os.path.dirname(os.__file__)))
    ]
    last = (users or list(summaries))[-1]
    return f"{last.name}() at {last.filename}:{last.lineno} ({last.line})"


# An object of one loop, used on another


def explain_loop_mixup(error: BaseException, owners: dict[int, str], awaited: object = None) -> str | None:
    """Names both loops of asyncio's "different loop" errors; None for other errors."""
    text = str(error)
    if "attached to a different loop" not in text and "is bound to a different event loop" not in text:
        return None
    theirs = _loop_of(awaited) if awaited is not None else None
    here: Any = asyncio.events._get_running_loop()
    tb = error.__traceback__
    while tb is not None and theirs is None:
        if tb.tb_next is None and tb.tb_frame.f_code.co_name == "_get_loop":
            theirs = _loop_of(tb.tb_frame.f_locals.get("self"))
        tb = tb.tb_next
    if theirs is None:
        return None
    return (
        f"the object belongs to {_describe(theirs, owners)}, and was used on {_describe(here, owners)}; use it "
        f"in calls through the same bridge, from code that is not itself on one of its loops"
    )


def _loop_of(thing: Any) -> Any:
    return getattr(thing, "_loop", None)


def _describe(loop: Any, owners: dict[int, str]) -> str:
    return owners.get(id(loop), f"another loop, {loop!r}")
