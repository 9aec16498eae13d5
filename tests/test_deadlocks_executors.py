"""A pool's only thread, which waits for a coroutine that waits for that thread."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import syncline

MakeBridge = Callable[..., syncline.Bridge]
scopes = pytest.mark.parametrize("scope", ["process", "thread"])


@scopes
def test_a_pool_of_one_that_waits_for_itself(make_bridge: MakeBridge, scope: str) -> None:
    """Whoever made it."""
    bridge = make_bridge(scope=scope)
    with ThreadPoolExecutor(1) as pool:

        async def needs_the_pool() -> Any:
            return await asyncio.get_running_loop().run_in_executor(pool, threading.get_ident)

        with pytest.raises(syncline.DeadlockError, match="only one of its pool"):
            pool.submit(bridge.run_sync, needs_the_pool).result(30)
        # The call was cancelled, and the pool goes on.
        assert bridge.run_sync(needs_the_pool)


def test_a_pool_of_two_goes_on(make_bridge: MakeBridge) -> None:
    """Its other thread does what the coroutine waits for, when it is free: no error, however long that takes."""
    bridge = make_bridge()
    is_free = threading.Event()
    with ThreadPoolExecutor(2) as pool:

        async def needs_the_pool() -> str:
            return await asyncio.get_running_loop().run_in_executor(pool, str, "done")

        pool.submit(is_free.wait)
        waiting = pool.submit(bridge.run_sync, needs_the_pool)
        # Long enough for two examinations, which are a second apart.
        with pytest.raises(TimeoutError):
            waiting.result(2.5)
        is_free.set()
        assert waiting.result(30) == "done"


def test_a_pool_of_one_whose_coroutine_waits_for_others(make_bridge: MakeBridge) -> None:
    """That something lies in the pool's queue is no reason by itself."""
    bridge = make_bridge()
    event = asyncio.Event()

    async def waits() -> str:
        await event.wait()
        return "done"

    async def sets() -> None:
        event.set()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(bridge.run_sync, waits)
        later = pool.submit(str, "later")
        with pytest.raises(TimeoutError):
            waiting.result(2.5)
        bridge.run_sync(sets)
        assert (waiting.result(30), later.result(30)) == ("done", "later")
