"""What is known of executors and pools beside their interface: how many workers there are, and what goes on when those,
or the process that they belong to, are gone.

Read with care from attributes that have no promise: where one is missing, nothing is known.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, InvalidStateError
from typing import Any

from .._futures import SafeFuture

DEATHS_OF_EACH = 3
"""So often each of a pool's workers is seen to be dead, before any has begun, until they are given up."""
_RUNNING = ("RUN", 0)  # multiprocessing's word, and billiard's


class ProcessDiedError(Exception):
    """What a pool does not say: the process that ran a chunk is gone."""


class PoolExecutor:
    """A pool with `apply_async`, such as multiprocessing's and Ray's, in the place of an executor."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._seen: list[Any] = []
        self._deaths = 0

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = SafeFuture()

        def settle(set_it: Callable[[Any], None], value: Any) -> None:
            with contextlib.suppress(InvalidStateError):  # it was cancelled, or its process is taken for dead
                set_it(value)

        self._pool.apply_async(
            fn,
            args,
            callback=functools.partial(settle, future.set_result),
            error_callback=functools.partial(settle, future.set_exception),
        )
        return future

    def look(self, *, has_begun: bool) -> None:
        """Raises where nothing comes any more, which a pool does not say. `has_begun`: any of the chunks has."""
        if getattr(self._pool, "_state", None) == "TERMINATE":
            raise RuntimeError("the pool was terminated while it had items of a map")
        before, self._seen = self._seen, [*getattr(self._pool, "_pool", ())]
        # Not in a row: workers that start slowly live at a look, and die then. Dead threads stay in their pool.
        self._deaths = 0 if has_begun else self._deaths + sum(map(self._has_failed, before))
        if self._deaths >= DEATHS_OF_EACH * max(1, len(self._seen)):
            raise RuntimeError(
                "the workers of the pool die before they begin anything, one after the other: its initializer may "
                "fail, as what they print would show"
            )

    def _has_failed(self, worker: Any) -> bool:
        """Whether it has ended, and not since it has done as much as it should."""
        exitcode = getattr(worker, "exitcode", None)
        return exitcode is not None and (
            exitcode != 0 or getattr(self._pool, "_maxtasksperchild", None) is None
        )

    def end(self) -> None:
        """Ends the pool."""
        self._pool.terminate()
        self._pool.join()


def stir(executor: Any) -> None:
    """Has a process pool start workers where it has forgotten to. One with `max_tasks_per_child` takes results that
    came for idle workers, and starts none in the place of those that have ended (cpython#115634). Each submit counts
    one of them down."""
    for _ in range(getattr(executor, "_max_workers", 0) + 1):
        if not _has_no_worker(executor):
            return
        with contextlib.suppress(RuntimeError):  # it was shut down, or is broken: the chunks hear of that
            executor.submit(_nothing)


def _has_no_worker(executor: Any) -> bool:
    if getattr(executor, "_max_tasks_per_child", None) is None or getattr(executor, "_processes", None) != {}:
        return False
    return bool(getattr(executor, "_pending_work_items", None))


def _nothing() -> None:
    pass


def shut_down(executor: Any) -> None:
    """Waits for nothing but its own end: no chunk runs any more."""
    if isinstance(executor, PoolExecutor):
        executor.end()
    else:
        executor.shutdown()


def workers_of(executor: Any) -> int:
    """How many chunks an executor runs at once, as far as it says."""
    for name in ("_max_workers", "_processes"):
        if isinstance(count := getattr(executor, name, None), int) and count > 0:
            return count
    actors: Any = getattr(executor, "_actor_pool", None)
    if actors is not None:  # Ray's pool
        return max(1, len(actors))
    client: Any = getattr(executor, "_client", None)
    if hasattr(client, "nthreads"):  # Dask's
        return max(1, sum(map(int, client.nthreads().values())))
    return os.cpu_count() or 1


def lets_cancel(executor: Any) -> bool:
    """Whether futures of this executor can be cancelled. Before Python 3.12.1 a process pool of which a worker dies
    fails over them: its other workers are left running, and the program waits for them when it ends."""
    if sys.version_info >= (3, 12, 1):
        return True
    module: Any = sys.modules.get("concurrent.futures.process")
    return module is None or not isinstance(executor, module.ProcessPoolExecutor)


def check_made(who: str, made: Any) -> None:
    """Raises for what a function given as `executor` has made, if that is none."""
    if hasattr(made, "apply_async") or (hasattr(made, "submit") and not hasattr(made, "get_executor")):
        return
    kind = type(made).__name__
    if isinstance(made, Coroutine):
        made.close()
    raise TypeError(
        f"executor of {who}() is a function that makes a concurrent.futures.Executor, or a pool with apply_async; this "
        f"one made a {kind}"
    )


def check_is_here(executor: Any) -> None:
    """Raises where an executor, or a pool, came by a fork: its threads were left behind, and its workers are not this
    process's. It takes work, and nothing comes back."""
    if _was_left_behind(executor):
        raise RuntimeError(
            "the executor was made in the process that this one was forked from, where its threads are; make another "
            "one in this process"
        )


def _was_left_behind(executor: Any) -> bool:
    handler: Any = getattr(executor, "_worker_handler", None)
    if hasattr(handler, "is_alive"):  # a pool
        return getattr(executor, "_state", None) in _RUNNING and not handler.is_alive()
    if isinstance(processes := getattr(executor, "_processes", None), dict):
        workers: list[Any] = [*processes.values()]
        parents = {getattr(worker, "_parent_pid", None) for worker in workers}
        return bool(parents) and not parents & {os.getpid(), None}
    if isinstance(threads := getattr(executor, "_threads", None), set) and threads:
        # Those that have ended by themselves have said so to their executor.
        says_so = getattr(executor, "_broken", False) or getattr(executor, "_shutdown", False)
        begun: list[Any] = [*threads]
        return not says_so and not any(thread.is_alive() for thread in begun)
    return False
