"""Limiters: how many worker threads may be busy at once, read, set and waited on."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import syncline
from child import eventually

Run = Callable[[Callable[[], Any]], Any]
LIMIT = 20


class Gate:
    """Functions that stay in their worker until it opens, and a count of those who are in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.inside = 0
        self.most = 0

    def stay(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.release()
        assert self._open.wait(LIMIT)
        with self._lock:
            self.inside -= 1

    def open(self) -> None:
        self._open.set()


@pytest.fixture
def default_total() -> Iterator[None]:
    """The default limiter has its total again after the test."""
    total = syncline.thread_limiter().total_tokens
    yield
    syncline.thread_limiter().total_tokens = total


def test_the_default_limiter_is_one_for_the_process() -> None:
    """250 tokens, the same object in every thread."""
    assert syncline.thread_limiter().total_tokens == 250
    assert asyncio.run(syncline.to_thread(syncline.thread_limiter)) is syncline.thread_limiter()


def test_no_more_threads_than_tokens_are_busy(anywhere: Run) -> None:
    """Of five calls, two run; the limiter says so while they do; then the others follow, first come first served."""
    gate = Gate()
    order: list[int] = []

    async def main() -> None:
        limiter = syncline.ThreadLimiter(2)

        async def call(index: int) -> None:
            await limiter.to_thread(gate.stay)
            order.append(index)

        async with anyio.create_task_group() as group:
            for index in range(5):
                group.start_soon(call, index)
                await anyio.wait_all_tasks_blocked()
            await syncline.to_thread(gate.entered.acquire)
            await syncline.to_thread(gate.entered.acquire)
            assert (limiter.borrowed_tokens, limiter.available_tokens) == (2, 0)
            statistics = limiter.statistics()
            assert statistics.borrowed_tokens == 2
            assert statistics.total_tokens == 2
            assert statistics.tasks_waiting == 3
            assert len(statistics.borrowers) == 2
            assert repr(limiter) == "<syncline.ThreadLimiter, 2 of 2 tokens borrowed>"
            gate.open()
        assert limiter.statistics() == (0, 2, (), 0)

    anywhere(main)
    assert gate.most == 2
    assert sorted(order) == list(range(5))


def test_a_higher_total_lets_those_who_wait_go(anywhere: Run) -> None:
    """Setting `total_tokens` takes effect at once, in both directions."""
    gate = Gate()

    async def main() -> None:
        limiter = syncline.ThreadLimiter(1)
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(limiter.to_thread, gate.stay)
            await anyio.wait_all_tasks_blocked()
            limiter.total_tokens = 3
            for _ in range(3):
                assert await syncline.to_thread(gate.entered.acquire)
            limiter.total_tokens = 1
            assert limiter.available_tokens == -2
            gate.open()

    anywhere(main)
    assert gate.most == 3


def test_the_default_limiter_can_be_set(default_total: None) -> None:
    """to_thread() and threaded() functions without a limiter use its tokens."""
    gate = Gate()
    limiter = syncline.thread_limiter()
    limiter.total_tokens = 1

    @syncline.threaded
    def stay() -> None:
        gate.stay()

    async def main() -> None:
        tasks = [asyncio.create_task(syncline.to_thread(gate.stay)), asyncio.create_task(stay())]
        await asyncio.sleep(0)
        assert limiter.statistics().tasks_waiting == 1
        gate.open()
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert gate.most == 1


def test_a_token_is_kept_until_the_function_ends(anywhere: Run) -> None:
    """An abandoned call holds its token, as its thread is busy; then it goes to who waits."""
    gate, second = Gate(), threading.Event()

    async def main() -> None:
        limiter = syncline.ThreadLimiter(1)
        async with anyio.create_task_group() as group:
            group.start_soon(limiter.to_thread, gate.stay)
            await anyio.wait_all_tasks_blocked()
            group.cancel_scope.cancel()
        assert limiter.borrowed_tokens == 1
        async with anyio.create_task_group() as group:
            group.start_soon(limiter.to_thread, second.set)
            await anyio.wait_all_tasks_blocked()
            assert not second.is_set()
            gate.open()
        assert second.is_set()
        assert limiter.borrowed_tokens == 0

    anywhere(main)


def test_a_cancelled_wait_leaves_the_queue(anywhere: Run) -> None:
    """A call that still waits for a token and is cancelled never runs, and takes no token away."""
    gate, called = Gate(), threading.Event()

    async def main() -> None:
        limiter = syncline.ThreadLimiter(1)
        async with anyio.create_task_group() as outer:
            outer.start_soon(limiter.to_thread, gate.stay)
            await anyio.wait_all_tasks_blocked()
            async with anyio.create_task_group() as group:
                group.start_soon(limiter.to_thread, called.set)
                group.start_soon(limiter.acquire)
                await anyio.wait_all_tasks_blocked()
                assert limiter.statistics().tasks_waiting == 2
                group.cancel_scope.cancel()
            assert limiter.statistics().tasks_waiting == 0
            gate.open()
        assert limiter.borrowed_tokens == 0

    anywhere(main)
    assert not called.is_set()


def test_tasks_borrow_tokens(anywhere: Run) -> None:
    """`async with limiter`: so many tasks at once, in the order in which they came."""
    inside, most, order = [0], [0], []

    async def main() -> None:
        limiter = syncline.ThreadLimiter(2)

        async def task(index: int) -> None:
            async with limiter:
                order.append(index)
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                await anyio.wait_all_tasks_blocked()
                inside[0] -= 1

        async with anyio.create_task_group() as group:
            for index in range(6):
                group.start_soon(task, index)
                await anyio.lowlevel.checkpoint()
        assert limiter.borrowed_tokens == 0

    anywhere(main)
    assert most == [2]
    assert sorted(order) == list(range(6))


def test_the_methods_are_those_of_anyios_limiter(anywhere: Run) -> None:
    """acquire_nowait, release, and both on behalf of an object; wrong use raises as it does there."""

    async def main() -> None:
        limiter = syncline.ThreadLimiter(2)
        other = object()
        limiter.acquire_nowait()
        with pytest.raises(RuntimeError, match="already"):
            limiter.acquire_nowait()
        with pytest.raises(RuntimeError, match="already"):
            await limiter.acquire()
        await limiter.acquire_on_behalf_of(other)
        assert other in limiter.statistics().borrowers
        with pytest.raises(syncline.WouldBlock):
            limiter.acquire_on_behalf_of_nowait(object())
        limiter.release_on_behalf_of(other)
        limiter.acquire_on_behalf_of_nowait(other)
        limiter.release_on_behalf_of(other)
        limiter.release()
        with pytest.raises(RuntimeError, match="none of"):
            limiter.release()

    anywhere(main)


@pytest.mark.parametrize(
    ("total", "error"), [(-1, ValueError), (1.5, TypeError), ("1", TypeError), (math.nan, TypeError)]
)
def test_wrong_totals_are_refused(total: Any, error: type[Exception]) -> None:
    """A total is an int of 0 or more, or math.inf; at the beginning as well as later."""
    with pytest.raises(error, match="total_tokens"):
        syncline.ThreadLimiter(total)
    limiter = syncline.ThreadLimiter(1)
    with pytest.raises(error, match="total_tokens"):
        limiter.total_tokens = total
    assert limiter.total_tokens == 1


def test_no_limit_at_all(anywhere: Run) -> None:
    """math.inf: as many as there are calls."""
    barrier = threading.Barrier(40)

    async def main() -> None:
        limiter = syncline.ThreadLimiter(math.inf)
        assert limiter.available_tokens == math.inf
        async with anyio.create_task_group() as group:
            for _ in range(40):
                group.start_soon(limiter.to_thread, barrier.wait, LIMIT)

    anywhere(main)


def test_a_total_of_zero_holds_calls_up(anywhere: Run) -> None:
    """Nothing runs until somebody raises it: that is not taken for a deadlock."""

    async def main() -> None:
        limiter = syncline.ThreadLimiter(0)
        async with anyio.create_task_group() as group:
            group.start_soon(limiter.to_thread, int)
            await anyio.wait_all_tasks_blocked()
            limiter.total_tokens = 1

    anywhere(main)


def test_several_loops_share_one_limiter() -> None:
    """Tasks on three loops in three threads (one of them trio's) wait on one limiter, and all get their turn."""
    import trio

    limiter = syncline.ThreadLimiter(2)
    lock = threading.Lock()
    inside, most, done = [0], [0], [0]

    async def task() -> None:
        for _ in range(20):
            async with limiter:
                with lock:
                    inside[0] += 1
                    most[0] = max(most[0], inside[0])
                await anyio.lowlevel.checkpoint()
                with lock:
                    inside[0] -= 1
                    done[0] += 1
            await limiter.to_thread(int)

    async def main() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(task)

    runs = [lambda: asyncio.run(main()), lambda: trio.run(main), lambda: syncline.run_sync(main)]
    threads = [threading.Thread(target=run) for run in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert (most[0], done[0], limiter.borrowed_tokens) == (2, 180, 0)


def test_a_token_of_a_loop_that_closed_goes_on() -> None:
    """A task waits for a token, and its loop is closed: the token goes to the next."""
    limiter = syncline.ThreadLimiter(1)
    blocker = object()
    limiter.acquire_on_behalf_of_nowait(blocker)

    async def main() -> None:
        task = asyncio.create_task(limiter.acquire())
        await asyncio.sleep(0)
        task._log_destroy_pending = False  # type: ignore[attr-defined]

    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    loop.close()
    limiter.release_on_behalf_of(blocker)
    assert eventually(lambda: limiter.borrowed_tokens == 0)


def test_outside_of_tasks_a_borrower_must_be_named() -> None:
    """Where no task runs: acquire_on_behalf_of_nowait() works, acquire_nowait() says so."""
    limiter = syncline.ThreadLimiter(1)
    with pytest.raises(RuntimeError):
        limiter.acquire_nowait()
    limiter.acquire_on_behalf_of_nowait("me")
    assert limiter.statistics().borrowers == ("me",)


def test_cancelling_many_that_wait_costs_the_same_in_any_order() -> None:
    """Whoever leaves the queue is not searched for: with 60,000 in it, that would cost 4 times as much."""

    async def cost(from_the_back: bool) -> float:
        gate = threading.Event()
        limiter = syncline.ThreadLimiter(1)
        busy = asyncio.create_task(limiter.to_thread(gate.wait))
        waiting = [asyncio.create_task(limiter.to_thread(int)) for _ in range(60000)]
        while limiter.statistics().tasks_waiting < len(waiting):
            await asyncio.sleep(0)
        began = time.thread_time()
        for task in reversed(waiting) if from_the_back else waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        took = time.thread_time() - began
        gate.set()
        assert await busy
        return took

    async def main() -> tuple[float, float]:
        return await cost(from_the_back=False), await cost(from_the_back=True)

    # Once is enough: a queue that is searched costs more each time, and a busy machine does at times.
    figures = []
    while len(figures) < 3 and not any(back < 2 * front for front, back in figures):
        figures.append(asyncio.run(main()))
    assert any(back < 2 * front for front, back in figures), figures
