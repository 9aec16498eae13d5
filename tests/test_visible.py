"""`Bridge(visible=True)`: names, stacks, and that nothing else changes. What tools read from outside is in
test_visible_tools."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import sys
import threading
import traceback
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import syncline
from child import run_script
from neutral import of_kind
from places import OPTIONS
from waiting import Gate

needs_tools = pytest.mark.skipif(sys.version_info < (3, 14), reason="awaited-by edges came with Python 3.14")


@pytest.fixture(params=[*OPTIONS, "caller on uvloop"])
def bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    """A visible bridge of each scope, and on uvloop."""
    uvloops = of_kind("uvloop") | {"scope": "caller"}
    with syncline.Bridge(**OPTIONS.get(request.param, uvloops), visible=True) as made:
        yield made


def task_name() -> str:
    """The name of the task that asks."""
    task = asyncio.current_task()
    assert task is not None
    return task.get_name()


def stacks() -> dict[str, list[str]]:
    """The names of the other tasks of this loop, with the functions of their stacks."""
    return {
        task.get_name(): [frame.f_code.co_name for frame in task.get_stack()]
        for task in asyncio.all_tasks()
        if task is not asyncio.current_task()
    }


async def inner(gate: Gate) -> str:
    return await gate.wait()


async def outer(gate: Gate) -> str:
    return await inner(gate)


async def seen_with(gate: Gate, task: Coroutine[Any, Any, Any]) -> dict[str, list[str]]:
    """Runs `task` beside this one until it waits at the gate, and returns what is seen then. For loops that turn only
    in calls, in which nobody else can look."""
    running = asyncio.create_task(task)
    while not gate.entered.acquire(blocking=False):
        await asyncio.sleep(0)
    seen = stacks()
    gate.let_through()
    await running
    return seen


def test_a_task_has_the_name_of_its_function(bridge: syncline.Bridge) -> None:
    """It is the qualified one, whatever way the call is made."""

    async def name() -> str:
        return task_name()

    expected = "test_a_task_has_the_name_of_its_function.<locals>.name"
    assert bridge.run_sync(name) == bridge.run(name()) == bridge.submit(name).result(20) == expected
    assert [each.endswith("name") for each in bridge.map(lambda _: name(), [1])] == [True]


def test_a_name_that_was_given_stays(bridge: syncline.Bridge) -> None:
    """A task of a coroutine's own has its coroutine's name, unless it was given one."""

    async def child() -> str:
        return task_name()

    async def parent() -> list[str]:
        return [await asyncio.create_task(child()), await asyncio.create_task(child(), name="mine")]

    [own, given] = bridge.run_sync(parent)
    assert own.endswith("<locals>.child")
    assert given == "mine"


def test_a_stack_goes_down_to_the_innermost_coroutine(bridge: syncline.Bridge) -> None:
    """`Task.get_stack` shows all coroutines that await each other, not only the first."""
    gate = Gate()
    assert bridge.run_sync(seen_with, gate, outer(gate)) == {"outer": ["outer", "inner", "wait", "wait"]}


def test_a_stack_shows_the_sync_code_between_nested_calls(bridge: syncline.Bridge) -> None:
    """A task that is parked in a nested call has one logical stack, also over many levels."""
    gate = Gate()

    def sync(levels: int) -> str:
        return bridge.run_sync(between, levels - 1) if levels else bridge.run_sync(outer, gate)

    async def between(levels: int) -> str:
        return sync(levels)

    async def from_level(levels: int) -> dict[str, list[str]]:
        return await seen_with(gate, between(levels))

    for levels in (0, 3, 40):
        [(name, stack)] = bridge.run_sync(from_level, levels).items()
        assert name.endswith("between")
        assert stack == ["between", "sync"] * (levels + 1) + ["outer", "inner", "wait", "wait"]


def test_a_limit_keeps_the_innermost_frames(bridge: syncline.Bridge) -> None:
    """As asyncio has it for stacks."""
    gate = Gate()
    found: list[list[str]] = []

    async def look() -> None:
        running = asyncio.create_task(outer(gate))
        while not gate.entered.acquire(blocking=False):
            await asyncio.sleep(0)
        found.extend(
            [frame.f_code.co_name for frame in running.get_stack(limit=count)] for count in (0, 1, 3, 9)
        )
        gate.let_through()
        await running

    bridge.run_sync(look)
    assert found == [[], ["wait"], ["inner", "wait", "wait"], ["outer", "inner", "wait", "wait"]]


def test_a_session_shows_its_generator() -> None:
    """The steps of an async generator have its name, and its frames."""
    gate = Gate()

    async def numbers() -> AsyncIterator[int]:
        await gate.wait()
        yield 1

    with syncline.Bridge(visible=True) as bridge:
        taken: list[int] = []
        taking = threading.Thread(target=lambda: taken.extend(bridge.iterate(numbers())))
        taking.start()
        gate.await_entered()

        async def look() -> dict[str, list[str]]:
            return stacks()

        [(name, stack)] = bridge.run_sync(look).items()
        bridge.call(gate.let_through)
        taking.join(20)
        assert taken == [1]
        assert name.endswith("numbers")
        assert stack == ["numbers", "wait", "wait"]


def test_an_error_has_one_frame_of_ours_at_most(bridge: syncline.Bridge) -> None:
    """Copies of frames show in no traceback, whatever the coroutine was resumed with."""

    async def fails(awaited: asyncio.Future[None]) -> None:
        await awaited

    async def main() -> None:
        future = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(fails(future))
        await asyncio.sleep(0)
        future.set_exception(KeyError("here"))
        await task

    with pytest.raises(KeyError) as raised:
        bridge.run_sync(main)
    frames = traceback.extract_tb(raised.tb)
    ours = [frame.name for frame in frames if frame.filename.startswith(str(Path(syncline.__file__).parent))]
    assert ours in ([], ["syncline_task"])
    assert [frame.name for frame in frames if frame.filename == __file__][1:] == ["main", "fails"]


def test_a_cancelled_call_cleans_up(bridge: syncline.Bridge) -> None:
    """A timeout gets to the coroutine where it is suspended, and the cleanup may await."""
    ends: list[str] = []

    async def cleans_up() -> None:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            ends.append("cleaned up")
            raise

    with pytest.raises(TimeoutError):
        bridge.run(cleans_up(), timeout=0.5)
    assert ends == ["cleaned up"]


def test_a_task_that_is_cancelled_before_its_first_step_ends_at_once(bridge: syncline.Bridge) -> None:
    """Its coroutine never begins, and is not reported as one that nobody has awaited."""
    begun: list[int] = []

    async def child() -> None:
        begun.append(1)

    async def main() -> bool:
        task = asyncio.create_task(child())
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return task.cancelled()

    assert bridge.run_sync(main) is True
    gc.collect()
    assert begun == []


def test_asyncio_s_own_tools_work_in_visible_tasks(bridge: syncline.Bridge) -> None:
    """Timeouts, task groups, gather and shields belong to the task as ever."""

    async def main() -> list[Any]:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(3600)
        async with asyncio.TaskGroup() as group:
            first = group.create_task(asyncio.sleep(0, "a"))
        return [
            first.result(),
            *await asyncio.gather(asyncio.sleep(0, "b"), asyncio.shield(asyncio.sleep(0, "c"))),
        ]

    assert bridge.run_sync(main) == ["a", "b", "c"]


def test_exits_and_results_come_home(bridge: syncline.Bridge) -> None:
    """`SystemExit` and other errors that are no `Exception` reach the caller as the same object."""
    exit_ = SystemExit(3)

    async def leaves() -> None:
        await asyncio.sleep(0)
        raise exit_

    with pytest.raises(SystemExit) as raised:
        bridge.run_sync(leaves)
    assert raised.value is exit_
    assert bridge.run_sync(asyncio.sleep, 0, "on") == "on"


def test_nothing_keeps_what_a_call_had(bridge: syncline.Bridge) -> None:
    """Neither a result, nor an error, nor a task is kept after thousands of calls."""

    class Kept:
        pass

    known: list[weakref.ref[Any]] = []

    async def call(fails: bool) -> None:
        kept = Kept()
        known.append(weakref.ref(kept))
        known.append(weakref.ref(asyncio.current_task()))
        await asyncio.sleep(0)
        if fails:
            raise KeyError

    for index in range(300):
        with contextlib.suppress(KeyError):
            bridge.run_sync(call, index % 2 == 1)
    bridge.run_sync(asyncio.sleep, 0)
    gc.collect()
    assert sum(each() is not None for each in known) <= 2  # those of the last call, until the loop turns


@needs_tools
def test_the_waiting_task_is_known_until_the_call_ends() -> None:
    """A task that awaits a call on another loop, or is parked in one, is its waiter, and nobody is afterwards."""
    gate = Gate()
    with syncline.Bridge(visible=True) as near, syncline.Bridge(visible=True, name="far") as far:

        def work() -> str:
            return far.run_sync(gate.wait)

        async def parked() -> str:
            return far.run_sync(gate.wait)

        async def remote() -> str:
            return await far.run_async(gate.wait)

        async def threaded() -> str:
            return await syncline.to_thread(work)

        async def blocks() -> str:
            return far.run_sync(gate.wait)

        makers: list[Callable[[], Any]] = [
            lambda: near.run_sync(parked),
            lambda: near.run_sync(remote),
            lambda: near.run_sync(threaded),
            lambda: asyncio.run(blocks()),
        ]
        tasks: list[asyncio.Task[Any]] = []

        async def look() -> list[str]:
            tasks[:] = [task for task in asyncio.all_tasks() if task.get_name() == "Gate.wait"]
            waiting = [set(task._asyncio_awaited_by or ()) for task in tasks]  # type: ignore[attr-defined]
            return sorted(task.get_name() for each in waiting for task in each)

        threads = [threading.Thread(target=make) for make in makers]
        for thread in threads:
            thread.start()
        gate.await_entered(4)
        names = [name.rpartition(".")[2] for name in far.run_sync(look)]
        far.call(gate.let_through)
        for thread in threads:
            thread.join(20)
        assert sorted(name for name in names if not name.startswith("Task-")) == [
            "parked",
            "remote",
            "threaded",
        ]
        assert len(names) == 4
        assert not any(task._asyncio_awaited_by for task in tasks)  # type: ignore[attr-defined]


@needs_tools
@pytest.mark.timeout(120)
def test_many_calls_leave_no_waiter_behind() -> None:
    """Whatever way ten thousand awaited calls end, no task of theirs, and no edge, is left."""
    with syncline.Bridge(visible=True) as near, syncline.Bridge(visible=True, name="far") as far:

        async def ends(how: int) -> int:
            await asyncio.sleep(0)
            if how % 3 == 1:
                raise KeyError
            if how % 3 == 2:
                current = asyncio.current_task()
                assert current is not None
                current.cancel()
                await asyncio.sleep(0)
            return how

        async def calls() -> int:
            for index in range(10_000):
                with contextlib.suppress(KeyError, asyncio.CancelledError):
                    await far.run_async(ends, index)
            me = asyncio.current_task()
            return sum(isinstance(each, asyncio.Task) for each in gc.get_referrers(me))

        assert near.run_sync(calls) == 0
        gc.collect()
        assert (
            sum(
                isinstance(each, asyncio.Task) and each.get_name().endswith("ends")
                for each in gc.get_objects()
            )
            <= 1
        )


@needs_tools
def test_a_call_graph_shows_sync_code_and_waiters() -> None:
    """`asyncio.capture_call_graph` goes through a nested call, and on to the task that waits."""
    gate = Gate()
    with syncline.Bridge(visible=True) as near, syncline.Bridge(visible=True, name="far") as far:

        def sync() -> str:
            return far.run_sync(outer, gate)

        async def handle() -> str:
            return sync()

        future = near.submit(handle)
        gate.await_entered()

        async def look() -> tuple[list[str], list[str]]:
            [task] = [task for task in asyncio.all_tasks() if task.get_name() == "outer"]
            graph: Any = asyncio.capture_call_graph(task)  # type: ignore[attr-defined]
            [waiter] = graph.awaited_by
            return tuple(  # type: ignore[return-value]
                [entry.frame.f_code.co_name for entry in each.call_stack] for each in (graph, waiter)
            )

        own, waiters = far.run_sync(look)
        far.call(gate.let_through)
        assert future.result(20) == "through"
        assert own == ["wait", "wait", "inner", "outer"]
        assert waiters == ["sync", "handle"]


def test_a_loop_of_somebody_else_shows_the_calls_alone() -> None:
    """On a loop that the bridge is onto, its own tasks have names; that loop's own tasks are as they were."""

    async def name() -> str:
        return task_name()

    async def main() -> tuple[str, str]:
        with syncline.Bridge(loop=asyncio.get_running_loop(), visible=True) as onto:
            theirs = await asyncio.create_task(name(), name="Task-of-theirs")
            return await asyncio.to_thread(onto.run_sync, name), theirs

    ours, theirs = asyncio.run(main())
    assert ours.endswith("<locals>.name")
    assert theirs == "Task-of-theirs"


