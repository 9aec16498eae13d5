"""The names of `flytekit.utils.asyn`, on syncline.

    from syncline.compat.flytekit import loop_manager, run_sync

As there, each calling thread has a loop of its own, on a daemon thread. Mended here: threads that share a name share
nothing else; the loop of a thread that ended is given back; a nested call reuses the loops of the call around it; no
event loop policy is touched; a coroutine that raises SystemExit does not take its loop along.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from syncline import Bridge, RunnerClosedError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

__all__ = ["loop_manager", "run_sync"]

logger = logging.getLogger("syncline.compat.flytekit")

P = ParamSpec("P")
T = TypeVar("T")

_MANY_RUNNERS = 500


@contextmanager
def _selector_policy() -> Generator[None]:
    """Does nothing: flytekit swaps the event loop policy here, syncline's loops need none."""
    yield


class _TaskRunner:
    """One event loop on a daemon thread, started by the first `run`. Thread-safe."""

    def __init__(self) -> None:
        self._bridge = Bridge(name=f"flytekit-{threading.current_thread().name}")

    def get_exc_handler(self) -> Callable[[asyncio.AbstractEventLoop, dict[str, Any]], None]:
        """The handler for errors that nobody retrieves: it logs them."""

        def handle(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            error = context.get("exception")
            logger.error(
                "%s: %s", self._bridge.name, context.get("message", "unhandled error"), exc_info=error
            )

        return handle

    def run(self, coro: Awaitable[T]) -> T:
        """Waits for the coroutine's result; raises what it raises, or RunnerClosedError after `_close`."""
        try:
            return self._bridge.run(self._serve(coro))
        except RunnerClosedError:
            # Refused before it began, or ended: closing the second is nothing, closing the first spares a warning.
            if asyncio.iscoroutine(coro):
                coro.close()
            raise

    async def _serve(self, coro: Awaitable[T]) -> T:
        if getattr(_serving, "runner", None) is not self:
            # The first call on this thread: nested calls made here come back to this runner.
            _serving.runner = self
            asyncio.get_running_loop().set_exception_handler(self.get_exc_handler())
        return await coro

    def _close(self) -> None:
        """Cancels what runs, closes the loop and ends its thread."""
        self._bridge.close()


_serving = threading.local()
"""On a loop's thread: the runner whose loop it is."""


class _Owned:
    """A thread's hold on its runner. It goes with the thread's locals, and takes the runner along."""

    def __init__(self, manager: _AsyncLoopManager, key: str, runner: _TaskRunner) -> None:
        self.runner = runner
        self._manager = manager
        self._key = key
        self._pid = os.getpid()

    def __del__(self) -> None:
        if self._pid == os.getpid():
            self._manager._runner_map.pop(self._key, None)
            self.runner._close()


class _AsyncLoopManager:
    """Gives each calling thread a runner. Thread-safe."""

    def __init__(self) -> None:
        self._runner_map: dict[str, _TaskRunner] = {}
        self._owned = threading.local()

    def run_sync(self, coro_func: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls the async function and waits for its result on the runner of this thread."""
        if asyncio.iscoroutine(coro_func):
            coro_func.close()
            raise TypeError(
                "run_sync() takes an async function and its arguments: run_sync(f, ...), not run_sync(f(...))"
            )
        made = coro_func(*args, **kwargs)
        return self._runner().run(made)

    def synced(self, coro_func: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
        """Makes a sync function of an async one."""

        @functools.wraps(coro_func)
        def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
            return self.run_sync(coro_func, *args, **kwargs)

        return wrapped

    def _runner(self) -> _TaskRunner:
        serving: _TaskRunner | None = getattr(_serving, "runner", None)
        if serving is not None and asyncio.events._get_running_loop() is not None:
            return serving
        owned: _Owned | None = getattr(self._owned, "here", None)
        if owned is not None and owned._pid == os.getpid():
            return owned.runner
        return self._new_runner()

    def _new_runner(self) -> _TaskRunner:
        key = threading.current_thread().name + f"PID:{os.getpid()}"
        if key in self._runner_map:
            # Another thread of the same name; flytekit would make the two share a loop.
            key += f"TID:{threading.get_ident()}"
        if len(self._runner_map) > _MANY_RUNNERS:
            logger.warning(
                "more than %d runners: are threads left running that call run_sync?", _MANY_RUNNERS
            )
        runner = self._runner_map[key] = _TaskRunner()
        self._owned.here = _Owned(self, key, runner)
        return runner


loop_manager = _AsyncLoopManager()
run_sync = loop_manager.run_sync
