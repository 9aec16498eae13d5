"""Nobody waits for ever on a loop that ended, and a loop that stands still is named."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time

import pytest

import syncline
from child import eventually
from syncline import _core
from waiting import Scope, answer, bridge, in_time, scopes

__all__ = ["bridge"]

pytestmark = pytest.mark.timeout(60)


@scopes
def test_a_coroutine_that_stops_its_loop_frees_its_caller(scope: Scope) -> None:
    """loop.stop() by user code: RunnerClosedError for the waiter, and the next call works on a new
    runner (case 7)."""
    with syncline.Bridge(scope=scope, cleanup_timeout=1.0) as bridge:

        async def stops() -> None:
            asyncio.get_running_loop().stop()
            await asyncio.sleep(3600)

        for _ in range(3):
            with pytest.raises(syncline.RunnerClosedError), in_time():
                bridge.run_sync(stops)
            assert bridge.run_sync(answer) == 42
        assert bridge.stats()["runners"] == 1
        assert bridge.stats()["active"] == 0


def test_everyone_who_waits_on_a_stopped_loop_is_freed(bridge: syncline.Bridge) -> None:
    """Callers in other threads and submitted futures get RunnerClosedError, and cleanups run (case 7)."""
    all_begun = threading.Event()
    begun: list[int] = []
    outcomes: list[str] = []
    cleaned: list[int] = []

    async def forever(number: int) -> None:
        try:
            begun.append(number)
            if len(begun) == 3:
                all_begun.set()
            await asyncio.Event().wait()
        finally:
            cleaned.append(number)

    async def stops() -> str:
        asyncio.get_running_loop().stop()
        return "stopped"

    def caller(number: int) -> None:
        try:
            bridge.run_sync(forever, number)
        except syncline.RunnerClosedError:
            outcomes.append("told")

    threads = [threading.Thread(target=caller, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    future = bridge.submit(forever, 2)
    assert all_begun.wait(10)
    with contextlib.suppress(syncline.RunnerClosedError), in_time():
        assert bridge.run_sync(stops) == "stopped"
    for thread in threads:
        thread.join(20)
    with pytest.raises(syncline.RunnerClosedError):
        future.result(20)
    assert outcomes == ["told", "told"]
    assert sorted(cleaned) == [0, 1, 2]
    assert bridge.run_sync(answer) == 42


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_callback_that_raises_system_exit_leaves_no_caller_waiting(
    bridge: syncline.Bridge, error: type[BaseException]
) -> None:
    """Not in a coroutine but in a plain callback: the loop goes on (case 48)."""

    async def schedules() -> str:
        def raises() -> None:
            raise error

        asyncio.get_running_loop().call_soon(raises)
        return await asyncio.sleep(0.1, "went on")

    with in_time():
        assert bridge.run_sync(schedules) == "went on"
        assert bridge.run_sync(answer) == 42


def test_a_finalizer_on_the_loop_thread_that_calls_the_bridge_does_not_hang(bridge: syncline.Bridge) -> None:
    """A __del__ that runs inside a coroutine gets its value (case 70)."""
    outcomes: list[int] = []

    class Thing:
        def __del__(self) -> None:
            outcomes.append(bridge.run_sync(answer))

    async def drops() -> str:
        thing = Thing()
        await asyncio.sleep(0)
        del thing
        return "dropped"

    with in_time():
        assert bridge.run_sync(drops) == "dropped"
    assert outcomes == [42]


def test_a_stalled_loop_is_reported_with_its_stack_and_the_waiting_callers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One coroutine sleeps in time.sleep: a warning names it, and the caller that waits behind it (case
    65)."""
    # Interleaving: the second call is made when the first coroutine is already in its time.sleep.
    asleep = threading.Event()

    async def hogs_the_loop() -> None:
        asleep.set()
        time.sleep(1.0)

    with syncline.Bridge(stall_after=0.2) as bridge, caplog.at_level(logging.WARNING, "syncline"):
        hog = threading.Thread(target=bridge.run_sync, args=(hogs_the_loop,))
        hog.start()
        assert asleep.wait(10)

        def waits_behind_it() -> int:
            return bridge.run_sync(answer)

        assert waits_behind_it() == 42
        hog.join()
    warnings = [
        r.getMessage() for r in caplog.records if r.name == "syncline" and r.levelno == logging.WARNING
    ]
    (warning,) = warnings
    assert "in hogs_the_loop" in warning
    assert "in waits_behind_it" in warning


def test_one_stall_is_reported_once_however_many_wait(caplog: pytest.LogCaptureFixture) -> None:
    """And the next one of the same loop again; callers that wait alike are shown once (case 65)."""
    asleep = threading.Event()

    async def hogs_the_loop() -> None:
        asleep.set()
        # Interleaving: the loop stands until all callers have looked at it again and again.
        assert eventually(lambda: len(_core.long_waits()) == 21)
        time.sleep(1.0)

    with syncline.Bridge(stall_after=0.2) as bridge, caplog.at_level(logging.WARNING, "syncline"):

        def waits_behind_it() -> None:
            asleep.wait(10)
            bridge.run_sync(answer)

        for stall in (1, 2):
            asleep.clear()
            threads = [threading.Thread(target=waits_behind_it) for _ in range(20)]
            for thread in threads:
                thread.start()
            bridge.run_sync(hogs_the_loop)
            for thread in threads:
                thread.join()
            assert len(caplog.records) == stall
            assert caplog.records[-1].getMessage().count("in waits_behind_it\n") <= 1


@pytest.mark.parametrize("stall_after", [None, 0.2])
def test_nothing_is_reported_without_a_stall(
    stall_after: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    """A loop that turns is not stalled, however long its coroutines take; and by default nothing is
    (case 65)."""

    async def blocks() -> None:
        time.sleep(0.6 if stall_after is None else 0.05)

    with syncline.Bridge(stall_after=stall_after) as bridge, caplog.at_level(logging.WARNING, "syncline"):
        bridge.run_sync(blocks)
        bridge.run_sync(asyncio.sleep, 0.6)
    assert caplog.records == []
