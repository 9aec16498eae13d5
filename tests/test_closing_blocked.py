"""close() where loops are blocked, or coroutines refuse to end: everybody is freed, and it keeps within its bound."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import pytest

import syncline
from child import eventually
from closing import Blocked, Caller, Held, MakeBridge, bound, is_closed_error, scopes
from neutral import CANCELLED, sleep, soon


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    one = Blocked()
    yield one
    one.release.set()


# Loops that are blocked


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_callers_of_a_blocked_loop_are_freed(
    make_bridge: MakeBridge, blocked: Blocked, scope: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After the cleanup time, before the loop turns again; the orphan is reported."""
    bridge = make_bridge(scope=scope, cleanup_timeout=0.3)
    with caplog.at_level(logging.WARNING, "syncline"):
        caller = Caller(lambda: bridge.run_sync(blocked.block))
        assert blocked.begun.wait(10)
        begun = time.monotonic()
        bridge.close()
        assert 0.3 <= time.monotonic() - begun < bound(0.3)
        assert caller.has_got.wait(10)
    assert not blocked.ended.is_set()
    assert is_closed_error(caller.got)
    assert "its caller goes on without it" in caplog.text
    assert "block" in caplog.text


@pytest.mark.parametrize("timeout", [None, 60])
def test_callers_queued_behind_a_blocked_call_are_freed_and_never_begin(
    make_bridge: MakeBridge, blocked: Blocked, timeout: float | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Their coroutines are closed when the loop turns again."""
    bridge = make_bridge(name="queue", cleanup_timeout=0.3)
    ran: list[str] = []

    async def queued() -> None:
        ran.append("queued")

    first = Caller(lambda: bridge.run_sync(blocked.block))
    assert blocked.begun.wait(10)
    second = Caller(lambda: bridge.run(queued(), timeout=timeout))
    assert eventually(lambda: bridge.stats()["calls"] == 2)
    future = bridge.submit(queued)
    bridge.close()
    assert second.has_got.wait(10)
    assert is_closed_error(second.got)
    assert first.has_got.wait(10)
    with pytest.raises(syncline.RunnerClosedError):
        future.result(0)
    (loop,) = [thread for thread in threading.enumerate() if thread.name == "queue"]
    blocked.release.set()
    loop.join(10)
    assert blocked.ended.is_set()
    assert ran == []
    assert [record for record in caplog.records if record.levelno > logging.WARNING] == []


def test_futures_of_a_blocked_loop_are_freed(
    make_bridge: MakeBridge, blocked: Blocked, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that run and those that wait to; callbacks run; what the coroutine returns later is dropped."""
    bridge = make_bridge(cleanup_timeout=0.3)
    running = bridge.submit(blocked.block)
    assert blocked.begun.wait(10)
    called = threading.Event()
    running.add_done_callback(lambda _: called.set())
    with caplog.at_level(logging.WARNING, "syncline"):
        waiter = Caller(running.result)
        bridge.close()
        assert waiter.has_got.wait(10)
    assert is_closed_error(waiter.got)
    assert called.is_set()
    assert not blocked.ended.is_set()
    assert "its caller goes on without it" in caplog.text
    assert bridge.stats()["active"] == 0
    blocked.release.set()
    assert blocked.ended.wait(10)
    assert is_closed_error(running.exception(0))


def test_many_blocked_loops_hold_up_close_no_longer_than_one(
    make_bridge: MakeBridge, caplog: pytest.LogCaptureFixture
) -> None:
    """The bound is one for all of them."""
    bridge = make_bridge(scope="thread", cleanup_timeout=0.5)
    all_blocked = [Blocked() for _ in range(6)]
    callers = [Caller(lambda one=one: bridge.run_sync(one.block)) for one in all_blocked]  # type: ignore[misc]
    try:
        for one in all_blocked:
            assert one.begun.wait(10)
        begun = time.monotonic()
        bridge.close()
        assert time.monotonic() - begun < bound(0.5)
        for caller in callers:
            assert caller.has_got.wait(10)
            assert is_closed_error(caller.got)
    finally:
        for one in all_blocked:
            one.release.set()


def test_a_blocked_own_loop_of_another_thread_holds_up_close_by_the_bound_only(
    make_bridge: MakeBridge, blocked: Blocked, caplog: pytest.LogCaptureFixture
) -> None:
    """That thread is the one that is blocked, so its call ends when it moves again; close() says so."""
    bridge = make_bridge(scope="caller", cleanup_timeout=0.3)
    caller = Caller(lambda: bridge.run_sync(blocked.block))
    assert blocked.begun.wait(10)
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING, "syncline"):
        bridge.close()
    assert 0.3 <= time.monotonic() - begun < bound(0.3)
    assert "left behind" in caplog.text
    blocked.release.set()
    caller.join(10)
    assert caller.got is None  # It had never suspended: this is what it returned.
    assert bridge.stats()["runners"] == 0


# Coroutines that refuse to end


@scopes
def test_a_coroutine_that_refuses_to_end_holds_up_close_by_the_bound_only(
    make_bridge: MakeBridge, scope: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Its caller is told, its future too, and the log names it."""
    bridge = make_bridge(scope=scope, cleanup_timeout=0.3)
    held = Held(2)
    refusals: list[str] = []
    ended, stay = threading.Event(), threading.Event()

    async def stubborn() -> None:
        soon(held.suspended)
        while not ended.is_set():
            try:
                await sleep(0.05)
            except CANCELLED:
                refusals.append(scope)

    futures: list[Future[None]] = []
    caller = Caller(lambda: bridge.run_sync(stubborn))
    # From a thread that stays: in scope "thread" its loop would end with it.
    submitter = Caller(lambda: futures.append(bridge.submit(stubborn)), after=lambda: stay.wait(30) or None)
    assert held.all_begun.wait(10)
    since = time.monotonic()
    with caplog.at_level(logging.WARNING, "syncline"):
        bridge.close()
        assert 0.3 <= time.monotonic() - since < bound(0.3)
        assert caller.has_got.wait(10)
    assert is_closed_error(caller.got)
    assert submitter.has_got.wait(10)
    with pytest.raises(syncline.RunnerClosedError):
        futures[0].result(5)
    assert refusals
    assert "stubborn" in caplog.text
    assert bridge.stats()["active"] == 0
    stay.set()
    ended.set()
