"""Scope "caller": a stop of ours that comes too late is left in the loop, and ends no call.

On uvloop each stop takes effect a turn after it was asked for; on all loops one of another thread may come when its
reason is gone. What each test forces, it says.
"""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

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
TURNS = range(5)


@pytest.fixture(params=LOOPS)
def bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    with syncline.Bridge(scope="caller", loop_factory=LOOPS[request.param]) as one:
        yield one


async def after(turns: int, then: Callable[[], object] = lambda: None) -> int:
    for _ in range(turns):
        await turn()
    then()
    return turns


async def to_caller_after(turns: int) -> int:
    """At first in that turn, and each time in another one."""
    await after(turns)
    return await syncline.to_caller(int)


def check_next_calls(bridge: syncline.Bridge) -> None:
    """The longest one first: a stop that is left in the loop would end it."""
    for turns in reversed(TURNS):
        assert bridge.run_sync(after, turns) == turns


@pytest.mark.parametrize("first", TURNS)
@pytest.mark.parametrize("second", TURNS)
def test_functions_are_sent_to_the_caller_in_turns_of_all_distances(
    bridge: syncline.Bridge, first: int, second: int
) -> None:
    """The second one, which a task of a task sends, while the loop is about to stop for the first one."""

    async def inner() -> int:
        return await asyncio.create_task(to_caller_after(second))

    async def both() -> list[int]:
        return await asyncio.gather(to_caller_after(first), inner())

    assert bridge.run_sync(both) == [0, 0]
    check_next_calls(bridge)


@pytest.mark.parametrize("turns", TURNS)
def test_a_call_ends_while_the_loop_is_about_to_stop_for_a_function(
    bridge: syncline.Bridge, turns: int
) -> None:
    async def main() -> int:
        task = asyncio.create_task(to_caller_after(0))
        await after(turns)
        task.cancel()
        return turns

    assert bridge.run_sync(main) == turns
    check_next_calls(bridge)


@pytest.mark.parametrize("turns", TURNS)
def test_a_call_ends_in_the_turn_of_its_deadline(bridge: syncline.Bridge, turns: int) -> None:
    """It has blocked its loop for longer than that, so that the timer is due at once."""

    async def main() -> int:
        time.sleep(0.02)
        return await after(turns)

    try:
        assert bridge.run(main(), timeout=0.01) == turns
    except TimeoutError:
        assert turns
    check_next_calls(bridge)


@pytest.mark.parametrize("turns", TURNS)
def test_a_call_ends_while_the_loop_is_about_to_stop_for_somebody_else(
    bridge: syncline.Bridge, turns: int
) -> None:
    async def main() -> int:
        asyncio.get_running_loop().stop()
        return await after(turns)

    try:
        assert bridge.run_sync(main) == turns
    except syncline.RunnerClosedError:
        assert turns
    check_next_calls(bridge)


@pytest.mark.parametrize("turns", TURNS)
def test_somebody_elses_stop_ends_a_call_that_has_sent_functions(bridge: syncline.Bridge, turns: int) -> None:
    """Whatever marks the stops for those have left."""

    async def main() -> None:
        await asyncio.gather(*map(to_caller_after, TURNS))
        await after(turns, asyncio.get_running_loop().stop)
        await asyncio.Event().wait()

    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(main)
    check_next_calls(bridge)


@pytest.mark.parametrize("stops_first", [True, False])
@pytest.mark.parametrize("turns", TURNS)
def test_somebody_elses_stop_ends_a_call_in_the_turn_of_one_of_ours(turns: int, stops_first: bool) -> None:
    """Only the loops of our own class know of both."""

    async def main() -> None:
        stop, sends = after(turns, asyncio.get_running_loop().stop), to_caller_after(turns)
        tasks = [stop, sends] if stops_first else [sends, stop]
        started = [asyncio.create_task(task) for task in tasks]
        await asyncio.Event().wait()
        del started

    with syncline.Bridge(scope="caller") as bridge:
        with pytest.raises(syncline.RunnerClosedError):
            bridge.run_sync(main)
        check_next_calls(bridge)


class HandlersError(Exception):
    """What a signal handler raises."""


@pytest.mark.parametrize("turns", TURNS)
def test_a_call_ends_while_the_loop_is_about_to_stop_for_a_signal_handler(
    bridge: syncline.Bridge, turns: int
) -> None:
    """The handler raises in a callback, of which asyncio tells the loop's exception handler only."""

    def raises(_number: int, _frame: object) -> None:
        raise HandlersError

    async def main() -> int:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGUSR1)
        return await after(1 + turns)  # by then it has been raised

    before = signal.signal(signal.SIGUSR1, raises)
    try:
        with pytest.raises(HandlersError):
            bridge.run_sync(main)
    finally:
        signal.signal(signal.SIGUSR1, before)
    check_next_calls(bridge)


class Late:
    """A loop that another thread's stop reaches when the test says so."""

    is_sent: threading.Event
    is_wanted: threading.Event
    is_there: threading.Event

    def call_soon_threadsafe(self, callback: Any, *args: Any, **options: Any) -> Any:
        is_stop = getattr(callback, "__name__", type(callback).__name__).lower() == "stop"
        if is_stop:
            self.is_sent.set()
            assert self.is_wanted.wait(30)
        made: Any = super()
        handle = made.call_soon_threadsafe(callback, *args, **options)
        if is_stop:
            self.is_there.set()
        return handle


class LateOfAsyncio(Late, asyncio.SelectorEventLoop):
    pass


class LateOfUvloop(Late, uvloop.Loop):
    pass


@pytest.mark.parametrize("kind", [LateOfAsyncio, LateOfUvloop])
@pytest.mark.parametrize("turns", TURNS)
def test_another_threads_stop_comes_when_its_function_has_been_run(kind: type[Late], turns: int) -> None:
    """The loop has stopped for a function of its own thread meanwhile."""
    Late.is_sent, Late.is_wanted, Late.is_there = threading.Event(), threading.Event(), threading.Event()

    async def until(event: threading.Event) -> None:
        while not event.is_set():
            await asyncio.sleep(0.001)

    async def elsewhere() -> None:
        await syncline.to_caller(partial(has_run.append, 1))

    async def main() -> int:
        task = asyncio.create_task(asyncio.to_thread(asyncio.run, elsewhere()))
        await until(Late.is_sent)
        await syncline.to_caller(int)
        assert has_run == [1]
        Late.is_wanted.set()
        await until(Late.is_there)
        await after(turns)
        await task
        return turns

    has_run: list[int] = []
    factory: Any = kind
    with syncline.Bridge(scope="caller", loop_factory=factory) as bridge:
        assert bridge.run_sync(main) == turns
        check_next_calls(bridge)
