"""syncline: synchronous code calls asynchronous code, from anywhere.

    import syncline
    page = syncline.run_sync(client.get, url)

The functions of this module are the methods of one default bridge, whose loop runs on a thread of its own and is shared
by all threads. A `Bridge(...)` of your own can decide otherwise.
"""

from __future__ import annotations

from ._bridge import (
    Bridge,
    BridgeStats,
    contextmanager,
    coroutine,
    enter,
    generator,
    iterate,
    iterator,
    run,
    run_sync,
    submit,
    synced,
)
from ._core import DeadlockError, RunnerClosedError, SynclineError
from ._dual import DualContextManager, DualCoroutine, DualGenerator, DualIterator
from ._nestable import install, nestable, no_switch, run_nestable

__all__ = [
    "Bridge",
    "BridgeStats",
    "DeadlockError",
    "DualContextManager",
    "DualCoroutine",
    "DualGenerator",
    "DualIterator",
    "RunnerClosedError",
    "SynclineError",
    "contextmanager",
    "coroutine",
    "enter",
    "generator",
    "install",
    "iterate",
    "iterator",
    "nestable",
    "no_switch",
    "run",
    "run_nestable",
    "run_sync",
    "submit",
    "synced",
]
