"""The bridge as an object: options, life, statistics."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

import pytest

import syncline

MakeBridge = Callable[..., syncline.Bridge]


async def loop_id() -> int:
    return id(asyncio.get_running_loop())


def test_it_says_what_it_is(make_bridge: MakeBridge) -> None:
    """name, scope, closed, repr."""
    bridge = make_bridge(name="mine", scope="thread")
    assert (bridge.name, bridge.scope, bridge.closed) == ("mine", "thread", False)
    assert repr(bridge) == '<syncline.Bridge "mine", scope "thread">'
    bridge.close()
    assert bridge.closed
    assert "closed" in repr(bridge)


def test_two_bridges_are_independent(make_bridge: MakeBridge) -> None:
    """Each has its loop; closing one leaves the other alone."""
    one, two = make_bridge(name="one"), make_bridge(name="two")
    assert one.run_sync(loop_id) != two.run_sync(loop_id)
    one.close()
    assert two.run_sync(loop_id)


def test_stats_count_what_happens(make_bridge: MakeBridge) -> None:
    """Calls begun and in flight, nested ones, loops alive."""
    bridge = make_bridge(nested="thread")
    assert bridge.stats()["runners"] == 0
    seen = {}

    async def outer() -> None:
        seen.update(bridge.stats())
        bridge.run_sync(loop_id)

    bridge.run_sync(outer)
    assert (seen["runners"], seen["calls"], seen["active"], seen["nested"]) == (1, 1, 1, 0)
    after = bridge.stats()
    assert (after["runners"], after["calls"], after["active"], after["nested"]) == (2, 2, 0, 1)
    bridge.close()
    assert bridge.stats()["runners"] == 0


def test_a_loop_factory_that_fails_is_the_callers_error_and_is_tried_again(make_bridge: MakeBridge) -> None:
    """The start's failure reaches the caller, who isn't stuck with it (case 32)."""
    fails = [True]

    def factory() -> asyncio.AbstractEventLoop:
        if fails.pop() if fails else False:
            raise OSError("no loop today")
        return asyncio.new_event_loop()

    bridge = make_bridge(loop_factory=factory)
    before = threading.active_count()
    with pytest.raises(OSError, match="no loop today"):
        bridge.run_sync(loop_id)
    assert bridge.run_sync(loop_id)
    assert threading.active_count() <= before + 1


def test_calls_in_flight_end_when_it_is_closed(make_bridge: MakeBridge) -> None:
    """The coroutine is cancelled and cleans up; its caller gets RunnerClosedError (case 34)."""
    bridge = make_bridge(name="closing")
    begun = threading.Event()
    cleaned: list[bool] = []
    caught: list[BaseException] = []

    async def hold() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            cleaned.append(True)

    def call() -> None:
        try:
            bridge.run_sync(hold)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=call)
    thread.start()
    assert begun.wait(10)
    bridge.close()
    thread.join(10)
    assert not thread.is_alive()
    assert cleaned == [True]
    assert isinstance(caught[0], syncline.RunnerClosedError)
    assert isinstance(caught[0].__cause__, asyncio.CancelledError)


def test_a_coroutine_may_close_its_own_bridge(make_bridge: MakeBridge) -> None:
    """It can't wait for its own end, so close() returns at once, and the caller learns of it."""
    bridge = make_bridge()

    async def close() -> None:
        bridge.close()
        await asyncio.sleep(3600)

    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(close)
    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(loop_id)


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_leaving_the_block_leaves_nothing_behind(leaks_nothing: None, scope: str) -> None:
    """No thread, no descriptor."""
    with syncline.Bridge(scope=scope) as bridge:  # type: ignore[arg-type]
        bridge.run_sync(asyncio.sleep, 0)
        bridge.submit(asyncio.sleep, 0).result(10)


def test_a_subclass_is_a_bridge() -> None:
    """Its calls may be overridden and extended."""

    class Counting(syncline.Bridge):
        def run_twice(self) -> tuple[int, int]:
            return self.run_sync(loop_id), self.run_sync(loop_id)

    with Counting(name="sub") as bridge:
        first, second = bridge.run_twice()
        assert first == second
