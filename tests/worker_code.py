"""What the tests of from_thread() share: what workers call, and how long they may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import anyio.lowlevel

Run = Callable[[Callable[[], Any]], Any]

LIMIT = 20


async def double(value: int, *, plus: int = 0) -> int:
    """An async function that suspends."""
    await anyio.lowlevel.checkpoint()
    return 2 * value + plus


def with_time_limit(run: Callable[[Any], Any], main: Any) -> None:
    """What may take a while must still come to its end: within seconds, not for ever."""
    began = time.monotonic()
    run(main)
    assert time.monotonic() - began < LIMIT
