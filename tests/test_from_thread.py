"""from_thread(fn, ...): a worker thread runs an async function on the loop that sent it there."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
import uvloop

import syncline
from child import eventually

Run = Callable[[Callable[[], Any]], Any]
number: contextvars.ContextVar[int] = contextvars.ContextVar("number")
LIMIT = 20


async def double(value: int, *, plus: int = 0) -> int:
    """An async function that suspends."""
    await anyio.lowlevel.checkpoint()
    return 2 * value + plus


def test_an_async_function_runs_on_the_loop_of_the_await(anywhere: Run) -> None:
    """It runs in the loop's thread, with its arguments, and its result comes back."""

    async def where() -> int:
        await anyio.lowlevel.checkpoint()
        return threading.get_ident()

    def function() -> list[int]:
        return [syncline.from_thread(double, 2, plus=1), syncline.from_thread(where)]

    async def main() -> None:
        assert await syncline.to_thread(function) == [5, threading.get_ident()]

    anywhere(main)


def test_an_error_reaches_the_worker(anywhere: Run) -> None:
    """What the coroutine raises is raised by from_thread(), as the same object, and can be caught there."""
    error = LookupError("gone")

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise error

    def function() -> None:
        with pytest.raises(LookupError) as caught:
            syncline.from_thread(fail)
        assert caught.value is error

    async def main() -> None:
        await syncline.to_thread(function)

    anywhere(main)


def test_context_variables_flow_through_both_ways(anywhere: Run) -> None:
    """Task, worker, coroutine: each sees what the one before has set, and afterwards what the next one set."""

    async def inner() -> None:
        await anyio.lowlevel.checkpoint()
        number.set(number.get() * 10)

    def function() -> None:
        number.set(number.get() + 1)
        syncline.from_thread(inner)
        number.set(number.get() + 1)

    async def main() -> None:
        number.set(1)
        await syncline.to_thread(function)
        assert number.get() == 21

    anywhere(main)


def test_ten_levels_deep(anywhere: Run) -> None:
    """Loop, worker, loop, worker ... works while the limiter allows, each level in a thread of its own."""
    threads: list[int] = []

    def down(levels: int) -> int:
        threads.append(threading.get_ident())
        return syncline.from_thread(level, levels - 1)

    async def level(levels: int) -> int:
        if levels == 0:
            return 42
        return await syncline.to_thread(down, levels)

    async def main() -> None:
        assert await level(10) == 42

    anywhere(main)
    assert len(set(threads)) == 10


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


def test_cancelling_the_await_cancels_the_coroutine(anywhere: Run) -> None:
    """The coroutine that the worker waits for is cancelled and cleans up; the worker gets the cancellation."""
    begun, ends = threading.Event(), []
    ended = threading.Event()

    async def inner() -> None:
        begun.set()
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("inner")

    def function() -> None:
        try:
            syncline.from_thread(inner)
        except BaseException as error:
            ends.append(type(error).__name__)
            with pytest.raises(asyncio.CancelledError):
                syncline.check_cancelled()
            with pytest.raises(asyncio.CancelledError):
                syncline.from_thread(double, 1)
            ends.append("done")
            raise
        finally:
            ended.set()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(syncline.to_thread, function)
            assert await syncline.to_thread(begun.wait, LIMIT)
            group.cancel_scope.cancel()
        assert await syncline.to_thread(ended.wait, LIMIT)

    with_time_limit(anywhere, main)
    assert [ends[0], ends[-1]] == ["inner", "done"]
    assert ends[1] in {"CancelledError", "Cancelled"}


def test_a_second_cancel_does_not_deadlock(run_async: Run) -> None:
    """A task that is cancelled again while its worker's coroutine cleans up ends at once (case 55)."""
    begun, cleaning, release, ended = (threading.Event() for _ in range(4))

    async def inner() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            cleaning.set()
            while not release.is_set():
                await asyncio.sleep(0.001)

    def function() -> None:
        try:
            syncline.from_thread(inner)
        finally:
            ended.set()

    async def main() -> None:
        async def outer() -> None:
            try:
                await syncline.to_thread(function)
            except asyncio.CancelledError:
                await syncline.to_thread(cleaning.wait, LIMIT)
                await asyncio.sleep(3600)

        task = asyncio.create_task(outer())
        assert await syncline.to_thread(begun.wait, LIMIT)
        task.cancel()
        assert await syncline.to_thread(cleaning.wait, LIMIT)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        release.set()
        assert await syncline.to_thread(ended.wait, LIMIT)

    run_async(main)


