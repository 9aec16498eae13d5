"""`.aio`: the async side of a twin, for async code on any loop; its calls run where the object lives."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import anyio
import pytest

import syncline
from child import eventually
from twin_code import AsyncItem, AsyncShop, Shop, Ticker


def test_async_methods_are_awaited_on_whatever_loop(run_async: Callable[..., Any]) -> None:
    """They run on the object's loop; errors are the same."""
    shop = Shop("corner")

    async def main() -> None:
        aio = shop.aio
        assert await aio.number(1) == 2
        item = await aio.get(1, default=None)
        assert await item.double() == 2
        assert (await item.part()).parent == item
        assert await aio.add(item)
        assert await aio.add(shop.first())
        with pytest.raises(LookupError, match="no such thing"):
            await aio.fail()

    run_async(main)


def test_objects_that_come_out_are_async_sides_too(run_async: Callable[..., Any]) -> None:
    """Of the same twins, in containers as well."""
    shop = Shop("corner")

    async def main() -> list[Any]:
        aio = shop.aio
        items = await aio.items()
        assert items[0] == aio[0] == shop.first().aio
        assert hash(items[0]) == hash(aio[0])
        assert (await aio.by_number())[1] == items[1] != items[0]
        assert (await aio.pair())[1] == items[0]
        assert aio.best == items[2]
        return list(items)

    assert [type(item).__name__ for item in run_async(main)] == ["AsyncItem"] * 3


def test_iterators_and_managers_work_on_whatever_loop(run_async: Callable[..., Any]) -> None:
    """Their steps run on the object's loop."""
    shop = Shop("corner")

    async def main() -> None:
        aio = shop.aio
        assert [item.number async for item in aio.browse()] == [0, 1, 2]
        assert [item.number async for item in aio.stream()] == [0, 1, 2]
        assert [item.number async for item in aio] == [0, 1, 2]
        async with aio.basket(aio[0]) as basket:
            assert basket == [aio[0], aio[2]]
        async with aio as entered:
            assert entered == aio
            assert aio.is_open
        assert not aio.is_open
        steps = aio.echo()
        assert await anext(steps) is None
        assert await steps.asend(4) == 4
        await steps.aclose()
        ticker = Ticker(2).aio
        assert [number async for number in ticker] == [1, 0]
        assert await ticker == "waited"

    run_async(main)
    assert shop.log == ["left", "left", "basket left"]


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize("scope", ["process", "caller"])
def test_a_step_that_is_asked_for_as_the_loop_cancels_its_tasks_ends(scope: Any, is_first: bool) -> None:
    """The task that makes the steps is cancelled in the turn in which it is asked for one; or before it has begun."""

    async def main(shop: Any) -> None:
        steps = shop.aio.stream()
        if not is_first:
            assert (await anext(steps)).number == 0
        asked = asyncio.create_task(anext(steps))
        # After the first step of `asked`.
        asyncio.get_running_loop().call_soon(steps._task.end)
        with pytest.raises(RuntimeError, match="it was cancelled, or its loop has ended it"):
            await asked

    with syncline.Bridge(scope=scope, visible=True) as bridge:
        bridge.run_sync(main, bridge.blocking(AsyncShop)("corner"))


def test_everything_else_is_as_on_the_object(run_async: Callable[..., Any]) -> None:
    """Attributes, properties, sync methods, special methods."""
    shop = Shop("corner")

    async def main() -> None:
        aio = shop.aio
        assert (aio.name, aio.motto, aio.country, len(aio)) == ("corner", "corner!", "NL", 3)
        assert aio.touch()
        assert await aio.later(1) == await aio.unsaid(1) == 2
        assert await aio.total == 3
        assert await aio(2) == 20
        await aio.aclose()
        aio.name = "square"
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = aio.nothing

    run_async(main)
    assert shop.name == "square"


def test_it_looks_like_the_async_class() -> None:
    """To people and tools."""
    aio: Any = Shop("corner").aio
    assert (type(aio).__name__, type(aio).__doc__) == ("AsyncShop", AsyncShop.__doc__)
    assert repr(aio).startswith("<async side of <twin_code.Shop object at ")
    assert inspect.iscoroutinefunction(aio.number)
    assert aio.number.__doc__ == AsyncShop.number.__doc__
    assert "aclose" in dir(aio)


def test_a_cancelled_await_cancels_the_method() -> None:
    """It cleans up on its loop."""

    class Waits:
        def __init__(self) -> None:
            self.begun = asyncio.Event()
            self.ended = asyncio.Event()

        async def wait(self) -> None:
            try:
                self.begun.set()
                await asyncio.Event().wait()
            finally:
                self.ended.set()

        async def has_begun(self) -> None:
            await self.begun.wait()

        async def has_ended(self) -> bool:
            return await self.ended.wait()

    with syncline.Bridge() as bridge:
        waits = bridge.blocking(Waits)()

        async def main() -> None:
            task = asyncio.create_task(waits.aio.wait())
            await waits.aio.has_begun()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await waits.aio.has_ended()

        asyncio.run(main())


Main = Callable[[], Coroutine[Any, Any, Any]]


