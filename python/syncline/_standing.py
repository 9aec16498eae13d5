"""Who notices that nobody runs a loop of somebody else's any more: for futures and for tasks of other loops that wait
for one of a `Bridge(loop=...)`, also whether a cancellation of theirs came of that, and for who waits for a task of a
group that is on one. Threads that wait for a call look by themselves.

1. There is a thread only while such calls are under way.
2. No lock: a forked child could find it held. Two threads may look at once, which does no harm.
"""

from __future__ import annotations

import threading
import time
from typing import Any

LOOKS = 0.1
"""Seconds between two looks."""
LONGEST_STAND = 1.0
"""Seconds that a loop may stand before who waits for it gives up, as in `attached.rs`: somebody may be about to run
it."""

_watched: dict[Any, None] = {}
_threads: list[threading.Thread] = []
"""The thread that looks, once there is one."""


def watch(standing: Any) -> None:
    """Has `standing.look()` called from time to time, until it returns False."""
    _watched[standing] = None
    _begin()


def _begin() -> None:
    if not any(thread.is_alive() for thread in list(_threads)):
        _threads[:] = [threading.Thread(target=_run, name="syncline-standing", daemon=True)]
        _threads[0].start()


def _run() -> None:
    while _watched:
        time.sleep(LOOKS)
        for standing in list(_watched):
            if not standing.look():
                _watched.pop(standing, None)
    _threads.clear()
    if _watched:  # one that came after the last look, and found this thread alive
        _begin()
