"""Tasks that trio code of a bridge starts: sync code in them makes nested calls in place, as calls themselves do."""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
import trio
import trio.testing

import syncline
from child import run_script

R = TypeVar("R")


@pytest.fixture(params=["process", "thread"])
def bridge(request: pytest.FixtureRequest) -> Iterator[syncline.Bridge]:
    """A bridge that runs trio and nests in place."""
    with syncline.Bridge(backend="trio", scope=request.param, nested="switch") as bridge:
        yield bridge
        assert bridge.stats()["runners"] <= 1


def in_place(bridge: syncline.Bridge, fn: Callable[..., Awaitable[R]], *args: object) -> R:
    """A nested call, which has to stay in this thread and task."""
    here = threading.get_ident(), trio.lowlevel.current_task()

    async def checked() -> R:
        assert here == (threading.get_ident(), trio.lowlevel.current_task())
        result = await fn(*args)
        assert here == (threading.get_ident(), trio.lowlevel.current_task())
        return result

    return bridge.run_sync(checked)


async def turns(count: int) -> int:
    for _ in range(count):
        await trio.lowlevel.checkpoint()
    return count


@pytest.mark.parametrize("starts", ["start_soon", "start", "grandchild", "system task"])
def test_tasks_of_a_nursery_nest_in_place(bridge: syncline.Bridge, starts: str) -> None:
    """However they are started: they wait for what a sibling does meanwhile, and no thread is started (case 3)."""

    async def main() -> list[str]:
        order: list[str] = []
        opened, over = trio.Event(), trio.Event()

        async def nests(*, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            assert in_place(bridge, turns, 2) == 2
            task_status.started()
            in_place(bridge, opened.wait)
            order.append("child")
            over.set()

        async def parent() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(nests)

        async with trio.open_nursery() as nursery:
            threads = set(threading.enumerate())
            if starts == "start":
                await nursery.start(nests)
            elif starts == "system task":
                trio.lowlevel.spawn_system_task(nests)
            else:
                nursery.start_soon(parent if starts == "grandchild" else nests)
            await trio.testing.wait_all_tasks_blocked()
            order.append("sibling")
            opened.set()
            await over.wait()
            assert set(threading.enumerate()) <= threads
        return order

    assert bridge.run_sync(main) == ["sibling", "child"]


def test_children_of_nested_calls_of_children_nest(bridge: syncline.Bridge) -> None:
    """Each level opens a nursery in a nested call of the one above; 60 levels (case 3)."""

    async def level(left: int) -> int:
        if not left:
            return 0
        found: list[int] = []

        async def child() -> None:
            found.append(in_place(bridge, level, left - 1) + 1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        return found[0]

    assert bridge.run_sync(level, 60) == 60


def test_a_scope_reaches_into_the_nested_calls_of_children(bridge: syncline.Bridge) -> None:
    """Cancelling the nursery, a deadline around it, and the timeout of the call that it is in (cases 28, 50)."""
    log: list[str] = []

    async def waits(name: str) -> None:
        try:
            await trio.sleep_forever()
        finally:
            log.append(name)

    async def child(name: str) -> None:
        bridge.run_sync(waits, name)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, "cancelled")
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        with trio.move_on_after(0.01) as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, "deadline")
        assert scope.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, "timeout")

    with pytest.raises(TimeoutError):
        bridge.run(main(), timeout=1)
    assert log == ["cancelled", "deadline", "timeout"]


def test_a_failing_nested_call_ends_its_siblings(bridge: syncline.Bridge) -> None:
    """With the very error in the nursery's group; `timeout` in a child is its own TimeoutError (case 35)."""
    problem = ValueError("mine")

    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise problem

    async def child() -> None:
        with pytest.raises(TimeoutError, match=r"0\.01 s"):
            bridge.run(trio.sleep_forever(), timeout=0.01)  # noqa: ASYNC105 -- the call awaits it
        bridge.run_sync(fails)

    async def sibling() -> None:
        bridge.run_sync(trio.sleep_forever)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
            nursery.start_soon(sibling)

    with pytest.raises(ExceptionGroup) as caught:
        bridge.run_sync(main)
    assert caught.value.exceptions == (problem,)


def test_dual_objects_are_used_in_the_sync_code_of_children(bridge: syncline.Bridge) -> None:
    """Iterators, generators and managers make their steps in that very task."""
    tasks: set[object] = set()

    @bridge.iterator
    async def count() -> AsyncIterator[int]:
        for number in range(3):
            await trio.lowlevel.checkpoint()
            tasks.add(trio.lowlevel.current_task())
            yield number

    @bridge.generator
    async def echo() -> AsyncGenerator[Any, Any]:
        tasks.add(trio.lowlevel.current_task())
        sent = yield "first"
        await trio.lowlevel.checkpoint()
        yield sent

    @bridge.contextmanager
    async def hold() -> AsyncIterator[str]:
        tasks.add(trio.lowlevel.current_task())
        with trio.CancelScope():
            yield "held"
        await trio.lowlevel.checkpoint()
        tasks.add(trio.lowlevel.current_task())

    def sync() -> list[Any]:
        generator = echo()
        found: list[Any] = [list(count()), next(generator), generator.send("sent")]
        generator.close()
        with hold() as value:
            return [*found, value]

    async def main() -> list[Any]:
        found: list[Any] = []

        async def child() -> None:
            found.extend(sync())
            assert tasks == {trio.lowlevel.current_task()}

        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        return found

    assert bridge.run_sync(main) == [[0, 1, 2], "first", "sent", "held"]


def test_what_children_left_in_the_middle_ends_with_the_bridge() -> None:
    """A child parked in a nested call when the bridge is closed: its cleanup runs, on the loop's thread (case 84)."""
    bridge = syncline.Bridge(backend="trio", nested="switch")
    begun, log = threading.Event(), []

    async def waits() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            log.append(threading.current_thread().name)

    async def child() -> None:
        bridge.run_sync(waits)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    future = bridge.submit(main)
    assert begun.wait(20)
    bridge.close()
    assert log == ["syncline"]
    with pytest.raises(syncline.RunnerClosedError):
        future.result(20)


def test_no_switch_holds_in_children(bridge: syncline.Bridge) -> None:
    """In its block a nested call raises."""

    async def child() -> None:
        with syncline.no_switch(), pytest.raises(RuntimeError, match="no_switch"):
            bridge.run_sync(turns, 1)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)

    bridge.run_sync(main)


def test_without_greenlet_children_go_one_level_deeper() -> None:
    """As all nested calls do there; a warning says so, and nothing fails."""
    end = run_script(
        """
import sys, warnings
sys.modules["greenlet"] = None
warnings.simplefilter("ignore")
import syncline, threading, trio
bridge = syncline.Bridge(backend="trio", name="loop")

async def where():
    await trio.lowlevel.checkpoint()
    return threading.current_thread().name

async def child():
    print(bridge.run_sync(where))

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(child)

bridge.run_sync(main)
"""
    )
    assert end.lines == ["loop-nested-1"]
    end.assert_clean()
