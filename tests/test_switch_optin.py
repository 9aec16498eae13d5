"""Opting in on loops of the user's, forbidding it for a while, and what happens without greenlet."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable

import pytest

import syncline
from child import run_script
from switching import Place, place
from test_nested import run_on

__all__ = ["place"]

hosts = pytest.mark.parametrize("host", ["asyncio", "uvloop"])


async def where() -> int:
    await asyncio.sleep(0)
    return threading.get_ident()


def from_sync_code() -> bool:
    """Whether a nested call stays in this thread."""
    return syncline.run_sync(where) == threading.get_ident()


async def task() -> bool:
    await asyncio.sleep(0)
    return from_sync_code()


@hosts
def test_a_nestable_function_nests(host: str) -> None:
    """@nestable: below that function calls await in place, and outside of it they don't."""

    @syncline.nestable
    async def nests(first: int, *, second: int) -> tuple[int, int, bool]:
        """Has a docstring."""
        return first, second, await task()

    async def main() -> None:
        assert await nests(1, second=2) == (1, 2, True)
        assert await asyncio.create_task(nests(1, second=2)) == (1, 2, True)
        assert not await task()

    assert inspect.iscoroutinefunction(nests)
    assert (nests.__name__, nests.__doc__) == ("nests", "Has a docstring.")
    run_on(host, main)


@hosts
def test_run_nestable_takes_async_and_sync_functions(host: str) -> None:
    """What is awaited is the function's result; a sync function's nested calls await, too."""

    async def fail() -> None:
        raise ValueError("mine")

    async def main() -> None:
        assert await syncline.run_nestable(task) is True
        assert await syncline.run_nestable(from_sync_code) is True
        with pytest.raises(ValueError, match="mine"):
            await syncline.run_nestable(fail)

    run_on(host, main)


@hosts
def test_an_installed_loop_makes_nestable_tasks_until_that_is_undone(host: str) -> None:
    """install() concerns tasks made afterwards, children included; undoing it, those made after that."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        undo = syncline.install()
        assert await asyncio.create_task(task())
        assert await asyncio.gather(task(), task()) == [True, True]
        undo()
        assert loop.get_task_factory() is None
        assert not await asyncio.create_task(task())

    run_on(host, main)


@hosts
def test_an_installed_factory_makes_tasks_by_the_users(host: str) -> None:
    """A factory that was there goes on making the tasks, and comes back; one that is set later is left alone."""

    class Task(asyncio.Task[object]):
        pass

    def users(loop: asyncio.AbstractEventLoop, coro: object, **options: object) -> Task:
        return Task(coro, loop=loop, **options)  # type: ignore[arg-type]

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(users)
        undo = syncline.install(loop)
        made = asyncio.create_task(task(), name="named")
        assert isinstance(made, Task)
        assert made.get_name() == "named"
        assert await made is True
        outermost = syncline.install(loop)
        undo()
        assert await asyncio.create_task(task()) is True
        outermost()
        assert await asyncio.create_task(task()) is False

    run_on(host, main)


def test_a_loop_can_be_named_before_it_runs() -> None:
    """install(loop) on a loop that does not run yet: asyncio.run's first task nests."""
    with asyncio.Runner() as runner:
        syncline.install(runner.get_loop())
        assert runner.run(task()) is True


@hosts
def test_a_nestable_task_looks_like_the_users_coroutine(host: str) -> None:
    """Name, frame, state and repr are the coroutine's, for debuggers and for anyio."""

    async def main() -> None:
        syncline.install()
        made = asyncio.create_task(task())
        coroutine = made.get_coro()
        assert coroutine is not None
        assert asyncio.iscoroutine(coroutine)
        assert (coroutine.__name__, coroutine.__qualname__) == ("task", "task")
        assert coroutine.cr_code is task.__code__  # type: ignore[union-attr]
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED  # type: ignore[arg-type]
        assert "task() running at" in repr(made)
        await asyncio.sleep(0)
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_SUSPENDED  # type: ignore[arg-type]
        assert [frame.f_code.co_name for frame in made.get_stack()] == ["task"]
        await made
        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED  # type: ignore[arg-type]

    run_on(host, main)


