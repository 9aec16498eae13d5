"""`in_worker="sender"`: what holds for a bridge's calls holds where they run on the loop that sent the worker."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

import pytest

import syncline
from closing import MakeBridge

pytestmark = pytest.mark.timeout(60)


async def stubborn() -> None:
    end = time.monotonic() + 2
    while time.monotonic() < end:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.05)


def in_worker(work: Callable[[], object]) -> object:
    async def main() -> object:
        return await syncline.to_thread(work)

    return asyncio.run(main())


def test_timeout_and_cleanup_timeout_are_honoured(make_bridge: MakeBridge) -> None:
    """The worker goes on when the coroutine has had its time to clean up, and the call is counted."""
    bridge = make_bridge(in_worker="sender", cleanup_timeout=0.1)

    def work() -> float:
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            bridge.run(stubborn(), timeout=0.05)
        took = time.monotonic() - began
        assert bridge.stats()["calls"] == 1
        assert bridge.stats()["active"] == 0
        return took

    took = in_worker(work)
    assert isinstance(took, float)
    assert took < 1.5


def test_a_closed_bridge_refuses(make_bridge: MakeBridge) -> None:
    """As anywhere else, and the coroutine is closed."""
    bridge = make_bridge(in_worker="sender")
    bridge.close()

    def work() -> None:
        coroutine = asyncio.sleep(0)
        with pytest.raises(syncline.RunnerClosedError):
            bridge.run(coroutine)
        assert coroutine.cr_frame is None
        with pytest.raises(syncline.RunnerClosedError):
            bridge.run_sync(asyncio.sleep, 0)

    in_worker(work)


def test_nested_calls_inside_work(make_bridge: MakeBridge) -> None:
    """Sync code that the coroutine calls makes a call of the bridge: it runs at home, and both are counted."""
    bridge = make_bridge(in_worker="sender")

    async def outer() -> int:
        return bridge.run_sync(asyncio.sleep, 0, 42)

    assert in_worker(lambda: bridge.run_sync(outer)) == 42
    assert bridge.stats()["calls"] == 2
    assert bridge.stats()["active"] == 0
