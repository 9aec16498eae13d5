"""Reports of stalls: loops that do not turn for a while."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any

from .. import _core
from .._kinds import trio_here
from .locks import held_by_itself
from .stacks import OUR_FOLDER, each_kind_once, parked_stacks, stack_of, stack_of_task

if TYPE_CHECKING:
    from types import FrameType


def stall_report(loop_thread_id: int, loop_name: str, seconds: float) -> str:
    """Words for a loop that has not turned for a while: what blocks it, who waits, and what to do."""
    frame = _core.current_frames().get(loop_thread_id)
    culprit = "unknown code" if frame is None else _culprit(frame)
    advice = _advice_about_lock(loop_thread_id) or (
        "run blocking code with `await asyncio.to_thread(...)`, or use an async API"
    )
    waiters = [waiter for waiter, (_, loop) in _core.long_waits().items() if loop == loop_thread_id]
    wait = (
        ""
        if not waiters
        else f", and {len(waiters)} threads wait"
        if len(waiters) > 1
        else ", and a thread waits"
    )
    return _report(
        f"{culprit} blocks the loop {loop_name!r}, which has not turned for {seconds:.2f} s{wait}; {advice}",
        f"the loop's thread:\n{stack_of(loop_thread_id)}",
        parked_stacks(loop_thread_id),
        _waiting_stacks(waiters),
    )


def _waiting_stacks(waiters: list[int]) -> str:
    stacks = each_kind_once([stack_of(waiter) for waiter in waiters])
    shown = [
        f"{'a waiting thread' if count == 1 else f'{count} waiting threads'}:\n{text}"
        for text, count in stacks
    ]
    return "\n".join(shown)


def _advice_about_lock(loop_thread_id: int) -> str | None:
    held = held_by_itself(loop_thread_id)
    if held is None:
        return None
    lock, _, taken_in = held
    code, line = taken_in.f_code, taken_in.f_lineno
    return (
        f"it waits for {lock!r}, which {code.co_name}() at {code.co_filename}:{line} holds in the same thread, "
        "and can't release while that waits; use an asyncio lock, or `with syncline.no_switch()` where it is held"
    )


def own_stall_report(task: Any, runner_name: str, seconds: float) -> str | None:
    """The same for a call that blocks the loop of this very thread; None where there is no loop, or the watcher reports
    its stalls."""
    loop = _loop_here()
    watcher: Any = sys.modules.get("syncline._watcher")
    if loop is None or (watcher is not None and watcher.watches(asyncio._get_running_loop())):
        return None
    me = threading.get_ident()
    culprit = f"{_culprit(sys._getframe())} blocks it, waiting for a coroutine on the loop {runner_name!r}"
    advice = (
        "await that, or let the task's calls await in place: `syncline.nestable`, `run_nestable` or `install`"
    )
    return _report(
        f"{loop} has not turned for {seconds:.2f} s: {culprit}; {advice}",
        f"this thread:\n{stack_of(me)}",
        parked_stacks(me),
        f"the coroutine:\n{stack_of_task(task) if hasattr(task, 'get_coro') else repr(task)}",
    )


def _loop_here() -> str | None:
    loop: Any = asyncio._get_running_loop()
    if loop is not None:
        return f"the event loop {loop!r} of the thread {threading.current_thread().name!r}"
    if trio_here() is not None:
        return f"the trio run of the thread {threading.current_thread().name!r}"
    return None


def _culprit(frame: FrameType) -> str:
    summaries = traceback.extract_stack(frame)
    users = [
        each for each in summaries if not each.filename.startswith((OUR_FOLDER, os.path.dirname(os.__file__)))
    ]
    last = (users or list(summaries))[-1]
    return f"{last.name}() at {last.filename}:{last.lineno} ({last.line})"


def _report(*parts: str | None) -> str:
    return "\n".join(part for part in parts if part)