def test_nested_calls_in_trio_tasks_that_opted_in(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """On trio, @nestable and run_nestable await in place; other tasks go on, cancellation and timeouts work."""
    trio = pytest.importorskip("trio")
    bridge = make_bridge(backend="trio", roams=True)

    async def turns(count: int) -> int:
        for _ in range(count):
            await trio.sleep(0)
        return threading.get_ident()

    async def main() -> list[str]:
        order: list[str] = []
        opened = trio.Event()

        @syncline.nestable
        async def waits() -> None:
            assert bridge.run_sync(turns, 3) == threading.get_ident()
            bridge.run_sync(opened.wait)
            order.append("was told")

        def late() -> None:
            with pytest.raises(TimeoutError, match=r"0\.01 s"):
                bridge.run(trio.sleep_forever(), timeout=0.01)
            order.append("timed out")

        async def cancelled() -> None:
            try:
                bridge.run_sync(trio.sleep_forever)
            finally:
                order.append("cancelled")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            await syncline.run_nestable(late)
            opened.set()
        with trio.move_on_after(0.01) as scope:
            await syncline.run_nestable(cancelled)
        assert scope.cancelled_caught
        return order

    assert trio.run(main) == ["timed out", "was told", "cancelled"]


def test_bridges_that_run_trio_nest_in_place() -> None:
    """backend="trio": a call's own task awaits nested calls in place."""
    trio = pytest.importorskip("trio")
    with syncline.Bridge(backend="trio", nested="switch") as bridge:

        async def turns() -> int:
            await trio.sleep(0)
            return threading.get_ident()

        async def main() -> bool:
            await trio.sleep(0)
            return bridge.run_sync(turns) == threading.get_ident()

        assert bridge.run_sync(main)


def test_no_switch_forbids_nested_calls_in_its_block(place: Place) -> None:
    """In the block a nested call raises, before anything of it runs; behind it all is as before."""
    begun: list[str] = []

    async def inner() -> None:
        begun.append("inner")
        await asyncio.sleep(0)

    async def main() -> None:
        with syncline.no_switch():
            with pytest.raises(RuntimeError, match="no_switch"):
                place.bridge.run_sync(inner)
            with syncline.no_switch(), pytest.raises(RuntimeError, match="no_switch"):
                place.bridge.run(inner())
            with pytest.raises(RuntimeError, match="no_switch"):
                place.bridge.run_sync(inner)
        assert begun == []
        place.call(inner)

    place.run(main)
    assert begun == ["inner"]


def test_no_switch_concerns_its_own_task_only(place: Place) -> None:
    """While one task awaits inside of the block, another one may make nested calls."""

    async def inner() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        inside, done = asyncio.Event(), asyncio.Event()

        async def forbids() -> None:
            with syncline.no_switch():
                inside.set()
                await done.wait()

        async def nests() -> None:
            await inside.wait()
            place.call(inner)
            done.set()

        tasks = [asyncio.create_task(syncline.run_nestable(each)) for each in (forbids, nests)]
        for each in tasks:
            await each

    place.run(main)


@pytest.mark.parametrize("left_first", ["the first", "the second"])
def test_one_no_switch_object_serves_many_tasks(place: Place, left_first: str) -> None:
    """Each task is let go when it leaves its own block, whichever has entered last."""

    async def inner() -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        guard, entered, leave = (
            syncline.no_switch(),
            [asyncio.Event(), asyncio.Event()],
            [asyncio.Event(), asyncio.Event()],
        )

        async def holds(number: int) -> None:
            with guard:
                entered[number].set()
                await leave[number].wait()
                with pytest.raises(RuntimeError, match="no_switch"):
                    place.bridge.run_sync(inner)
            place.call(inner)

        tasks = []
        for number in (0, 1):
            tasks.append(asyncio.create_task(syncline.run_nestable(holds, number)))
            await entered[number].wait()
        for number in (0, 1) if left_first == "the first" else (1, 0):
            leave[number].set()
            await tasks[number]

    place.run(main)


def test_no_switch_where_nothing_switches_does_nothing() -> None:
    """In plain sync code a call goes to another thread, which the block need not forbid."""
    with syncline.no_switch():
        assert syncline.run_sync(where) != threading.get_ident()


def test_a_plain_lock_that_is_taken_again_below_is_reported() -> None:
    """Sync code holds a threading.Lock, makes a nested call in place, and that coroutine takes the lock: the thread
    waits for itself; whoever waits for the loop is told (case 73)."""
    script = """
        import threading
        import syncline

        bridge = syncline.Bridge(nested="switch", cleanup_timeout=0.2)
        lock = threading.Lock()

        async def takes() -> None:
            with lock:
                pass

        async def outer() -> None:
            with lock:
                bridge.run_sync(takes)

        try:
            bridge.run_sync(outer)
        except syncline.DeadlockError as error:
            assert "in takes" in str(error) and "in outer" in str(error), error
            print("told", flush=True)
        import os
        os._exit(0)
    """
    finished = run_script(script)
    assert finished.lines == ["told"], finished.err


WITHOUT = """
    import sys
    sys.modules["greenlet"] = None
    import syncline
"""


def test_without_greenlet_nested_calls_run_on_threads_and_that_is_said_once() -> None:
    """The default falls back to "thread", with one RuntimeWarning for all bridges."""
    finished = run_script(
        WITHOUT
        + """
    import threading, warnings

    async def where() -> str:
        return threading.current_thread().name

    async def outer(bridge) -> str:
        return bridge.run_sync(where)

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for name in ("a", "b"):
            with syncline.Bridge(name=name) as bridge:
                print(bridge.run_sync(outer, bridge))
        with syncline.Bridge(name="c", scope="caller") as bridge:
            print(bridge.run_sync(outer, bridge))
    print(*[f"{each.category.__name__}: {each.message}" for each in caught])
    """
    )
    assert finished.lines[:3] == ["a-nested-1", "b-nested-1", "c"]
    assert len(finished.lines) == 4
    assert finished.lines[3].startswith("RuntimeWarning: greenlet can't be used")
    finished.assert_clean()


@pytest.mark.parametrize(
    "use",
    [
        'syncline.Bridge(nested="switch")',
        "asyncio.run(syncline.run_nestable(asyncio.sleep, 0))",
        "asyncio.run(syncline.nestable(asyncio.sleep)(0))",
        "syncline.install(asyncio.new_event_loop())",
    ],
)
def test_without_greenlet_whoever_asks_for_it_by_name_is_told(use: str) -> None:
    """ImportError that names what to install."""
    finished = run_script(
        WITHOUT
        + f"""
    import asyncio
    try:
        {use}
    except ImportError as error:
        print(error)
    """
    )
    assert len(finished.lines) == 1
    assert "pip install greenlet" in finished.lines[0]


def test_greenlet_comes_with_the_first_call() -> None:
    """`import syncline` loads neither greenlet nor asyncio."""
    finished = run_script(
        """
    import sys, syncline
    print(sorted({"asyncio", "greenlet"} & set(sys.modules)))
    async def nothing() -> None: ...
    syncline.run_sync(nothing)
    print(sorted({"asyncio", "greenlet"} & set(sys.modules)))
    """
    )
    assert finished.lines == ["[]", "['asyncio', 'greenlet']"]
    finished.assert_clean()


def test_thread_by_name_uses_no_greenlets() -> None:
    """nested="thread" goes one level deeper, and doesn't import greenlet."""
    finished = run_script(
        """
    import sys, syncline, threading
    bridge = syncline.Bridge(nested="thread", name="t")
    async def where() -> str:
        return threading.current_thread().name
    async def outer() -> str:
        return bridge.run_sync(where)
    print(bridge.run_sync(outer), "greenlet" in sys.modules)
    bridge.close()
    """
    )
    assert finished.lines == ["t-nested-1 False"]
    finished.assert_clean()


def test_the_bases_of_tests_here(place: Place) -> None:
    """`place.call` does notice a call that leaves its thread: else the other tests would prove little."""

    async def main() -> None:
        elsewhere = syncline.Bridge(nested="thread")
        fake = Place(place.name, elsewhere)
        with elsewhere, pytest.raises(AssertionError):
            fake.call(asyncio.sleep, 0)

    place.run(main)
