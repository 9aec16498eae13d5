"""from_thread() and the limit on worker threads: no wait for oneself, and no more than the limit at work."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import syncline
from worker_code import LIMIT, Run, with_time_limit


def test_a_limiter_that_would_wait_for_itself_says_so(anywhere: Run) -> None:
    """A worker waits for a coroutine that waits for the worker's own token: DeadlockError with advice (case 66)."""

    async def main() -> None:
        limiter = syncline.ThreadLimiter(3)

        def down(levels: int) -> int:
            return syncline.from_thread(level, levels - 1)

        async def level(levels: int) -> int:
            if levels == 0:
                return 42
            return await limiter.to_thread(down, levels)

        assert await level(3) == 42
        with pytest.raises(syncline.DeadlockError, match="total_tokens"):
            await level(4)
        limiter.total_tokens = 4
        assert await level(4) == 42
        assert limiter.borrowed_tokens == 0

    with_time_limit(anywhere, main)


def test_two_workers_that_wait_for_each_others_tokens_are_told(anywhere: Run) -> None:
    """Both tokens are held by workers whose coroutines queue for a third: the last to queue gets the error, which
    lets the other one go on."""

    async def main() -> None:
        limiter = syncline.ThreadLimiter(2)
        both = threading.Barrier(2)
        ends: list[str] = []

        async def inner() -> None:
            await limiter.to_thread(int)

        def function() -> None:
            both.wait(LIMIT)
            try:
                syncline.from_thread(inner)
                ends.append("ran")
            except syncline.DeadlockError:
                ends.append("told")

        async with anyio.create_task_group() as group:
            group.start_soon(limiter.to_thread, function)
            group.start_soon(limiter.to_thread, function)
        assert sorted(ends) == ["ran", "told"]
        assert limiter.borrowed_tokens == 0

    with_time_limit(anywhere, main)


def test_a_loop_in_a_worker_that_would_wait_for_that_worker_is_told(anywhere: Run) -> None:
    """A function in a worker runs a loop itself, which queues for the token that the function holds: its loop could go
    on for ever, and the token can't come back before it ends (case 66)."""

    async def main() -> None:
        limiter = syncline.ThreadLimiter(1)

        async def inner() -> int:
            return await limiter.to_thread(int)

        def function() -> int:
            return syncline.run_in_new_loop(inner)

        with pytest.raises(syncline.DeadlockError, match="runs a loop of its own"):
            await limiter.to_thread(function)
        assert limiter.borrowed_tokens == 0
        limiter.total_tokens = 2
        assert await limiter.to_thread(function) == 0

    with_time_limit(anywhere, main)


def test_a_loop_in_a_worker_waits_for_tokens_that_others_hold(anywhere: Run) -> None:
    """No error where a token will come back: another function holds it, and ends after the loop has begun to queue."""

    async def main() -> None:
        limiter = syncline.ThreadLimiter(2)
        queued = threading.Event()

        async def inner() -> int:
            async with anyio.create_task_group() as group:
                group.start_soon(limiter.to_thread, int)
                while not limiter.statistics().tasks_waiting:
                    await anyio.lowlevel.checkpoint()
                queued.set()
            return 42

        def function() -> int:
            return syncline.run_in_new_loop(inner)

        async with anyio.create_task_group() as group:
            group.start_soon(limiter.to_thread, queued.wait, LIMIT)
            while limiter.borrowed_tokens == 0:
                await anyio.lowlevel.checkpoint()
            assert await limiter.to_thread(function) == 42
        assert limiter.borrowed_tokens == 0

    with_time_limit(anywhere, main)


@pytest.mark.parametrize("scope", ["process", "caller"])
def test_a_circle_through_run_sync_is_told_too(anywhere: Run, scope: Any) -> None:
    """A worker that holds the only token calls a bridge, whose coroutine queues for that token (case 6)."""

    async def main() -> None:
        limiter = syncline.ThreadLimiter(1)

        async def inner() -> int:
            return await limiter.to_thread(int)

        with syncline.Bridge(scope=scope) as bridge, pytest.raises(syncline.DeadlockError):
            await limiter.to_thread(bridge.run_sync, inner)
        assert limiter.borrowed_tokens == 0

    with_time_limit(anywhere, main)


def test_a_task_that_holds_the_last_token_is_told(anywhere: Run) -> None:
    """`async with limiter` around a call that needs a token of the same limiter."""

    async def main() -> None:
        limiter = syncline.ThreadLimiter(1)
        async with limiter:
            with pytest.raises(syncline.DeadlockError):
                await limiter.to_thread(int)
        assert await limiter.to_thread(int) == 0

    with_time_limit(anywhere, main)


@pytest.mark.parametrize("back", [syncline.from_thread, syncline.run_sync], ids=["from_thread", "run_sync"])
def test_work_of_tasks_in_between_goes_beyond_the_limit(
    anywhere: Run, caplog: pytest.LogCaptureFixture, back: Callable[[Any], Any]
) -> None:
    """All threads wait for coroutines whose child tasks need threads: the pool grows, and says so (case 66)."""

    async def main() -> None:
        limiter = syncline.ThreadLimiter(2)
        all_in = threading.Barrier(2)

        async def inner() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(limiter.to_thread, int)
                group.start_soon(limiter.to_thread, int)

        def function() -> None:
            all_in.wait(LIMIT)
            back(inner)

        async with anyio.create_task_group() as group:
            group.start_soon(limiter.to_thread, function)
            group.start_soon(limiter.to_thread, function)
        assert limiter.borrowed_tokens == 0

    with caplog.at_level(logging.WARNING, "syncline"):
        with_time_limit(anywhere, main)
    assert "beyond the limiter's total" in caplog.text


def test_a_coroutine_that_takes_long_does_not_exceed_the_limit(caplog: pytest.LogCaptureFixture) -> None:
    """Calls that do not come from a worker wait for as long as it takes. (2.5 seconds: two looks at the limiter.)"""

    async def main() -> None:
        limiter = syncline.ThreadLimiter(1)
        busy, most = [0], [0]

        def count() -> None:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
            syncline.from_thread(anyio.sleep, 1.25)
            busy[0] -= 1

        async with anyio.create_task_group() as group:
            group.start_soon(limiter.to_thread, count)
            group.start_soon(limiter.to_thread, count)
        assert most == [1]

    asyncio.run(main())
    assert not caplog.records
