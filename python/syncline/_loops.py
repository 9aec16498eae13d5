"""The loop class of scope "caller". Imported by the core at the first call, since it needs asyncio."""

from __future__ import annotations

import asyncio
import collections
import sys
from sys import get_asyncgen_hooks
from typing import Any

from ._core import BridgeLoop

if sys.platform == "win32":
    _StockLoop = asyncio.ProactorEventLoop
else:
    _StockLoop = asyncio.SelectorEventLoop


class CallerLoop(BridgeLoop, _StockLoop):
    """A thread's own loop, which can take the first step of a task without turning."""

    _ready: collections.deque[asyncio.Handle]

    def __init__(self) -> None:
        super().__init__()
        self.hooks = self.run_until_complete(_current_hooks())

    def finish(self) -> None:
        """Stops as soon as what is ready by now has had its turn: tasks that the call has created are begun."""
        if self._ready:
            self.call_soon(self.stop)
        else:
            self.stop()


async def _current_hooks() -> tuple[Any, Any]:
    """The hooks for async generators that a loop sets while it runs. Its own names for them are private, so
    they are read while it runs."""
    hooks = get_asyncgen_hooks()
    return hooks.firstiter, hooks.finalizer
