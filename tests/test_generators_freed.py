"""Generators that sync code lets go of: no Python code runs, in which an error of a signal handler's would be lost, and
their loop closes them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import FrameType

import pytest

import syncline

pytestmark = pytest.mark.timeout(60)


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_a_generator_that_is_freed_runs_no_python_code(
    make_bridge: Callable[..., syncline.Bridge], scope: str
) -> None:
    """Where sync code drops what it has iterated over, or entered, a handler would raise unseen (case 44)."""

    async def numbers() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(0)

    entered = contextlib.asynccontextmanager(numbers)
    bridge = make_bridge(scope=scope)
    bridge.run_sync(asyncio.sleep, 0)
    called: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            called.add(frame.f_code.co_qualname)

    gc.collect()  # what other tests have left: it may have callbacks in Python
    sys.setprofile(note)
    try:
        assert list(bridge.iterate(numbers())) == [1]
        with bridge.enter(entered()):
            pass
    finally:
        sys.setprofile(None)
    assert called
    assert not [name for name in called if name.endswith("_remove")]


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_generators_that_are_left_are_closed_with_their_loop(
    make_bridge: Callable[..., syncline.Bridge], scope: str
) -> None:
    """asyncio's loop finds them, the live ones, however they are kept."""
    log: list[str] = []

    async def left(name: str) -> AsyncGenerator[str]:
        try:
            yield name
        finally:
            log.append(name)

    bridge = make_bridge(scope=scope)
    kept = [left("one"), left("two"), left("three")]

    async def begin() -> None:
        for generator in kept:
            assert await anext(generator)
        await kept.pop().aclose()

    bridge.run_sync(begin)
    bridge.close()
    assert log[0] == "three"
    assert sorted(log[1:]) == ["one", "two"]