def test_a_worker_can_ask_whether_it_was_cancelled(anywhere: Run) -> None:
    """check_cancelled() returns until the await is cancelled, and raises from then on (case 55)."""
    begun, told = threading.Event(), threading.Event()

    def function() -> None:
        syncline.check_cancelled()
        begun.set()
        try:
            while True:
                syncline.check_cancelled()
        except asyncio.CancelledError:
            told.set()
            raise

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(syncline.to_thread, function)
            assert await syncline.to_thread(begun.wait, LIMIT)
            group.cancel_scope.cancel()
        assert await syncline.to_thread(told.wait, LIMIT)

    with_time_limit(anywhere, main)


@pytest.mark.parametrize(
    "ask", [lambda: syncline.from_thread(double, 1), syncline.check_cancelled], ids=["from_thread", "check"]
)
def test_outside_of_a_worker_it_says_what_to_call(ask: Callable[[], Any]) -> None:
    """In a thread that no loop sent: RuntimeError with the right call."""
    with pytest.raises(RuntimeError, match="to_thread"):
        ask()


def test_wrong_targets_are_named(anywhere: Run) -> None:
    """A sync function, a coroutine and a number are refused, with the caller's own name in the message."""

    async def main() -> None:
        with pytest.raises(TypeError, match=r"from_thread\(\) got the sync function .abs."):
            await syncline.to_thread(syncline.from_thread, abs, 1)  # type: ignore[arg-type]
        coroutine = double(1)
        with pytest.raises(TypeError, match=r"from_thread\(\) got a coroutine"):
            await syncline.to_thread(syncline.from_thread, coroutine)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"from_thread\(\) takes an async function"):
            await syncline.to_thread(syncline.from_thread, 3)  # type: ignore[arg-type]

    anywhere(main)


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
@pytest.mark.parametrize("end", ["closed", "stopped"])
def test_a_loop_that_ended_is_named_and_not_waited_for(new_loop: Callable[[], Any], end: str) -> None:
    """A worker that outlives its loop gets RunnerClosedError, whether the loop was closed or only stopped (case 7)."""
    begun, release = threading.Event(), threading.Event()
    results: list[object] = []

    def function() -> None:
        begun.set()
        assert release.wait(LIMIT)
        try:
            results.append(syncline.from_thread(double, 1))
        except BaseException as error:
            results.append(error)

    async def main() -> None:
        tasks.append(asyncio.create_task(syncline.to_thread(function)))
        await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []
    loop = new_loop()
    loop.run_until_complete(main())
    assert begun.wait(LIMIT)
    if end == "closed":
        loop.close()
        tasks[0]._log_destroy_pending = False  # type: ignore[attr-defined]
    release.set()
    assert eventually(lambda: bool(results))
    assert isinstance(results[0], syncline.RunnerClosedError)
    if end == "stopped":
        loop.run_until_complete(tasks[0])
        loop.close()


def test_a_loop_that_closes_during_the_wait_ends_it() -> None:
    """The loop goes away while the coroutine waits: RunnerClosedError in the worker."""
    begun = threading.Event()
    results: list[BaseException] = []

    async def inner() -> None:
        begun.set()
        await asyncio.Event().wait()

    def function() -> None:
        try:
            syncline.from_thread(inner)
        except BaseException as error:
            results.append(error)

    async def main() -> None:
        tasks.append(asyncio.create_task(syncline.to_thread(function)))
        while not begun.is_set():
            await asyncio.sleep(0.001)
        tasks.extend(task for task in asyncio.all_tasks() if task is not asyncio.current_task())

    tasks: list[asyncio.Task[Any]] = []
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert eventually(lambda: bool(results))
    assert isinstance(results[0], syncline.RunnerClosedError)


