"""syncline.install() in a trio run: the tasks that are spawned from then on make nested calls in place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import pytest
import trio
import trio.testing

import syncline
from child import Child, run_script

R = TypeVar("R")


@pytest.fixture
def bridge() -> Iterator[syncline.Bridge]:
    """One of the test's own, which has made no runner when the test ends: all calls were made in place."""
    with syncline.Bridge(backend="trio", nested="switch", roams=True) as bridge:
        yield bridge
        assert bridge.stats()["runners"] == 0


def in_place(bridge: syncline.Bridge, fn: Callable[..., Awaitable[R]], *args: object) -> R:
    """A nested call, which has to stay in this thread and task, and to start no thread."""
    here = threading.get_ident(), trio.lowlevel.current_task()
    threads = set(threading.enumerate())

    async def checked() -> R:
        assert here == (threading.get_ident(), trio.lowlevel.current_task())
        result = await fn(*args)
        assert here == (threading.get_ident(), trio.lowlevel.current_task())
        return result

    result = bridge.run_sync(checked)
    assert here == (threading.get_ident(), trio.lowlevel.current_task())
    assert set(threading.enumerate()) <= threads
    return result


async def turns(count: int) -> int:
    for _ in range(count):
        await trio.lowlevel.checkpoint()
    return count


def test_tasks_spawned_in_an_installed_run_await_in_place(bridge: syncline.Bridge) -> None:
    """A nested call waits for what another task does: the run goes on meanwhile. Children of such tasks nest, too."""

    async def main() -> list[str]:
        order: list[str] = []
        opened = trio.Event()

        async def child() -> None:
            in_place(bridge, opened.wait)
            order.append("child")

        async def parent() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
            assert in_place(bridge, turns, 3) == 3
            order.append("parent")

        async def opener() -> None:
            await turns(5)
            order.append("opener")
            opened.set()

        syncline.install()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(parent)
            nursery.start_soon(opener)
        return order

    assert trio.run(main) == ["opener", "child", "parent"]


def test_many_tasks_are_parked_at_once(bridge: syncline.Bridge) -> None:
    """300 nested calls, all suspended in the same moment, and one that is 200 deep."""

    async def main() -> int:
        opened = trio.Event()
        waiting = ended = 0

        async def wait() -> None:
            nonlocal waiting
            waiting += 1
            await opened.wait()

        async def nests() -> None:
            nonlocal ended
            bridge.run_sync(wait)
            ended += 1

        async def level(left: int) -> int:
            await trio.lowlevel.checkpoint()
            return bridge.run_sync(level, left - 1) + 1 if left else 0

        async def deep() -> None:
            assert await level(200) == 200

        syncline.install()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deep)
            for _ in range(300):
                nursery.start_soon(nests)
            while waiting < 300:
                await trio.lowlevel.checkpoint()
            assert ended == 0
            opened.set()
        return ended

    assert trio.run(main) == 300


def test_undoing_it_concerns_the_tasks_spawned_afterwards() -> None:
    """Those that nest go on nesting; and it can be undone again, and after the run."""
    with syncline.Bridge(backend="trio", roams=True) as bridge:

        async def where() -> int:
            return threading.get_ident()

        async def nests() -> bool:
            return bridge.run_sync(where) == threading.get_ident()

        async def main() -> Callable[[], None]:
            found: list[bool] = []
            undone = trio.Event()

            async def early() -> None:
                await undone.wait()
                found.append(await nests())

            async def late() -> None:
                found.append(await nests())

            assert not await nests()  # this task was spawned before
            undo = syncline.install()
            again = syncline.install()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(early)
                await turns(2)
                undo()
                undo()
                again()
                undone.set()
            assert found == [True]
            async with trio.open_nursery() as nursery:
                nursery.start_soon(late)
            assert found == [True, False]
            return syncline.install()

        trio.run(main)()


