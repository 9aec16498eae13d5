"""map: how it ends, by an error, a break, a timeout, the end of its loop; what runs has cleaned up by then."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import syncline
from child import eventually
from neutral import CANCELLED, cleanup, make_bridge_of, new_event, sleep_forever, turn

Inside = Callable[[Callable[[], Any]], Any]


class Sleepers:
    """Calls that never end, but are cancelled and clean up. Those that `fails` names raise their item's error."""

    def __init__(self, fails: tuple[int, ...] = (), ends: tuple[int, ...] = ()) -> None:
        self.fails = fails
        self.ends = ends
        self.begun = 0
        self.cleaned = 0

    async def call(self, item: int) -> int:
        self.begun += 1
        try:
            await turn()
            if item in self.fails:
                raise ValueError(item)
            if item in self.ends:
                return item
            await sleep_forever()
        except CANCELLED:
            await cleanup()
            self.cleaned += 1
            raise
        raise AssertionError


def test_an_error_comes_after_the_results_before_it(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """Items 0 to 2 end after item 3 has failed; those after it are cancelled, and have cleaned up when it is raised."""

    def body() -> None:
        sleepers = Sleepers(fails=(3,))
        failed: list[Any] = []

        async def call(item: int) -> int:
            if not failed:
                failed.append(new_event())
            if item < 3:
                await failed[0].wait()
                return item
            if item == 3:
                failed[0].set()
            return await sleepers.call(item)

        results = each_bridge.map(call, range(1000), limit=10)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(ValueError, match=r"^3$"):
            next(results)
        assert sleepers.cleaned == sleepers.begun - 1
        assert list(results) == []

    inside(body)


def test_of_two_errors_the_first_items_counts(each_bridge: syncline.Bridge) -> None:
    """Also if it comes later."""
    failed: list[Any] = []

    async def call(item: int) -> int:
        if not failed:
            failed.append(new_event())
        if item == 0:
            await failed[0].wait()
        else:
            await turn()
            failed[0].set()
        raise ValueError(item)

    with pytest.raises(ValueError, match=r"^0$"):
        list(each_bridge.map(call, range(2)))


def test_without_order_an_error_cancels_all(each_bridge: syncline.Bridge) -> None:
    """Results that were there come first."""
    sleepers = Sleepers(fails=(5,), ends=(1,))
    got: list[int] = []
    with pytest.raises(ValueError, match="5"):
        got.extend(each_bridge.map(sleepers.call, range(100), limit=10, ordered=False))
    assert got == [1]
    assert sleepers.begun <= 11
    assert sleepers.cleaned == sleepers.begun - 2


def test_an_error_is_the_same_object_and_leaves_no_ring(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Nothing that a failed map held is left to the garbage collector."""

    class MineError(Exception):
        pass

    mine = MineError()

    class Item:
        pass

    async def fail(_: Item) -> None:
        await turn()
        raise mine

    item = Item()
    gone = weakref.ref(item)
    gc.collect()
    gc.disable()
    try:
        with pytest.raises(MineError) as raised:
            list(make_bridge().map(fail, [item]))
        assert raised.value is mine
        del item, raised
        mine.__traceback__ = None
        assert gone() is None
    finally:
        gc.enable()


def test_errors_are_results_if_asked_for(each_bridge: syncline.Bridge) -> None:
    """In their places; the others go on."""

    async def call(item: int) -> int:
        if item % 2:
            await turn()
        if item in (3, 4):
            raise ValueError(item)
        return item

    results = list(each_bridge.map(call, range(8), return_exceptions=True, with_input=True))
    assert [item for item, _ in results] == list(range(8))
    assert [str(result) for _, result in results] == list("01234567")
    assert [item for item, result in results if isinstance(result, ValueError)] == [3, 4]


@pytest.mark.parametrize("suspends", [False, True])
def test_what_ends_the_program_is_no_result(
    each_bridge: syncline.Bridge, suspends: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """SystemExit reaches the caller, and the loop lives on; out of a first step that was made at once, from Python
    3.12 on, it is not reported as unseen, too."""

    async def call(item: int) -> int:
        if suspends:
            await turn()
        if item == 2:
            raise SystemExit(3)
        return item

    with pytest.raises(SystemExit):
        list(each_bridge.map(call, range(5), return_exceptions=True))
    assert list(each_bridge.map(call, range(2))) == [0, 1]
    assert suspends or sys.version_info < (3, 12) or caplog.records == []


@pytest.mark.parametrize("way", ["break", "close", "with", "drop"])
def test_leaving_early_cancels_and_waits_for_cleanup(
    each_bridge: syncline.Bridge, inside: Inside, way: str
) -> None:
    """However it is left."""

    def body() -> None:
        sleepers = Sleepers(ends=(0, 1))

        def use() -> None:
            results = each_bridge.map(sleepers.call, range(100), limit=10)
            if way == "with":
                with results:
                    assert next(results) == 0
                return
            for result in results:
                if result == 1:
                    break
            if way == "close":
                results.close()
                results.close()
                assert list(results) == []

        use()
        assert sleepers.begun >= 10
        assert sleepers.cleaned == sleepers.begun - 2

    inside(body)


def test_an_error_in_the_loops_body_ends_it_too(each_bridge: syncline.Bridge) -> None:
    """As soon as the `for` is left, even while the error is being handled."""
    sleepers = Sleepers(ends=(0,))
    with contextlib.suppress(KeyError):
        for _ in each_bridge.map(sleepers.call, range(20), limit=5):
            raise KeyError
    assert sleepers.cleaned == sleepers.begun - 1 > 0


def test_each_call_has_its_own_time(each_bridge: syncline.Bridge) -> None:
    """Three take too long one after the other, and no call of the others does."""

    async def call(item: int) -> int:
        if item % 3 == 0:
            await sleep_forever()
        return item

    results = list(each_bridge.map(call, range(9), limit=1, timeout=0.02, return_exceptions=True))
    assert [result for result in results if not isinstance(result, TimeoutError)] == [1, 2, 4, 5, 7, 8]
    with pytest.raises(TimeoutError, match=r"within 0\.01 s"):
        list(each_bridge.map(call, range(9), timeout=0.01))


def test_the_error_of_a_source_comes_last(each_bridge: syncline.Bridge, inside: Inside) -> None:
    """After the results of all items that it gave."""

    async def call(item: int) -> int:
        await turn()
        return item

    def source() -> Iterator[int]:
        yield from range(5)
        raise ValueError("source")

    async def asource() -> AsyncIterator[int]:
        for item in range(5):
            yield item
        raise ValueError("source")

    for each in (source, asource):
        got: list[int] = []

        def body(each: Any = each, got: list[int] = got) -> None:
            with pytest.raises(ValueError, match="source"):
                got.extend(each_bridge.map(call, each(), limit=2))  # extend keeps what came before the error

        inside(body)
        assert got == list(range(5))


@pytest.mark.parametrize("way", ["end", "error", "break"])
def test_an_async_iterator_with_aclose_is_closed(each_bridge: syncline.Bridge, way: str) -> None:
    """Its cleanup is waited for, and not cancelled."""

    class Source:
        def __init__(self) -> None:
            self.given = 0
            self.closed = False

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            await turn()
            self.given += 1
            if self.given > 3:
                if way == "break":
                    await sleep_forever()
                raise ValueError("source") if way == "error" else StopAsyncIteration
            return self.given

        async def aclose(self) -> None:
            await cleanup()
            self.closed = True

    async def call(item: int) -> int:
        return item

    source = Source()
    got: list[int] = []
    with pytest.raises(ValueError, match="source") if way == "error" else contextlib.nullcontext():
        for result in each_bridge.map(call, source):
            got.append(result)
            if way == "break" and result == 3:
                break
    assert got == [1, 2, 3]
    assert source.closed


def test_a_source_that_can_not_be_closed_is_an_error(each_bridge: syncline.Bridge) -> None:
    """Though it has given all its items."""

    class Source:
        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            raise StopAsyncIteration

        async def aclose(self) -> None:
            await turn()
            raise OSError("mine")

    with pytest.raises(OSError, match="mine"):
        list(each_bridge.map(Sleepers().call, Source()))


def test_what_interrupts_a_source_ends_all_at_once(each_bridge: syncline.Bridge) -> None:
    """Such as Ctrl-C, while the source is asked for an item."""
    sleepers = Sleepers(ends=(0,))

    def source() -> Iterator[int]:
        yield 0
        yield 1
        if sleepers.begun:
            raise KeyboardInterrupt
        yield 2
        yield 3
        raise KeyboardInterrupt

    results = each_bridge.map(sleepers.call, source(), limit=2)
    assert next(results) == 0
    with pytest.raises(KeyboardInterrupt):
        next(results)
    assert sleepers.cleaned == sleepers.begun - 1 > 0


def test_closing_the_bridge_ends_it(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Between two results; the calls are cancelled, and clean up."""
    bridge = make_bridge()
    sleepers = Sleepers(ends=(0,))
    results = bridge.map(sleepers.call, range(20), limit=5)
    assert next(results) == 0
    bridge.close()
    with pytest.raises(syncline.RunnerClosedError):
        next(results)
    assert sleepers.cleaned == sleepers.begun - 1 > 0


def test_a_dropped_map_leaves_nothing(
    leaks_nothing: None, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """Neither its items nor its calls; also if it was never begun."""

    class Item:
        pass

    async def call(_: Item) -> None:
        await sleep_forever()

    bridge = make_bridge()
    items = [Item() for _ in range(5)]
    gone = [weakref.ref(item) for item in items]
    results = bridge.map(call, items, limit=2, timeout=10)
    bridge.map(call, items)
    ended = bridge.map(call, iter(items), limit=3)
    with contextlib.suppress(TimeoutError):
        bridge.map(call, items, timeout=0).__next__()
    ended.close()
    del items, results, ended

    def is_gone() -> bool:
        gc.collect()
        return all(ref() is None for ref in gone)

    assert eventually(is_gone)


def test_a_cleanup_that_fails_is_logged(
    make_bridge: Callable[..., syncline.Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody else would hear of it."""

    async def call(item: int) -> int:
        if item == 0:
            return item
        try:
            await asyncio.Event().wait()
        finally:
            raise OSError("cleanup")

    for _ in make_bridge().map(call, range(2), limit=2):
        break
    assert "a call of map() failed when it was cancelled" in caplog.text
    assert "OSError: cleanup" in caplog.text


@pytest.mark.parametrize("form", ["map", "amap"])
@pytest.mark.parametrize("kind", ["process", "thread", "caller", "uvloop"])
def test_a_cancellation_of_the_sources_own_ends_the_map(form: str, kind: str) -> None:
    """A source that awaits a task which somebody has cancelled: its consumer waited for ever, as the cancellation was
    taken for that of the map."""

    async def items() -> AsyncIterator[int]:
        yield 1
        lost = asyncio.ensure_future(sleep_forever())
        await turn()
        lost.cancel()
        await lost

    async def same(item: int) -> int:
        await turn()
        return item

    found: list[int] = []

    async def consume() -> None:
        async for item in bridge.amap(same, items()):
            found.append(item)

    with make_bridge_of(kind) as bridge:
        with pytest.raises(asyncio.CancelledError):
            bridge.run_sync(consume) if form == "amap" else found.extend(bridge.map(same, items()))
        assert found == [1]
        assert list(bridge.map(same, [2])) == [2]


def test_what_pulls_the_source_may_be_cancelled_by_the_program() -> None:
    """As by code that cancels all tasks of its loop."""

    async def items() -> AsyncIterator[int]:
        yield 1
        await sleep_forever()

    async def cancels(item: int) -> int:
        here = asyncio.current_task()
        await turn()
        for task in asyncio.all_tasks():
            if task is not here and "_pull" in repr(task):
                task.cancel()
        return item

    with syncline.Bridge() as bridge, pytest.raises(asyncio.CancelledError):
        list(bridge.map(cancels, items()))
