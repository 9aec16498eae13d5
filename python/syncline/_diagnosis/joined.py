"""Threads that wait for another one by means of the standard library: for its end, or for what it does for a pool."""

from __future__ import annotations

import concurrent.futures
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, NamedTuple

from .. import _core
from .executors import futures_in, is_alone

if TYPE_CHECKING:
    from types import CodeType, FrameType


class Joined(NamedTuple):
    """The thread that is waited for, and what for, in words."""

    thread: int
    what: str


_FUTURE: Any = concurrent.futures.Future
_RESULTS: tuple[CodeType, ...] = (_FUTURE.result.__code__, _FUTURE.exception.__code__)
_CONDITION = threading.Condition.wait.__code__
_OLD_JOIN: Any = getattr(threading.Thread, "_wait_for_tstate_lock", None)
"""What `join` calls up to Python 3.12."""


def joined_by(frame: FrameType) -> Joined | None:
    """The thread without which one can't go on that waits in that frame, its innermost, without a time limit."""
    local = frame.f_locals
    if frame.f_code is threading.Thread.join.__code__:
        return _end_of(local["self"]) if _OLD_JOIN is None and local["timeout"] is None else None
    if _OLD_JOIN is not None and frame.f_code is _OLD_JOIN.__code__:
        return _end_of(local["self"]) if local["block"] and local["timeout"] == -1 else None
    outer = frame.f_back
    if frame.f_code is not _CONDITION or local["timeout"] is not None or outer is None:
        return None
    if outer.f_code not in _RESULTS or outer.f_locals.get("timeout") is not None:
        return None
    return _worker_for(outer.f_locals["self"])


def _end_of(thread: threading.Thread) -> Joined | None:
    ident = thread.ident
    return None if ident is None else Joined(ident, f"the end of the thread {thread.name!r}")


def _worker_for(future: Any) -> Joined | None:
    """The thread of a pool that runs a call, or that alone may run it."""
    pools: Any = sys.modules.get("concurrent.futures.thread")
    if pools is None:
        return None
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    run, worker = pools._WorkItem.run.__code__, pools._worker.__code__
    for thread, innermost in _core.current_frames().items():
        for frame, _ in traceback.walk_stack(innermost):
            if frame.f_code is run and getattr(frame.f_locals.get("self"), "future", None) is future:
                return Joined(
                    thread, f"the result of what the thread {names.get(thread, thread)!r} runs for a pool"
                )
            if (
                frame.f_code is worker
                and is_alone(frame)
                and future in futures_in(frame.f_locals["work_queue"])
            ):
                what = f"the result of what only the thread {names.get(thread, thread)!r} may run, alone in its pool"
                return Joined(thread, what)
    return None
