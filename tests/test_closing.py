"""close(): every call ends, on whatever thread it runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import syncline
from child import eventually
from closing import Caller, Held, MakeBridge, WatchedLoop, asyncio_scopes, is_closed_error, scopes
from neutral import CANCELLED, end_of_loop, make_bridge_of, shielded, sleep

# Scope "caller": the loops of other threads


@pytest.mark.parametrize("factory", [None, WatchedLoop], ids=["our loop", "a factory's"])
def test_calls_that_other_threads_drive_end(make_bridge: MakeBridge, factory: Any) -> None:
    """Cancelled and cleaned up on their own threads; their callers get RunnerClosedError."""
    bridge = make_bridge(scope="caller", loop_factory=factory)
    held = Held(2)
    keep = threading.Event()
    callers = [Caller(lambda: bridge.run_sync(held.hold), after=keep.wait) for _ in range(2)]
    assert held.all_begun.wait(10)
    bridge.close()
    assert sorted(held.cleaned) == sorted(caller.ident for caller in callers if caller.ident)
    assert bridge.stats()["runners"] == 0
    # The threads are still there: it is by close() that their loops are closed, and by themselves.
    assert all(loop.is_closed() for loop in held.loops)
    if factory is not None:
        assert sorted(loop.closed_by for loop in held.loops) == sorted(held.cleaned)  # type: ignore[attr-defined]
    for caller in callers:
        assert caller.has_got.wait(10)
        assert is_closed_error(caller.got)
        assert isinstance(caller.got.__cause__, CANCELLED)  # type: ignore[attr-defined]
    keep.set()
    for caller in callers:
        caller.join(10)


def test_background_tasks_and_generators_of_such_a_loop_end_too(make_bridge: MakeBridge) -> None:
    """As those of a runner do."""
    bridge = make_bridge(scope="caller")
    held, ended = Held(), []

    async def background() -> None:
        try:
            await sleep(3600)
        finally:
            ended.append(("task", threading.get_ident()))

    async def count() -> Any:
        try:
            yield 1
        finally:
            ended.append(("generator", threading.get_ident()))

    async def hold() -> None:
        task = asyncio.create_task(background())
        items = count()
        await items.__anext__()
        await sleep(0)
        await held.hold()
        await task

    caller = Caller(lambda: bridge.run_sync(hold))
    assert held.all_begun.wait(10)
    bridge.close()
    assert sorted(ended) == [("generator", caller.ident), ("task", caller.ident)]
    caller.join(10)
    assert is_closed_error(caller.got)


def test_an_idle_loop_of_another_thread_is_closed_at_that_threads_next_call(leaks_nothing: None) -> None:
    """From outside it can't be touched; the call gets RunnerClosedError."""
    loops: list[WatchedLoop] = []

    async def here() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WatchedLoop)
        loops.append(loop)
        await sleep(0)

    bridge = syncline.Bridge(scope="caller", loop_factory=WatchedLoop)
    made, closed, again, done = (threading.Event() for _ in range(4))

    def life() -> None:
        bridge.run_sync(here)
        made.set()
        assert closed.wait(10)
        with pytest.raises(syncline.RunnerClosedError):
            bridge.run_sync(here)
        again.set()
        assert done.wait(10)

    caller = Caller(life)
    assert made.wait(10)
    begun = time.monotonic()
    bridge.close()
    assert time.monotonic() - begun < 4  # It waits for no loop that is at rest.
    assert not loops[0].is_closed()
    closed.set()
    assert again.wait(10)
    assert loops[0].closed_by == caller.ident
    assert len(loops) == 1
    done.set()
    caller.join(10)
    assert caller.got is None


def test_an_idle_loop_of_another_thread_is_closed_when_that_thread_ends(leaks_nothing: None) -> None:
    """Where it makes no further call."""
    loops: list[WatchedLoop] = []

    async def here() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, WatchedLoop)
        loops.append(loop)

    bridge = syncline.Bridge(scope="caller", loop_factory=WatchedLoop)
    closed = threading.Event()
    caller = Caller(lambda: bridge.run_sync(here), after=lambda: closed.wait(10) or None)
    assert caller.has_got.wait(10)
    bridge.close()
    assert not loops[0].is_closed()
    closed.set()
    caller.join(10)
    assert loops[0].closed_by == caller.ident


@scopes
@pytest.mark.parametrize("suspends", [True, False])
def test_a_coroutine_that_closes_its_own_bridge_leaves_no_loop(
    leaks_nothing: None, scope: str, suspends: bool
) -> None:
    """close() returns at once; its loop is closed when the call has ended, and the caller is told if it was
    cancelled."""
    bridge = make_bridge_of(scope)
    ends: list[Callable[[], bool]] = []

    async def close() -> str:
        ends.append(end_of_loop())
        begun = time.monotonic()
        bridge.close()
        assert time.monotonic() - begun < 4
        if suspends:
            await sleep(3600)
        return "not cancelled"

    if suspends:
        with pytest.raises(syncline.RunnerClosedError):
            bridge.run_sync(close)
    else:
        assert bridge.run_sync(close) == "not cancelled"
    assert eventually(ends[0])
    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(close)
    assert len(ends) == 1


