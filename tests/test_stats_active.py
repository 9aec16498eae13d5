"""`stats()["active"]` is 0 again after every kind of end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import pytest
import uvloop

import syncline
from child import eventually, run_script
from places import OPTIONS

pytestmark = pytest.mark.timeout(60)
PLACES: dict[str, dict[str, Any]] = {
    **OPTIONS,
    "caller on uvloop": {"scope": "caller", "loop_factory": uvloop.new_event_loop},
}


async def lasts() -> None:
    await asyncio.sleep(3600)


async def fails() -> None:
    await asyncio.sleep(0)
    raise KeyError


async def exits() -> None:
    sys.exit(3)


async def cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def refuses() -> None:
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(0.3)


def nested(bridge: syncline.Bridge) -> None:
    async def outer() -> None:
        bridge.run(lasts(), timeout=0.02)

    bridge.run_sync(outer)


def in_background(bridge: syncline.Bridge) -> None:
    async def begins() -> None:
        asyncio.get_running_loop().call_soon(sys.exit, 3)
        await asyncio.sleep(0.02)

    bridge.run_sync(begins)


def cancelled_future(bridge: syncline.Bridge) -> None:
    future = bridge.submit(lasts)
    future.cancel()
    future.result(20)


def stopped(bridge: syncline.Bridge) -> None:
    async def stops() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(3600)

    bridge.run_sync(stops)


def wrong(bridge: syncline.Bridge) -> None:
    bridge.run_sync(len, [])  # type: ignore[arg-type]


ENDS: dict[str, Callable[[syncline.Bridge], object]] = {
    "error": lambda bridge: bridge.run_sync(fails),
    "SystemExit": lambda bridge: bridge.run_sync(exits),
    "timeout": lambda bridge: bridge.run(lasts(), timeout=0.02),
    "no time": lambda bridge: bridge.run(lasts(), timeout=0),
    "given up": lambda bridge: bridge.run(refuses(), timeout=0.02),
    "cancelled": lambda bridge: bridge.run_sync(cancels_itself),
    "cancelled future": cancelled_future,
    "failed future": lambda bridge: bridge.submit(fails).result(20),
    "nested": nested,
    "background": in_background,
    "stopped": stopped,
    "wrong": wrong,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_nothing_is_active_when_a_call_has_ended(place: str, end: str) -> None:
    """However it has: the caller's own call is not active any more when it returns; the next call works."""
    with syncline.Bridge(**PLACES[place], cleanup_timeout=0.1) as bridge:
        if end == "background":
            in_background(bridge)
        else:
            with pytest.raises(BaseException) as raised:  # noqa: PT011 - each end has its own
                ENDS[end](bridge)
            assert not isinstance(raised.value, AssertionError)
        if "future" in end or end == "nested":
            assert eventually(lambda: bridge.stats()["active"] == 0)
        assert bridge.stats()["active"] == 0
        assert bridge.run_sync(asyncio.sleep, 0, 42) == 42
    assert bridge.stats()["active"] == 0
    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(asyncio.sleep, 0)
    assert bridge.stats()["active"] == 0


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_nothing_is_active_after_a_ctrl_c(scope: str) -> None:
    """One, and a second one that stops waiting."""
    end = run_script(f"""
import asyncio, signal, threading
import syncline

bridge = syncline.Bridge(scope="{scope}", cleanup_timeout=10)

async def refuses():
    main = threading.main_thread().ident
    asyncio.get_running_loop().call_later(0.05, signal.pthread_kill, main, signal.SIGINT)
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        signal.pthread_kill(main, signal.SIGINT)
        await asyncio.sleep(0.2)

for _ in range(2):
    try:
        bridge.run_sync(refuses)
    except KeyboardInterrupt:
        print("caught", bridge.stats()["active"])
print(bridge.run_sync(asyncio.sleep, 0.5, 42), bridge.stats()["active"])
bridge.close()
""")
    assert end.lines == ["caught 0", "caught 0", "42 0"], end.err
    assert end.status == 0
