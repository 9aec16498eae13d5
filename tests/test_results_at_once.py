"""A result that is known reaches its caller, whatever its loop does next."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

import syncline
from places import OPTIONS

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


@pytest.mark.parametrize("kind", ["process", "uvloop"])
def test_sync_code_holds_back_no_result_of_a_task_that_it_waits_for(
    make_bridge: Callable[..., syncline.Bridge], kind: str
) -> None:
    """The task, on another loop, hears of it in the turn in which the coroutine has ended."""
    bridge = make_bridge(**OPTIONS[kind])
    got, begun = threading.Event(), threading.Event()
    waited: list[bool] = []

    async def ends(goes_on: asyncio.Event) -> None:
        begun.set()
        await goes_on.wait()

    async def lets_end_and_blocks(goes_on: asyncio.Event) -> None:
        # Two callbacks for one turn: the coroutine ends in the first one, the second one blocks.
        goes_on.set()
        asyncio.get_running_loop().call_soon(lambda: waited.append(got.wait(10)))

    async def new_event() -> asyncio.Event:
        return asyncio.Event()

    async def main() -> None:
        goes_on = await bridge.run_async(new_event)

        async def waits() -> None:
            await bridge.run_async(ends, goes_on)
            got.set()

        task = asyncio.create_task(waits())
        while not begun.is_set():
            await asyncio.sleep(0)
        await bridge.run_async(lets_end_and_blocks, goes_on)
        await task

    asyncio.run(main())
    bridge.run_sync(asyncio.sleep, 0)
    assert waited == [True]
