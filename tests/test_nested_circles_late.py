"""Calls that come back to a bridge whose loop's sync code is merely about to wait for what makes them.

Such a call is sent to that loop, which goes on by all signs. Then the sync code waits, and the loop would never have
come to it: so it runs on another one. Interleaving, in all tests: the sync code begins to wait only when the call back
is made.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import pytest

import syncline
from child import eventually
from circle_code import WAYS, Ask, Function
from circle_code import by_group as by_group_at_home
from neutral import make_bridge_of
from syncline import Bridge
from waiting import answer, in_time

pytestmark = pytest.mark.timeout(60)


class Back:
    """A call that comes back to a bridge, and who it is made by."""

    def __init__(self, bridge: Bridge, way: Ask, fn: Function = answer) -> None:
        self.bridge, self._way, self._fn = bridge, way, fn
        self._may_begin = threading.Event()

    async def make(self) -> int:
        while not self._may_begin.is_set():
            await asyncio.sleep(0.001)
        return await self._way(self.bridge, self._fn)

    def until_made(self) -> None:
        """Lets it be made, and waits for that."""
        before = self.bridge.stats()["calls"]
        self._may_begin.set()
        assert eventually(lambda: self.bridge.stats()["calls"] > before or self._is_seen())

    def _is_seen(self) -> bool:
        """Whether a thread waits for it: a producer's step is not counted as a call."""
        todo = list(syncline.waits().roots)
        while todo:
            wait = todo.pop()
            if wait.loop == "blocked" and "not begun" in wait.state:
                return True
            todo.extend(wait.waits_for)
        return False


def by_result(other: Bridge, back: Back) -> int:
    future = other.submit(back.make)
    back.until_made()
    return future.result()


def by_group(other: Bridge, back: Back) -> int:
    with other.group() as group:
        started = group.start(back.make)
        back.until_made()
    return started.result()


def by_manager(other: Bridge, back: Back) -> int:
    @asynccontextmanager
    async def works_beside() -> AsyncIterator[list[int]]:
        beside = asyncio.create_task(back.make())
        results: list[int] = []
        yield results
        results.append(await beside)

    with other.enter(works_beside()) as results:
        back.until_made()
    return results[0]


def by_producer(other: Bridge, back: Back) -> int:
    async def items() -> AsyncGenerator[int, None]:
        yield 1
        yield await back.make()

    iterator = other.iterate(items(), prefetch=2)
    assert next(iterator) == 1
    back.until_made()
    return next(iterator)


def by_map(other: Bridge, back: Back) -> int:
    async def each(index: int) -> int:
        return await back.make() if index else 1

    results = other.map(each, [0, 1])
    assert next(results) == 1
    back.until_made()
    return next(results)


def by_call(other: Bridge, back: Back) -> int:
    async def start() -> asyncio.Task[int]:
        return asyncio.create_task(back.make())

    async def end(task: asyncio.Task[int]) -> int:
        return await task

    task = other.run_sync(start)
    back.until_made()
    return other.run_sync(end, task)


WAITS: list[Callable[[Bridge, Back], int]] = [by_result, by_group, by_manager, by_producer, by_map, by_call]
waits = pytest.mark.parametrize("wait", WAITS)


@pytest.fixture
def blocked() -> Iterator[Bridge]:
    with Bridge(name="blocked", nested="thread", in_async="home") as bridge:
        yield bridge


@pytest.fixture
def other() -> Iterator[Bridge]:
    with Bridge(name="other", in_async="home") as bridge:
        yield bridge


def blocks(bridge: Bridge, code: Callable[[], int]) -> int:
    """Runs sync code on the bridge's loop."""

    async def runs() -> int:
        return code()

    with in_time():
        return bridge.run_sync(runs)


# A group begins its calls on its loop by itself: such a call is not sent there, and comes too late to be early.
@waits
@pytest.mark.parametrize("way", [way for way in WAYS if way is not by_group_at_home])
def test_a_call_that_comes_before_the_wait_begins_runs_elsewhere(
    blocked: Bridge, other: Bridge, wait: Callable[[Bridge, Back], int], way: Ask
) -> None:
    """Whatever the sync code waits by, and whatever brings the call."""
    assert blocks(blocked, lambda: wait(other, Back(blocked, way))) == 42
    assert blocked.run_sync(answer) == 42


def test_it_does_so_at_once(blocked: Bridge, other: Bridge) -> None:
    """The thread looks for such calls as its wait begins, not only each second: a shorter wait has its result."""

    def waits() -> int:
        back = Back(blocked, WAYS[0])
        future = other.submit(back.make)
        back.until_made()
        return future.result(0.9)

    # On a busy machine the call may take longer than that, but not each time.
    for _ in range(10):
        with suppress(TimeoutError):
            assert blocks(blocked, waits) == 42
            break
    else:
        pytest.fail("no call went elsewhere in time")


