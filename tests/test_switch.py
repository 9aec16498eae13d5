"""nested="switch": sync code that a task called makes a call, which awaits in that very task.

`place.call` is a nested call that checks thread, task, loop and the number of threads itself.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import syncline
from places import in_tasks
from switching import Place, place, turns

__all__ = ["place"]


@pytest.mark.parametrize("depth", [1, 5, 15, 16, 17, 40])
@pytest.mark.parametrize("suspends", [False, True])
def test_sync_and_async_code_alternate_in_one_task(place: Place, depth: int, suspends: bool) -> None:
    """Nested 1 to 40 deep, whether the coroutines suspend or not (cases 3, 4)."""

    async def level(left: int) -> int:
        if suspends:
            await asyncio.sleep(0)
        found = place.call(level, left - 1) + 1 if left else 0
        if suspends:
            await asyncio.sleep(0)
        return found

    for _ in range(3):
        assert place.run(level, depth) == depth


def test_other_tasks_go_on_while_a_nested_call_waits(place: Place) -> None:
    """The nested call waits for what another task of the same loop does: no loop is blocked (cases 2, 14)."""

    async def main() -> list[str]:
        opened = asyncio.Event()
        order: list[str] = []

        async def wait() -> None:
            order.append("waits")
            await opened.wait()
            order.append("was told")

        async def opens() -> None:
            order.append("opens")
            opened.set()

        other = asyncio.create_task(opens())
        place.call(wait)
        await other
        return order

    assert place.run(main) == ["waits", "opens", "was told"]


def test_nested_siblings_end_in_their_own_order(place: Place) -> None:
    """Of two nested calls in sibling tasks, the one whose event comes first returns first (case 14)."""

    async def main() -> list[str]:
        first, second = asyncio.Event(), asyncio.Event()
        order: list[str] = []

        async def nested(event: asyncio.Event, name: str) -> None:
            place.call(event.wait)
            order.append(name)

        # Begun in the order of which the ends are the reverse.
        both = ((first, "first"), (second, "second"))
        tasks = [asyncio.create_task(syncline.run_nestable(nested, *each)) for each in both]
        await turns(3)
        second.set()
        await tasks[1]
        first.set()
        await tasks[0]
        return order

    assert place.run(main) == ["second", "first"]


@pytest.mark.parametrize("how", ["create_task", "gather", "wait_for", "shield", "task_group"])
def test_children_nest_too(place: Place, how: str) -> None:
    """Nested calls under every way to start a task (case 5)."""

    async def calls(number: int) -> int:
        await asyncio.sleep(0)
        place.call(turns, 2)
        return number

    async def main() -> list[int]:
        return await in_tasks(how, calls)

    if place.name.startswith("nestable") and how != "wait_for":
        pytest.skip("that opt-in is for one task, and not for its children")
    if place.name.startswith("nestable"):
        assert place.run(calls, 1) == 1
        return
    assert place.run(main) == [0, 1, 2]


@pytest.mark.parametrize("depth", [0, 3, 40])
def test_a_nested_call_that_waits_for_its_own_task_is_told_so(place: Place, depth: int) -> None:
    """Awaiting the task that one is in, however deep, is asyncio's own error, not an endless wait (cases 15, 16)."""

    async def main() -> str:
        me = asyncio.current_task()
        assert me is not None

        async def wait_for(task: asyncio.Task[object], left: int) -> None:
            if left:
                place.bridge.run_sync(wait_for, task, left - 1)
            else:
                await task

        with pytest.raises(RuntimeError, match="cannot await on itself"):
            place.call(wait_for, me, depth)
        return "went on"

    assert place.run(main) == "went on"


def test_generators_with_nested_calls_in_them(place: Place) -> None:
    """A sync generator, and an async one, each make nested calls at every step."""

    def numbers() -> list[int]:
        return [place.call(turns, n) for n in range(1, 4)]

    def generated():  # type: ignore[no-untyped-def]
        for n in range(1, 4):
            yield place.call(turns, n)

    async def async_numbers() -> AsyncIterator[int]:
        for n in range(1, 4):
            await asyncio.sleep(0)
            yield place.call(turns, n)

    async def main() -> list[list[int]]:
        return [numbers(), list(generated()), [n async for n in async_numbers()]]

    assert place.run(main) == [[1, 2, 3]] * 3


def test_eager_tasks_nest(place: Place) -> None:
    """A user's eager task factory, set while the loop runs: such tasks begin in the middle of another's step, and
    nest (case 18)."""
    if not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("eager tasks came with Python 3.12")
    if "nestable" in place.name:
        pytest.skip("that opt-in is for one task, and not for its children")
    if place.name == "uvloop":
        pytest.skip("a loop of another maker has one factory, which the user has replaced here")
    if "uvloop" in place.name and sys.version_info >= (3, 13):
        pytest.skip("uvloop gives a factory an argument that asyncio's eager one of 3.13 does not take")

    async def child() -> int:
        place.bridge.run_sync(turns, 2)
        await turns()
        place.bridge.run_sync(turns, 2)
        return 1

    async def main() -> int:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)
        if place.name.startswith("installed"):
            syncline.install()
        tasks = [asyncio.create_task(child()) for _ in range(5)]
        return sum([await task for task in tasks])

    assert place.run(main) == 5


