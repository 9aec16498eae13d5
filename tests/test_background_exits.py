"""Background errors that are no Exception are logged, and the loop goes on: also on a thread's own."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable

import pytest

from child import run_script
from closing import MakeBridge

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


class Odd(BaseException):
    """Neither an Exception nor one that asyncio knows."""


def in_a_task(raise_it: Callable[[], None]) -> None:
    async def task() -> None:
        raise_it()

    loop = asyncio.get_running_loop()
    loop.kept = loop.create_task(task())  # type: ignore[attr-defined]


def in_a_callback(raise_it: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(raise_it)


@scopes
@pytest.mark.parametrize("error", [SystemExit, Odd])
@pytest.mark.parametrize("where", [in_a_task, in_a_callback])
@pytest.mark.parametrize("loop", [None, asyncio.SelectorEventLoop])
def test_it_is_logged_and_the_call_that_drives_the_loop_goes_on(
    make_bridge: MakeBridge,
    caplog: pytest.LogCaptureFixture,
    scope: str,
    error: type[BaseException],
    where: Callable[[Callable[[], None]], None],
    loop: Callable[[], asyncio.AbstractEventLoop] | None,
) -> None:
    """In all scopes alike; nothing is active afterwards."""

    def raise_it() -> None:
        raise error("of the background")

    async def begins() -> int:
        where(raise_it)
        for _ in range(5):
            await asyncio.sleep(0)
        return 42

    bridge = make_bridge(scope=scope, loop_factory=loop)
    assert bridge.run_sync(begins) == 42
    assert bridge.run_sync(begins) == 42
    assert bridge.stats()["active"] == 0
    bridge.close()
    assert "of the background" in caplog.text
    # The loop and its task refer to each other. When they are freed, asyncio logs the error again: not in another
    # test.
    gc.collect()


@scopes
def test_it_does_not_break_off_the_cleanup(
    make_bridge: MakeBridge, caplog: pytest.LogCaptureFixture, scope: str
) -> None:
    """Of the other tasks, while the bridge is closed."""
    cleaned: list[str] = []

    async def lasts(name: str, error: BaseException | None) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            if error is not None:
                raise error
            for _ in range(5):
                await asyncio.sleep(0)
            cleaned.append(name)

    async def begins() -> None:
        loop = asyncio.get_running_loop()
        errors = {"a": None, "b": SystemExit("of the cleanup"), "c": None}
        loop.kept = [loop.create_task(lasts(*each)) for each in errors.items()]  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    bridge = make_bridge(scope=scope)
    bridge.run_sync(begins)
    bridge.close()
    assert sorted(cleaned) == ["a", "c"]
    assert "of the cleanup" in caplog.text


@scopes
def test_a_signal_handlers_system_exit_is_not_taken_for_one(scope: str) -> None:
    """It is the call's, which cancels its coroutine and raises it."""
    end = run_script(f"""
import asyncio, signal, sys, threading
import syncline

signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))
bridge = syncline.Bridge(scope="{scope}")

async def lasts():
    threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGTERM)).start()
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        print("cleaned up", bridge.stats()["active"])

try:
    bridge.run_sync(lasts)
finally:
    print(bridge.stats()["active"])
""")
    assert (end.status, end.lines, end.err) == (3, ["cleaned up 1", "0"], "")