@pytest.mark.parametrize("way", [WAYS[0], WAYS[1]])
@pytest.mark.parametrize("kind", ["uvloop", "trio"])
def test_so_it_does_on_other_loops(other: Bridge, kind: str, way: Ask) -> None:
    """The blocked loop is uvloop's, or runs trio."""
    with make_bridge_of(kind, name="blocked", nested="thread", in_async="home") as blocked:
        simple = partial(asyncio.sleep, 0, 42) if kind == "uvloop" else trio_answer
        assert blocks(blocked, lambda: by_result(other, Back(blocked, way, simple))) == 42


async def trio_answer() -> int:
    return 42


@waits
def test_so_it_does_for_sync_code_that_would_be_parked(
    other: Bridge, wait: Callable[[Bridge, Back], int]
) -> None:
    """`result()` of a future blocks a loop even where nested calls await in place."""
    with Bridge(name="blocked", in_async="home") as switching:
        assert blocks(switching, lambda: wait(other, Back(switching, WAYS[0]))) == 42


def test_a_call_that_lies_behind_the_sync_codes_own_runs_elsewhere(blocked: Bridge, other: Bridge) -> None:
    """The loop has taken both from its mailbox at once, and the first one blocks it."""
    goes_on = threading.Event()
    first = blocked.submit(partial(blocks_until, goes_on))
    # Interleaving: both calls lie in the mailbox while the loop is busy with that.
    back = Back(blocked, WAYS[0])
    waiting: list[int] = []

    async def waits() -> None:
        waiting.append(future.result())

    second = blocked.submit(waits)
    future = other.submit(back.make)
    back.until_made()
    goes_on.set()
    with in_time():
        first.result(10)
        second.result(10)
    assert waiting == [42]


async def blocks_until(event: threading.Event) -> None:
    event.wait()


def test_whoever_comes_first_the_call_is_answered(blocked: Bridge, other: Bridge) -> None:
    """The wait and the call back begin at the same moment, again and again."""
    both = threading.Barrier(2)

    async def comes_back() -> int:
        both.wait(10)
        return await blocked.run_async(answer)

    async def comes_back_by_worker() -> int:
        both.wait(10)
        return await syncline.to_thread(blocked.run_sync, answer)

    def waits(fn: Function) -> int:
        future = other.submit(fn)
        both.wait(10)
        return future.result()

    for _ in range(50):
        for fn in (comes_back, comes_back_by_worker):
            assert blocks(blocked, partial(waits, fn)) == 42


def test_a_result_that_is_there_as_the_wait_begins_is_told(blocked: Bridge, other: Bridge) -> None:
    """A call has ended in the turn in which another one blocks the loop: its task need not wait for the next turn."""
    goes_on, waits = threading.Event(), threading.Event()
    busy = blocked.submit(partial(blocks_until, goes_on))
    # Interleaving: the loop finds both calls in its mailbox, and ends the first before it begins the second.
    back = Back(blocked, WAYS[0], trio_answer)
    future = other.submit(back.make)
    back.until_made()

    async def needs_it() -> int:
        waits.set()
        return other.run_sync(asyncio.wrap_future, future)

    blocking = blocked.submit(needs_it)
    goes_on.set()
    with in_time():
        busy.result(10)
        assert blocking.result(10) == 42


def test_a_call_that_went_elsewhere_can_be_cancelled(blocked: Bridge, other: Bridge) -> None:
    """Its task hears of that where it is by now."""
    begun, ended = threading.Event(), threading.Event()

    async def lasts() -> int:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return 0

    back = Back(blocked, WAYS[0], lasts)

    async def gives_up() -> int:
        task = asyncio.create_task(back.make())
        while not begun.is_set():
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return 42

    def waits() -> int:
        future = other.submit(gives_up)
        back.until_made()
        return future.result()

    assert blocks(blocked, waits) == 42
    assert ended.wait(10)


@pytest.mark.parametrize("by_worker", [False, True], ids=["task", "worker"])
def test_a_call_that_went_elsewhere_has_its_timeout(blocked: Bridge, other: Bridge, by_worker: bool) -> None:
    """It ends at the deadline, after its cleanup."""
    ended = threading.Event()

    async def lasts() -> int:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return 0

    async def in_time_only(bridge: Bridge, fn: Function) -> int:
        run = lambda: bridge.run(fn(), timeout=0.3)  # noqa: E731
        with pytest.raises(TimeoutError):
            await (syncline.to_thread(run) if by_worker else asyncio.wait_for(bridge.run_async(fn), 0.3))
        return 42

    assert blocks(blocked, lambda: by_result(other, Back(blocked, in_time_only, lasts))) == 42
    assert ended.wait(10)


