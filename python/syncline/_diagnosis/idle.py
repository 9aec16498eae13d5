"""Which threads may still act by themselves, and so end a wait that looks like a deadlock.

A thread does not act by itself if it drives a loop that has nothing to do and nothing to wait for, if it
waits for work in a pool, or if the kernel says that it sleeps until another thread of this process wakes it.
That includes threads of native code (BLAS, a query engine): one that sleeps like that calls into Python only
after somebody has woken it. A thread that waits for the network, or for a time to pass, may bring the very
result that is waited for.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import _core

if TYPE_CHECKING:
    from types import FrameType

_TASKS = Path("/proc/self/task")
_FUTEX = {"x86_64": "202", "aarch64": "98"}
"""The number of the system call `futex`, by machine. In its second argument the lowest seven bits are the
operation; the eighth says that only threads of this process can wake the sleeper."""
# FUTEX_WAIT and FUTEX_WAIT_BITSET.
_FUTEX_WAITS = (0, 9)
_WORKERS_FILE = str(Path(__file__).parents[1] / "_workers.py")
_LOOKERS = {str(Path(__file__).parents[1] / name) for name in ("_standing.py", "_watcher.py")}
"""Whose threads look at loops, and end no wait for one that runs."""


def threads_that_may_act() -> list[str]:
    """The names of all threads, but for the calling one, of which it isn't certain that they do nothing by
    themselves."""
    frames = _core.current_frames()
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
            or is_asleep_for_good(task)
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
    outer: FrameType | None = frame
    if name not in ("select", "_run_once", "run_forever"):
        while outer is not None and outer.f_code.co_filename not in _LOOKERS:
            outer = outer.f_back
        return outer is not None
    while outer is not None and outer.f_code.co_name != "run_forever":
        outer = outer.f_back
    return outer is not None and is_quiescent(outer.f_locals.get("self"))


def is_quiescent(loop: Any) -> bool:
    """Whether a loop has nothing to do, and waits for nothing but to be told by another thread."""
    try:
        ready, scheduled, selector = loop._ready, loop._scheduled, loop._selector
        if ready or any(not timer.cancelled() for timer in list(scheduled)):
            return False
        # One descriptor is the loop's own: call_soon_threadsafe wakes it by that.
        return len(selector.get_map()) <= 1
    except (AttributeError, TypeError):
        return False


def is_asleep_for_good(task: int) -> bool:
    """Whether the kernel says that a thread, by its native id, sleeps until another one of this process wakes it."""
    try:
        call = (_TASKS / str(task) / "syscall").read_text().split()
    except OSError:
        return False
    # The number of the call and its arguments: address, operation, expected value, time limit. For a thread
    # that was just woken, the file says "running".
    if len(call) < 5 or call[0] != _FUTEX.get(os.uname().machine):
        return False
    operation, limit = int(call[2], 16), int(call[4], 16)
    return operation & 0x7F in _FUTEX_WAITS and bool(operation & 0x80) and not limit


def times_slept(task: int) -> int:
    """How often a thread, by its native id, has gone to sleep; 0 if the kernel does not say."""
    try:
        lines = (_TASKS / str(task) / "status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:")), 0)
