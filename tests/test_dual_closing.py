"""close() while dual objects are open: a step under way ends as a call does, and what is idle is closed."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import syncline
from child import eventually
from closing import Blocked, Caller, Held, MakeBridge, bound, is_closed_error, scopes
from neutral import CANCELLED, cleanup, end_of_loop, make_bridge_of, sleep, this_task


class Steps:
    """Async generators that last in their second step, and write down where and in which task they end."""

    def __init__(self) -> None:
        self.held = Held()
        self.log: list[str] = []
        self.ended_by: list[int] = []

    async def count(self, last: Callable[[], Any] | None = None) -> AsyncIterator[int]:
        task = this_task()
        try:
            yield 1
            await (last or self.held.hold)()
            yield 2
        finally:
            await cleanup(0)
            self.ended_by.append(threading.get_ident())
            self.log.append("closed" if this_task() is task else "closed in another task")


@pytest.fixture
def blocked() -> Iterator[Blocked]:
    one = Blocked()
    yield one
    one.release.set()


def second(dual: Any) -> Any:
    assert next(dual) == 1
    return next(dual)


def waits_for_the_second(bridge: syncline.Bridge, caller: Caller) -> bool:
    """What is fetched ahead begins before anyone waits for it: this says whether the caller does."""
    frame = sys._current_frames().get(caller.ident or 0)
    while frame is not None and frame.f_code is not second.__code__:
        frame = frame.f_back
    is_there = frame is not None and frame.f_lineno == second.__code__.co_firstlineno + 2
    if is_there and bridge.scope != "caller":
        bridge.run_sync(sleep, 0)  # that line has begun: now it has come to the wait
    return is_there


# Steps under way


kinds = pytest.mark.parametrize(
    "make",
    [
        lambda bridge, steps: bridge.iterate(steps.count()),
        lambda bridge, steps: bridge.iterate(steps.count(), prefetch=2),
        lambda bridge, steps: bridge.generator(steps.count)(),
    ],
    ids=["iterator", "ahead", "generator"],
)


@scopes
@kinds
def test_a_step_under_way_ends_as_a_call_does(make_bridge: MakeBridge, scope: str, make: Any) -> None:
    """RunnerClosedError, after its cleanup, which runs in its own task and on the loop's own thread."""
    bridge, steps = make_bridge(scope=scope), Steps()
    dual = make(bridge, steps)
    caller = Caller(lambda: second(dual))
    assert steps.held.all_begun.wait(10)
    assert eventually(lambda: waits_for_the_second(bridge, caller))
    bridge.close()
    assert steps.log == ["closed"]
    assert steps.ended_by == steps.held.cleaned
    assert (steps.ended_by == [caller.ident]) is (scope == "caller")
    assert all(has_ended() for has_ended in steps.held.ends)
    caller.join(10)
    assert is_closed_error(caller.got)
    assert isinstance(caller.got.__cause__, CANCELLED)  # type: ignore[attr-defined]
    assert bridge.stats()["runners"] == 0
    assert bridge.stats()["active"] == 0


@scopes
@pytest.mark.parametrize("part", ["enter", "exit"])
def test_a_manager_on_its_way_in_or_out_ends_as_a_call_does(
    make_bridge: MakeBridge, scope: str, part: str
) -> None:
    """What it was at is cancelled and cleaned up, once."""
    bridge, held, log = make_bridge(scope=scope), Held(), []

    class Manager:
        async def __aenter__(self) -> None:
            if part == "enter":
                await held.hold()

        async def __aexit__(self, *_: object) -> None:
            log.append("left")
            await held.hold()

    def use() -> None:
        with bridge.enter(Manager()):
            pass

    caller = Caller(use)
    assert held.all_begun.wait(10)
    bridge.close()
    assert len(held.cleaned) == 1
    assert log == (["left"] if part == "exit" else [])
    caller.join(10)
    assert is_closed_error(caller.got)


@scopes
def test_a_step_that_waits_in_a_nested_call_is_freed(make_bridge: MakeBridge, scope: str) -> None:
    """Its loop is blocked by sync code that waits for a call of another bridge: that call is cancelled."""
    outer, other = make_bridge(scope=scope, cleanup_timeout=20), make_bridge()
    steps = Steps()

    async def nested() -> None:
        other.run_sync(steps.held.hold)

    dual = outer.iterate(steps.count(nested))
    caller = Caller(lambda: second(dual))
    assert steps.held.all_begun.wait(10)
    begun = time.monotonic()
    outer.close()
    assert time.monotonic() - begun < 10
    caller.join(10)
    assert is_closed_error(caller.got)
    assert len(steps.held.cleaned) == 1
    assert steps.log == ["closed"]


