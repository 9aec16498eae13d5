"""What loops need once the main thread's program has ended. Imported then, by the core.

Python ends its executors first, and only then calls the functions registered with atexit, by which our loops
cancel their tasks. The cleanup of those may need an executor: for files, name lookups, `asyncio.to_thread`.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any

from ._core import serve

if TYPE_CHECKING:
    from collections.abc import Callable

_ENDED = "cannot schedule new futures after"


def outlive_executors(loop: asyncio.AbstractEventLoop) -> None:
    """Replaces `loop.run_in_executor` by one that starts a thread where the executor takes no more work."""
    ask_executor = loop.run_in_executor

    def run_in_executor(
        executor: Executor | None, func: Callable[..., Any], *args: Any
    ) -> asyncio.Future[Any]:
        if executor is not None:
            try:
                return ask_executor(executor, func, *args)
            except RuntimeError as error:
                if not (_is_thread_pool(executor) and str(error).startswith(_ENDED)):
                    raise
        if loop.is_closed():
            raise RuntimeError("Event loop is closed")
        future: Future[Any] = Future()
        thread = threading.Thread(target=_work_in_thread, args=(future, func, args), daemon=True)
        try:
            thread.start()
        except RuntimeError:
            # Some versions of Python start no threads any more at this time.
            _work(future, func, args)
        return asyncio.wrap_future(future, loop=loop)

    loop.run_in_executor = run_in_executor  # type: ignore[method-assign, assignment]


def _is_thread_pool(executor: Executor) -> bool:
    # Not imported here, as that may be too late. If nobody has imported the module, there is no such
    # executor.
    pools = sys.modules.get("concurrent.futures.thread")
    return pools is not None and isinstance(executor, pools.ThreadPoolExecutor)


def _work_in_thread(future: Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    serve()
    _work(future, func, args)


def _work(future: Future[Any], func: Callable[..., Any], args: tuple[Any, ...]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = func(*args)
    except BaseException as error:
        future.set_exception(error)
    else:
        future.set_result(result)


def is_waiting_for_threads() -> bool:
    """Whether Python is going to wait for other threads than those of executors, which it tells to end."""
    told: set[threading.Thread] = set()
    for module, threads in (("thread", "_threads_queues"), ("process", "_threads_wakeups")):
        told.update(getattr(sys.modules.get(f"concurrent.futures.{module}"), threads, ()))
    main = threading.main_thread()
    return any(
        not thread.daemon and thread is not main and thread not in told for thread in threading.enumerate()
    )
