"""map: many calls at once, with a limit, from sync code; what it gives, in which order, and how much is under way."""

from __future__ import annotations

import itertools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from typing import Any

import pytest

import syncline
from neutral import new_event, sleep, sleep_forever, this_task, turn

Inside = Callable[[Callable[[], Any]], Any]


class Calls:
    """An async function that counts the calls that run, and suspends for some turns."""

    def __init__(self, turns: Callable[[int], int] = lambda item: item % 3) -> None:
        self.turns = turns
        self.running = 0
        self.most = 0
        self.begun = 0

    async def double(self, item: int) -> int:
        self.running += 1
        self.begun += 1
        self.most = max(self.most, self.running)
        try:
            for _ in range(self.turns(item)):
                await turn()
            return 2 * item
        finally:
            self.running -= 1


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_results_come_in_the_order_of_the_items(
    each_bridge: syncline.Bridge, inside: Inside, limit: int
) -> None:
    """Whichever call ends first, and never more than `limit` run."""
    calls = Calls()
    results = inside(lambda: list(each_bridge.map(calls.double, range(50), limit=limit)))
    assert results == list(range(0, 100, 2))
    assert calls.most <= limit


def test_as_many_run_as_may(each_bridge: syncline.Bridge) -> None:
    """Five calls wait until there are five of them."""
    calls = Calls(lambda _: 3)
    assert len(list(each_bridge.map(calls.double, range(50), limit=5))) == 50
    assert calls.most == 5


