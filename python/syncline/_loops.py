"""The loop class of scope "caller". Imported by the core at the first call, since it needs asyncio."""

from __future__ import annotations

import asyncio
import sys

if sys.platform == "win32":
    _StockLoop = asyncio.ProactorEventLoop
else:
    _StockLoop = asyncio.SelectorEventLoop


class CallerLoop(_StockLoop):
    """A thread's own loop, which counts as running while the first step of a task runs outside of its turns."""

    is_stepping = False

    def is_running(self) -> bool:
        return self.is_stepping or super().is_running()