def test_a_task_factory_of_the_user_s_decides() -> None:
    """It makes the tasks as it likes, and calls work."""
    made: list[asyncio.Task[Any]] = []

    def factory(loop: Any, coro: Any, **options: Any) -> asyncio.Task[Any]:
        made.append(asyncio.Task(coro, loop=loop, **options))
        return made[-1]

    def new_loop() -> asyncio.AbstractEventLoop:
        loop = asyncio.new_event_loop()
        loop.set_task_factory(factory)
        return loop

    async def this() -> asyncio.Task[Any] | None:
        return asyncio.current_task()

    with syncline.Bridge(loop_factory=new_loop, visible=True) as bridge:
        assert [bridge.run_sync(this)] == made


@pytest.mark.parametrize(
    ("flags", "env", "visible"),
    [
        ((), {}, False),
        (("-X", "dev"), {}, True),
        (("-X", "dev"), {"SYNCLINE_VISIBLE": "0"}, False),
        ((), {"SYNCLINE_VISIBLE": "1"}, True),
        ((), {"SYNCLINE_VISIBLE": "0"}, False),
        ((), {"SYNCLINE_VISIBLE": ""}, False),
    ],
)
def test_the_environment_and_the_development_mode_switch_it_on(
    flags: tuple[str, ...], env: dict[str, str], visible: bool
) -> None:
    """For bridges that don't say, the default one too."""
    script = """
        import asyncio
        import syncline

        async def call():
            return asyncio.current_task().get_name()

        print(syncline.run_sync(call), syncline.Bridge(visible=False).run_sync(call).startswith("Task-"))
        """
    finished = run_script(script, flags=flags, env=env)
    finished.assert_clean()
    assert finished.lines == ["call True"] if visible else finished.lines[0].startswith("Task-")


def test_trio_has_no_such_tools() -> None:
    """Asked for by name it is refused, and by default it is off."""
    with pytest.raises(ValueError, match="visible=True is for asyncio"):
        syncline.Bridge(backend="trio", visible=True)


def test_a_thousand_nested_calls_stay_within_the_recursion_limit(bridge: syncline.Bridge) -> None:
    """The task has more frames than may be awaited below each other."""

    async def level(left: int) -> int:
        if left:
            return bridge.run_sync(level, left - 1) + 1
        await asyncio.sleep(0)
        return 0

    assert bridge.run_sync(level, 1000) == 1000
