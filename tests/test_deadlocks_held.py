"""Which locks a thread holds, as far as its code shows it: what isn't certain is not claimed."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

import syncline
from lock_code import HOLDING, OTHERS, Function
from syncline._diagnosis import frames, locks
from waiting import bridge, in_time

__all__ = ["bridge"]

held = pytest.mark.parametrize("function", HOLDING, ids=lambda function: function.__name__)
not_held = pytest.mark.parametrize("function", OTHERS, ids=lambda function: function.__name__)


def stack_holds(lock: Any) -> bool:
    """What is said of the calling stack, from the caller's frame on."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frames.holds(frame, lock):
            return True
        if frames.may_release(frame, lock):
            return False
        frame = frame.f_back
    return False


def test_this_interpreters_bytecode_is_understood() -> None:
    """On every Python that we support."""
    assert frames.is_understood()


@held
def test_a_lock_that_is_certainly_held_is_seen(function: Function) -> None:
    """In the block of a `with`, or acquired for a `finally` that releases it."""
    lock = threading.Lock()
    assert function(lock, threading.Lock(), lambda: stack_holds(lock)) is True


@not_held
def test_a_lock_that_is_not_certainly_held_is_not_claimed(function: Function) -> None:
    """Not reached, given up, released, or nobody can tell."""
    lock = threading.Lock()
    assert function(lock, threading.Lock(), lambda: stack_holds(lock)) is False


@held
def test_what_is_certainly_held_may_be_held(function: Function) -> None:
    """The two answers agree."""
    lock = threading.Lock()

    def may_be() -> bool:
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and not frames.may_hold(frame, lock):
            frame = frame.f_back
        return frame is not None

    assert function(lock, threading.Lock(), may_be)


def test_where_bytecode_is_not_understood_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An interpreter whose code reads otherwise: no claim, and no error."""
    monkeypatch.setattr(frames, "_reads_blocks", lambda lock: False)
    frames.is_understood.cache_clear()
    try:
        lock = threading.Lock()
        with lock:
            assert not frames.holds(sys._getframe(), lock)
            assert frames.lock_waited_for(sys._getframe()) is None
    finally:
        frames.is_understood.cache_clear()


@pytest.fixture
def taken_elsewhere() -> Iterator[tuple[Any, threading.Event]]:
    """A lock that another thread holds until it is told, and what tells it."""
    lock, taken, done = threading.Lock(), threading.Event(), threading.Event()

    def take() -> None:
        with lock:
            taken.set()
            done.wait(30)

    thread = threading.Thread(target=take)
    thread.start()
    taken.wait(10)
    yield lock, done
    done.set()
    thread.join()


NAMES = {
    "in_a_branch_not_taken",
    "behind_an_early_return",
    "tried_for_a_while",
    "in_a_block_whose_name_has_another_value",
}
MAY_RUN = [function for function in OTHERS if function.__name__ in NAMES]


@pytest.mark.parametrize("function", MAY_RUN, ids=lambda function: function.__name__)
def test_a_lock_of_another_thread_is_waited_for(
    function: Function, bridge: syncline.Bridge, taken_elsewhere: tuple[Any, threading.Event]
) -> None:
    """The coroutine gets the lock in the end, however its caller looks as if it had it (case 73)."""
    lock, done = taken_elsewhere
    other = threading.Lock()

    async def takes_the_lock() -> str:
        with lock:
            return "got it"

    # Interleaving: the lock comes free only after the wait has been examined, which is once a second.
    threading.Timer(2.5, done.set).start()
    assert function(lock, other, lambda: bridge.run_sync(takes_the_lock)) == "got it"


@held
def test_a_coroutine_that_wants_what_is_certainly_held_is_reported(
    function: Function, bridge: syncline.Bridge
) -> None:
    """DeadlockError, and the lock is free again."""
    lock = threading.Lock()

    async def takes_the_lock() -> None:
        with lock:
            pass

    with pytest.raises(syncline.DeadlockError, match="takes_the_lock"), in_time():
        function(lock, threading.Lock(), lambda: bridge.run_sync(takes_the_lock))
    assert lock.acquire(timeout=5)
    lock.release()
    assert bridge.run_sync(asyncio.sleep, 0, "alive") == "alive"


@pytest.mark.parametrize("make_lock", [threading.Lock, threading.RLock], ids=["Lock", "RLock"])
def test_a_chain_through_a_nested_runner_is_reported(make_lock: Callable[[], Any]) -> None:
    """The caller holds the lock, its loop's thread waits for a nested loop's, and that one for the lock: one of the two
    who wait is told, and the chain ends."""
    lock = make_lock()

    with syncline.Bridge(nested="thread") as bridge:

        async def takes_the_lock() -> None:
            with lock:
                pass

        def in_between() -> None:
            bridge.run_sync(takes_the_lock)

        async def outer() -> None:
            in_between()

        with pytest.raises(syncline.DeadlockError, match="in takes_the_lock") as caught, in_time(), lock:
            bridge.run_sync(outer)
        assert "a coroutine waits for <locked" in str(caught.value)
        assert bridge.run_sync(asyncio.sleep, 0, "alive") == "alive"


@pytest.mark.parametrize("make_lock", [threading.Lock, threading.RLock], ids=["Lock", "RLock"])
def test_a_worker_thread_that_holds_what_its_loop_wants_is_told(make_lock: Callable[[], Any]) -> None:
    """from_thread: the coroutine runs on the loop that sent the worker, and wants a lock of the worker's."""
    lock = make_lock()

    async def takes_the_lock() -> None:
        with lock:
            pass

    def in_the_worker() -> None:
        with lock:
            syncline.from_thread(takes_the_lock)

    async def main() -> str:
        with pytest.raises(syncline.DeadlockError, match="in takes_the_lock"), in_time():
            await syncline.to_thread(in_the_worker)
        return await asyncio.sleep(0, "alive")

    assert asyncio.run(main()) == "alive"
    assert syncline.run_sync(main) == "alive"


def test_what_a_loops_thread_waits_for_is_looked_up_once_for_all_callers(
    bridge: syncline.Bridge, taken_elsewhere: tuple[Any, threading.Event], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand callers of one loop cost as much as one."""
    lock, done = taken_elsewhere
    waits = threading.Event()

    async def takes_the_lock() -> int:
        waits.set()
        with lock:
            return threading.get_ident()

    looked: list[int] = []
    real = locks._step_from

    def look(thread: int) -> locks.Step | None:
        looked.append(thread)
        return real(thread)

    monkeypatch.setattr(locks, "_step_from", look)
    future = bridge.submit(takes_the_lock)
    waits.wait(10)
    (thread,) = (each.ident for each in threading.enumerate() if each.name == "knot")
    assert thread is not None
    monkeypatch.setattr(locks, "_LOOK_AGAIN_AFTER", 60.0)
    for waiter in range(1000):
        assert locks.blocked_on_lock(thread, -1 - waiter) is None
    done.set()
    assert future.result(10) == thread
    assert looked.count(thread) == 1
    locks._seen.clear()