def test_without_order_a_result_comes_when_it_is_there(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """The first call ends when the results of all others have come."""

    def body() -> None:
        made: list[Any] = []

        async def call(item: int) -> int:
            if item == 0:
                made.append(new_event())
                await made[0].wait()
            return item

        async def let_go() -> None:
            made[0].set()

        results = each_bridge.map(call, range(10), ordered=False)
        assert sorted(next(results) for _ in range(9)) == list(range(1, 10))
        each_bridge.run_sync(let_go)
        assert list(results) == [0]

    inside(body)


def test_an_endless_source_is_fetched_as_results_are_taken(
    each_bridge: syncline.Bridge, inside: Inside
) -> None:
    """At most twice the limit is between source and consumer, at every moment (the source itself compares)."""
    taken = 0
    most_ahead = 0

    def endless() -> Iterator[int]:
        nonlocal most_ahead
        for item in itertools.count():
            most_ahead = max(most_ahead, item + 1 - taken)
            yield item

    def body() -> None:
        nonlocal taken
        with each_bridge.map(Calls().double, endless(), limit=5) as results:
            for result in results:
                assert result == 2 * taken
                taken += 1
                if taken == 300:
                    break

    inside(body)
    assert taken == 300
    assert 5 <= most_ahead <= 11  # the one just asked for counts


def test_nothing_begins_before_the_first_result_is_asked_for(each_bridge: syncline.Bridge) -> None:
    """As with the builtin map."""
    calls = Calls()
    results = each_bridge.map(calls.double, [1, 2])
    assert not calls.begun
    assert next(results) == 2
    results.close()


def test_several_iterables_end_with_the_shortest(each_bridge: syncline.Bridge) -> None:
    """Each gives the function an argument."""

    async def add(one: int, other: int) -> int:
        await turn()
        return one + other

    assert list(each_bridge.map(add, itertools.count(), [10, 20, 30])) == [10, 21, 32]


def test_results_come_with_their_input(each_bridge: syncline.Bridge) -> None:
    """The item, or a tuple of all that the function was given."""
    calls = Calls()
    pairs = list(each_bridge.map(calls.double, [3, 1, 2], with_input=True))
    assert pairs == [(3, 6), (1, 2), (2, 4)]

    async def add(one: int, other: int) -> int:
        return one + other

    assert list(each_bridge.map(add, [1, 2], [3, 4], with_input=True)) == [((1, 3), 4), ((2, 4), 6)]


@pytest.mark.parametrize("is_async", [False, True])
def test_an_empty_source_gives_nothing(each_bridge: syncline.Bridge, is_async: bool) -> None:
    """Neither a sync one nor an async one."""

    async def nothing() -> AsyncIterator[int]:
        for item in ():
            yield item

    assert list(each_bridge.map(Calls().double, nothing() if is_async else [])) == []


def test_any_awaitable_will_do(each_bridge: syncline.Bridge) -> None:
    """What the function returns need not be a coroutine."""

    class Answer:
        def __init__(self, item: int) -> None:
            self.item = item

        def __await__(self) -> Any:
            yield from turn().__await__()
            return self.item

    assert list(each_bridge.map(Answer, range(5))) == list(range(5))  # type: ignore[arg-type]


def test_each_call_is_a_task_of_its_own(each_bridge: syncline.Bridge) -> None:
    """So that timeouts and cancel scopes in one are no other's business, whether it suspends or not."""

    async def task(turns: int) -> Any:
        before = this_task()
        for _ in range(turns):
            await turn()
        assert this_task() is before
        return before

    for turns in (0, 1):
        assert len(set(each_bridge.map(task, [turns] * 20))) == 20


def test_calls_see_the_callers_context_and_keep_their_changes(each_bridge: syncline.Bridge) -> None:
    """Each has a copy of it."""
    variable: ContextVar[int] = ContextVar("variable")

    async def call(item: int) -> int:
        before = variable.get()
        variable.set(item)
        await turn()
        assert variable.get() == item
        return before

    token = variable.set(42)
    assert list(each_bridge.map(call, range(10))) == [42] * 10
    assert variable.get() == 42
    variable.reset(token)


def test_sync_code_in_a_call_can_call_the_bridge_again(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Nested calls await in place: while one waits, the others go on."""
    bridge = make_bridge()
    arrived: list[int] = []
    event: list[Any] = []

    async def wait_for_all(item: int) -> int:
        if not event:
            event.append(new_event())
        arrived.append(item)
        if len(arrived) == 10:
            event[0].set()
        await event[0].wait()
        return item

    async def call(item: int) -> int:
        return bridge.run_sync(wait_for_all, item)

    assert list(bridge.map(call, range(10))) == list(range(10))


# Where items come from


def test_a_sync_source_is_advanced_in_the_calling_thread(each_bridge: syncline.Bridge) -> None:
    """So it may be a cursor that knows its thread; and it may call the bridge."""
    threads = set()

    def source() -> Iterator[int]:
        for item in range(30):
            threads.add(threading.get_ident())
            yield each_bridge.run_sync(sleep, 0, item)

    assert list(each_bridge.map(Calls().double, source(), limit=4)) == list(range(0, 60, 2))
    assert threads == {threading.get_ident()}


def test_calls_begin_while_a_slow_source_is_asked_for_more(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """The source gives its third item only when the first two have been called."""
    begun = threading.Semaphore(0)

    async def call(item: int) -> int:
        begun.release()
        return item

    def source() -> Iterator[int]:
        yield 0
        threading.Event().wait(0.005)  # a slow one
        yield 1
        threading.Event().wait(0.005)
        for _ in range(2):
            assert begun.acquire(timeout=10)
        yield 2

    assert list(make_bridge().map(call, source())) == [0, 1, 2]


def test_an_async_source_is_advanced_on_the_loop(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """In one task; ahead of the consumer, but not further than twice the limit."""
    tasks = set()
    taken, most_ahead = 0, 0
    closed = []

    async def source() -> AsyncIterator[int]:
        nonlocal most_ahead
        try:
            for item in itertools.count():
                tasks.add(this_task())
                most_ahead = max(most_ahead, item + 1 - taken)
                yield item
                if item % 7 == 0:
                    await turn()
        finally:
            closed.append(this_task() in tasks)

    def body() -> None:
        nonlocal taken
        with each_bridge.map(Calls().double, source(), limit=5) as results:
            for result in itertools.islice(results, 200):
                assert result == 2 * taken
                taken += 1

    inside(body)
    assert taken == 200
    assert len(tasks) == 1
    assert closed == [True]
    assert 5 <= most_ahead <= 11


def test_results_of_an_async_source_do_not_wait_for_its_next_item(each_bridge: syncline.Bridge) -> None:
    """The source never gives a third one."""

    async def source() -> AsyncIterator[int]:
        yield 1
        yield 2
        await sleep_forever()

    with each_bridge.map(Calls().double, source()) as results:
        assert [next(results), next(results)] == [2, 4]


def test_what_iterate_returns_is_a_source(each_bridge: syncline.Bridge) -> None:
    """It is iterated over in the calling thread, as it may belong to another bridge."""

    async def source() -> AsyncIterator[int]:
        for item in range(20):
            yield item

    with syncline.Bridge() as other:
        results = each_bridge.map(Calls().double, other.iterate(source()))
        assert list(results) == list(range(0, 40, 2))


def test_a_map_is_a_source(each_bridge: syncline.Bridge) -> None:
    """So they can be chained."""
    calls = Calls()
    inner = each_bridge.map(calls.double, range(50), limit=3)
    assert list(each_bridge.map(calls.double, inner, limit=4)) == list(range(0, 200, 4))
