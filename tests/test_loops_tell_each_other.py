"""What one loop has for another reaches it, whatever either does next."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest
import uvloop

import syncline
from remote_code import answer, until


class Ending:
    """A coroutine that ends, once it is told to, in a turn of its loop in which a callback blocks that loop next."""

    def __init__(self) -> None:
        self.waits, self.blocks, self.go_on = threading.Event(), threading.Event(), threading.Event()
        self.cleans = threading.Event()

    async def __call__(self) -> None:
        self._loop, self._gate = asyncio.get_running_loop(), asyncio.Event()
        self.waits.set()
        try:
            await self._gate.wait()
        except asyncio.CancelledError:
            self.cleans.set()
            await self._gate.wait()
            raise

    def end(self) -> None:
        """Returns when it has ended, and the loop stands still."""
        self._loop.call_soon_threadsafe(self._end)
        assert self.blocks.wait(20)

    def _end(self) -> None:
        self._gate.set()  # which calls the task's next step soon, and that callback after it
        self._loop.call_soon(self._block)

    def _block(self) -> None:
        self.blocks.set()
        self.go_on.wait(20)


async def result_of_worker() -> bool:
    """One for which the loop's thread does not stay, as its function ends only in a later turn of the loop."""
    turned = threading.Event()
    asyncio.get_running_loop().call_soon(turned.set)
    return await syncline.to_thread(turned.wait, 20)


FACTORIES = pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


@FACTORIES
def test_a_loop_whose_task_went_on_before_it_was_told_is_told_of_what_comes_later(
    make_bridge: Callable[..., syncline.Bridge], factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The outcome is there, and the task's loop, which stands still, has not heard of it; the task is cancelled again,
    sees that there is an outcome, and goes on. The loop is told of the next result, too."""
    bridge, ending = make_bridge(), Ending()

    async def main() -> None:
        task = asyncio.create_task(bridge.run_async(ending))
        await until(ending.waits.is_set)
        task.cancel()
        await until(ending.cleans.is_set)
        ending.end()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ending.go_on.set()
        async with asyncio.timeout(20):
            assert await result_of_worker()
            assert await bridge.run_async(answer) == 42

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


@FACTORIES
def test_a_loop_that_is_blocked_withholds_no_result_of_others(
    make_bridge: Callable[..., syncline.Bridge], factory: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """The bridge's loop has an outcome for a task, and is blocked next. A worker's result comes, and that outcome."""
    bridge, ending = make_bridge(), Ending()

    async def main() -> None:
        task = asyncio.create_task(bridge.run_async(ending))
        await until(ending.waits.is_set)
        ending.end()
        try:
            async with asyncio.timeout(20):
                assert await result_of_worker()
                await task
        finally:
            ending.go_on.set()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
