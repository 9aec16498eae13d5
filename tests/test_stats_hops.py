"""`stats()["hops"]`: how long callers waited."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable

import pytest

import syncline

MakeBridge = Callable[..., syncline.Bridge]


async def quick() -> None:
    pass


async def blocks(seconds: float) -> None:
    time.sleep(seconds)


async def numbers() -> AsyncIterator[int]:
    for number in range(3):
        yield number


def counted(bridge: syncline.Bridge) -> int:
    return sum(count for _, count in bridge.stats()["hops"])


def test_nothing_is_measured_unless_asked_for(make_bridge: MakeBridge) -> None:
    """The list is empty."""
    bridge = make_bridge()
    bridge.run_sync(quick)
    assert bridge.stats()["hops"] == []


def test_each_call_that_a_thread_waits_for_is_in_one_bucket(make_bridge: MakeBridge) -> None:
    """And each step of an iterator; not `submit`, and no nested call in place."""
    bridge = make_bridge(timed=True)
    for _ in range(10):
        bridge.run_sync(quick)
    bridge.run(quick())
    bridge.call(dict)
    assert counted(bridge) == 12
    list(bridge.iterate(numbers()))
    assert counted(bridge) == 16
    bridge.submit(quick).result()

    async def outer() -> None:
        bridge.run_sync(quick)

    bridge.run_sync(outer)
    assert counted(bridge) == 17


def test_the_bucket_says_how_long_it_took(make_bridge: MakeBridge) -> None:
    """Its bound is a power of two of microseconds, and at most twice the time."""
    bridge = make_bridge(timed=True)
    bridge.run_sync(quick)
    before = dict(bridge.stats()["hops"])  # on a busy machine it may have taken as long
    begun = time.monotonic()
    bridge.run_sync(blocks, 0.05)
    took = time.monotonic() - begun
    ((bound, count),) = set(bridge.stats()["hops"]) - set(before.items())
    assert count - before.get(bound, 0) == 1
    assert 0.05 <= bound < 2 * took
    assert math.log2(bound * 1e6) == pytest.approx(round(math.log2(bound * 1e6)))


def test_an_error_takes_time_too(make_bridge: MakeBridge) -> None:
    """A call that raises is counted."""
    bridge = make_bridge(timed=True)

    async def broken() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        bridge.run_sync(broken)
    assert counted(bridge) == 1


def test_scope_caller_has_no_hops(make_bridge: MakeBridge) -> None:
    """Its thread drives the loop itself."""
    bridge = make_bridge(scope="caller", timed=True)
    bridge.run_sync(quick)
    assert counted(bridge) == 0
