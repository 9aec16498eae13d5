"""iterate(..., prefetch=n): up to n items are fetched while the consumer is busy, and never one more."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest

import syncline
from child import eventually
from neutral import CANCELLED, cleanup, sleep, sleep_forever, this_task, turn

Inside = Callable[[Callable[[], Any]], Any]


class Source:
    """An async generator that writes down what it was asked for."""

    def __init__(self, stop: int = 1000, fail_at: int | None = None) -> None:
        self.stop = stop
        self.fail_at = fail_at
        self.made: list[int] = []
        self.closed = False

    async def items(self) -> AsyncIterator[int]:
        task = this_task()
        try:
            for number in range(self.stop):
                if number == self.fail_at:
                    raise ValueError("mine")
                self.made.append(number)
                yield number
                await turn()
        finally:
            await cleanup()
            self.closed = this_task() is task

    def reaches(self, bridge: syncline.Bridge, count: int) -> bool:
        """Whether the source makes `count` items, given time, and then stands still."""

        def turned() -> bool:
            bridge.run_sync(sleep, 0)
            return len(self.made) >= count

        reached = eventually(turned)
        for _ in range(20):
            bridge.run_sync(sleep, 0)
        return reached and len(self.made) == count


@pytest.mark.parametrize("prefetch", [0, 1, 2, 7, 10_000])
def test_all_items_come_in_order(each_bridge: syncline.Bridge, inside: Inside, prefetch: int) -> None:
    """Whatever the size of the buffer: smaller than the source, or larger."""
    source = Source(100)
    assert inside(lambda: list(each_bridge.iterate(source.items(), prefetch=prefetch))) == list(range(100))
    assert source.closed


@pytest.mark.parametrize("prefetch", [1, 2, 5])
def test_exactly_so_many_are_fetched_ahead(
    each_bridge: syncline.Bridge, inside: Inside, prefetch: int
) -> None:
    """The producer fills the buffer, waits while it is full, and goes on when an item is taken (case 37)."""
    source = Source()

    def body() -> None:
        with contextlib.closing(each_bridge.iterate(source.items(), prefetch=prefetch)) as it:
            for taken in range(1, 5):
                assert next(it) == taken - 1
                ahead = prefetch if runs_ahead(each_bridge) else 0
                assert source.reaches(each_bridge, taken + ahead), source.made

    inside(body)


def runs_ahead(bridge: syncline.Bridge) -> bool:
    """Not where the consumer's own thread makes the steps: on a loop that it drives, or in the task that it is in."""

    async def thread() -> int:
        return threading.get_ident()

    return bridge.run_sync(thread) != threading.get_ident()