def test_code_on_the_object_s_own_loop_can_use_it() -> None:
    """It awaits there, as ever."""
    shop = Shop("corner")

    async def main() -> Any:
        return await shop.aio.number(1), await (await shop.aio.get(1)).double()

    assert shop._twin_home.bridge.run_sync(main) == (2, 2)
    assert AsyncItem.double.__doc__ == "Twice the number."


class AsyncScopes:
    """What needs one task for all its steps: cancel scopes, and context variables."""

    variable: ContextVar[int] = ContextVar("variable", default=0)

    def __init__(self) -> None:
        self.log: list[str] = []

    @asynccontextmanager
    async def group(self) -> AsyncIterator[Any]:
        async with anyio.create_task_group() as group:
            try:
                yield group
            finally:
                self.log.append("left")
            group.cancel_scope.cancel()

    async def steps(self) -> AsyncIterator[int]:
        try:
            with anyio.CancelScope():
                for step in range(3):
                    assert self.variable.get() == step
                    self.variable.set(step + 1)
                    yield step
        finally:
            self.log.append("closed")

    async def wait(self) -> AsyncIterator[int]:
        try:
            await anyio.sleep_forever()
            yield 1
        finally:
            self.log.append("cleaned up")


def test_all_steps_of_one_object_are_made_in_one_task(anywhere: Callable[..., Any]) -> None:
    """On the object's loop, whichever runs the code: scopes and task groups hold."""
    with syncline.Bridge() as bridge:
        scopes = bridge.blocking(AsyncScopes)()

        async def main() -> None:
            async with scopes.aio.group() as group:
                assert group is not None
            assert [step async for step in scopes.aio.steps()] == [0, 1, 2]
            steps = scopes.aio.steps()
            assert await anext(steps) == 0
            await steps.aclose()
            assert [step async for step in steps] == []

        anywhere(main)
        assert scopes.log == ["left", "closed", "closed"]


def test_an_error_in_the_block_reaches_the_manager(anywhere: Callable[..., Any]) -> None:
    """The same one, and it comes out again."""
    with syncline.Bridge() as bridge:
        scopes = bridge.blocking(AsyncScopes)()

        async def main() -> None:
            async with scopes.aio.group():
                raise KeyError("mine")

        with pytest.raises((KeyError, ExceptionGroup)) as raised:
            anywhere(main)
        assert "mine" in repr(raised.value)
        assert scopes.log == ["left"]


def test_a_cancelled_step_cleans_up_before_its_caller_goes_on(anywhere: Callable[..., Any]) -> None:
    """In the generator's own task."""
    with syncline.Bridge() as bridge:
        scopes = bridge.blocking(AsyncScopes)()

        async def main() -> None:
            with anyio.move_on_after(0.05) as scope:
                await anext(scopes.aio.wait())
            assert scope.cancelled_caught
            assert scopes.log == ["cleaned up"]

        anywhere(main)


def test_a_dropped_generator_is_closed_on_its_loop() -> None:
    """Its task ends with it."""
    with syncline.Bridge() as bridge:
        scopes = bridge.blocking(AsyncScopes)()

        async def main() -> None:
            steps = scopes.aio.steps()
            assert await anext(steps) == 0
            del steps
            gc.collect()

        asyncio.run(main())
        assert eventually(lambda: scopes.log == ["closed"])


def test_a_closing_bridge_leaves_what_is_entered() -> None:
    """As it does for sync code."""
    bridge = syncline.Bridge()
    scopes = bridge.blocking(AsyncScopes)()

    async def main() -> None:
        await scopes.aio.group().__aenter__()
        bridge.close()

    asyncio.run(main())
    assert scopes.log == ["left"]


def test_in_scope_caller_only_code_on_its_own_loop_reaches_it() -> None:
    """There all runs on that loop; from another one there is an error, and no call on a loop where it doesn't live."""
    with syncline.Bridge(scope="caller") as bridge:
        scopes = bridge.blocking(AsyncScopes)()
        loop = bridge.call(asyncio.get_running_loop)

        async def main() -> None:
            assert asyncio.get_running_loop() is loop
            async with scopes.aio.group():
                assert [step async for step in scopes.aio.steps()] == [0, 1, 2]

        bridge.run_sync(main)
        assert scopes.log == ["closed", "left"]

        async def elsewhere() -> None:
            with pytest.raises(RuntimeError, match=r'in scope "caller".*"process"'):
                await anext(scopes.aio.steps())

        asyncio.run(elsewhere())


class Pager:
    """Nothing says what its method returns."""

    async def _pages(self) -> AsyncIterator[int]:
        for number in range(3):
            yield number

    def pages(self, are_there):  # type: ignore[no-untyped-def]
        return self._pages() if are_there else None

    async def close(self) -> None: ...


def test_async_code_iterates_over_what_nothing_was_said_of(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """A sync method that returns an async generator, or none: the object tells."""
    pager = make_bridge().blocking(Pager)()

    async def main() -> list[int]:
        assert pager.aio.pages(False) is None
        return [page async for page in pager.aio.pages(True)]

    assert asyncio.run(main()) == list(pager.pages(True)) == [0, 1, 2]
