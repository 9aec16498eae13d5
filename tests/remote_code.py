"""What the tests of `run_async` and its like await."""

from __future__ import annotations

import threading
from collections.abc import Callable, Coroutine
from typing import Any

import anyio

from neutral import cleanup, sleep_forever, turn

Anywhere = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]
"""The fixture that runs an async program on one of several kinds of loops."""


async def answer(suspensions: int = 1) -> int:
    for _ in range(suspensions):
        await turn()
    return 42


class Cleaning:
    """A coroutine that waits for ever, and says when it waits and when it has cleaned up."""

    def __init__(self, seconds: float = 0.05) -> None:
        self.waits = threading.Event()
        self.is_clean = False
        self._seconds = seconds

    async def __call__(self) -> None:
        try:
            self.waits.set()
            await sleep_forever()
        finally:
            await cleanup(self._seconds)
            self.is_clean = True

    async def began(self) -> None:
        await until(self.waits.is_set)


async def until(condition: Callable[[], object]) -> None:
    """Waits for what another thread does, without a thread of its own."""
    while not condition():
        await anyio.sleep(0.001)