def test_a_trio_run_that_ended_is_not_waited_for() -> None:
    """The same where the loop was trio's."""
    begun, release = threading.Event(), threading.Event()
    results: list[BaseException] = []

    def function() -> None:
        begun.set()
        assert release.wait(LIMIT)
        try:
            syncline.from_thread(double, 1)
        except BaseException as error:
            results.append(error)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(syncline.to_thread, function)
            await syncline.to_thread(begun.wait, LIMIT)
            nursery.cancel_scope.cancel()

    trio.run(main)
    release.set()
    assert eventually(lambda: bool(results))
    assert isinstance(results[0], asyncio.CancelledError)


def test_a_bridge_that_closes_ends_the_workers_wait(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """The bridge's loop is closed while a worker of its waits for it."""
    bridge = make_bridge(cleanup_timeout=1.0)
    begun = threading.Event()
    results: list[BaseException] = []

    async def inner() -> None:
        begun.set()
        await asyncio.Event().wait()

    def function() -> None:
        try:
            syncline.from_thread(inner)
        except BaseException as error:
            results.append(error)

    future = bridge.submit(syncline.to_thread, function)
    assert begun.wait(LIMIT)
    bridge.close()
    with pytest.raises(syncline.RunnerClosedError):
        future.result(LIMIT)
    assert eventually(lambda: bool(results))
    # Which of its two tasks the closing loop cancels first is the loop's business.
    assert isinstance(results[0], (syncline.RunnerClosedError, asyncio.CancelledError))


def test_run_sync_in_a_worker_uses_the_bridges_own_loop(anywhere: Run) -> None:
    """A worker may use the bridge as any thread: from a loop of the bridge's, too."""

    def function() -> int:
        return syncline.run_sync(double, 4)

    async def main() -> None:
        assert await syncline.to_thread(function) == 8

    with_time_limit(anywhere, main)


def test_a_bridge_may_prefer_the_loop_that_sent_the_worker(
    anywhere: Run, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """Bridge(in_worker="sender"): run_sync, run and synced functions join that loop, variables and errors as ever;
    in other threads the bridge's own loop is used."""
    bridge = make_bridge(in_worker="sender")

    async def where() -> int:
        await anyio.lowlevel.checkpoint()
        number.set(number.get() + 1)
        return threading.get_ident()

    async def fail() -> None:
        await anyio.lowlevel.checkpoint()
        raise LookupError

    def function() -> list[int]:
        with pytest.raises(LookupError):
            bridge.run_sync(fail)
        return [bridge.run_sync(where), bridge.run(where()), bridge.synced(where)()]

    async def main() -> None:
        number.set(0)
        assert await syncline.to_thread(function) == [threading.get_ident()] * 3
        assert number.get() == 3

    anywhere(main)
    number.set(0)
    assert bridge.run_sync(where) != threading.get_ident()


def test_a_time_limit_holds_on_that_loop_too(
    anywhere: Run, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """run(timeout=...) on the loop that sent the worker: TimeoutError after the coroutine has cleaned up."""
    bridge = make_bridge(in_worker="sender")
    ends: list[str] = []

    async def inner() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            ends.append("cleaned up")

    def function() -> None:
        with pytest.raises(TimeoutError):
            bridge.run(inner(), timeout=0.01)
        ends.append("told")

    async def main() -> None:
        await syncline.to_thread(function)

    with_time_limit(anywhere, main)
    assert ends == ["cleaned up", "told"]


def test_workers_and_nested_calls_in_turns() -> None:
    """run_sync in a coroutine on our loop, whose worker calls run_sync again, and so on: no circle, no hang."""

    def sync_to_async(levels: int) -> int:
        return syncline.run_sync(through_worker, levels) if levels else 42

    async def through_worker(levels: int) -> int:
        return await syncline.to_thread(nested, levels)

    def nested(levels: int) -> int:
        return syncline.run_sync(blocking, levels)

    async def blocking(levels: int) -> int:
        return sync_to_async(levels - 1)

    with_time_limit(lambda main: main(), lambda: sync_to_async(6))
    assert sync_to_async(3) == 42


def with_time_limit(run: Callable[[Any], Any], main: Any) -> None:
    """What may take a while must still come to its end: within seconds, not for ever."""
    began = time.monotonic()
    run(main)
    assert time.monotonic() - began < LIMIT
