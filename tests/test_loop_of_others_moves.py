"""Loops of somebody else's whose threads run one loop after another, or go on to something else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import uvloop

import syncline
from syncline import Bridge, _core
from syncline._diagnosis import locks

pytestmark = pytest.mark.timeout(60)
makers = pytest.mark.parametrize(
    "make", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


kept: list[asyncio.Task[None]] = []


async def answer() -> int:
    return 42


class Looks:
    """How often anybody who waits has looked for a circle. Each look but the last has found none."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._count = 0
        self._look = locks._closed_way
        monkeypatch.setattr(locks, "_closed_way", self._counted)

    def _counted(self, thread: int, waiter: int | None) -> list[int]:
        if waiter is not None:
            self._count += 1
        return self._look(thread, waiter)

    async def twice(self) -> int:
        """Until there were two."""
        until = self._count + 2
        while self._count < until:
            await asyncio.sleep(0.01)
        return 42


class Moving:
    """A loop that one thread runs, and then, while the first waits for a lock, another."""

    def __init__(self, make: Callable[[], Any], lock: threading.Lock) -> None:
        self.loop, self._lock, self._left = make(), lock, threading.Event()
        self._threads = [threading.Thread(target=self._run_and_wait)]
        self._threads[0].start()

    def _run_and_wait(self) -> None:
        self.loop.run_forever()
        self._left.set()
        with self._lock:
            pass

    def move(self) -> None:
        """With the lock held."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        assert self._left.wait(10)
        self._threads.append(threading.Thread(target=self.loop.run_forever))
        self._threads[1].start()

    def end(self) -> None:
        """With the lock free."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        for thread in self._threads:
            thread.join(10)
        self.loop.close()


@makers
def test_the_loop_that_runs_now_is_behind_a_call_though_an_earlier_one_ran_in_its_thread(
    make: Callable[[], Any],
) -> None:
    """The earlier one, stopped but not closed, was taken for it: a call of its went to a loop that waits for it."""
    earlier, later = make(), make()
    begun, goes_on = threading.Semaphore(0), threading.Event()

    def run_both() -> None:
        for loop in (earlier, later):
            loop.call_soon(begun.release)
            loop.run_forever()
            goes_on.wait(10)

    thread = threading.Thread(target=run_both)
    thread.start()
    with ExitStack() as stack:
        begun.acquire()
        first = Bridge(loop=earlier, name="first")
        assert first.run_sync(answer) == 42
        earlier.call_soon_threadsafe(earlier.stop)
        goes_on.set()
        begun.acquire()
        blocked = stack.enter_context(Bridge(name="blocked", nested="thread", in_async="home"))
        onto = stack.enter_context(Bridge(loop=later, name="onto", nested="thread"))

        async def comes_back() -> int:
            return blocked.run_sync(answer)

        async def blocks() -> int:
            return onto.run_sync(comes_back)

        try:
            assert blocked.run_sync(blocks) == 42
        finally:
            later.call_soon_threadsafe(later.stop)
            thread.join(10)
            earlier.close()
            later.close()


@makers
def test_a_loop_is_not_looked_for_in_a_thread_that_has_left_it(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That thread waits for the caller's lock, which was said to be a deadlock."""
    looks, lock = Looks(monkeypatch), threading.Lock()
    moving = Moving(make, lock)
    bridge = Bridge(loop=moving.loop, name="moves")
    assert bridge.run_sync(answer) == 42
    try:
        with lock:
            moving.move()
            assert bridge.run_sync(looks.twice) == 42
    finally:
        moving.end()


@makers
def test_a_worker_does_not_look_for_its_loop_in_a_thread_that_has_left_it(
    make: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for sync code that calls back to the loop that has sent it."""
    looks, lock = Looks(monkeypatch), threading.Lock()
    moving = Moving(make, lock)
    sent, is_moved = threading.Event(), threading.Event()

    def calls_back() -> int:
        with lock:
            sent.set()
            assert is_moved.wait(10)
            return syncline.from_thread(looks.twice)

    async def sends() -> int:
        return await syncline.to_thread(calls_back)

    try:
        result = asyncio.run_coroutine_threadsafe(sends(), moving.loop)
        assert sent.wait(10)
        moving.move()
        is_moved.set()
        assert result.result(30) == 42
    finally:
        moving.end()


@makers
@pytest.mark.parametrize("way", ["directly", "below a call"])
def test_a_call_that_waits_for_a_loop_follows_it_to_another_thread(
    make: Callable[[], Any], way: str, monkeypatch: pytest.MonkeyPatch, make_bridge: Callable[..., Bridge]
) -> None:
    """It began to wait while the first thread ran the loop. uvloop's loops don't tell who runs them."""
    looks, lock = Looks(monkeypatch), threading.Lock()
    moving = Moving(make, lock)
    bridge = Bridge(loop=moving.loop, name="moves")
    mover_failed: list[BaseException] = []

    def move() -> None:
        try:
            moving.move()
        except BaseException as error:
            mover_failed.append(error)

    async def slow() -> int:
        # Interleaving: who calls sleeps already, and is known to, when the loop moves.
        while len(_core.waiting_threads()) < (1 if way == "directly" else 2):
            await asyncio.sleep(0.01)
        mover = threading.Thread(target=move)
        mover.start()
        done = await looks.twice()
        mover.join(10)
        return done

    async def blocks() -> int:
        return bridge.run_sync(slow)

    try:
        with lock:
            if way == "directly":
                assert bridge.run_sync(slow) == 42
            else:
                assert make_bridge(nested="thread").run_sync(blocks) == 42
    finally:
        moving.end()
    assert not mover_failed


@pytest.mark.parametrize("moves", [False, True])
def test_a_loop_of_uvloops_that_is_blocked_is_seen_to_be(moves: bool) -> None:
    """By a step of its task, in the thread in which it took its last mail or in another one."""
    lock, begun = threading.Lock(), threading.Event()
    moving = Moving(uvloop.new_event_loop, lock)
    bridge = Bridge(loop=moving.loop, name="blocked")

    async def takes_the_lock() -> None:
        begun.set()
        with lock:
            pass

    assert bridge.run_sync(answer) == 42
    try:
        with lock:
            if moves:
                moving.move()
                # Interleaving: no mail has come there before the loop is blocked.
                moving.loop.call_soon_threadsafe(
                    lambda: kept.append(moving.loop.create_task(takes_the_lock()))
                )
                assert begun.wait(10)
            with pytest.raises(syncline.DeadlockError, match="the thread that waits for the coroutine holds"):
                bridge.run_sync(answer if moves else takes_the_lock)
    finally:
        moving.end()
