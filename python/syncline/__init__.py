"""syncline: synchronous code calls asynchronous code, from anywhere.

    import syncline
    page = syncline.run_sync(client.get, url)

The functions of this module are the methods of one default bridge, whose loop runs on a thread of its own and is shared
by all threads. A `Bridge(...)` of your own can decide otherwise.
"""

from __future__ import annotations

from ._bridge import Bridge
from ._core import (
    DeadlockError,
    RunnerClosedError,
    SynclineError,
    __version__,
    call_with_mark,
    check_cancelled,
    from_thread,
    in_event_loop,
    in_worker_thread,
    mark_as_worker_thread,
)
from ._default import (
    amap,
    blocking,
    call,
    configure,
    contextmanager,
    coroutine,
    default_bridge,
    enter,
    finalize,
    generator,
    group,
    iterate,
    iterator,
    map,
    resource,
    run,
    run_async,
    run_sync,
    submit,
    sync_compatible,
    synced,
)
from ._doctor import doctor
from ._dual import DualContextManager, DualCoroutine, DualGenerator, DualIterator
from ._groups import (
    GatherIncomplete,
    GatherKey,
    GatherTaskGroup,
    create_gather_task_group,
    create_task,
    gather,
)
from ._kinds import is_async_fn, is_async_gen_fn
from ._lost import WorkerDiedError
from ._nestable import install, nestable, no_switch, run_nestable
from ._new_loop import run_in_new_loop
from ._options import BridgeOptions
from ._resources import Resource
from ._seen import dump, dump_on, waits
from ._stats import BridgeStats
from ._threads import (
    ThreadLimiter,
    Worker,
    WouldBlock,
    aenter,
    aiterate,
    thread_limiter,
    threaded,
    to_caller,
    to_thread,
)
from ._tracing import Trace, trace

__all__ = [
    "Bridge",
    "BridgeOptions",
    "BridgeStats",
    "DeadlockError",
    "DualContextManager",
    "DualCoroutine",
    "DualGenerator",
    "DualIterator",
    "GatherIncomplete",
    "GatherKey",
    "GatherTaskGroup",
    "Resource",
    "RunnerClosedError",
    "SynclineError",
    "ThreadLimiter",
    "Trace",
    "Worker",
    "WorkerDiedError",
    "WouldBlock",
    "__version__",
    "aenter",
    "aiterate",
    "amap",
    "blocking",
    "call",
    "call_with_mark",
    "check_cancelled",
    "configure",
    "contextmanager",
    "coroutine",
    "create_gather_task_group",
    "create_task",
    "default_bridge",
    "doctor",
    "dump",
    "dump_on",
    "enter",
    "finalize",
    "from_thread",
    "gather",
    "generator",
    "group",
    "in_event_loop",
    "in_worker_thread",
    "install",
    "is_async_fn",
    "is_async_gen_fn",
    "iterate",
    "iterator",
    "map",
    "mark_as_worker_thread",
    "nestable",
    "no_switch",
    "resource",
    "run",
    "run_async",
    "run_in_new_loop",
    "run_nestable",
    "run_sync",
    "submit",
    "sync_compatible",
    "synced",
    "thread_limiter",
    "threaded",
    "to_caller",
    "to_thread",
    "trace",
    "waits",
]


def __dir__() -> list[str]:
    hidden = {"annotations"}
    return [name for name in globals() if name not in hidden and (name[0] != "_" or name.endswith("__"))]
