"""nested="switch": sync code that a task called makes a call, which awaits in that very task.

`place.call` is a nested call that checks thread, task, loop and the number of threads itself.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import syncline
from switching import Place, place

__all__ = ["place"]

VAR: contextvars.ContextVar[str] = contextvars.ContextVar("VAR", default="unset")


async def turns(count: int = 1) -> int:
    """Suspends that often."""
    for _ in range(count):
        await asyncio.sleep(0)
    return count


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
        if how == "create_task":
            return [await task for task in [asyncio.create_task(calls(n)) for n in range(3)]]
        if how == "gather":
            return await asyncio.gather(*(calls(n) for n in range(3)))
        if how == "wait_for":
            return [await asyncio.wait_for(calls(n), 10) for n in range(3)]
        if how == "shield":
            return [await asyncio.shield(calls(n)) for n in range(3)]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(calls(n)) for n in range(3)]
        return [task.result() for task in tasks]

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


@pytest.mark.parametrize("depth", [3, 40])
def test_tracebacks_run_from_the_outermost_to_the_innermost_frame(place: Place, depth: int) -> None:
    """One traceback with the user's frames in the order of their calls, and the same exception object (case 59)."""
    error = ValueError("deep")

    def sync_code(left: int) -> None:
        place.bridge.run_sync(level, left)

    async def level(left: int) -> None:
        await asyncio.sleep(0)
        if not left:
            raise error
        sync_code(left - 1)

    async def main() -> list[str]:
        with pytest.raises(ValueError, match="deep") as caught:
            sync_code(depth)
        assert caught.value is error
        return [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]

    names = place.run(main)
    assert names == ["main", "sync_code", *["level", "sync_code"] * depth, "level"]


def test_an_exception_handled_outside_does_not_leak_in_or_out(place: Place) -> None:
    """sys.exception() is that of each stack: a nested call made in an except block, and one that handles its own."""

    async def inner() -> None:
        assert isinstance(sys.exception(), KeyError)  # as in a plain await there
        try:
            raise ValueError
        except ValueError:
            await asyncio.sleep(0)
            assert isinstance(sys.exception(), ValueError)

    async def other() -> object:
        return sys.exception()

    async def main() -> None:
        task = asyncio.create_task(other())
        try:
            raise KeyError("outer")
        except KeyError:
            place.call(inner)
            assert isinstance(sys.exception(), KeyError)
        assert sys.exception() is None
        assert await task is None

    place.run(main)


@pytest.mark.parametrize("depth", [1, 20])
def test_contextvars_flow_both_ways(place: Place, depth: int) -> None:
    """The nested call sees what its caller set, and the caller what it set; tokens
    can be reset across calls (cases 74, 75)."""
    tokens: list[contextvars.Token[str]] = []

    async def inner(left: int) -> None:
        if left:
            place.bridge.run_sync(inner, left - 1)
            return
        assert VAR.get() == "outer"
        await asyncio.sleep(0)
        tokens.append(VAR.set("inner"))
        await asyncio.sleep(0)

    async def undo() -> None:
        await asyncio.sleep(0)
        VAR.reset(tokens.pop())

    async def main() -> None:
        VAR.set("outer")
        place.call(inner, depth)
        assert VAR.get() == "inner"
        place.call(undo)
        assert VAR.get() == "outer"

    place.run(main)


def test_contextvars_of_tasks_that_take_turns_stay_apart(place: Place) -> None:
    """Two tasks with nested calls under way see their own values at each step (case 76)."""

    async def inner(name: str) -> None:
        for number in range(20):
            VAR.set(f"{name} {number}")
            await asyncio.sleep(0)
            assert VAR.get() == f"{name} {number}"

    async def nested(name: str) -> str:
        place.bridge.run_sync(inner, name)
        return VAR.get()

    async def main() -> list[str]:
        tasks = [asyncio.create_task(syncline.run_nestable(nested, name)) for name in ("a", "b")]
        return [await task for task in tasks]

    assert place.run(main) == ["a 19", "b 19"]


def test_context_copy_keeps_changes_in_the_nested_call(place: Place) -> None:
    """context="copy": the caller's variables are seen, and left as they are."""

    async def inner() -> str:
        seen = VAR.get()
        VAR.set("inner")
        await asyncio.sleep(0)
        assert VAR.get() == "inner"
        return seen

    async def main(bridge: syncline.Bridge) -> tuple[str, str]:
        VAR.set("outer")
        return bridge.run_sync(inner), VAR.get()

    with syncline.Bridge(context="copy", nested="switch") as bridge:
        if place.name in ("process", "thread", "caller", "uvloop"):
            assert bridge.run_sync(main, bridge) == ("outer", "outer")
        else:
            assert place.run(main, bridge) == ("outer", "outer")


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


