"""`Bridge(visible=True)`: who waits for submitted calls, and for those of `map` and of a group, as tools see it."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest

import syncline
from child import eventually
from waiting import Gate

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="awaited-by edges came with Python 3.14")


def last_part(name: str) -> str:
    return name.rpartition(".")[2]


async def waiters(name: str) -> list[set[str]]:
    """The names of those that wait for each task of that name, on the loop that runs this."""
    tasks = [task for task in asyncio.all_tasks() if last_part(task.get_name()) == name]
    edges: list[Any] = [getattr(task, "_asyncio_awaited_by", None) or () for task in tasks]
    return [{last_part(waiter.get_name()) for waiter in each} for each in edges]


@pytest.mark.parametrize("suspends_first", [False, True])
def test_a_task_that_waits_for_a_future_is_the_waiter_of_its_call(suspends_first: bool) -> None:
    """Whether the call suspends before the task waits, or after that."""
    gate, may_suspend = Gate(), threading.Event()
    with syncline.Bridge(visible=True) as near, syncline.Bridge(visible=True, name="far") as far:

        async def called() -> str:
            if not suspends_first:
                may_suspend.wait(20)
            return await gate.wait()

        future = far.submit(called)
        if suspends_first:
            gate.await_entered()

        async def waits() -> None:
            may_suspend.set()
            future.result(20)

        waiting = threading.Thread(target=near.run_sync, args=(waits,))
        waiting.start()
        if not suspends_first:
            gate.await_entered()
        assert eventually(lambda: far.run_sync(waiters, "called") == [{"waits"}])
        far.call(gate.let_through)
        waiting.join(20)
        assert future.result() == "through"


def test_a_wait_that_times_out_leaves_no_waiter() -> None:
    """The call goes on, and suspends again."""
    gate = Gate()
    with syncline.Bridge(visible=True) as near, syncline.Bridge(visible=True, name="far") as far:
        turned = far.call(asyncio.Event)

        async def called() -> str:
            await turned.wait()
            return await gate.wait()

        future = far.submit(called)
        assert eventually(lambda: far.run_sync(waiters, "called") == [set()])

        async def waits() -> None:
            with pytest.raises(TimeoutError):
                future.result(0.01)

        near.run_sync(waits)
        assert far.run_sync(waiters, "called") == [set()]
        far.call(turned.set)
        gate.await_entered()
        assert far.run_sync(waiters, "called") == [set()]
        far.call(gate.let_through)
        future.result()


def test_a_map_waits_for_the_calls_of_its_items_and_its_consumer_for_the_map() -> None:
    """From a task on another loop, over the map's task, to each call; and when they have ended no edge is left."""
    gate = Gate()
    with syncline.Bridge(visible=True) as near, syncline.Bridge(visible=True, name="far") as far:

        async def item(number: int) -> int:
            await gate.wait()
            return number

        async def consumer() -> list[int]:
            return list(far.map(item, range(3), timeout=60))

        consuming = near.submit(consumer)
        gate.await_entered(3)

        async def look() -> tuple[list[set[str]], list[set[str]], list[asyncio.Task[Any]]]:
            items = [task for task in asyncio.all_tasks() if last_part(task.get_name()) == "item"]
            [map_task] = {waiter for task in items for waiter in getattr(task, "_asyncio_awaited_by", ())}
            return await waiters("item"), await waiters(last_part(map_task.get_name())), items

        of_items, of_map, tasks = far.run_sync(look)
        assert len(of_items) == 3
        assert all(len(each) == 1 for each in of_items)
        assert of_map == [{"consumer"}]
        far.call(gate.let_through)
        assert consuming.result() == [0, 1, 2]
        assert not any(getattr(task, "_asyncio_awaited_by", ()) for task in tasks)


def test_the_calls_of_a_group_are_awaited_by_its_task() -> None:
    """As asyncio's own groups show it."""
    gate = Gate()
    with syncline.Bridge(visible=True) as bridge:

        async def member() -> str:
            return await gate.wait()

        with bridge.group() as group:
            first, second = group.start(member), group.start(member)
            gate.await_entered(2)
            found = bridge.run_sync(waiters, "member")
            assert len(found) == 2
            assert all(len(each) == 1 for each in found)
            bridge.call(gate.let_through)
        assert first.result() == second.result() == "through"


def test_many_items_leave_no_waiter_behind() -> None:
    """Nor does a map that is left early, or that fails."""
    with syncline.Bridge(visible=True) as bridge:

        async def item(number: int) -> int:
            await asyncio.sleep(0)
            if number == 1500:
                raise LookupError
            return number

        async def numbers() -> AsyncIterator[int]:
            for number in range(2000):
                yield number

        with pytest.raises(LookupError):
            list(bridge.map(item, numbers()))
        for got in bridge.map(item, range(1000)):
            if got == 500:
                break
        bridge.run_sync(asyncio.sleep, 0)

        def left() -> int:
            gc.collect()
            tasks = [each for each in gc.get_objects() if isinstance(each, asyncio.Task)]
            return sum(last_part(task.get_name()) == "item" for task in tasks)

        assert eventually(lambda: left() <= 1)
