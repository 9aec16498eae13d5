"""Waits that could never end raise DeadlockError; waits that merely take long never do.

The long waits without deadlock last for 2.5 seconds, several check intervals.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

import syncline
from waiting import Scope, answer, bridge, in_time, scopes

__all__ = ["bridge"]

pytestmark = pytest.mark.timeout(60)
LONG = 2.5


def after(seconds: float, action: Callable[[], object]) -> threading.Timer:
    """Do something from another thread after a while."""
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


# --- waits on a loop's own thread ---


@pytest.mark.parametrize("method", ["result", "exception"])
def test_a_future_waited_for_on_its_own_loop_thread_raises(bridge: syncline.Bridge, method: str) -> None:
    """submit() inside a coroutine and result() at once: DeadlockError; awaited instead, it works (case
    15)."""

    async def outer() -> int:
        future = bridge.submit(answer)
        with pytest.raises(syncline.DeadlockError, match="knot"):
            getattr(future, method)()
        with pytest.raises(syncline.DeadlockError):
            getattr(future, method)(timeout=30)
        with pytest.raises(TimeoutError):
            getattr(future, method)(timeout=0)  # which is no wait
        value = await asyncio.wrap_future(future)
        assert future.result() == 42  # done: nothing to wait for
        return value

    with in_time():
        assert bridge.run_sync(outer) == 42
        assert bridge.run_sync(answer) == 42


def test_a_call_that_waits_for_its_own_future_raises(bridge: syncline.Bridge) -> None:
    """A coroutine that asks for its own result (case 15)."""
    mine: Future[Future[Any]] = Future()

    async def ouroboros() -> str:
        future = mine.result(10)
        with pytest.raises(syncline.DeadlockError):
            future.result()
        return "told"

    future = bridge.submit(ouroboros)
    mine.set_result(future)
    with in_time():
        assert future.result(20) == "told"


@pytest.mark.parametrize("depth", [1, 2])
def test_a_nested_call_that_waits_for_its_ancestor_raises(bridge: syncline.Bridge, depth: int) -> None:
    """The outer call can't end before the inner one, which waits for it from a deeper thread (case 15)."""
    ancestor: Future[Future[Any]] = Future()

    async def descend(left: int) -> str:
        if left:
            return bridge.run_sync(descend, left - 1)
        future = ancestor.result(10)
        with pytest.raises(syncline.DeadlockError):
            future.result()
        return "told"

    future = bridge.submit(descend, depth)
    ancestor.set_result(future)
    with in_time():
        assert future.result(20) == "told"
    assert bridge.run_sync(answer) == 42


def test_two_bridges_that_wait_for_each_other_raise() -> None:
    """Each loop thread blocks on a future of the other one: at least one of them is told, none hangs
    (case 6)."""
    # Interleaving: both coroutines run, and know each other's future, before either of them waits.
    with syncline.Bridge(name="one") as one, syncline.Bridge(name="two") as two:
        both = threading.Barrier(2)
        futures: dict[str, Future[str]] = {}
        exchange = threading.Event()

        async def wait_for(other: str) -> str:
            both.wait(10)
            exchange.wait(10)
            try:
                return f"got {futures[other].result(30)}"
            except syncline.DeadlockError:
                return "told"

        futures["one"] = one.submit(wait_for, "two")
        futures["two"] = two.submit(wait_for, "one")
        exchange.set()
        with in_time():
            outcomes = sorted(future.result(20) for future in futures.values())
        assert outcomes in (["got told", "told"], ["told", "told"])


# --- a foreign loop that is blocked by the call and needed by it ---


def needs_the_loop(how: str, loop: asyncio.AbstractEventLoop) -> Any:
    """An awaitable that only a turn of `loop` can finish."""
    if how == "run_coroutine_threadsafe":
        return asyncio.wrap_future(asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "never"), loop))
    done = asyncio.get_running_loop().create_future()
    # When it does turn, after the DeadlockError, the future is cancelled already.
    finish = lambda: done.cancelled() or done.set_result("never")  # noqa: E731
    loop.call_soon_threadsafe(done.get_loop().call_soon_threadsafe, finish)
    return done


