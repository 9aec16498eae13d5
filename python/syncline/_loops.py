"""The loop class of scope "caller". Imported by the core at the first call, since it needs asyncio."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import sys
from sys import get_asyncgen_hooks, set_asyncgen_hooks
from typing import Any, cast

from ._core import BridgeLoop

if sys.platform == "win32":
    _StockLoop = asyncio.ProactorEventLoop
else:
    _StockLoop = asyncio.SelectorEventLoop


class CallerLoop(BridgeLoop, _StockLoop):
    """A thread's own loop, which can take the first step of a task without turning."""

    _ready: collections.deque[asyncio.Handle]
    _stopping: bool
    _closed = True
    """Until it is made."""
    _run = 0
    """How often it was run."""
    hooks: tuple[Any, Any] | None = None

    def __init__(self) -> None:
        raised: list[BaseException] = []
        try:
            super().__init__()
            self.set_exception_handler(lambda _, what: raised.append(what["exception"]))
            while self.hooks is None:
                # One turn, whatever a signal handler raises in the middle of it.
                self.call_soon(self._note_hooks)
                self._stopping = True
                self.run_forever()
                if raised:
                    raise raised[0]
            self.set_exception_handler(None)
        except BaseException:
            # Half made, it can't be closed; what it is made of closes itself.
            with contextlib.suppress(AttributeError):
                self.close()
            self._closed = True
            raise

    def _note_hooks(self) -> None:
        """The hooks for async generators that a loop sets while it runs. Its own names for them are private, so
        they are read while it runs."""
        hooks = get_asyncgen_hooks()
        self.hooks = hooks.firstiter, hooks.finalizer

    def run_forever(self) -> None:
        self._run += 1
        was_running, hooks = self.is_running(), get_asyncgen_hooks()
        try:
            super().run_forever()
        except BaseException:
            # What a signal handler raises may break off how a run ends and, on Python 3.14, how it begins.
            if not was_running:
                self._end_run(hooks)
            raise

    def _end_run(self, hooks: Any) -> None:
        if asyncio._get_running_loop() is self:
            asyncio._set_running_loop(None)
        mine = cast("Any", self)
        self._stopping = False
        mine._thread_id = None
        mine._set_coroutine_origin_tracking(False)
        set_asyncgen_hooks(*hooks)

    def finish(self) -> None:
        """Stops as soon as what is ready by now has had its turn: tasks that the call has created are begun."""
        if self._ready:
            self.call_soon(self._stop_run, self._run)
        else:
            self._stopping = True

    def _stop_run(self, number: int) -> None:
        """Stops that run. If a signal handler has broken it off before, this is not meant for the one that goes on."""
        if number == self._run:
            self._stopping = True
