"""What becomes of a group's tasks whose loop ends before they do."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

import pytest
import uvloop

import syncline
from child import eventually
from hosts import Theirs, stopping
from places import OPTIONS, in_thread
from syncline import _standing

new_loops = pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


@pytest.fixture(autouse=True)
def frees_what_was_left() -> Iterator[None]:
    """asyncio complains of tasks that are freed before they have ended: here, and not in a later test."""
    yield
    gc.collect()


async def refuses() -> None:
    """Ends by nothing."""
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(60)


async def stops() -> None:
    asyncio.get_running_loop().stop()
    await refuses()


def left_behind(bridge: syncline.Bridge, group: syncline.Group) -> list[syncline.GroupTask[None]]:
    """Two tasks of a group whose loop is stopped by one of them."""
    tasks: list[syncline.GroupTask[None]] = []
    with pytest.raises(syncline.RunnerClosedError), group:
        tasks.extend(group.start(fn) for fn in (refuses, stops))
    return tasks


@pytest.mark.parametrize("nested", ["switch", "thread"])
@pytest.mark.parametrize("kind", ["process", "thread", "uvloop"])
def test_nobody_waits_for_a_task_whose_loop_is_gone(
    make_bridge: Callable[..., syncline.Bridge], kind: str, nested: str
) -> None:
    """Though the task refuses to end: whoever waits, in whatever thread, gets RunnerClosedError, as from a call."""
    bridge = make_bridge(**OPTIONS[kind], nested=nested, cleanup_timeout=0.1)
    tasks = left_behind(bridge, bridge.group())

    def wait() -> None:
        for task in tasks:
            for ask in (task.result, lambda task=task: raised(task.exception())):
                with pytest.raises(syncline.RunnerClosedError):
                    ask()
            assert task.done()
            assert not task.cancelled()

    wait()
    in_thread(wait)


def raised(error: BaseException | None) -> None:
    assert error is not None
    raise error


def test_who_waits_already_is_told(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """On a loop of its own, which goes on. The thread waits as the other loop is stopped, or comes later: either way it
    is freed."""
    bridge = make_bridge(scope="thread", cleanup_timeout=0.1)
    begun = threading.Event()
    seen: list[BaseException] = []

    def wait(task: syncline.GroupTask[None]) -> None:
        begun.set()
        try:
            task.result()
        except BaseException as error:
            seen.append(error)

    threads: list[threading.Thread] = []

    def body() -> None:
        with bridge.group() as group:
            threads.append(threading.Thread(target=wait, args=(group.start(refuses),)))
            threads[0].start()
            begun.wait()
            group.start(stops)

    with pytest.raises(syncline.RunnerClosedError):
        body()
    threads[0].join()
    assert [type(error) for error in seen] == [syncline.RunnerClosedError]


def test_a_task_ends_with_the_loop_of_its_thread(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Scope "caller": a loop that was stopped goes on with its thread's next call, and ends with the thread."""
    bridge = make_bridge(scope="caller", cleanup_timeout=0.1)
    for task in in_thread(lambda: left_behind(bridge, bridge.group())):
        with pytest.raises(syncline.RunnerClosedError):
            task.result()


@new_loops
def test_a_task_ends_with_somebody_elses_loop(new_loop: Callable[[], Any]) -> None:
    """Also one which that loop has never begun, as it was started while nobody ran it."""
    group = syncline.group()
    loop = new_loop()
    tasks: list[syncline.GroupTask[None]] = []

    async def opens() -> None:
        await group.__aenter__()
        tasks.append(group.start(refuses))
        await asyncio.sleep(0)

    loop.run_until_complete(opens())
    tasks.append(group.start(refuses))
    loop.close()
    for task in tasks:
        with pytest.raises(syncline.RunnerClosedError, match="group's loop"):
            task.result()


@contextmanager
def on_a_loop_that_stops(
    new_loop: Callable[[], Any],
) -> Iterator[tuple[Theirs, syncline.GroupTask[None], list[str]]]:
    """A task of a group that a task has entered on a program's own loop, which can be stopped; and what happened."""
    seen: list[str] = []
    made: Future[syncline.GroupTask[None]] = Future()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("was cancelled")

    async def opens() -> None:
        async with syncline.group() as group:
            made.set_result(group.start(waits))
        seen.append("ended")

    with stopping(new_loop) as theirs:
        opening = asyncio.run_coroutine_threadsafe(opens(), theirs.loop)
        yield theirs, made.result(10), seen
        opening.result(10)


@new_loops
@pytest.mark.parametrize("is_stopped_before", [True, False])
def test_who_waits_for_a_task_on_a_loop_that_was_stopped_is_freed(
    new_loop: Callable[[], Any], is_stopped_before: bool
) -> None:
    """As from a call of a `Bridge(loop=...)`. Its call is cancelled, and ends if somebody runs the loop again."""
    with on_a_loop_that_stops(new_loop) as (theirs, task, seen):
        if is_stopped_before:
            theirs.stop()
        with ThreadPoolExecutor() as pool:
            asked = [pool.submit(task.result), pool.submit(lambda: raised(task.exception()))]
            if not is_stopped_before:
                assert eventually(lambda: len(_standing._watched) >= 2)
                theirs.stop()
            for one in asked:
                with pytest.raises(syncline.RunnerClosedError, match="nobody has run it"):
                    one.result(20)
        assert seen == []
        theirs.run()
    assert seen == ["was cancelled", "ended"]


@new_loops
def test_a_task_outlives_a_short_stop_of_its_loop(new_loop: Callable[[], Any]) -> None:
    """As between two `run_until_complete`; and who gives up waiting leaves it alone."""
    with on_a_loop_that_stops(new_loop) as (theirs, task, seen):
        theirs.stop()
        with pytest.raises(TimeoutError):
            task.result(0.3)  # three looks
        theirs.run()
        with pytest.raises(TimeoutError):
            task.result(1.5)
        assert seen == []
        task.cancel()
    assert seen == ["was cancelled", "ended"]
