"""anyio's worker threads, and anyio's `from_thread` in ours. Imported by the core where a program has loaded anyio.

What is private to anyio and used here: the thread-locals by which it finds a worker's loop and cancel scope.
"""

from __future__ import annotations

import asyncio
import sys
import weakref
from typing import Any

import anyio.from_thread
from anyio._core import _eventloop

thread_locals: Any = _eventloop.threadlocals


def sender() -> tuple[object, bool] | None:
    """The loop, or trio's token, that sent this worker thread of anyio's, and whether it is trio's. None in any other
    thread."""
    token = getattr(thread_locals, "current_token", None)
    if token is None:
        return None
    return token.native_token, token.backend_class.__module__ == "anyio._backends._trio"


def is_cancelled() -> bool:
    """Whether what awaits this worker thread of anyio's was cancelled."""
    try:
        anyio.from_thread.check_cancelled()
    except (RuntimeError, AttributeError):
        return False  # this version of anyio can't tell
    except BaseException:  # its library's cancellation
        return True
    return False


class LoopToken:
    """anyio's name for an asyncio loop, for our worker threads. It refers to the loop weakly: our inboxes keep it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.backend_class: object = _eventloop.get_async_backend("asyncio")
        self._loop = weakref.ref(loop)

    @property
    def native_token(self) -> object:
        loop = self._loop()
        if loop is None:
            raise RuntimeError("the event loop that sent this worker thread is gone")
        return loop


def scope() -> object:
    """anyio's innermost cancel scope around the current task of asyncio. None where there is none."""
    backend = sys.modules.get("anyio._backends._asyncio")
    states: Any = getattr(backend, "_task_states", None)
    state = states.get(asyncio.current_task()) if states is not None else None
    return getattr(state, "cancel_scope", None)