def test_eager_tasks_that_can_not_nest_call_from_another_thread() -> None:
    """A task that began in the middle of another's step, and was made by asyncio.Task itself: its nested calls go one
    level deeper, and don't suspend the other task (case 18)."""
    if not hasattr(asyncio, "eager_task_factory"):
        pytest.skip("eager tasks came with Python 3.12")
    with syncline.Bridge(name="eager", nested="switch") as bridge:

        async def where() -> str:
            await asyncio.sleep(0)
            return threading.current_thread().name

        async def child() -> list[str]:
            with pytest.warns(RuntimeWarning, match=r"child.* blocks its event loop"):
                found = [bridge.run_sync(where)]
            await asyncio.sleep(0)
            with pytest.warns(RuntimeWarning, match=r"child.* blocks its event loop"):
                return [*found, bridge.run_sync(where)]

        async def main() -> list[str]:
            loop = asyncio.get_running_loop()
            task = asyncio.Task(child(), loop=loop, eager_start=True)  # type: ignore[call-arg]
            return [*await task, bridge.run_sync(where)]

        assert bridge.run_sync(main) == ["eager-nested-1", "eager-nested-1", "eager"]


def test_a_nested_call_in_a_callback_runs_on_another_thread() -> None:
    """A callback is no task that could await: such a call goes one level deeper, as with nested="thread"."""
    with syncline.Bridge(name="cb", nested="switch") as bridge:

        async def where() -> str:
            await asyncio.sleep(0)
            return threading.current_thread().name

        async def main() -> str:
            found = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(lambda: found.set_result(bridge.run_sync(where)))
            return await found

        assert bridge.run_sync(main) == "cb-nested-1"


def test_another_bridge_keeps_its_own_loop() -> None:
    """A call of another bridge runs on that bridge's loop, where its clients are."""
    with syncline.Bridge(name="one") as one, syncline.Bridge(name="two") as two:

        async def where() -> str:
            await asyncio.sleep(0)
            return threading.current_thread().name

        async def main() -> tuple[str, str]:
            return one.run_sync(where), two.run_sync(where)

        assert one.run_sync(main) == ("one", "two")


def test_sync_code_that_is_given_instead_is_named(place: Place) -> None:
    """Wrong use is told as everywhere."""

    async def main() -> None:
        with pytest.raises(TypeError, match="got the sync function"):
            place.bridge.run_sync(sync)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="takes an async function"):
            place.bridge.run_sync(3)  # type: ignore[arg-type]

    def sync() -> int:
        return 3

    place.run(main)


def test_a_closed_bridge_refuses_nested_calls() -> None:
    """After close(), a nested call on a loop that goes on raises as any other (case 34)."""

    async def main(bridge: syncline.Bridge) -> None:
        bridge.close()
        with pytest.raises(syncline.RunnerClosedError):
            bridge.run_sync(turns)

    async def outer() -> None:
        await syncline.run_nestable(main, syncline.Bridge())

    asyncio.run(outer())


def test_awaitables_of_every_kind_are_awaited_in_place(place: Place) -> None:
    """Coroutines, futures, tasks, objects with __await__, and functions that return any of them."""

    class Custom:
        def __init__(self, awaitable: Awaitable[int]) -> None:
            self.awaitable = awaitable

        def __await__(self):  # type: ignore[no-untyped-def]
            return self.awaitable.__await__()

    def lazily(make: Callable[[], Awaitable[int]]) -> Awaitable[int]:
        return make()

    async def main() -> list[int]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[int] = loop.create_future()
        loop.call_soon(future.set_result, 1)
        run = place.bridge.run
        found = [run(future), run(turns(2)), run(Custom(turns(3))), run(asyncio.create_task(turns(4)))]
        return [*found, place.bridge.run_sync(lazily, lambda: Custom(turns(5)))]

    assert place.run(main) == [1, 2, 3, 4, 5]


def test_locks_of_asyncio_protect_across_nested_calls(place: Place) -> None:
    """Two tasks, each in a nested call, never hold an asyncio.Lock at the same time."""

    async def main() -> int:
        lock = asyncio.Lock()
        inside = most = 0

        async def critical() -> None:
            nonlocal inside, most
            async with lock:
                inside += 1
                most = max(most, inside)
                await turns(3)
                inside -= 1

        async def nested() -> None:
            place.bridge.run_sync(critical)

        await asyncio.gather(*(syncline.run_nestable(nested) for _ in range(10)))
        return most

    assert place.run(main) == 1


def test_sleeping_nested_calls_overlap(place: Place) -> None:
    """20 nested calls of 50 ms each take much less than a second together: the loop is not blocked (case 67)."""

    async def nested() -> None:
        place.bridge.run_sync(asyncio.sleep, 0.05)

    async def main() -> float:
        begun = time.monotonic()
        await asyncio.gather(*(syncline.run_nestable(nested) for _ in range(20)))
        return time.monotonic() - begun

    assert place.run(main) < 0.8