def test_cancel_scopes_reach_into_nested_calls(bridge: syncline.Bridge) -> None:
    """At the innermost wait, 100 levels deep; each level cleans up, awaiting under a shield; deadlines and the call's
    own timeout do so, too."""
    ended: list[int] = []

    async def level(left: int) -> None:
        try:
            if left:
                bridge.run_sync(level, left - 1)
            else:
                await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await turns(1)
            ended.append(left)

    async def times_out() -> None:
        with pytest.raises(TimeoutError, match=r"0\.01 s"):
            bridge.run(trio.sleep_forever(), timeout=0.01)  # noqa: ASYNC105 -- the call awaits it
        with trio.move_on_after(0.01) as scope:  # noqa: ASYNC100 -- the nested call awaits
            in_place(bridge, trio.sleep_forever)
        assert scope.cancelled_caught

    async def main() -> None:
        syncline.install()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(level, 100)
            await trio.testing.wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert ended == list(range(101))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(times_out)

    trio.run(main)


def test_errors_of_nested_calls_end_their_nursery(bridge: syncline.Bridge) -> None:
    """A task that fails in a nested call cancels its siblings, and the group has the very error."""
    error = ValueError("mine")

    async def fails() -> None:
        await trio.lowlevel.checkpoint()
        raise error

    async def nests() -> None:
        bridge.run_sync(fails)

    async def main() -> None:
        syncline.install()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nests)
            nursery.start_soon(trio.sleep_forever)

    with pytest.raises(ExceptionGroup) as caught:
        trio.run(main)
    assert caught.value.exceptions == (error,)


def test_an_installed_task_looks_like_the_users(bridge: syncline.Bridge) -> None:
    """Its name, its coroutine's frame, and the frames it waits in, for debuggers; also what `start` hands over."""

    async def child(*, task_status: trio.TaskStatus[trio.lowlevel.Task]) -> None:
        task_status.started(trio.lowlevel.current_task())
        await trio.sleep_forever()

    async def main() -> None:
        syncline.install()
        async with trio.open_nursery() as nursery:
            task = await nursery.start(child)
            assert task.name.endswith("child")
            assert task.coro.cr_code is child.__code__
            assert task.coro.__name__ == "child"
            await trio.testing.wait_all_tasks_blocked()
            names = [frame.f_code.co_name for frame, _ in task.iter_await_frames()]
            assert names[0] == "child"
            assert len(names) > 1
            nursery.cancel_scope.cancel()

    trio.run(main)


def test_a_bridges_own_trio_run_can_be_installed() -> None:
    """backend="trio": the children of its tasks nest then, too."""
    with syncline.Bridge(backend="trio", nested="switch", roams=True) as bridge:

        async def child(found: list[int]) -> None:
            found.append(in_place(bridge, turns, 2))

        async def main() -> list[int]:
            found: list[int] = []
            undo = syncline.install()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child, found)
            undo()
            return found

        assert bridge.run_sync(main) == [2]
        assert bridge.stats()["runners"] == 1


CTRL_C = """
    import syncline, trio
    bridge = syncline.Bridge(backend="trio", roams=True)

    def busy():
        print("busy", flush=True)
        while True:
            pass

    async def inner():
        await trio.lowlevel.checkpoint()
        busy()

    async def waits():
        try:
            print("waits", flush=True)
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            print("cleaned up", flush=True)

    async def child(fn):
        bridge.run_sync(fn)

    async def main(fn):
        syncline.install()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, fn)
"""


@pytest.mark.parametrize("fn", ["inner", "waits"])
def test_ctrl_c_ends_a_run_whose_tasks_nest(fn: str) -> None:
    """Raised in the sync code below a nested call that computes, as trio would there; and where the task waits, it
    cancels it."""
    script = (
        CTRL_C
        + f"""
    try:
        trio.run(main, {fn})
    except* KeyboardInterrupt:
        print("interrupted", flush=True)
    """
    )
    with Child(script) as child:
        child.expect("busy" if fn == "inner" else "waits")
        child.signal(signal.SIGINT)
        finished = child.finish()
    cleaned_up = [] if fn == "inner" else ["cleaned up"]
    assert finished.lines == [*cleaned_up, "interrupted"]
    finished.assert_clean()


def test_without_greenlet_installing_says_what_to_install() -> None:
    """ImportError where it is asked for, not a message in trio's log."""
    finished = run_script(
        """
    import sys
    sys.modules["greenlet"] = None
    import syncline, trio

    async def main():
        try:
            syncline.install()
        except ImportError as error:
            print(error)

    trio.run(main)
    """
    )
    assert len(finished.lines) == 1
    assert "pip install greenlet" in finished.lines[0]
    finished.assert_clean()