@pytest.mark.parametrize("way", WAYS[:2])
def test_closing_ends_a_call_that_went_elsewhere(other: Bridge, way: Ask) -> None:
    """Its caller gets RunnerClosedError, and so the sync code goes on, and with it the loop."""
    begun = threading.Event()

    async def lasts() -> int:
        begun.set()
        await asyncio.sleep(60)
        return 0

    with Bridge(name="blocked", nested="thread", in_async="home") as blocked:
        future = blocked.submit(lambda: runs(by_result, other, Back(blocked, way, lasts)))
        assert begun.wait(10)
        with in_time():
            blocked.close()
        with pytest.raises(syncline.RunnerClosedError):
            future.result(10)


@pytest.mark.parametrize("is_stubborn", [False, True], ids=["", "stubborn"])
@pytest.mark.parametrize("way", WAYS[:2])
def test_the_end_of_the_loop_that_a_call_went_to_ends_it(other: Bridge, way: Ask, is_stubborn: bool) -> None:
    """As that of any other loop; also where the task refuses to end. The bridge's first loop goes on."""

    async def stops() -> int:
        asyncio.get_running_loop().stop()
        try:
            await asyncio.sleep(60)
        finally:
            while is_stubborn:
                with suppress(asyncio.CancelledError):
                    await asyncio.sleep(60)
        return 0

    async def is_told(bridge: Bridge, fn: Function) -> int:
        with pytest.raises(syncline.RunnerClosedError):
            await way(bridge, fn)
        return 42

    with Bridge(name="blocked", nested="thread", in_async="home", cleanup_timeout=0.2) as blocked:
        assert blocks(blocked, lambda: by_result(other, Back(blocked, is_told, stops))) == 42
        assert blocked.run_sync(answer) == 42


async def runs(wait: Callable[[Bridge, Back], int], other: Bridge, back: Back) -> int:
    return wait(other, back)


def test_an_iterator_whose_first_step_went_elsewhere_stays_there(blocked: Bridge, other: Bridge) -> None:
    """All its steps are made in one task, and it is closed in that."""
    tasks: list[asyncio.Task[object] | None] = []

    async def items() -> AsyncGenerator[int, None]:
        try:
            for index in range(3):
                tasks.append(asyncio.current_task())
                yield index
        finally:
            tasks.append(asyncio.current_task())

    async def all_items(bridge: Bridge, fn: Function) -> int:
        return sum([item async for item in bridge.iterate(items())])

    assert blocks(blocked, lambda: by_result(other, Back(blocked, all_items))) == 3
    assert len(tasks) == 4
    assert len(set(tasks)) == 1


def test_a_manager_whose_first_step_went_elsewhere_is_left_there(blocked: Bridge, other: Bridge) -> None:
    """Also where it is left after the wait."""
    tasks: list[asyncio.Task[object] | None] = []
    entered = threading.Event()
    may_leave = threading.Event()

    @asynccontextmanager
    async def manager() -> AsyncIterator[int]:
        tasks.append(asyncio.current_task())
        yield 42
        tasks.append(asyncio.current_task())

    async def stays_in(bridge: Bridge, fn: Function) -> int:
        async with bridge.enter(manager()) as value:
            entered.set()
            while not may_leave.is_set():
                await asyncio.sleep(0.001)
            return value

    back = Back(blocked, stays_in)

    async def both() -> asyncio.Task[int]:
        task = asyncio.create_task(back.make())
        while not entered.is_set():
            await asyncio.sleep(0.001)
        return task

    def waits() -> asyncio.Task[int]:
        future = other.submit(both)
        back.until_made()
        return future.result()

    async def blocking() -> asyncio.Task[int]:
        return waits()

    async def end(task: asyncio.Task[int]) -> int:
        return await task

    with in_time():
        task = blocked.run_sync(blocking)
        may_leave.set()
        assert other.run_sync(end, task) == 42
    assert len(tasks) == 2
    assert len(set(tasks)) == 1


def test_what_somebody_else_has_sent_stays_where_it_is(blocked: Bridge, other: Bridge) -> None:
    """Nothing waits for it here: it runs on its own loop once that goes on."""
    where: list[int] = []
    sent: list[syncline.SubmittedFuture[None]] = []

    async def looks() -> None:
        where.append(threading.get_ident())

    def waits() -> int:
        # Interleaving: it lies in the mailbox as the wait begins, and is not seen to before that ends.
        sender = threading.Thread(target=lambda: sent.append(blocked.submit(looks)))
        sender.start()
        sender.join()
        assert by_result(other, Back(blocked, WAYS[0])) == 42
        assert not where
        return threading.get_ident()

    here = blocks(blocked, waits)
    sent[0].result(10)
    assert where == [here]
