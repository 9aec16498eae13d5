"""amap: many calls at once from async code, on asyncio, uvloop, our own loops and trio; and what is wrong with either's
arguments."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import pytest

import syncline
from neutral import CANCELLED, cleanup, sleep_forever, soon, this_loop, turn

Anywhere = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]


async def double(item: int) -> int:
    for _ in range(item % 3):
        await turn()
    return 2 * item


async def numbers(stop: int) -> AsyncIterator[int]:
    for item in range(stop):
        yield item
        await turn()


def test_results_come_in_order_or_as_they_are_there(anywhere: Anywhere) -> None:
    """Of sync sources and of async ones."""

    async def main() -> None:
        for source in (lambda: range(50), lambda: numbers(50)):
            assert [result async for result in syncline.amap(double, source(), limit=7)] == list(
                range(0, 100, 2)
            )
            results = [result async for result in syncline.amap(double, source(), ordered=False)]
            assert sorted(results) == list(range(0, 100, 2))

    anywhere(main)


def test_several_sources_and_the_input(anywhere: Anywhere) -> None:
    """As with map."""

    async def add(one: int, other: int) -> int:
        return one + other

    async def main() -> None:
        results = syncline.amap(add, itertools.count(), [5, 6], with_input=True)
        assert [result async for result in results] == [((0, 5), 5), ((1, 6), 7)]

    anywhere(main)


def test_an_error_cancels_the_others_and_comes_in_its_place(anywhere: Anywhere) -> None:
    """They have cleaned up by then."""
    cleaned = 0

    async def call(item: int) -> int:
        nonlocal cleaned
        if item < 3:
            return item
        if item == 3:
            await turn()
            raise ValueError(item)
        try:
            await sleep_forever()
        finally:
            await cleanup()
            cleaned += 1
        return item

    async def main() -> None:
        got = []

        async def take() -> None:
            async for result in syncline.amap(call, itertools.count(), limit=10):
                got.append(result)

        with pytest.raises(ValueError, match="3"):
            await take()
        assert got == [0, 1, 2]
        assert cleaned >= 8

    anywhere(main)


def test_closing_it_cancels_what_runs(anywhere: Anywhere) -> None:
    """With aclosing, when the block is left."""
    begun = cleaned = 0

    async def call(item: int) -> int:
        nonlocal begun, cleaned
        begun += 1
        try:
            if item:
                await sleep_forever()
            return item
        except CANCELLED:
            await cleanup()
            cleaned += 1
            raise

    async def main() -> None:
        async with aclosing(syncline.amap(call, itertools.count(), limit=10)) as results:
            async for result in results:
                assert result == 0
                break
        assert cleaned == begun - 1 >= 9

    anywhere(main)


def test_cancelling_the_consumer_cancels_the_calls(anywhere: Anywhere) -> None:
    """Whoever waits for a result has it all cleaned up before it goes on."""
    anyio = pytest.importorskip("anyio")
    cleaned = 0

    async def call(item: int) -> None:
        nonlocal cleaned
        try:
            await sleep_forever()
        finally:
            await cleanup()
            cleaned += 1

    async def main() -> None:
        with anyio.move_on_after(0.02) as scope:
            async for _ in syncline.amap(call, range(5)):
                pass
        assert scope.cancelled_caught
        assert cleaned == 5

    anywhere(main)


def test_each_call_has_its_own_time(anywhere: Anywhere) -> None:
    """Seconds for each, not for all."""

    async def call(item: int) -> int:
        if item == 1:
            await sleep_forever()
        return item

    async def main() -> None:
        results = syncline.amap(call, range(3), limit=1, timeout=0.02, return_exceptions=True)
        first, second, third = [result async for result in results]
        assert (first, third) == (0, 2)
        assert isinstance(second, TimeoutError)

    anywhere(main)


def test_other_tasks_have_their_turn(anywhere: Anywhere) -> None:
    """Also while no call suspends."""

    async def at_once(item: int) -> int:
        return item

    async def main() -> None:
        turns = []
        async with aclosing(syncline.amap(at_once, itertools.count(), limit=100)) as results:
            async for result in results:
                if result == 0:
                    soon(lambda: turns.append(None))
                if result == 1000:
                    break
        assert turns

    anywhere(main)


def test_a_bridge_of_ones_own_makes_the_calls_on_its_loop(
    anywhere: Anywhere, each_bridge: syncline.Bridge
) -> None:
    """The module's amap makes them on the loop that runs."""

    async def where(_: int) -> int:
        await turn()
        return this_loop()

    async def where_it_is() -> int:
        return this_loop()

    async def main() -> None:
        home = await each_bridge.run_async(where_it_is)
        assert {loop async for loop in each_bridge.amap(where, range(5))} == {home}
        assert {loop async for loop in syncline.amap(where, range(5))} == {this_loop()}

    anywhere(main)