@scopes
@pytest.mark.parametrize("how", ["run_coroutine_threadsafe", "call_soon_threadsafe"])
def test_a_call_that_needs_the_loop_it_blocks_raises(scope: Scope, how: str) -> None:
    """DeadlockError names the blocked caller and the coroutine that waits for its loop; both loops live
    (case 2)."""
    cleaned = threading.Event()

    async def needs_the_blocked_loop(loop: asyncio.AbstractEventLoop) -> Any:
        try:
            return await needs_the_loop(how, loop)
        finally:
            cleaned.set()

    with syncline.Bridge(scope=scope) as bridge:

        async def main() -> None:
            def blocks_its_loop() -> None:
                bridge.run_sync(needs_the_blocked_loop, asyncio.get_running_loop())

            with pytest.raises(syncline.DeadlockError) as caught, in_time():
                blocks_its_loop()
            assert "blocks_its_loop" in str(caught.value)
            assert "needs_the_blocked_loop" in str(caught.value)
            assert cleaned.wait(10)
            await asyncio.sleep(0.01)
            assert bridge.run_sync(answer) == 42

        asyncio.run(main())
        assert bridge.run_sync(answer) == 42


def test_a_deadlock_deep_inside_a_coroutine_is_found(bridge: syncline.Bridge) -> None:
    """The wait for the blocked loop is in child tasks, through gather (case 2)."""

    async def leaf(loop: asyncio.AbstractEventLoop) -> Any:
        return await needs_the_loop("run_coroutine_threadsafe", loop)

    async def middle(loop: asyncio.AbstractEventLoop) -> Any:
        return await asyncio.gather(leaf(loop), asyncio.create_task(leaf(loop)))

    async def main() -> None:
        with pytest.raises(syncline.DeadlockError), in_time():
            bridge.run_sync(middle, asyncio.get_running_loop())

    asyncio.run(main())
    assert bridge.run_sync(answer) == 42


# --- locks ---


@pytest.mark.parametrize("scope", ["process", "thread"])
@pytest.mark.parametrize("make_lock", [threading.Lock, threading.RLock], ids=["Lock", "RLock"])
def test_a_coroutine_that_takes_its_callers_lock_is_reported(
    scope: Scope, make_lock: Callable[[], Any]
) -> None:
    """DeadlockError names both; the lock is free again, and the loop that stood still goes on (case 73)."""
    lock = make_lock()
    with syncline.Bridge(scope=scope) as bridge:

        async def takes_the_lock() -> None:
            with lock:
                pass

        def holds_the_lock() -> None:
            with lock:
                bridge.run_sync(takes_the_lock)

        with pytest.raises(syncline.DeadlockError) as caught, in_time():
            holds_the_lock()
        assert "holds_the_lock" in str(caught.value)
        assert "takes_the_lock" in str(caught.value)
        assert lock.acquire(timeout=5)
        lock.release()
        assert bridge.run_sync(answer) == 42


def test_a_lock_of_a_third_thread_is_not_a_deadlock(bridge: syncline.Bridge) -> None:
    """The coroutine waits for a lock that its caller doesn't hold, and gets it in the end (case 73)."""
    lock = threading.Lock()
    lock.acquire()
    after(LONG, lock.release)

    async def takes_the_lock() -> str:
        with lock:
            return "got it"

    assert bridge.run_sync(takes_the_lock) == "got it"


def test_a_lock_that_is_taken_with_a_time_limit_is_not_a_deadlock(bridge: syncline.Bridge) -> None:
    """The caller holds the lock, but the coroutine will give up by itself (case 73)."""
    lock = threading.Lock()

    async def tries_to_take_the_lock() -> bool:
        return lock.acquire(timeout=LONG)

    with lock:
        assert bridge.run_sync(tries_to_take_the_lock) is False


def test_a_lock_that_was_released_inside_its_block_is_not_a_deadlock(bridge: syncline.Bridge) -> None:
    """The caller is in the `with` block of the lock, but a third thread has it, and frees it (case 73)."""
    lock = threading.Lock()

    async def takes_the_lock() -> str:
        lock.acquire()
        return "got it"

    with lock:
        lock.release()
        other = threading.Thread(target=lock.acquire)
        other.start()
        other.join()
        after(LONG, lock.release)
        assert bridge.run_sync(takes_the_lock) == "got it"


