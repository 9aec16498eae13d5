"""A loop that waits for another one, which waits for it; and objects of one loop, used on another."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from typing import TYPE_CHECKING, Any

from .stacks import stack_of, stacks_of_tasks

if TYPE_CHECKING:
    from types import FrameType


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
        f"this thread:\n{stack_of(threading.get_ident())}\nthe coroutine:\n{stacks_of_tasks(runner_loop)}"
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
