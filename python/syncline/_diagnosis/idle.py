"""Which threads may still do something of themselves: those that may end a wait which nothing else can end.

A thread does nothing of itself if it is a loop's that has nothing to do and nothing to wait for, a pool's that waits
for work, or one that, by the kernel, sleeps until another thread of this process wakes it. That goes for threads of
native code, too (BLAS, a query engine): one that is asleep like that calls into Python only after somebody has woken
it. One that waits for the network, or for a time to pass, may bring the very result that is waited for.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

_TASKS = Path("/proc/self/task")
_FUTEX = {"x86_64": "202", "aarch64": "98"}
"""The number of that system call. Its operations: the lowest seven bits say which, the eighth that all who can wake the
sleeper are in this process."""
_FUTEX_WAITS = (0, 9)
_WORKERS_FILE = str(Path(__file__).parents[1] / "_workers.py")


def threads_that_may_act() -> list[str]:
    """The names of all others than the calling one that can't be said to sleep."""
    frames = sys._current_frames()
    known = {thread.native_id: thread for thread in threading.enumerate()}
    try:
        tasks = [int(task) for task in os.listdir(_TASKS)]
    except OSError:
        return ["threads that only the system knows of"]
    awake: list[str] = []
    for task in tasks:
        thread = known.get(task)
        frame = None if thread is None else frames.get(thread.ident or 0)
        if (
            task == threading.get_native_id()
            or (frame is not None and is_idle(frame))
            or _sleeps_for_good(task)
        ):
            continue
        awake.append(f"a thread without Python code, {task}" if thread is None else repr(thread.name))
    return awake


def is_idle(frame: FrameType) -> bool:
    """Whether a thread with that innermost frame waits for work."""
    file, name = frame.f_code.co_filename, frame.f_code.co_name
    if name == "_worker" and file.endswith(os.path.join("concurrent", "futures", "thread.py")):
        return True
    if name == "work" and file == _WORKERS_FILE:
        return "job" not in frame.f_locals
    if name not in ("select", "_run_once", "run_forever"):
        return False
    outer: FrameType | None = frame
    while outer is not None and outer.f_code.co_name != "run_forever":
        outer = outer.f_back
    return outer is not None and is_quiescent(outer.f_locals.get("self"))


def is_quiescent(loop: Any) -> bool:
    """Whether a loop has nothing to do, and waits for nothing but to be told by another thread."""
    try:
        ready, scheduled, selector = loop._ready, loop._scheduled, loop._selector
        if ready or any(not timer.cancelled() for timer in list(scheduled)):
            return False
        # The one descriptor is the loop's own, by which call_soon_threadsafe wakes it.
        return len(selector.get_map()) <= 1
    except (AttributeError, TypeError):
        return False


def _sleeps_for_good(task: int) -> bool:
    try:
        call = (_TASKS / str(task) / "syscall").read_text().split()
    except OSError:
        return False
    # Number, address, operation, expected value, time limit. A thread that was woken just now is "running".
    if len(call) < 5 or call[0] != _FUTEX.get(os.uname().machine):
        return False
    operation, limit = int(call[2], 16), int(call[4], 16)
    return operation & 0x7F in _FUTEX_WAITS and bool(operation & 0x80) and not limit
