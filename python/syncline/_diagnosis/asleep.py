"""A loop's thread that sleeps until another thread wakes it, while others wait for the loop.

What it waits for can't be told from outside: an event, a queue, a condition may be waited for by anybody, and set by
anybody.
"""

from __future__ import annotations

import threading
import time

from .. import _core
from .idle import is_asleep_for_good, times_slept
from .stacks import stack_of
from .suspicion import Suspicion

_LOOK_AGAIN_AFTER = 0.9
"""Seconds. However many wait for a loop, it is looked at once a second."""


class _Sleep(Suspicion):
    """What was seen of a thread."""

    def __init__(self, of: tuple[int, int]) -> None:
        super().__init__(of)
        self.looked = time.monotonic()


_asleep: dict[int, _Sleep] = {}
"""By the loop's thread."""


def sleeps_for_good(loop_thread: int) -> str | None:
    """Says so, with both stacks, if the loop's thread, for which this one waits, was asleep at the last look and is so
    at this one, and no other thread can act. If others can, it is logged once that this may be a deadlock."""
    known, now = _asleep.get(loop_thread), time.monotonic()
    if known is not None and now - known.looked < _LOOK_AGAIN_AFTER:
        return None
    # One that waits in a call itself is seen to by that.
    asleep = None if _core.long_wait_of(loop_thread) is not None else _sleep_of(loop_thread)
    _asleep.pop(loop_thread, None)
    if asleep is None:
        return None
    sleep = known if known is not None and known.of == asleep else _Sleep(asleep)
    for gone in [each for each in list(_asleep) if each not in _core.current_frames()]:
        _asleep.pop(gone, None)
    _asleep[loop_thread], sleep.looked = sleep, now
    return sleep.look(
        "a coroutine's thread sleeps until another thread wakes it, and so do all others, while this thread waits for "
        "that coroutine; whoever is to wake it must not wait for the loop that it blocks: await what it waits for, by "
        "`await syncline.to_thread(fn, ...)`",
        "a call waits for a loop whose thread has slept for %.0f s, until another thread wakes it; if only this thread "
        "could, or one that waits for that loop, this is a deadlock, unless %s ends the wait; await in the coroutine "
        "what it waits for, by `await syncline.to_thread(fn, ...)`\n%s",
        lambda: (
            f"this thread:\n{stack_of(threading.get_ident())}\nthe loop's thread:\n{stack_of(loop_thread)}"
        ),
    )


def _sleep_of(thread: int) -> tuple[int, int] | None:
    """The sleep of a thread in Python code of somebody's, equal as long as it is the same one; None if it does not
    sleep. The same code may go to sleep again, and another thread get the same number, so the kernel is asked how
    often the thread has gone to sleep."""
    native = next((each.native_id for each in threading.enumerate() if each.ident == thread), None)
    if native is None or thread not in _core.current_frames() or not is_asleep_for_good(native):
        return None
    return native, times_slept(native)
