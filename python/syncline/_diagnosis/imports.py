"""A thread that waits for a module which another thread is importing."""

from __future__ import annotations

import sys
from typing import Any


def module_waited_for(thread_id: int) -> tuple[Any, int, str] | None:
    """The lock of the module, the thread that imports it, and its name.

    importlib notes for each thread which module's lock it waits for, since it looks for deadlocks itself (it
    does not know of threads that wait for a coroutine). In Python 3.11 that is a lock, in later versions a
    list of locks. If an importlib keeps other notes, this returns None.
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
    # The note is made before importlib knows whether the thread has to wait.
    if not isinstance(owner, int) or not isinstance(name, str) or owner == thread_id:
        return None
    return lock, owner, name
