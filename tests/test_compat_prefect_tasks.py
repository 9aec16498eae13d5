"""Tasks, groups, shutdown callbacks and lazy semaphores of `syncline.compat.prefect`."""

from __future__ import annotations

import asyncio
import functools
import gc
import uuid
from typing import Any

import pytest
import uvloop

import syncline
from child import run_script
from prefect_code import Run, add
from syncline.compat import prefect


def test_a_task_is_asyncios(run_async: Run[Any]) -> None:
    """And can be awaited."""

    async def main() -> int:
        task = prefect.create_task(add(1, 2))
        assert isinstance(task, asyncio.Task)
        return await task

    assert run_async(main) == 6


def test_groups_have_uuids_for_keys(anywhere: Run[Any]) -> None:
    """As Prefect's; an unknown one is a KeyError, a missing result GatherIncomplete."""

    async def main() -> None:
        async with prefect.create_gather_task_group() as group:
            assert isinstance(group, prefect.GatherTaskGroup)
            key = group.start_soon(add, 1, 2)
            assert isinstance(key, uuid.UUID)
            with pytest.raises(prefect.GatherIncomplete):
                group.get_result(key)
            with pytest.raises(RuntimeError, match="start"):
                await group.start(add)
        assert group.get_result(key) == 6
        with pytest.raises(KeyError):
            group.get_result(uuid.uuid4())

    anywhere(main)


def test_gather_always_raises_a_group(anywhere: Run[Any]) -> None:
    """Also for one error, as Prefect's does; results come in order."""

    async def fails() -> None:
        raise ValueError

    async def main() -> None:
        calls = [functools.partial(add, number, 0) for number in range(3)]
        assert await prefect.gather(*calls) == [3, 4, 5]
        with pytest.raises(ExceptionGroup):
            await prefect.gather(fails)

    anywhere(main)


def test_a_shutdown_callback_is_awaited_when_the_loop_ends() -> None:
    """At the end of asyncio.run, of uvloop's, and of a bridge; nothing is kept afterwards."""
    steps = []

    async def callback() -> None:
        await asyncio.sleep(0)
        steps.append("called")

    async def main() -> None:
        await prefect.add_event_loop_shutdown_callback(callback)
        gc.collect()
        for _ in range(5):  # for what is collected to be closed: nobody but the module keeps what waits
            await asyncio.sleep(0)
        steps.append("registered")

    asyncio.run(main())
    uvloop.run(main())
    with syncline.Bridge() as bridge:
        bridge.run_sync(main)
    syncline.run_in_new_loop(main)
    assert steps == ["registered", "called"] * 4
    assert not prefect._at_shutdown


def test_a_loop_that_is_only_closed_calls_nothing() -> None:
    """As in Prefect: it never shuts its async generators down."""
    finished = run_script(
        """
        import asyncio
        from syncline.compat import prefect

        async def callback():
            print("called")

        loop = asyncio.new_event_loop()
        loop.run_until_complete(prefect.add_event_loop_shutdown_callback(callback))
        loop.close()
        """
    )
    finished.assert_clean()
    assert finished.out == ""


def test_a_lazy_semaphore_asks_for_its_value_when_it_is_entered(run_async: Run[Any]) -> None:
    """Once; it holds back whoever is too many, and lets go in the case of an error."""

    async def main() -> None:
        asked = []

        def value() -> int:
            asked.append(1)
            return 1

        lazy = prefect.LazySemaphore(value)
        assert asked == []
        async with lazy as semaphore:
            assert isinstance(semaphore, asyncio.Semaphore)
            assert semaphore.locked()
        with pytest.raises(KeyError):
            async with lazy:
                raise KeyError
        assert not semaphore.locked()
        assert asked == [1]

    run_async(main)


def test_the_null_context_gives_its_value(anywhere: Run[Any]) -> None:
    """And takes whatever else it is given; it decorates async functions, too, as what contextlib makes."""

    @prefect.asyncnullcontext()
    async def decorated() -> int:
        return 7

    async def main() -> None:
        assert await decorated() == await decorated() == 7
        async with prefect.asyncnullcontext() as nothing:
            assert nothing is None
        async with prefect.asyncnullcontext(5, "more", other=1) as value:
            assert value == 5
        with pytest.raises(ValueError, match="mine"):
            async with prefect.asyncnullcontext():
                raise ValueError("mine")

    anywhere(main)
