"""iterator and iterate: `for` over what is asynchronous, and nothing left open by leaving early."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import syncline
from neutral import cleanup, sleep, this_task, turn

Inside = Callable[[Callable[[], Any]], Any]
RunAsync = Callable[[Callable[[], Any]], Any]


class Numbers:
    """An async generator function that writes down what it does."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    async def count(self, stop: int = 10) -> AsyncIterator[int]:
        task = this_task()
        try:
            for number in range(stop):
                await turn()
                self.log.append(number)
                yield number
        finally:
            await cleanup()
            self.log.append("closed" if this_task() is task else "closed in another task")


class Countdown:
    """An async iterator that is no generator; it goes on after an error."""

    def __init__(self, start: int, fail_at: int | None = None) -> None:
        self.left = start
        self.fail_at = fail_at

    def __aiter__(self) -> Countdown:
        return self

    async def __anext__(self) -> int:
        await turn()
        self.left -= 1
        if self.left == self.fail_at:
            raise ValueError("mine")
        if self.left < 0:
            raise StopAsyncIteration
        return self.left


class Many:
    """An async iterable that is no iterator: each loop over it starts anew."""

    def __aiter__(self) -> Countdown:
        return Countdown(3)


def test_it_is_iterated_in_sync_code(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """From plain code, inside running loops, and inside a coroutine on the bridge's own loop (cases 1, 43)."""
    numbers = Numbers()
    assert inside(lambda: list(each_bridge.iterator(numbers.count)(3))) == [0, 1, 2]
    assert numbers.log == [0, 1, 2, "closed"]


def test_it_is_iterated_in_async_code(run_async: RunAsync) -> None:
    """`async for`, in the task that does it (case 43)."""
    tasks = []

    @syncline.iterator
    async def count() -> AsyncIterator[int]:
        for number in range(3):
            tasks.append(this_task())
            yield number

    async def main() -> list[int]:
        result = [number async for number in count()]
        assert set(tasks) == {this_task()}
        return result

    assert run_async(main) == [0, 1, 2]


def test_a_function_may_return_any_async_iterator(each_bridge: syncline.Bridge) -> None:
    """Not only an async generator."""
    dual = each_bridge.iterator(Countdown)
    assert list(dual(3)) == [2, 1, 0]

    async def main() -> list[int]:
        return [number async for number in dual(3)]

    assert asyncio.run(main()) == [2, 1, 0]


def test_iterate_takes_what_nobody_decorated(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Async generators, iterators, and iterables that are no iterators."""
    numbers = Numbers()

    def body() -> list[list[int]]:
        return [
            list(each_bridge.iterate(source)) for source in (numbers.count(2), Countdown(2), Many(), Many())
        ]

    assert inside(body) == [[0, 1], [1, 0], [2, 1, 0], [2, 1, 0]]


@pytest.mark.parametrize("prefetch", [0, 3])
def test_what_iterates_over_nothing_is_refused_as_by_async_for(
    each_bridge: syncline.Bridge, run_async: RunAsync, prefetch: int
) -> None:
    class Wrong:
        def __aiter__(self) -> Any:
            return [1, 2]

    async def in_async_code() -> None:
        async for _ in each_bridge.iterate(Wrong(), prefetch=prefetch):
            pass

    for made in (
        lambda: list(each_bridge.iterate(Wrong(), prefetch=prefetch)),
        lambda: run_async(in_async_code),
    ):
        with pytest.raises(TypeError, match="__anext__"):
            made()


def test_a_finished_one_stays_finished(each_bridge: syncline.Bridge) -> None:
    """`next` raises StopIteration again and again, as a generator does; `for` ends at once."""
    it = each_bridge.iterate(Countdown(1))
    assert iter(it) is it
    assert next(it) == 0
    for _ in range(2):
        with pytest.raises(StopIteration):
            next(it)
    assert list(it) == []
    assert next(it, "default") == "default"


def test_an_early_break_closes_it_at_once(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Its finally, with an await in it, has run in its own task when the loop is left (case 36)."""
    numbers = Numbers()

    def body() -> list[Any]:
        for number in each_bridge.iterator(numbers.count)():
            if number == 1:
                break
        return list(numbers.log)

    assert inside(body) == [0, 1, "closed"]


def test_an_error_in_the_loops_body_closes_it(each_bridge: syncline.Bridge) -> None:
    """As soon as nothing holds it any more; the error travels on."""
    numbers = Numbers()

    def body() -> None:
        for _ in each_bridge.iterator(numbers.count)():
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        body()
    assert numbers.log == [0, "closed"]


def test_dropping_it_closes_it_at_once(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """When the last reference goes, the finally has run (case 36)."""
    numbers = Numbers()

    def body() -> list[Any]:
        it = each_bridge.iterate(numbers.count())
        assert next(it) == 0
        del it
        return list(numbers.log)

    assert inside(body) == [0, "closed"]


def test_close_closes_it_at_once(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """A second close does nothing, and a closed one is finished."""
    numbers = Numbers()

    def body() -> list[Any]:
        it = each_bridge.iterate(numbers.count())
        assert next(it) == 0
        it.close()
        it.close()
        assert list(it) == []
        return list(numbers.log)

    assert inside(body) == [0, "closed"]


def test_closing_is_what_contextlib_does_with_it() -> None:
    """`contextlib.closing(iterate(...))` for code that wants to see where it ends."""
    numbers = Numbers()
    with contextlib.closing(syncline.iterate(numbers.count())) as it:
        assert next(it) == 0
    assert numbers.log == [0, "closed"]


def test_one_that_was_never_begun_runs_none_of_its_code(each_bridge: syncline.Bridge) -> None:
    """Neither by close() nor by being dropped, as with a generator."""
    numbers = Numbers()
    each_bridge.iterate(numbers.count()).close()
    each_bridge.iterator(numbers.count)()
    assert numbers.log == []


def test_an_error_in_its_cleanup_reaches_the_one_who_closes(each_bridge: syncline.Bridge) -> None:
    """The same object."""
    problem = ValueError("cleanup")

    async def count() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await cleanup()
            raise problem

    it = each_bridge.iterate(count())
    assert next(it) == 1
    with pytest.raises(ValueError, match="cleanup") as caught:
        it.close()
    assert caught.value is problem


def test_an_error_arrives_in_place_as_itself_and_ends_it(
    each_bridge: syncline.Bridge, inside: Inside
) -> None:
    """After the items before it, in no group (case 35); nothing comes after, even where the source goes on."""

    def body() -> list[int]:
        it = each_bridge.iterate(Countdown(4, fail_at=1))
        items = [next(it), next(it)]
        with pytest.raises(ValueError, match=r"^mine$"):
            next(it)
        return [*items, *it]

    assert inside(body) == [3, 2]


def test_nothing_is_fetched_ahead(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Each item is made when it is asked for, also while its loop has time to do more (case 37)."""
    numbers = Numbers()

    def body() -> list[list[Any]]:
        it = each_bridge.iterator(numbers.count)()
        seen = [list(numbers.log)]
        for _ in range(2):
            next(it)
            for _ in range(10):
                each_bridge.run_sync(sleep, 0)
            seen.append(list(numbers.log))
        it.close()
        return seen

    assert inside(body) == [[], [0], [0, 1]]


def test_two_of_them_take_turns(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Stepping one doesn't move the other; one may even be driven by the other's items."""

    def body() -> list[tuple[int, int]]:
        dual = each_bridge.iterator(Numbers().count)
        return [*zip(dual(3), dual(3), strict=True), *((a, b) for a in dual(2) for b in dual(2))]

    assert inside(body) == [(0, 0), (1, 1), (2, 2), (0, 0), (0, 1), (1, 0), (1, 1)]


def test_an_iterator_of_another_goes_down_through_both() -> None:
    """An async generator whose sync helper iterates over a dual one (case 3)."""

    def helper(levels: int) -> list[int]:
        return [*down(levels - 1)] if levels else []

    @syncline.iterator
    async def down(levels: int) -> AsyncIterator[int]:
        await turn()
        yield levels
        for number in helper(levels):
            yield number

    assert list(down(4)) == [4, 3, 2, 1, 0]


def test_a_subclass_defines_anext(each_bridge: syncline.Bridge, inside: Inside, run_async: RunAsync) -> None:
    """`for` and `async for` work; where it defines `__aiter__`, each of them begins with that."""

    class Twice(syncline.DualIterator[int]):
        bridge = each_bridge
        left = 2

        async def __anext__(self) -> int:
            await turn()
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    class Anew(syncline.DualIterator[int]):
        bridge = each_bridge

        def __aiter__(self) -> Any:
            return Countdown(2)

        async def __anext__(self) -> int:
            raise AssertionError("the iterator that __aiter__ returned is asked")

    async def main() -> list[list[int]]:
        return [[n async for n in Twice()], [n async for n in Anew()]]

    assert inside(lambda: [list(Twice()), list(Anew())]) == [[1, 0], [1, 0]]
    assert run_async(main) == [[1, 0], [1, 0]]


def test_an_item_that_raises_stop_iteration_gives_a_runtime_error(each_bridge: syncline.Bridge) -> None:
    """A StopIteration out of the async generator's body must not pass for its end, nor hang (case 40)."""

    @each_bridge.iterator
    async def items() -> AsyncIterator[int]:
        yield 1
        raise StopIteration("mine")

    it = items()
    assert next(it) == 1
    with pytest.raises(RuntimeError, match="StopIteration"):
        next(it)
    assert list(it) == []
