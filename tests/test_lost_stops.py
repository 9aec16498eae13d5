"""Scope "caller": a callback that raises SystemExit breaks off its turn, and the loop forgets that it was to stop after
that turn. The thread that drives it looks by itself what the stop was for.

Interleaving: `exits` runs in the very turn in which the loop is told to stop; by timers that are due at once, where the
stop is a timer's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator

import pytest
import uvloop

import syncline
from neutral import turn

pytestmark = pytest.mark.timeout(60)

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop] | None] = {
    "own": None,
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=LOOPS)
def bridge(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> Iterator[syncline.Bridge]:
    with syncline.Bridge(scope="caller", loop_factory=LOOPS[request.param]) as one:
        yield one
        assert one.run_sync(after, 2) == 2
    records = caplog.get_records("call") + caplog.get_records("teardown")
    assert [record.exc_info[0] for record in records if record.exc_info] == [SystemExit]


def exits() -> None:
    raise SystemExit(3)


def exit_in_this_turn() -> None:
    asyncio.get_running_loop().call_soon(exits)


async def after(turns: int, then: Callable[[], object] = lambda: None) -> int:
    for _ in range(turns):
        await turn()
    then()
    return turns


@pytest.mark.parametrize("turns", range(4))
def test_a_call_ends_that_has_left_such_a_callback(bridge: syncline.Bridge, turns: int) -> None:
    assert bridge.run_sync(after, turns, exit_in_this_turn) == turns


@pytest.mark.parametrize("turns", range(4))
def test_a_call_ends_before_a_callback_that_was_there_before(bridge: syncline.Bridge, turns: int) -> None:
    """The callback is the task's neighbour, and comes after its last step."""

    async def main() -> int:
        asyncio.get_running_loop().call_soon(later, turns)
        return await after(turns)

    def later(turns: int) -> None:
        asyncio.get_running_loop().call_soon(later, turns - 1) if turns else exits()

    assert bridge.run_sync(main) == turns
    assert bridge.run_sync(after, 2) == 2


@pytest.mark.parametrize("turns", range(4))
def test_a_function_is_run_that_was_sent_to_the_caller(bridge: syncline.Bridge, turns: int) -> None:
    async def main() -> int:
        await after(turns, exit_in_this_turn)
        return await syncline.to_caller(int)

    assert bridge.run_sync(main) == 0


def test_the_deadline_ends_a_call(bridge: syncline.Bridge) -> None:
    async def main() -> None:
        await turn()  # the deadline's timer is there
        asyncio.get_running_loop().call_later(0.02, exits)
        time.sleep(0.05)
        await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        bridge.run(main(), timeout=0.01)


def test_a_call_ends_whose_loop_was_stopped_in_the_turn_before(bridge: syncline.Bridge) -> None:
    """In the turn that comes then the driver sees whether the loop turns at all."""

    def stop() -> None:
        loop = asyncio.get_running_loop()
        if isinstance(loop, uvloop.Loop):  # stops a turn after it was told to
            loop.call_soon(exit_in_this_turn)
        else:
            exit_in_this_turn()
        loop.stop()

    async def main() -> None:
        asyncio.get_running_loop().call_soon(stop)
        await asyncio.Event().wait()

    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(main)


@pytest.mark.parametrize("bridge", ["own"], indirect=True)
def test_somebody_elses_stop_is_not_lost(bridge: syncline.Bridge) -> None:
    """Only the loops of our own class know of it."""

    async def main() -> None:
        asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop)
        asyncio.get_running_loop().call_soon(exits)
        await asyncio.Event().wait()

    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(main)
