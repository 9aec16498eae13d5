"""Timeouts, task groups and cancellation around and in nested calls that await in place."""

from __future__ import annotations

import asyncio

import pytest

import syncline
from switching import Place, place, turns

__all__ = ["place"]


def test_timeouts_and_task_groups_work_inside(place: Place) -> None:
    """asyncio.timeout and TaskGroup in a nested call belong to the task around it (cases 16, 17)."""

    async def inner() -> int:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(turns(number)) for number in range(3)]
        return sum(task.result() for task in tasks)

    async def main() -> int:
        async with asyncio.timeout(30):  # noqa: ASYNC100 -- the nested call awaits
            value = place.call(inner)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return value

    assert place.run(main) == 3


def test_a_failing_task_group_reaches_the_sync_caller(place: Place) -> None:
    """A child's error ends the group in the nested call, and the sync code around it can handle it (case 17)."""

    async def fail() -> None:
        raise ValueError("child")

    async def inner() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            await asyncio.Event().wait()

    async def main() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            place.call(inner)
        assert caught.group_contains(ValueError, match="child")
        await turns()

    place.run(main)


@pytest.mark.parametrize("depth", [1, 100])
def test_a_cancellation_is_delivered_at_the_innermost_await(place: Place, depth: int) -> None:
    """task.cancel() is raised in the nested call that waits; every level cleans up, awaiting (case 16)."""

    async def main() -> list[int]:
        ended: list[int] = []
        waiting = asyncio.Event()

        async def level(left: int) -> None:
            try:
                if left:
                    place.bridge.run_sync(level, left - 1)
                else:
                    waiting.set()
                    await asyncio.Event().wait()
            finally:
                await turns()
                ended.append(left)

        async def opener() -> None:
            # Through a sync function, as all of this.
            await waiting.wait()
            task.cancel("enough")

        if place.name.startswith("nestable"):
            task = asyncio.create_task(syncline.run_nestable(level, depth))
        else:
            task = asyncio.create_task(level(depth))
        await opener()
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await task
        assert task.cancelled()
        return ended

    assert place.run(main) == list(range(depth + 1))


def test_a_nested_timeout_cancels_and_says_so(place: Place) -> None:
    """run(..., timeout=) in place: TimeoutError after the cleanup, and the outer coroutine goes on (case 50)."""

    async def main() -> list[str]:
        ended: list[str] = []

        async def slow() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await turns()
                ended.append("inner")

        with pytest.raises(TimeoutError, match=r"0\.01 s"):
            place.bridge.run(slow(), timeout=0.01)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await turns()
        assert place.bridge.run(turns(2), timeout=30) == 2
        return ended

    assert place.run(main) == ["inner"]


def test_an_error_of_a_nested_call_that_is_a_timeout_error_stays_as_it_is(place: Place) -> None:
    """The coroutine's own TimeoutError is not taken for the call's."""

    async def own() -> None:
        raise TimeoutError("mine")

    async def main() -> None:
        with pytest.raises(TimeoutError, match="mine"):
            place.bridge.run(own(), timeout=30)

    place.run(main)
