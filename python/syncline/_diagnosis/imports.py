"""A thread that waits for a module which another thread is importing."""

from __future__ import annotations

import sys
from typing import Any


def module_waited_for(thread_id: int) -> tuple[Any, int, str] | None:
    """The lock of the module, the thread that imports it, and its name.

    importlib notes which threads wait, for its own search for deadlocks, which doesn't know of threads that wait for a
    coroutine: a lock for each thread in Python 3.11, a list of locks later. Of an importlib that keeps other notes
    nothing is known.
    """
    notes: Any = getattr(sys.modules.get("importlib._bootstrap"), "_blocking_on", None)
    try:
        noted: Any = notes.get(thread_id)
        if noted is None:
            return None
        lock: Any = noted if hasattr(noted, "owner") else noted[-1]
        owner, name = lock.owner, lock.name
    except (AttributeError, IndexError, KeyError, TypeError):
        return None
    # It is noted before it is known whether there is anything to wait for.
    if not isinstance(owner, int) or not isinstance(name, str) or owner == thread_id:
        return None
    return lock, owner, name