def test_mistakes_are_named_before_anything_begins() -> None:
    """By map and by amap."""
    for map_ in (syncline.map, syncline.amap):
        who = map_.__name__
        call: Any = map_
        for message, error, args, options in (
            ("takes an async function", TypeError, ([1],), {}),
            ("got a coroutine; give it the async function: " + who, TypeError, (double(1), [1]), {}),
            ("needs items to call 'double' with", TypeError, (double,), {}),
            ("not int", TypeError, (double, 3), {}),
            ("not function; call it", TypeError, (double, numbers), {}),
            ("limit of", ValueError, (double, [1]), {"limit": 0}),
            ("limit of", TypeError, (double, [1]), {"limit": 1.5}),
            ("timeout of", ValueError, (double, [1]), {"timeout": -1}),
            ("timeout of", TypeError, (double, [1]), {"timeout": "1"}),
            ("without|no executor", TypeError, (double, [1]), {"chunk": 3}),
            ("progress of", TypeError, (double, [1]), {"progress": 3}),
        ):
            with pytest.raises(error, match=rf"{message}") as raised:  # noqa: PT012 -- amap's progress comes later
                made = call(*args, **options)
                if who == "amap":
                    syncline.run_sync(made.__anext__)
            assert f"{who}()" in str(raised.value)
            for arg in args:
                if hasattr(arg, "close"):
                    arg.close()


def test_several_async_sources_are_refused(anywhere: Anywhere) -> None:
    """Which to advance first would be a guess; the message says what to do."""
    with pytest.raises(TypeError, match="several iterables or a single async one"):
        syncline.map(double, numbers(3), [1])
    with pytest.raises(TypeError, match="several iterables or a single async one"):
        syncline.amap(double, numbers(3), numbers(3))


def test_a_sync_function_is_named_at_its_first_call() -> None:
    """It is called once, and not with every item."""
    called = []

    def load(item: int) -> int:
        called.append(item)
        return item

    wrong: Any = load
    with pytest.raises(TypeError, match=r"map\(\) got the sync function 'load'.*threaded\(load\)"):
        list(syncline.map(wrong, range(10)))
    assert called == [0]
    assert list(syncline.map(syncline.threaded(load), range(10))) == list(range(10))
    decorated: Any = syncline.synced(double)
    with pytest.raises(TypeError, match=r"use map\(double\.aio, \.\.\.\)"):
        list(syncline.map(decorated, range(10)))


def test_what_makes_no_coroutine_fails_as_a_call_does() -> None:
    """Such as a function with other parameters."""
    wrong: Any = double
    with pytest.raises(TypeError, match="positional argument"):
        list(syncline.map(wrong, [1], [2]))


def test_an_async_source_may_end_before_anything_is_awaited(anywhere: Anywhere) -> None:
    """Its `__anext__` is a plain function, which raises itself."""

    class Source:
        def __init__(self) -> None:
            self.left = [1, 2]

        def __aiter__(self) -> Source:
            return self

        def __anext__(self) -> Coroutine[Any, Any, int]:
            if not self.left:
                raise StopAsyncIteration
            return double(self.left.pop())

    async def main() -> None:
        assert [result async for result in syncline.amap(double, Source())] == [8, 4]

    anywhere(main)