def test_1000_levels_of_recursion(place: Place) -> None:
    """Deeper than Python's own recursion limit of 1,000 frames, suspended at each level."""

    async def level(left: int) -> int:
        await asyncio.sleep(0)
        found = place.bridge.run_sync(level, left - 1) + 1 if left else 0
        await asyncio.sleep(0)
        return found

    async def main() -> int:
        return await syncline.run_nestable(level, 1000)

    assert place.run(main) == 1000


def test_endless_recursion_ends_with_advice(place: Place) -> None:
    """At 10,000 levels: RecursionError that says what to do, and everything goes on afterwards."""

    async def endless() -> None:
        place.bridge.run_sync(endless)

    async def main() -> None:
        with pytest.raises(RecursionError, match="await the async function"):
            await syncline.run_nestable(endless)
        await turns()

    place.run(main)
    place.run(main)


def test_300_nested_calls_wait_at_once(place: Place) -> None:
    """All are suspended in the same moment, then all go on, with no thread started for any."""

    async def main() -> int:
        opened = asyncio.Event()
        waiting = 0

        async def wait() -> None:
            nonlocal waiting
            waiting += 1
            await opened.wait()

        async def nested() -> int:
            place.bridge.run_sync(wait)
            return 1

        threads = threading.active_count()
        tasks = [asyncio.create_task(syncline.run_nestable(nested)) for _ in range(300)]
        while waiting < 300:
            await asyncio.sleep(0)
        assert threading.active_count() == threads
        opened.set()
        return sum([await task for task in tasks])

    assert place.run(main) == 300


def test_100_chains_100_deep_start_one_thread() -> None:
    """The one runner is all that it takes; no chain starts a thread (case 4)."""
    threads = threading.active_count()
    with syncline.Bridge(nested="switch") as bridge:

        async def level(left: int) -> int:
            await asyncio.sleep(0)
            return bridge.run_sync(level, left - 1) + 1 if left else 0

        async def main() -> list[int]:
            return await asyncio.gather(*(level(100) for _ in range(100)))

        assert bridge.run_sync(main) == [100] * 100
        assert threading.active_count() == threads + 1
        assert bridge.stats()["runners"] == 1
        assert bridge.stats()["nested"] == 10_000


def test_two_nested_calls_hold_and_let_go_in_any_order(place: Place) -> None:
    """Parked stacks are resumed in the order of events, not in that in which they were left."""

    async def main() -> list[int]:
        events = [asyncio.Event() for _ in range(5)]
        order: list[int] = []

        async def nested(number: int) -> None:
            place.bridge.run_sync(events[number].wait)
            place.bridge.run_sync(turns, number)
            order.append(number)

        tasks = [asyncio.create_task(syncline.run_nestable(nested, n)) for n in range(5)]
        await turns(3)
        for number in (3, 0, 4, 1, 2):
            events[number].set()
            await tasks[number]
        return order

    assert place.run(main) == [3, 0, 4, 1, 2]


def test_a_mixture_of_tasks_with_and_without_nested_calls(place: Place) -> None:
    """50 tasks that nest, await, fail and are cancelled in turns leave each other alone."""

    async def work(number: int) -> int:
        for turn in range(10):
            if (number + turn) % 3 == 0:
                place.bridge.run_sync(turns, 2)
            elif (number + turn) % 3 == 1:
                await turns()
            else:
                with pytest.raises(ValueError, match=f"^{number}$"):
                    place.bridge.run_sync(fail, number)
        return number

    async def fail(number: int) -> None:
        await asyncio.sleep(0)
        raise ValueError(number)

    async def main() -> list[object]:
        tasks = [asyncio.create_task(syncline.run_nestable(work, n)) for n in range(50)]
        await turns(4)
        for task in tasks[::5]:
            task.cancel()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    results = place.run(main)
    assert [result for n, result in enumerate(results) if n % 5] == [n for n in range(50) if n % 5]
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::5])


def test_what_a_nested_call_used_is_freed(place: Place) -> None:
    """When a call is over, nothing keeps its arguments, its locals or its context alive (case 60)."""
    import weakref

    class Thing:
        pass

    held: list[weakref.ref[Thing]] = []
    kept: contextvars.ContextVar[object] = contextvars.ContextVar("kept")

    async def inner(thing: Thing) -> None:
        kept.set(thing)
        await asyncio.sleep(0)

    async def nested() -> None:
        thing = Thing()
        held.append(weakref.ref(thing))
        place.bridge.run_sync(inner, thing)

    async def main() -> bool:
        await asyncio.create_task(syncline.run_nestable(nested))
        await turns(2)
        gc.collect()
        return held[0]() is None

    assert place.run(main)


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
            found = [bridge.run_sync(where)]
            await asyncio.sleep(0)
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
