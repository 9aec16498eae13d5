"""Loops that return from run_forever at once, as Qt's do outside of the main thread; loops that somebody has closed."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import syncline

pytestmark = pytest.mark.timeout(60)
MakeBridge = Callable[..., syncline.Bridge]
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])
made: list[asyncio.AbstractEventLoop] = []


@pytest.fixture(autouse=True)
def none_made() -> None:
    made.clear()


class Counted(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        super().__init__()
        made.append(self)


class ReturnsAtOnce(Counted):
    def run_forever(self) -> None:
        pass


class Fails(Counted):
    def run_forever(self) -> None:
        raise AssertionError("not in this thread")


class StopsRunning(Counted):
    """Runs in its first turns, and then no more."""

    turns = 0

    def run_forever(self) -> None:
        self.turns += 1
        if self.turns <= 1:
            super().run_forever()


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("odd")}


@scopes
@pytest.mark.parametrize("kind", [ReturnsAtOnce, Fails, StopsRunning])
def test_the_call_raises_and_nothing_goes_on(make_bridge: MakeBridge, scope: str, kind: Any) -> None:
    """RunnerClosedError, no runner after runner, no thread that is left busy, and a close that ends."""
    bridge = make_bridge(scope=scope, loop_factory=kind, name="odd", cleanup_timeout=5.0)
    expected = AssertionError if (kind, scope) == (Fails, "caller") else syncline.RunnerClosedError

    def calls() -> None:
        for _ in range(3):
            bridge.run(asyncio.sleep(0.01), timeout=20)

    with pytest.raises(expected):
        calls()
    before = len(made)
    assert before <= 32
    begun = time.monotonic()
    bridge.close()
    assert time.monotonic() - begun < 5
    assert threads() == set()
    assert len(made) == before
    assert all(loop.is_closed() for loop in made)


def test_a_program_that_ends_with_such_a_loop_ends() -> None:
    """Every caller hears of it, and a bridge that was never closed leaves nothing to wait for."""
    bridge = syncline.Bridge(loop_factory=ReturnsAtOnce, name="odd")
    for _ in range(3):
        with pytest.raises(syncline.RunnerClosedError, match="ReturnsAtOnce, does not run in this thread"):
            bridge.run_sync(asyncio.sleep, 0)
    assert len(made) == 3
    assert threads() == set()


@pytest.mark.parametrize("closes", ["loop", "selector"])
def test_a_loop_that_somebody_has_closed_is_replaced(
    make_bridge: MakeBridge, closes: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Scope "caller": the call that finds it so raises, which is logged, once; the next one has a new loop."""
    bridge = make_bridge(scope="caller")

    async def its_loop() -> Any:
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    first = bridge.run_sync(its_loop)
    (first if closes == "loop" else first._selector).close()
    with pytest.raises((RuntimeError, ValueError), match="closed"):
        bridge.run_sync(its_loop)
    assert "was closed by somebody else" in caplog.text
    assert bridge.run_sync(its_loop) is not first
    bridge.close()
    assert len(caplog.records) == 1
    if closes == "selector":  # the loop, which can't be closed any more, is kept; what it has open is not
        for each in (first._ssock, first._csock):
            each.close()


def test_a_bridge_whose_loop_somebody_has_closed_can_be_closed(make_bridge: MakeBridge) -> None:
    """Scope "caller": close() raised that the loop is closed."""
    bridge = make_bridge(scope="caller")

    async def its_loop() -> Any:
        return asyncio.get_running_loop()

    bridge.run_sync(its_loop).close()
    bridge.close()
