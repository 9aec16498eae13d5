"""Timeouts cancel, let cleanup run, and raise TimeoutError."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import syncline
from neutral import CANCELLED, cleanup, make_bridge_of, sleep, turn


@pytest.fixture(params=["process", "thread", "caller", "trio"])
def bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    with make_bridge_of(request.param, cleanup_timeout=0.5) as bridge:
        yield bridge


@pytest.fixture(params=["process", "thread", "caller", "trio"])
def impatient(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    """For coroutines that refuse to end: elsewhere a busy machine must not look like one of these."""
    with make_bridge_of(request.param, cleanup_timeout=0.3) as bridge:
        yield bridge


class Sleeper:
    """Sleeps for long; remembers how it ended."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    async def sleep(self) -> None:
        try:
            await sleep(60)
        except CANCELLED:
            self.ended.append("cancelled")
            raise
        finally:
            await cleanup(0.01)
            self.ended.append("cleaned up")


@pytest.mark.parametrize("timeout", [0, -1])
def test_no_time_at_all_is_over_at_once(bridge: syncline.Bridge, timeout: float) -> None:
    """A call without any time left raises; its coroutine never begins, or begins and cleans up (before Python 3.12 a
    task is cancelled before its first step)."""
    sleeper = Sleeper()
    with pytest.raises(TimeoutError):
        bridge.run(sleeper.sleep(), timeout=timeout)
    assert sleeper.ended in ([], ["cancelled", "cleaned up"])


@pytest.mark.parametrize("timeout", [0.05, 0.2])
def test_a_late_coroutine_is_cancelled_and_cleans_up_first(bridge: syncline.Bridge, timeout: float) -> None:
    """TimeoutError, from the CancelledError, after the cleanup, and soon (case 50)."""
    sleeper = Sleeper()
    begun = time.monotonic()
    with pytest.raises(TimeoutError) as caught:
        bridge.run(sleeper.sleep(), timeout=timeout)
    assert sleeper.ended == ["cancelled", "cleaned up"]
    assert isinstance(caught.value.__cause__, CANCELLED)
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize("where", ["inside a running loop", "nested"])
def test_timeouts_hold_on_every_path(bridge: syncline.Bridge, where: str) -> None:
    """Off the loop, inside a foreign loop and in nested calls alike (case 50)."""
    sleeper = Sleeper()

    async def call() -> None:
        with pytest.raises(TimeoutError):
            bridge.run(sleeper.sleep(), timeout=0.05)

    if where == "nested":
        bridge.run_sync(call)
    else:
        asyncio.run(call())
    assert sleeper.ended == ["cancelled", "cleaned up"]


def test_an_outer_timeout_reaches_a_nested_call(bridge: syncline.Bridge) -> None:
    """The loop is blocked by the nested call, which sees that the call around it is late."""
    sleeper = Sleeper()

    async def outer() -> None:
        bridge.run_sync(sleeper.sleep)

    begun = time.monotonic()
    with pytest.raises(TimeoutError):
        bridge.run(outer(), timeout=0.1)
    assert time.monotonic() - begun < 5
    assert sleeper.ended == ["cancelled", "cleaned up"]


@pytest.mark.parametrize("timeout", [None, math.inf, 1e300, 60, 60.0])
def test_a_coroutine_in_time_returns_its_value(bridge: syncline.Bridge, timeout: float | None) -> None:
    """None and infinity wait for as long as it takes."""
    assert bridge.run(sleep(0.01, "value"), timeout=timeout) == "value"


def test_what_a_coroutine_does_in_spite_of_being_cancelled_is_not_lost(bridge: syncline.Bridge) -> None:
    """As asyncio.wait_for: a value is returned, another exception raised."""

    async def answer(error: Exception | None) -> str:
        try:
            await sleep(60)
        except CANCELLED:
            if error is not None:
                raise error from None
        return "all the same"

    assert bridge.run(answer(None), timeout=0.05) == "all the same"
    with pytest.raises(KeyError):
        bridge.run(answer(KeyError("cleanup failed")), timeout=0.05)


def test_a_coroutine_that_refuses_to_end_is_left_behind_and_reported(
    bridge: syncline.Bridge, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller is free after the cleanup time, and the orphan named (case 51)."""
    released = threading.Event()

    async def stubborn() -> None:
        while not released.is_set():
            with contextlib.suppress(*CANCELLED):
                await sleep(0.02)

    begun = time.monotonic()
    with caplog.at_level(logging.WARNING, "syncline"), pytest.raises(TimeoutError):
        bridge.run(stubborn(), timeout=0.05)
    assert time.monotonic() - begun < 5
    assert "stubborn" in caplog.text
    released.set()
    assert bridge.run(sleep(0.05, "goes on")) == "goes on"


def test_wait_for_around_a_call_in_a_thread_returns_in_time(caplog: pytest.LogCaptureFixture) -> None:
    """Leaving early logs nothing about shielded futures (case 56)."""
    release = threading.Event()

    async def wait() -> None:
        while not release.is_set():
            await sleep(0.01)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.to_thread(syncline.run_sync, wait), 0.1)
        release.set()

    asyncio.run(main())
    assert not caplog.records


@pytest.mark.parametrize(("timeout", "error"), [(math.nan, ValueError), ("1", TypeError), (1j, TypeError)])
def test_a_wrong_timeout_is_refused(bridge: syncline.Bridge, timeout: Any, error: type[Exception]) -> None:
    """And the coroutine is closed: no "never awaited" (warnings are errors here)."""
    coroutine = turn()
    with pytest.raises(error):
        bridge.run(coroutine, timeout=timeout)
    coroutine.close()
