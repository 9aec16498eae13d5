"""Steps of tasks that are made above C code, as in a modal dialog, leave the variables of that code where they are."""

from __future__ import annotations

import asyncio
import functools
import queue
import random
import re
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import greenlet
import pytest
import trio

import syncline
from c_frames import ModalLoop, above, touch
from switching import turns

LEVELS_A_STACK = 16


async def touches(run_sync: Callable[..., Any], depth: int, suspensions: int) -> int:
    """Writes to the variables of the C frames below, in each of so many nested calls."""
    count = touch()
    await turns(suspensions)
    assert touch() == count
    if depth:
        assert run_sync(touches, run_sync, depth - 1, suspensions) == count
        assert touch() == count
    return count


def through_reduce(body: Callable[[], object]) -> None:
    functools.reduce(lambda _, __: above(body, size=100), [0, 1])


def through_sorted(body: Callable[[], object]) -> None:
    sorted([0], key=lambda _: above(body, size=1_000) or 0)


def through_re(body: Callable[[], object]) -> None:
    re.sub("a", lambda _: above(body, size=5_000) or "", "a")


frames = pytest.mark.parametrize("frames", [above, through_reduce, through_sorted, through_re])


@pytest.mark.parametrize("scope", ["caller", "process", "thread"])
@pytest.mark.parametrize("suspensions", [0, 2])
@pytest.mark.parametrize("depth", [0, 1, 2 * LEVELS_A_STACK + 1])
@frames
def test_a_call_above_c_code_leaves_its_variables_alone(
    frames: Callable[[Callable[[], object]], None],
    depth: int,
    suspensions: int,
    scope: str,
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """A thread calls early, with a short stack, and later above C code: nothing of that is moved away meanwhile."""
    bridge = make_bridge(scope=scope)
    bridge.run_sync(touches, bridge.run_sync, 2 * depth, suspensions)
    called: list[int] = []
    for count in range(1, 9):

        def nest(levels: int) -> None:
            if levels:
                frames(lambda: nest(levels - 1))
            elif scope == "caller":
                called.append(bridge.run_sync(touches, bridge.run_sync, depth, suspensions))
            else:
                # The C frames are the calling thread's; its loop's thread has others, and none of them.
                assert bridge.run_sync(touches, bridge.run_sync, depth, suspensions) == 0
                called.append(touch())

        nest(count)
    assert called == list(range(1, 9))


def test_a_call_from_any_depth_leaves_c_variables_alone(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Deeper and less deep, in any order: whichever greenlet is at rest, the variables are in their place."""
    bridge = make_bridge(scope="caller")
    chance = random.Random(3)

    def calls(levels: int) -> None:
        assert (
            bridge.run_sync(touches, bridge.run_sync, chance.choice([0, 1, 17]), chance.choice([0, 1])) >= 0
        )
        if levels:
            above(lambda: calls(levels - 1), size=chance.choice([16, 200, 3_000, 9_000, 70_000]))
        assert bridge.run_sync(touches, bridge.run_sync, 0, 1) >= 0

    for _ in range(20):
        calls(chance.randrange(1, 12))


def run_modal(main: Callable[[ModalLoop], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=ModalLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, ModalLoop)
        runner.run(syncline.nestable(main)(loop))


@pytest.mark.parametrize("dialogs", [1, 2, 5])
def test_an_installed_loop_goes_on_in_dialogs_of_dialogs(dialogs: int) -> None:
    """Callbacks open dialogs, in which tasks make steps, in which callbacks open dialogs."""

    async def main(loop: ModalLoop) -> None:
        syncline.install()
        finished: list[int] = []
        await asyncio.gather(*(asyncio.create_task(turns(3)) for _ in range(3)))

        async def in_dialog(level: int) -> None:
            finished.append(await touches(syncline.run_sync, 1, 2))
            assert finished[-1] == level
            if level < dialogs:
                await opened(level + 1)
            touch()

        async def opened(level: int) -> None:
            ended = loop.create_future()

            def open_dialog() -> None:
                task = loop.create_task(in_dialog(level))
                loop.open_dialog(task.done)
                ended.set_result(task.result())

            loop.call_soon(open_dialog)
            await ended

        await opened(1)
        assert finished == list(range(1, dialogs + 1))

    run_modal(main)


def test_a_task_that_began_before_the_dialog_goes_on_in_it() -> None:
    """Its next steps are made by another greenlet, where its own would lie over the dialog's C code."""

    async def main(loop: ModalLoop) -> None:
        syncline.install()
        go_on = asyncio.Event()
        seen: list[int] = []

        async def background() -> None:
            await turns(2)
            await go_on.wait()
            seen.append(await touches(syncline.run_sync, 1, 2))

        tasks = [loop.create_task(background()) for _ in range(3)]
        await turns(4)
        ended = loop.create_future()

        def dialog() -> None:
            go_on.set()
            loop.open_dialog(lambda: all(task.done() for task in tasks))
            ended.set_result(None)

        loop.call_soon(dialog)
        await ended
        await asyncio.gather(*tasks)
        assert seen == [1, 1, 1]

    run_modal(main)


def test_sync_code_of_a_task_opens_a_dialog_in_which_others_go_on() -> None:
    """The dialog lies on a greenlet's stack then, and the others' steps beside it."""

    async def main(loop: ModalLoop) -> None:
        syncline.install()
        go_on = asyncio.Event()

        async def background() -> int:
            await go_on.wait()
            return await touches(syncline.run_sync, 1, 2)

        tasks = [loop.create_task(background()) for _ in range(3)]
        await turns(2)

        def sync_code() -> int:
            go_on.set()
            loop.open_dialog(lambda: all(task.done() for task in tasks))
            return syncline.run_sync(turns, 2)

        assert sync_code() == 2
        assert await asyncio.gather(*tasks) == [1, 1, 1]

    run_modal(main)


@pytest.mark.parametrize("is_let_go", [True, False], ids=["let go", "held"])
def test_a_greenlet_that_was_held_stays_with_its_task_only_as_long_as_it_is(is_let_go: bool) -> None:
    """Libraries such as SQLAlchemy switch to the greenlet that they began in; once they are done, it is any other."""

    async def main(loop: ModalLoop) -> None:
        syncline.install()
        held: list[object] = []
        used: list[bool] = []
        go_on = asyncio.Event()

        async def holds() -> None:
            held.append(greenlet.getcurrent())
            await go_on.wait()
            used.append(greenlet.getcurrent() in held)
            if is_let_go:
                touch()

        task = loop.create_task(holds())
        await turns(2)
        if is_let_go:
            held.clear()
        ended = loop.create_future()

        def dialog() -> None:
            go_on.set()
            loop.open_dialog(task.done, size=8_000 if is_let_go else 0)
            ended.set_result(None)

        loop.call_soon(dialog)
        await ended
        await task
        assert used == [not is_let_go]

    run_modal(main)


def test_a_trio_guest_goes_on_in_a_dialog() -> None:
    """A trio run that is a guest of a GUI's loop makes steps wherever that loop is turned."""
    jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
    ended: list[Any] = []
    seen: list[int] = []

    async def in_dialog() -> None:
        for _ in range(3):
            await trio.sleep(0.001)
            seen.append(touch())

    async def main() -> None:
        syncline.install()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep, 0)
        closed = trio.Event()

        def dialog() -> None:
            above(lambda: turn_until(lambda: len(seen) == 3))
            closed.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(in_dialog)
            jobs.put(dialog)
            await closed.wait()

    def turn_until(is_done: Callable[[], bool]) -> None:
        while not is_done():
            jobs.get(timeout=20)()

    trio.lowlevel.start_guest_run(main, run_sync_soon_threadsafe=jobs.put, done_callback=ended.append)
    turn_until(lambda: bool(ended))
    ended[0].unwrap()
    assert 1 in seen
    assert set(seen) <= {0, 1}


def test_few_greenlets_serve_calls_from_many_depths(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """A thread's greenlets serve every depth that is near to theirs, and don't pile up."""
    bridge = make_bridge(scope="caller")
    used: set[int] = set()

    async def notes() -> None:
        used.add(id(greenlet.getcurrent()))

    def calls(levels: int) -> None:
        bridge.run_sync(notes)
        if levels:
            above(lambda: calls(levels - 1), size=16)

    def in_thread() -> None:
        for _ in range(20):
            calls(30)

    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert len(used) < 20
