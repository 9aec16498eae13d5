"""run_sync, run and submit: what may be called, from where, and what comes back."""

from __future__ import annotations

import asyncio
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import syncline


async def double(x: int, *, plus: int = 0) -> int:
    await asyncio.sleep(0)
    return 2 * x + plus


class Service:
    def __init__(self, base: int) -> None:
        self.base = base

    async def add(self, x: int) -> int:
        return self.base + x

    @staticmethod
    async def static(x: int) -> int:
        return x

    @classmethod
    async def named(cls) -> str:
        return cls.__name__

    async def __call__(self, x: int) -> int:
        return self.base * x


def test_arguments_and_keywords_arrive() -> None:
    """Positional and keyword arguments go to the async function."""
    assert syncline.run_sync(double, 4, plus=1) == 9


@pytest.mark.parametrize(
    ("function", "args", "expected"),
    [
        (Service(3).add, (4,), 7),
        (Service.static, (5,), 5),
        (Service.named, (), "Service"),
        (Service(3), (4,), 12),
        (functools.partial(double, 1), (), 2),
        (functools.partial(Service(1).add, 1), (), 2),
        (lambda: double(8), (), 16),
        (lambda: asyncio.gather(double(1), double(2)), (), [2, 4]),
        (asyncio.gather, (), []),
    ],
)
def test_anything_that_returns_an_awaitable_may_be_called(function: Any, args: Any, expected: Any) -> None:
    """Methods, partials, callable objects, and functions that need the running loop."""
    assert syncline.run_sync(function, *args) == expected


def test_any_awaitable_may_be_run() -> None:
    """`run` takes coroutines and every object with __await__."""

    class Awaitable:
        def __await__(self) -> Any:
            yield from asyncio.sleep(0).__await__()
            return "awaited"

    class Immediate:
        def __await__(self) -> Any:
            return iter(())

    assert syncline.run(double(2)) == 4
    assert syncline.run(Awaitable()) == "awaited"
    assert syncline.run(Immediate()) is None


@pytest.mark.parametrize("result", [None, 0, "", [], StopIteration(3), ValueError("a value"), object()])
def test_every_kind_of_result_comes_back_as_it_is(result: object) -> None:
    """Exceptions that are returned are results, too."""

    async def give() -> object:
        return result

    assert syncline.run_sync(give) is result


@pytest.mark.filterwarnings("ignore:'asyncio.get_event_loop_policy' is deprecated:DeprecationWarning")
def test_it_works_in_a_thread_without_a_loop() -> None:
    """No loop has to be set in the calling thread (cases 19, 20, 24)."""
    policy = asyncio.get_event_loop_policy()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(syncline.run_sync, double, 1).result() == 2
        assert pool.submit(asyncio._get_running_loop).result() is None
    assert asyncio.get_event_loop_policy() is policy


def test_a_closed_current_loop_is_no_obstacle_and_stays_current() -> None:
    """The thread's current loop is neither used nor replaced (cases 19, 20)."""

    def in_thread() -> bool:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        loop.close()
        assert syncline.run_sync(double, 1) == 2
        same = asyncio.get_event_loop() is loop
        asyncio.set_event_loop(None)
        return same

    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(in_thread).result()


def test_the_loop_is_chosen_at_the_call_not_at_the_decoration() -> None:
    """A function decorated in one thread runs on the loop of the thread that calls it (case 23)."""
    with syncline.Bridge(scope="thread") as bridge:

        @bridge.synced
        async def loop() -> int:
            return id(asyncio.get_running_loop())

        here = loop()
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(loop).result() != here
        assert loop() == here


def test_many_threads_get_their_own_results() -> None:
    """Results are never mixed up (case 72)."""
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: syncline.run_sync(double, n), range(500))) == [
            2 * n for n in range(500)
        ]


def test_independent_calls_run_in_parallel() -> None:
    """Two calls that need each other at the same time both end (case 67). The barrier forces the overlap."""
    barrier = asyncio.Barrier(2)

    async def meet() -> int:
        return await barrier.wait()

    with ThreadPoolExecutor(2) as pool:
        arrived = [pool.submit(syncline.run_sync, meet) for _ in range(2)]
        assert sorted(future.result(10) for future in arrived) == [0, 1]


def test_what_was_made_in_one_call_is_used_in_the_next() -> None:
    """Queues, locks and tasks live on between calls (cases 25, 26)."""

    async def begin() -> tuple[asyncio.Queue[int], asyncio.Task[int]]:
        queue: asyncio.Queue[int] = asyncio.Queue()
        return queue, asyncio.create_task(queue.get())

    queue, task = syncline.run_sync(begin)
    syncline.run_sync(queue.put, 7)
    syncline.run(asyncio.wait_for(_settled(task), 5))
    assert task.result() == 7


async def _settled(task: asyncio.Task[int]) -> None:
    await asyncio.wait([task])


def test_first_use_by_sixteen_threads_gives_one_loop() -> None:
    """Sixteen threads make the first call at once (case 64). The barrier forces the race."""
    barrier = threading.Barrier(16)

    async def loop() -> int:
        return id(asyncio.get_running_loop())

    with syncline.Bridge() as bridge, ThreadPoolExecutor(16) as pool:

        def first() -> int:
            barrier.wait()
            return bridge.run_sync(loop)

        assert len({future.result() for future in [pool.submit(first) for _ in range(16)]}) == 1
        assert bridge.stats()["runners"] == 1
        assert bridge.stats()["calls"] == 16