def test_a_bridge_may_be_closed_inside_another_running_loop(leaks_nothing: None) -> None:
    """Its own loop of this thread can't run there: it is closed at the thread's next call or its end."""
    loops: list[asyncio.AbstractEventLoop] = []
    bridge = syncline.Bridge(scope="caller")

    async def begin() -> asyncio.Task[None]:
        loops.append(asyncio.get_running_loop())
        return asyncio.create_task(asyncio.sleep(3600))

    async def close() -> None:
        bridge.close()

    task = bridge.run_sync(begin)
    asyncio.run(close())
    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(begin)
    assert loops[0].is_closed()
    assert task.cancelled()
    assert len(loops) == 1


def test_two_coroutines_of_one_bridge_may_close_it_at_once(make_bridge: MakeBridge) -> None:
    """Neither waits for the other's loop, which its own close() holds up."""
    bridge = make_bridge(scope="caller", cleanup_timeout=30)
    both = threading.Barrier(2)

    async def close() -> None:
        both.wait(10)
        bridge.close()
        await sleep(3600)

    callers = [Caller(lambda: bridge.run_sync(close)) for _ in range(2)]
    for caller in callers:
        caller.join(20)
        assert is_closed_error(caller.got)


def close_frees(outer: syncline.Bridge, nested: Callable[[], Coroutine[Any, Any, None]], held: Held) -> None:
    """Closing ends a call that holds a coroutine of another bridge, long before the time for cleanup is over."""
    caller = Caller(lambda: outer.run_sync(nested))
    assert held.all_begun.wait(10)
    begun = time.monotonic()
    outer.close()
    assert time.monotonic() - begun < 10
    assert caller.has_got.wait(10)
    assert is_closed_error(caller.got)
    assert len(held.cleaned) == 1


@scopes
def test_a_closed_loops_thread_that_waits_in_a_nested_call_is_freed(
    make_bridge: MakeBridge, scope: str
) -> None:
    """The loop is blocked by sync code that waits for a call of another bridge: that call is cancelled."""
    outer, other = make_bridge(scope=scope, cleanup_timeout=20), make_bridge()
    held = Held()

    async def nested() -> None:
        other.run_sync(held.hold)

    close_frees(outer, nested, held)
    assert other.run_sync(sleep, 0, "alive") == "alive"


@asyncio_scopes
def test_a_coroutine_that_cancelled_itself_before_is_freed_all_the_same(
    make_bridge: MakeBridge, scope: str
) -> None:
    """A timeout inside, which it caught, is not the end of the call."""
    outer, other = make_bridge(scope=scope, cleanup_timeout=20), make_bridge()
    held = Held()

    async def nested() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await sleep(3600)
        other.run_sync(held.hold)

    close_frees(outer, nested, held)


@scopes
@pytest.mark.parametrize("blocks", [False, True])
def test_cleanup_may_make_nested_calls_of_another_bridge(
    make_bridge: MakeBridge, scope: str, blocks: bool
) -> None:
    """That the loop is being closed cancels a coroutine once, and not what it does then; whether it awaited
    or waited in a nested call."""
    outer, other = make_bridge(scope=scope), make_bridge()
    held, cleaned = Held(), []

    async def hold() -> None:
        try:
            if blocks:
                other.run_sync(held.hold)
            else:
                await held.hold()
        finally:
            # Long enough for its wait to look several times whether the call around it is to end.
            with shielded():
                cleaned.append(other.run_sync(sleep, 0.2, "cleaned"))
                cleaned.append(await sleep(0.01, "awaited"))

    caller = Caller(lambda: outer.run_sync(hold))
    assert held.all_begun.wait(10)
    outer.close()
    assert cleaned == ["cleaned", "awaited"]
    caller.join(10)
    assert is_closed_error(caller.got)


def test_cleanup_after_a_timeout_may_make_nested_calls_too(make_bridge: MakeBridge) -> None:
    """In scope "caller" a nested wait sees the deadline of the call around it; its cleanup has more time."""
    outer, other = make_bridge(scope="caller"), make_bridge()
    cleaned = []

    async def hold() -> None:
        try:
            await sleep(3600)
        finally:
            cleaned.append(other.run_sync(sleep, 0.2, "cleaned"))

    with pytest.raises(TimeoutError):
        outer.run(hold(), timeout=0.05)
    assert cleaned == ["cleaned"]


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_cleanup_after_a_cancel_is_not_broken_off_by_the_close_that_follows(
    make_bridge: MakeBridge, scope: str
) -> None:
    """The task is not cancelled a second time while it cleans up."""
    bridge = make_bridge(scope=scope)
    begun, blocked, release = threading.Event(), threading.Event(), threading.Event()
    log: list[str] = []

    async def last() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(3):
                await sleep(0)
            log.append("cleaned up")

    async def block() -> None:
        blocked.set()
        release.wait(10)

    future, _ = bridge.submit(last), begun.wait(10)
    bridge.submit(block)
    assert blocked.wait(10)
    # Interleaving: the loop stands still while it is asked to cancel the task and to stop, and sees both at once.
    assert future.cancel()
    closer = threading.Thread(target=bridge.close)
    closer.start()
    assert eventually(lambda: bridge.closed)
    release.set()
    closer.join(10)
    assert log == ["cleaned up"]
