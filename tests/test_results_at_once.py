"""A result that is known reaches its caller, whatever its loop does next."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

import syncline

ATTEMPTS = 9


@pytest.mark.parametrize("length", [0.0, 0.18], ids=["short", "long"])
@pytest.mark.parametrize("scope", ["process", "thread"])
def test_a_callback_that_blocks_holds_up_no_result_that_came_before(
    make_bridge: Callable[..., syncline.Bridge], scope: str, length: float
) -> None:
    """The caller goes on while the loop still blocks in the turn in which the coroutine has ended."""
    bridge = make_bridge(scope=scope)
    delays: list[float] = []

    for _ in range(ATTEMPTS):
        known: list[float] = []
        got, blocked = threading.Event(), threading.Event()

        def block(got: threading.Event = got, blocked: threading.Event = blocked) -> None:
            # Interleaving: only the caller, with its result, ends this.
            if got.wait(10):
                blocked.set()

        async def ends(known: list[float] = known, block: Callable[[], None] = block) -> None:
            await asyncio.sleep(length)
            loop = asyncio.get_running_loop()
            last = loop.create_future()

            def begin_last_turn() -> None:
                # Two callbacks for one turn: the coroutine ends in the first one, the second one blocks.
                last.set_result(None)
                loop.call_soon(block)

            loop.call_soon(begin_last_turn)
            await last
            known.append(time.perf_counter())

        bridge.run_sync(ends)
        delays.append(time.perf_counter() - known[0])
        got.set()
        assert blocked.wait(10)
    # A caller that had to find out by itself would do so after up to 100 ms, in a long call: here after some 80.
    assert sorted(delays)[ATTEMPTS // 2] < 0.02, delays
