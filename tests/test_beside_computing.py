"""Calls beside a thread that computes, and gives the interpreter away only when it must.

Each attempt to get the interpreter takes some milliseconds there, so the parts of a call come apart in time: results
wait for their callers, and callers for their results.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator

import pytest

import syncline

MakeBridge = Callable[..., syncline.Bridge]
pytestmark = pytest.mark.timeout(120)
variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)


@pytest.fixture(params=["process", "thread", "uvloop"])
def bridge(make_bridge: MakeBridge, request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    """A bridge that has a loop, beside a thread that computes until the end."""
    made = make_bridge(scope=request.param)
    made.run_sync(asyncio.sleep, 0)
    is_over = False

    def compute() -> None:
        while not is_over:
            pass

    computing = threading.Thread(target=compute)
    computing.start()
    yield made
    is_over = True
    computing.join()


async def changed(suspensions: int, seconds: float = 0.0) -> int:
    """Changes the variable, after so many suspensions, and a timer."""
    for _ in range(suspensions):
        await asyncio.sleep(0)
    if seconds:
        await asyncio.sleep(seconds)
    variable.set(variable.get() + 1)
    return variable.get()


def test_values_and_context_variables_come_back(bridge: syncline.Bridge) -> None:
    """Of calls whose result is there when the caller looks, and of those whose result is not."""
    expected = 0

    def calls() -> None:
        nonlocal expected
        for suspensions, seconds in [(0, 0.0)] * 6 + [(1, 0.0), (3, 0.0), (0, 0.03)] * 4 + [(0, 0.0)] * 3:
            expected += 1
            assert bridge.run_sync(changed, suspensions, seconds) == expected
            assert variable.get() == expected

    contextvars.copy_context().run(calls)
    assert expected == 21


def test_errors_and_timeouts_arrive(bridge: syncline.Bridge) -> None:
    """Each as it does elsewhere: a caller that has waited long for the interpreter still cancels its call."""

    async def fail() -> None:
        raise ValueError("mine")

    for _ in range(4):
        with pytest.raises(ValueError, match="mine"):
            bridge.run_sync(fail)
        with pytest.raises(TimeoutError):
            bridge.run(asyncio.sleep(60), timeout=0.02)
    assert bridge.run_sync(asyncio.sleep, 0, "goes on") == "goes on"


def test_several_callers_get_their_own_results(bridge: syncline.Bridge) -> None:
    """All of them wait for the interpreter, and so does the loop that they have in common."""
    got: dict[int, list[int]] = {}

    async def same(number: int) -> int:
        await asyncio.sleep(0)
        return number

    def calls(number: int) -> None:
        got[number] = [bridge.run_sync(same, number) for _ in range(5)]

    callers = [threading.Thread(target=calls, args=(number,)) for number in range(4)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert got == {number: [number] * 5 for number in range(4)}
