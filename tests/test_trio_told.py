"""A trio run is told something by the main thread, in which a signal handler may run at any moment."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
import trio

import syncline
from closing import MakeBridge

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal"),
]


class Strikes:
    """Has the handler run at one event of trio's code in this thread."""

    def __init__(self, turn: int) -> None:
        self.left = turn

    def __call__(self, frame: FrameType, event: str, arg: object) -> Any:
        if frame.f_code.co_filename.endswith("_entry_queue.py"):
            self.left -= 1
            if self.left == 0:
                signal.raise_signal(signal.SIGUSR1)
        return self


@pytest.fixture
def handled() -> Iterator[list[Any]]:
    """What the handler is to call, and then what that returns."""
    made: list[Any] = []

    def handler(number: int, frame: object) -> None:
        made.append(made[0]())

    before = signal.signal(signal.SIGUSR1, handler)
    yield made
    signal.signal(signal.SIGUSR1, before)


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_handlers_call_may_need_the_run_that_is_told(
    turn: int, handled: list[Any], make_bridge: MakeBridge
) -> None:
    """It waits for another loop, whose task tells the run something, too. The run's lock is not held meanwhile."""
    inner, outer = make_bridge(backend="trio"), make_bridge(name="outer")

    async def answer() -> str:
        await trio.lowlevel.checkpoint()
        return "answer"

    async def asks() -> str:
        return await inner.run_async(answer)

    assert outer.run_sync(asks) == "answer"
    handled.append(lambda: outer.run_sync(asks))
    traced = sys.gettrace()
    sys.settrace(Strikes(turn))
    try:
        assert inner.run_sync(answer) == "answer"
    finally:
        sys.settrace(traced)
    assert handled[1:] in ([], ["answer"])


@pytest.mark.parametrize("how", ["one after the other", "at once"])
def test_a_run_is_told_by_the_main_thread_as_by_others(how: str, make_bridge: MakeBridge) -> None:
    """More often than its wake-up's buffer has room for."""
    bridge = make_bridge(backend="trio")

    async def number(value: int) -> int:
        await trio.lowlevel.checkpoint()
        return value

    if how == "at once":
        futures = [bridge.submit(number, value) for value in range(1000)]
        assert [future.result(20) for future in futures] == list(range(1000))
    else:
        assert [bridge.run_sync(number, value) for value in range(1000)] == list(range(1000))


def test_a_run_that_has_ended_says_so(make_bridge: MakeBridge) -> None:
    """To the main thread, too, which tells it without trio's own code."""

    async def main() -> Any:
        return trio.lowlevel.current_trio_token()

    token = trio.run(main)
    bridge = make_bridge(loop=token)
    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(trio.sleep, 0)
    with pytest.raises(trio.RunFinishedError):
        syncline._core.tell_trio(token, print)
