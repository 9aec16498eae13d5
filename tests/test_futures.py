"""submit returns a real concurrent.futures.Future."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator

import pytest

import syncline


@pytest.fixture(params=["process", "thread", "caller"])
def bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    with syncline.Bridge(scope=request.param) as bridge:
        yield bridge


async def echo(value: int) -> int:
    await asyncio.sleep(0)
    if value < 0:
        raise ValueError(value)
    return value


class Held:
    """A coroutine that waits until it is cancelled, and says where it is."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cleaned = threading.Event()

    async def wait(self) -> None:
        self.begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            self.cleaned.set()


def test_futures_work_with_wait_and_as_completed(bridge: syncline.Bridge) -> None:
    """The standard tools for futures take them."""
    futures = [bridge.submit(echo, n) for n in range(20)]
    assert all(isinstance(future, concurrent.futures.Future) for future in futures)
    done, pending = concurrent.futures.wait(futures, timeout=10)
    assert not pending
    assert sorted(future.result() for future in done) == list(range(20))
    assert len(list(concurrent.futures.as_completed([bridge.submit(echo, 1)], timeout=10))) == 1


def test_errors_arrive_as_the_same_object(bridge: syncline.Bridge) -> None:
    """result raises what exception returns."""
    future = bridge.submit(echo, -1)
    error = future.exception(10)
    with pytest.raises(ValueError, match="-1") as caught:
        future.result()
    assert caught.value is error


def test_cancelling_a_future_cancels_the_task(bridge: syncline.Bridge) -> None:
    """The coroutine really ends, and cleans up (case 53)."""
    held = Held()
    future = bridge.submit(held.wait)
    assert held.begun.wait(10)
    assert future.cancel()
    assert future.cancelled()
    with pytest.raises(concurrent.futures.CancelledError):
        future.result(10)
    assert held.cleaned.wait(10)


def test_cancelling_after_the_end_changes_nothing(bridge: syncline.Bridge) -> None:
    """A future that is done can't be cancelled; one of a closed bridge neither, nor does that hang (case 53)."""
    future = bridge.submit(echo, 1)
    assert future.result(10) == 1
    assert not future.cancel()
    bridge.close()
    assert not future.cancel()
    assert future.result() == 1


def test_a_pending_future_ends_when_its_bridge_is_closed(bridge: syncline.Bridge) -> None:
    """Its waiter gets RunnerClosedError, not silence (case 34)."""
    held = Held()
    future = bridge.submit(held.wait)
    assert held.begun.wait(10)
    bridge.close()
    assert held.cleaned.is_set()
    with pytest.raises(syncline.RunnerClosedError):
        future.result(10)


def test_waiting_on_the_loops_own_thread_is_a_deadlock_error(bridge: syncline.Bridge) -> None:
    """A coroutine whose sync code waits for a call that only this blocked loop can run (cases 6, 15)."""

    async def wait_here() -> None:
        future = bridge.submit(echo, 1)
        with pytest.raises(syncline.DeadlockError, match="wrap_future"):
            future.result()
        with pytest.raises(syncline.DeadlockError):
            future.exception()
        assert await asyncio.wrap_future(future) == 1

    assert bridge.submit(wait_here).result(10) is None


def test_a_callback_runs_when_it_is_done(bridge: syncline.Bridge) -> None:
    """add_done_callback works from any thread."""
    called = threading.Event()
    bridge.submit(echo, 1).add_done_callback(lambda _: called.set())
    assert called.wait(10)


def test_result_has_a_timeout(bridge: syncline.Bridge) -> None:
    """The wait ends; the task goes on."""
    held = Held()
    future = bridge.submit(held.wait)
    with pytest.raises(TimeoutError):
        future.result(0.01)
    assert not future.done()
    future.cancel()


def test_it_may_be_awaited_in_a_running_loop(bridge: syncline.Bridge) -> None:
    """asyncio.wrap_future makes it awaitable where another loop runs."""

    async def main() -> int:
        return await asyncio.wrap_future(bridge.submit(echo, 5))

    assert asyncio.run(main()) == 5


def test_a_closed_bridge_takes_no_calls() -> None:
    """A clear error, at once."""
    bridge = syncline.Bridge(name="gone")
    bridge.close()
    with pytest.raises(syncline.RunnerClosedError, match="gone"):
        bridge.submit(echo, 1)