@scopes
def test_a_step_may_close_its_own_bridge(leaks_nothing: None, scope: Any) -> None:
    """Without waiting for itself; it is cancelled where it suspends next, and its loop is closed after it."""
    bridge, steps = make_bridge_of(scope), Steps()
    ends: list[Callable[[], bool]] = []

    async def close() -> None:
        ends.append(end_of_loop())
        bridge.close()
        await sleep(3600)

    dual = bridge.iterate(steps.count(close))
    with pytest.raises(syncline.RunnerClosedError):
        second(dual)
    assert eventually(ends[0])
    assert steps.log == ["closed"]


# Loops that are blocked


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_a_step_that_blocks_its_loop_frees_its_caller(
    make_bridge: MakeBridge, blocked: Blocked, scope: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After the cleanup time; when the loop turns again, the generator is closed."""
    bridge, steps = make_bridge(scope=scope, cleanup_timeout=0.3), Steps()
    dual = bridge.iterate(steps.count(blocked.block))
    with caplog.at_level(logging.WARNING, "syncline"):
        caller = Caller(lambda: second(dual))
        assert blocked.begun.wait(10)
        begun = time.monotonic()
        bridge.close()
        assert time.monotonic() - begun < bound(0.3)
        assert caller.has_got.wait(10)
    assert is_closed_error(caller.got)
    assert not blocked.ended.is_set()
    assert steps.log == []
    assert "its caller goes on without it" in caplog.text
    blocked.release.set()
    assert eventually(lambda: steps.log == ["closed"])


@pytest.mark.parametrize("prefetch", [0, 2])
def test_a_step_that_waits_behind_a_blocked_call_is_freed_and_never_begins(
    make_bridge: MakeBridge, blocked: Blocked, prefetch: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Nor does its generator."""
    bridge = make_bridge(cleanup_timeout=0.3, name="queue")
    ran: list[str] = []

    async def count() -> AsyncIterator[int]:
        ran.append("begun")
        yield 1

    first = Caller(lambda: bridge.run_sync(blocked.block))
    assert blocked.begun.wait(10)
    sent = threading.Event()
    dual = bridge.iterate(count(), prefetch=prefetch)
    caller = Caller(lambda: (sent.set(), next(dual)))
    assert sent.wait(10)
    assert eventually(lambda: prefetch > 0 or bridge.stats()["calls"] == 2)
    bridge.close()
    assert caller.has_got.wait(10)
    assert is_closed_error(caller.got)
    assert first.has_got.wait(10)
    (loop,) = [thread for thread in threading.enumerate() if thread.name == "queue"]
    blocked.release.set()
    loop.join(10)
    assert ran == []


def test_a_manager_whose_exit_waits_behind_a_blocked_call_is_left_all_the_same(
    make_bridge: MakeBridge, blocked: Blocked, caplog: pytest.LogCaptureFixture
) -> None:
    """Its caller is freed after the cleanup time; its cleanup runs, once, when the loop turns again."""
    bridge = make_bridge(cleanup_timeout=0.3, name="queue")
    log: list[str] = []
    entered, leave = threading.Event(), threading.Event()

    class Manager:
        async def __aenter__(self) -> None:
            entered.set()

        async def __aexit__(self, *_: object) -> None:
            log.append("left")

    def use() -> None:
        with bridge.enter(Manager()):
            assert leave.wait(10)

    caller = Caller(use)
    assert entered.wait(10)
    first = Caller(lambda: bridge.run_sync(blocked.block))
    assert blocked.begun.wait(10)
    leave.set()
    assert eventually(lambda: bridge.stats()["calls"] == 3)
    bridge.close()
    assert caller.has_got.wait(10)
    assert is_closed_error(caller.got)
    assert first.has_got.wait(10)
    assert log == []
    (loop,) = [thread for thread in threading.enumerate() if thread.name == "queue"]
    blocked.release.set()
    loop.join(10)
    assert log == ["left"]


# What is idle


@scopes
@kinds
def test_an_idle_generator_is_closed(make_bridge: MakeBridge, scope: str, make: Any) -> None:
    """By its own loop, in its own task; the next step says what happened, and close() has nothing to do."""
    bridge, steps = make_bridge(scope=scope), Steps()
    dual = make(bridge, steps)
    assert next(dual) == 1
    bridge.close()
    assert steps.log == ["closed"]
    with pytest.raises(syncline.RunnerClosedError):
        next(dual)
    dual.close()
    assert steps.log == ["closed"]


def by_a_step(bridge: syncline.Bridge, held: list[Any]) -> None:
    with pytest.raises(syncline.RunnerClosedError):
        next(held[0])


def by_its_end(bridge: syncline.Bridge, held: list[Any]) -> None:
    held[0].close()


def by_dropping_it(bridge: syncline.Bridge, held: list[Any]) -> None:
    held.clear()


def by_a_call(bridge: syncline.Bridge, held: list[Any]) -> None:
    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(sleep, 0)


def by_the_threads_end(bridge: syncline.Bridge, held: list[Any]) -> None:
    """Needs nothing."""


@scopes
@pytest.mark.parametrize("touch", [by_a_step, by_its_end, by_dropping_it, by_a_call, by_the_threads_end])
def test_an_idle_generator_of_another_thread_is_closed(leaks_nothing: None, scope: Any, touch: Any) -> None:
    """By close() where its loop has a thread of its own; in scope "caller" by its thread, as soon as that comes by."""
    bridge, steps = make_bridge_of(scope), Steps()
    begun, closed = threading.Event(), threading.Event()

    def life() -> None:
        held = [bridge.iterate(steps.count())]
        assert next(held[0]) == 1
        begun.set()
        assert closed.wait(10)
        touch(bridge, held)
        if touch is not by_the_threads_end:
            assert steps.log == ["closed"]
        kept.extend(held)

    kept: list[Any] = []
    caller = Caller(life)
    assert begun.wait(10)
    since = time.monotonic()
    bridge.close()
    assert time.monotonic() - since < 4  # It waits for no loop that is at rest.
    assert steps.log == ([] if scope == "caller" else ["closed"])
    closed.set()
    caller.join(10)
    assert caller.got is None
    assert steps.log == ["closed"]
    assert (steps.ended_by == [caller.ident]) is (scope == "caller")


@scopes
def test_a_manager_that_is_entered_is_left(make_bridge: MakeBridge, scope: str) -> None:
    """As if its body had been cancelled; the end of the `with` says what happened."""
    bridge, seen = make_bridge(scope=scope), []
    entered, closed = threading.Event(), threading.Event()

    class Manager:
        async def __aenter__(self) -> None:
            await sleep(0)

        async def __aexit__(self, kind: object, *_: object) -> None:
            await sleep(0)
            seen.append((kind, threading.get_ident()))

    def use() -> None:
        with bridge.enter(Manager()):
            entered.set()
            assert closed.wait(10)

    caller = Caller(use)
    assert entered.wait(10)
    bridge.close()
    assert len(seen) == (0 if scope == "caller" else 1)
    closed.set()
    caller.join(10)
    assert is_closed_error(caller.got)
    ((kind, thread),) = seen
    assert kind in CANCELLED
    assert (thread == caller.ident) is (scope == "caller")


@scopes
def test_cleanup_of_an_idle_generator_may_make_nested_calls_of_another_bridge(
    make_bridge: MakeBridge, scope: str
) -> None:
    """Its end is what its loop waits for, and not what is to end with the loop."""
    outer, other = make_bridge(scope=scope), make_bridge()
    cleaned: list[str] = []

    async def count() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            # Long enough for its wait to look several times whether the call around it is to end.
            cleaned.append(other.run_sync(sleep, 0.2, "cleaned"))

    dual = outer.iterate(count())
    assert next(dual) == 1
    outer.close()
    assert cleaned == ["cleaned"]


@scopes
def test_an_idle_generator_that_refuses_to_end_holds_up_close_by_the_bound_only(
    make_bridge: MakeBridge, scope: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is left behind, and the log says so."""
    bridge = make_bridge(scope=scope, cleanup_timeout=0.3)
    ended = threading.Event()

    async def stubborn() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            while not ended.is_set():
                await sleep(0.05)

    dual = bridge.iterate(stubborn())
    assert next(dual) == 1
    begun = time.monotonic()
    with caplog.at_level(logging.WARNING, "syncline"):
        bridge.close()
    assert 0.3 <= time.monotonic() - begun < bound(0.3)
    assert "these tasks have not" in caplog.text
    with pytest.raises(syncline.RunnerClosedError):
        next(dual)
    ended.set()
