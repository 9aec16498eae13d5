"""A pool's only thread, which waits for a coroutine that waits for that thread."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import threading
from typing import TYPE_CHECKING, Any

from .._pools import frame_of_worker
from .stacks import stack_of, stack_of_task

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


def own_executor_is_needed(task: Any) -> str | None:
    """Says so, with both stacks, if the task waits for what lies in the queue of a pool whose only thread this is."""
    worker = frame_of_worker()
    if worker is None or not is_alone(worker):
        return None
    queued = futures_in(worker.f_locals["work_queue"])
    if not any(future is each for future in _awaited_from_threads(task) for each in queued):
        return None
    return (
        "a coroutine waits for sync code that only this thread may run, as it is the only one of its pool, while this "
        "thread waits for the coroutine; let it run that code by `await syncline.to_caller(fn, ...)`, which needs no "
        "pool, or give the pool another thread\n"
        f"this thread:\n{stack_of(threading.get_ident())}\nthe coroutine:\n{stack_of_task(task)}"
    )


def is_alone(worker: FrameType) -> bool:
    """Whether the thread that works for a pool in that frame is the only one that ever does."""
    reference = worker.f_locals.get("executor_reference")
    executor: Any = None if reference is None else reference()
    return executor is not None and executor._max_workers == 1 and len(executor._threads) == 1


def futures_in(queue: Any) -> list[Any]:
    """The futures of what lies in a pool's queue. The queue is written in C, and shows its items to the
    garbage collector only."""
    held = gc.get_referents(queue)
    held += [each for items in held if isinstance(items, list) for each in items]
    return [future for each in held if (future := getattr(each, "future", None)) is not None]


def _awaited_from_threads(task: Any) -> Iterator[Any]:
    """The `concurrent.futures` futures whose results the task waits for, by way of asyncio's, shielded or not.

    Where one future is chained to another, it has a callback in whose closure the other one is.
    """
    found: set[int] = set()
    todo: list[Any] = [getattr(task, "_fut_waiter", None)]
    while todo:
        future = todo.pop()
        if isinstance(future, concurrent.futures.Future):
            yield future
        elif asyncio.isfuture(future) and id(future) not in found:
            found.add(id(future))
            callbacks: Any = getattr(future, "_callbacks", None) or ()
            for callback, _ in list(callbacks):
                todo += [cell.cell_contents for cell in getattr(callback, "__closure__", None) or ()]