def test_an_unrelated_lock_of_the_caller_is_not_a_deadlock(bridge: syncline.Bridge) -> None:
    """The caller holds one lock while the coroutine waits for another one, which a third thread frees
    (case 73)."""
    mine, other = threading.Lock(), threading.Lock()
    other.acquire()
    after(LONG, other.release)

    async def takes_the_other() -> str:
        with other:
            return "got it"

    with mine:
        assert bridge.run_sync(takes_the_other) == "got it"


def test_a_callers_lock_during_a_slow_call_is_not_a_deadlock(bridge: syncline.Bridge) -> None:
    """Holding a lock across a long call harms nobody as long as the coroutine doesn't want it (case 73)."""
    lock = threading.RLock()
    with lock:
        assert bridge.run_sync(asyncio.sleep, LONG, "slept") == "slept"


# --- long waits in a blocked foreign loop that are no deadlock ---


def long_waits(bridge: syncline.Bridge) -> dict[str, Callable[[], Any]]:
    """Coroutine functions that wait LONG seconds and return "done"."""

    async def in_executor() -> str:
        await asyncio.get_running_loop().run_in_executor(None, time.sleep, LONG)
        return "done"

    async def asleep() -> str:
        return await asyncio.sleep(LONG, "done")

    async def blocking() -> str:
        time.sleep(LONG)
        return "done"

    async def on_a_socket() -> str:
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            after(LONG, lambda: right.send(b"done"))
            return (await asyncio.get_running_loop().sock_recv(left, 10)).decode()

    async def for_another_thread() -> str:
        # No timer, no descriptor: the loop looks idle, but a thread that nobody blocks will end the wait.
        done = asyncio.get_running_loop().create_future()
        after(LONG, lambda: done.get_loop().call_soon_threadsafe(done.set_result, "done"))
        return await done

    async def for_a_process() -> str:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", f"import time; time.sleep({LONG})"
        )
        return "done" if await process.wait() == 0 else "failed"

    async def nested() -> str:
        return bridge.run_sync(for_another_thread)

    async def for_a_concurrent_future() -> str:
        future: Future[str] = Future()
        after(LONG, lambda: future.set_result("done"))
        return await asyncio.wrap_future(future)

    return {
        function.__name__: function
        for function in (
            in_executor, asleep, blocking, on_a_socket, for_another_thread, for_a_process, nested,
            for_a_concurrent_future,
        )
    }  # fmt: skip


@pytest.mark.parametrize(
    "wait",
    ["in_executor", "asleep", "blocking", "on_a_socket", "for_another_thread", "for_a_process", "nested",
     "for_a_concurrent_future"],
)  # fmt: skip
def test_a_long_call_inside_a_foreign_loop_is_not_a_deadlock(bridge: syncline.Bridge, wait: str) -> None:
    """Whatever the coroutine waits for, it can come without the blocked loop: the value arrives (case 2)."""
    function = long_waits(bridge)[wait]

    async def main() -> Any:
        # Work that waits for the blocked loop, but that the call doesn't need, must not confuse the check.
        loop = asyncio.get_running_loop()
        bystander = asyncio.create_task(asyncio.sleep(0, "bystander"))
        other = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop)
        after(0.2, lambda: loop.call_soon_threadsafe(int))
        value = bridge.run_sync(function)
        assert await bystander == "bystander"
        await asyncio.wrap_future(other)
        return value

    assert asyncio.run(main()) == "done"


@pytest.mark.parametrize("wait", ["in_executor", "blocking", "for_another_thread", "nested"])
def test_a_long_call_from_plain_code_is_not_a_deadlock(bridge: syncline.Bridge, wait: str) -> None:
    """Without a blocked loop there is nothing to suspect at all (case 2)."""
    assert bridge.run_sync(long_waits(bridge)[wait]) == "done"


def test_two_threads_whose_loops_serve_each_other_are_not_a_deadlock(bridge: syncline.Bridge) -> None:
    """The call needs a foreign loop that runs in another, free thread (case 2)."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def needs_the_free_loop() -> str:
        future = asyncio.run_coroutine_threadsafe(asyncio.sleep(LONG, "done"), loop)
        return await asyncio.wrap_future(future)

    async def main() -> str:
        return bridge.run_sync(needs_the_free_loop)

    try:
        assert asyncio.run(main()) == "done"
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