@pytest.mark.parametrize("prefetch", [17, 64])
def test_a_large_buffer_is_filled_again_when_half_of_it_is_taken(prefetch: int) -> None:
    """Waking the producer for each item would cost more than fetching it."""
    source = Source()
    with (
        syncline.Bridge() as bridge,
        contextlib.closing(bridge.iterate(source.items(), prefetch=prefetch)) as it,
    ):

        def turned() -> None:
            for _ in range(20):
                bridge.run_sync(sleep, 0)

        assert next(it) == 0
        assert eventually(lambda: len(source.made) >= prefetch)
        turned()
        full = len(source.made)
        # The first item may have been taken before the others were made, or after.
        assert full in (prefetch, prefetch + 1)
        next(it)
        turned()
        assert len(source.made) == full
        taken = 2 + len([next(it) for _ in range(prefetch // 2)])
        assert eventually(lambda: len(source.made) > full)
        turned()
        assert len(source.made) <= taken + prefetch


def test_at_no_moment_more_are_ahead(each_bridge: syncline.Bridge) -> None:
    """The source itself compares what it made with what was taken, at each item."""
    taken = 0
    ahead: list[int] = []

    async def items() -> AsyncIterator[int]:
        for number in range(200):
            # An item that is being handed over is not yet counted as taken: hence one more.
            ahead.append(number + 1 - taken)
            yield number

    for number in each_bridge.iterate(items(), prefetch=3):
        assert number == taken
        taken += 1
    assert taken == 200
    assert max(ahead) <= 3 + 1


def test_the_producer_works_while_the_consumer_does() -> None:
    """In scope "process" the next items are made with no step in flight."""
    enough = threading.Event()

    async def items() -> AsyncIterator[int]:
        for number in range(10):
            if number == 3:
                enough.set()
            yield number

    with contextlib.closing(syncline.iterate(items(), prefetch=3)) as it:
        assert next(it) == 0
        # Interleaving: this thread only waits here, for what the producer does by itself.
        assert enough.wait(20)


def test_an_error_arrives_after_the_items_before_it(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Though the producer met it long before; then the iterator is finished (case 35)."""
    source = Source(fail_at=3)

    def body() -> list[int]:
        it = each_bridge.iterate(source.items(), prefetch=10)
        items = [next(it)]
        assert source.reaches(each_bridge, 3 if runs_ahead(each_bridge) else 1)
        items += [next(it), next(it)]
        with pytest.raises(ValueError, match=r"^mine$"):
            next(it)
        return [*items, *it]

    assert inside(body) == [0, 1, 2]


@pytest.mark.parametrize("prefetch", [1, 50])
@pytest.mark.parametrize("leave", ["break", "close", "drop"])
def test_leaving_early_closes_the_source(
    each_bridge: syncline.Bridge, inside: Inside, prefetch: int, leave: str
) -> None:
    """In the task that ran it, with items still in the buffer or being made (case 36)."""
    source = Source()

    def body() -> bool:
        if leave == "break":
            for _ in each_bridge.iterate(source.items(), prefetch=prefetch):
                break
            return source.closed
        it = each_bridge.iterate(source.items(), prefetch=prefetch)
        assert next(it) == 0
        if leave == "close":
            it.close()
            assert list(it) == []
        del it
        return source.closed

    assert inside(body)


def test_leaving_early_does_not_wait_for_an_item_that_never_comes(each_bridge: syncline.Bridge) -> None:
    """The producer is cancelled in the middle of the next one, and cleans up."""
    log: list[str] = []

    async def items() -> AsyncIterator[int]:
        yield 1
        try:
            await sleep_forever()
        except CANCELLED:
            log.append("cancelled")
            raise
        finally:
            await cleanup()
            log.append("cleaned up")

    it = each_bridge.iterate(items(), prefetch=1)
    assert next(it) == 1
    for _ in range(20):
        each_bridge.run_sync(sleep, 0)  # into the wait
    it.close()
    assert log == (["cancelled", "cleaned up"] if runs_ahead(each_bridge) else [])


def test_the_class_takes_it_too() -> None:
    """DualIterator(async_iterable, prefetch=n)."""
    assert list(syncline.DualIterator(Source(10).items(), prefetch=3)) == list(range(10))


@pytest.mark.parametrize(
    ("prefetch", "error"), [(-1, ValueError), (1.5, TypeError), ("2", TypeError), (None, TypeError)]
)
def test_a_wrong_prefetch_is_named(prefetch: Any, error: type[Exception]) -> None:
    """Whole numbers from 0; said where it is given, before anything runs."""
    source = Source()
    with pytest.raises(error, match="prefetch"):
        syncline.iterate(source.items(), prefetch=prefetch)
    with pytest.raises(error, match="prefetch"):
        syncline.DualIterator(source.items(), prefetch=prefetch)


def test_a_hundred_thousand_items_in_batches_cost_a_tenth_of_a_hop_each() -> None:
    """What is fetched ahead is taken without a hop: at least ten times cheaper than one call of
    run_coroutine_threadsafe for each item (case 42), in time of processors, which others on the machine don't take."""

    async def numbers(stop: int) -> AsyncIterator[int]:
        for number in range(stop):
            yield number

    def seconds_an_item(items: Iterable[int], stop: int) -> float:
        start = time.process_time()
        assert sum(items) == stop * (stop - 1) // 2
        return (time.process_time() - start) / stop

    def one_by_one(stop: int) -> Iterator[int]:
        source = numbers(stop)
        for _ in range(stop):
            yield asyncio.run_coroutine_threadsafe(anext(source), loop).result()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        # The fastest of some: others on the machine only make it slower.
        theirs = min(seconds_an_item(one_by_one(500), 500) for _ in range(4))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    ours = min(seconds_an_item(syncline.iterate(numbers(25_000), prefetch=64), 25_000) for _ in range(4))
    assert ours < theirs / 10
