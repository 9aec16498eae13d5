"""The loop class of scope "caller". Imported by the core at the first call, since it needs asyncio."""

from __future__ import annotations

import asyncio
import sys
from asyncio.events import _set_running_loop
from sys import get_asyncgen_hooks, set_asyncgen_hooks
from typing import Any

if sys.platform == "win32":
    _StockLoop = asyncio.ProactorEventLoop
else:
    _StockLoop = asyncio.SelectorEventLoop


class CallerLoop(_StockLoop):
    """A thread's own loop, which can take the first step of a task without turning.

    Between `begin_step` and `end_step` it is the running loop of its thread, so that the step may start eagerly, and the
    one that finalizes the async generators which the step begins.
    """

    _is_stepping = False

    def __init__(self) -> None:
        super().__init__()
        self._hooks = self.run_until_complete(_current_hooks())

    def is_running(self) -> bool:
        return self._is_stepping or super().is_running()

    def begin_step(self) -> tuple[Any, Any]:
        outer = get_asyncgen_hooks()
        set_asyncgen_hooks(*self._hooks)
        self._is_stepping = True
        _set_running_loop(self)
        return outer

    def end_step(self, outer: tuple[Any, Any]) -> None:
        _set_running_loop(None)
        self._is_stepping = False
        set_asyncgen_hooks(*outer)


async def _current_hooks() -> tuple[Any, Any]:
    """The hooks that a loop installs while it runs: asked of it here, as their names are private."""
    return get_asyncgen_hooks()
