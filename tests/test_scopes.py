"""Which loop gets a call, in each scope, and what runs inside."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import syncline


async def where() -> tuple[int, str]:
    return id(asyncio.get_running_loop()), threading.current_thread().name


def in_threads(bridge: syncline.Bridge, count: int) -> list[tuple[int, str]]:
    """Calls from threads that all live at the same time (the barrier sees to that)."""
    barrier = threading.Barrier(count)

    def call() -> tuple[int, str]:
        first = bridge.run_sync(where)
        assert bridge.run_sync(where) == first
        barrier.wait()
        return first

    with ThreadPoolExecutor(count, thread_name_prefix="caller") as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(count)]]


def test_process_one_loop_for_all_threads() -> None:
    """On a thread of its own, named after the bridge."""
    with syncline.Bridge(name="shared") as bridge:
        found = in_threads(bridge, 4)
        assert len(set(found)) == 1
        assert found[0][1] == "shared"


def test_thread_one_loop_for_each_thread() -> None:
    """On threads named after bridge and caller (case 63)."""
    with syncline.Bridge(scope="thread", name="mine") as bridge:
        found = in_threads(bridge, 4)
        assert len({loop for loop, _ in found}) == 4
        assert all(name.startswith("mine-thread-caller") for _, name in found)


def test_caller_the_threads_own_loop_and_no_other_thread() -> None:
    """The coroutine runs in the thread that calls."""
    with syncline.Bridge(scope="caller", name="own") as bridge:
        found = in_threads(bridge, 4)
        assert len({loop for loop, _ in found}) == 4
        assert all(name.startswith("caller") for _, name in found)
        assert bridge.run_sync(where)[1] == threading.current_thread().name
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("own")]


def test_caller_inside_a_running_loop_uses_the_process_runner() -> None:
    """The thread's own loop can't run while another does."""
    with syncline.Bridge(scope="caller", name="other") as bridge:

        async def main() -> str:
            return bridge.run_sync(where)[1]

        assert asyncio.run(main()) == "other"


def test_caller_background_tasks_move_only_during_calls() -> None:
    """Between two calls a task stands still; each call gives it a turn, even one that never suspends."""
    steps = 0

    async def background() -> None:
        nonlocal steps
        while True:
            steps += 1
            await asyncio.sleep(0)

    async def begin() -> asyncio.Task[None]:
        return asyncio.create_task(background())

    async def nothing() -> None:
        pass

    with syncline.Bridge(scope="caller") as bridge:
        task = bridge.run_sync(begin)
        seen = steps
        for _ in range(3):
            bridge.run_sync(nothing)
            assert steps > seen
            seen = steps
        assert steps == seen
        task.cancel()


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
@pytest.mark.parametrize("suspend", [False, True])
def test_a_call_is_a_proper_task(scope: str, suspend: bool) -> None:
    """current_task, its name and coroutine, timeouts and task groups work, suspended or not (case 17)."""

    async def check() -> str:
        if suspend:
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert task in asyncio.all_tasks()
        assert "check" in repr(task)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        async with asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(0, "child"))
        return child.result()

    with syncline.Bridge(scope=scope) as bridge:  # type: ignore[arg-type]
        assert bridge.run_sync(check) == "child"


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_a_calls_running_loop_is_not_left_set(scope: str) -> None:
    """After a call the calling thread has no running loop, and no current one."""
    with syncline.Bridge(scope=scope) as bridge:  # type: ignore[arg-type]
        bridge.run_sync(where)
        with pytest.raises(RuntimeError, match="no running event loop"):
            asyncio.get_running_loop()


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_what_one_call_gathers_the_next_one_awaits(scope: Any) -> None:
    """Also on the thread's own loop, which stands still between the two."""

    async def gather() -> asyncio.Future[list[int]]:
        return asyncio.gather(asyncio.sleep(0.001, 1), asyncio.sleep(0, 2))

    with syncline.Bridge(scope=scope) as bridge:
        assert bridge.run(bridge.run_sync(gather)) == [1, 2]
