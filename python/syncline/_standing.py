"""Who notices that nobody runs a loop of somebody else's any more (`Bridge(loop=...)`), for futures and for tasks of
other loops that wait for it. Threads that wait look by themselves.

1. There is a thread only while such calls are under way.
2. No lock: a forked child could find it held. Two threads may look at once, which does no harm.
"""

from __future__ import annotations

import threading
import time
from typing import Any

LOOKS = 0.1
"""Seconds between two looks."""

_watched: dict[Any, None] = {}
_thread: threading.Thread | None = None


def watch(standing: Any) -> None:
    """Has `standing.look()` called from time to time, until it returns False."""
    _watched[standing] = None
    _begin()


def _begin() -> None:
    global _thread
    if _thread is None or not _thread.is_alive():
        _thread = threading.Thread(target=_run, name="syncline-standing", daemon=True)
        _thread.start()


def _run() -> None:
    global _thread
    while _watched:
        time.sleep(LOOKS)
        for standing in list(_watched):
            if not standing.look():
                _watched.pop(standing, None)
    _thread = None
    if _watched:  # one that came before that line, and found this thread alive
        _begin()
