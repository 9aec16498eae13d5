"""run_in_new_loop: a loop of its own for one call, which leaves nothing."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import syncline
from places import in_asyncio, in_trio, in_uvloop, on_our_loop

current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="unset")


async def where(*args: Any, **kwargs: Any) -> tuple[asyncio.AbstractEventLoop, threading.Thread, Any, Any]:
    await asyncio.sleep(0)
    return asyncio.get_running_loop(), threading.current_thread(), args, kwargs


places = pytest.mark.parametrize("inside", [lambda body: body(), in_asyncio, in_uvloop, in_trio, on_our_loop])
loops = pytest.mark.parametrize("inside", [in_asyncio, in_uvloop, in_trio, on_our_loop])


def test_it_runs_in_this_thread_where_no_loop_does() -> None:
    """With arguments; the loop is a new one each time, and closed."""
    loop, thread, args, kwargs = syncline.run_in_new_loop(where, 1, x=2)
    other, *_ = syncline.run_in_new_loop(where)
    assert thread is threading.current_thread()
    assert (args, kwargs) == ((1,), {"x": 2})
    assert loop is not other
    assert loop.is_closed()
    assert other.is_closed()


@loops
def test_it_runs_on_a_new_thread_where_a_loop_does(leaks_nothing: None, inside: Callable[..., Any]) -> None:
    """From a trio thread as well; thread and loop are gone afterwards (case 11)."""

    def body() -> tuple[Any, threading.Thread]:
        loop, thread, *_ = syncline.run_in_new_loop(where)
        assert thread is not threading.current_thread()
        return loop, thread

    loop, thread = inside(body)
    assert loop.is_closed()
    thread.join(20)
    assert not thread.is_alive()


@places
def test_contextvars_flow_both_ways(inside: Callable[..., Any]) -> None:
    """As with run_sync."""

    async def change() -> str:
        before = current.get()
        current.set("changed")
        return before

    def body() -> tuple[str, str]:
        current.set("mine")
        return syncline.run_in_new_loop(change), current.get()

    assert contextvars.copy_context().run(inside, body) == ("mine", "changed")


@places
def test_what_it_leaves_is_cleaned_up_first(inside: Callable[..., Any]) -> None:
    """Background tasks are cancelled, async generators closed, before it returns."""
    steps = []

    async def background() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            steps.append("task")

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            steps.append("generator")

    kept: list[Any] = []

    async def main() -> None:
        kept.extend([asyncio.create_task(background()), numbers()])
        await anext(kept[1])

    def body() -> list[str]:
        syncline.run_in_new_loop(main)
        return sorted(steps)

    assert inside(body) == ["generator", "task"]


@places
def test_errors_arrive_as_they_are(inside: Callable[..., Any]) -> None:
    """Also SystemExit (case 48)."""

    async def fail(error: BaseException) -> None:
        raise error

    def body() -> None:
        for error in (ValueError("problem"), SystemExit(3)):
            with pytest.raises(type(error)) as caught:
                syncline.run_in_new_loop(fail, error)
            assert caught.value is error

    inside(body)


def test_it_nests() -> None:
    """Each level has a loop of its own."""

    async def level(depth: int) -> int:
        return 1 + syncline.run_in_new_loop(level, depth - 1) if depth else 0

    assert syncline.run_in_new_loop(level, 5) == 5


def test_a_sync_function_is_refused() -> None:
    """With the right call."""

    def load() -> None: ...

    with pytest.raises(TypeError, match=r"call it directly: load\(\.\.\.\)"):
        syncline.run_in_new_loop(load)


async def calls_the_one_that_waits() -> str:
    return syncline.run_sync(asyncio.sleep, 0, "done")


def test_a_wait_for_the_loop_whose_task_waits_for_it_works() -> None:
    """That task is parked, and its loop goes on (case 6)."""

    async def waits() -> str:
        return syncline.submit(asyncio.sleep, 0, "done").result()

    async def outer() -> str:
        return syncline.run_in_new_loop(waits)

    assert syncline.run_sync(outer) == "done"


def test_a_wait_for_the_loop_that_waits_for_it_is_an_error() -> None:
    """Two loops, each of which waits for the other: the first one's tasks can't switch (case 6)."""
    with syncline.Bridge(nested="thread") as bridge:

        async def outer() -> None:
            future = bridge.submit(asyncio.sleep, 0)  # on this very loop

            async def waits() -> None:
                future.result()

            syncline.run_in_new_loop(waits)

        with pytest.raises(syncline.DeadlockError):
            bridge.run_sync(outer)


def test_what_is_submitted_to_the_bridge_of_the_loop_that_waits_runs_on_another_loop() -> None:
    """Whoever has submitted it may wait for it."""
    with syncline.Bridge(nested="thread") as bridge:

        async def answer() -> int:
            return 42

        async def submits() -> int:
            return bridge.submit(answer).result()

        async def outer() -> int:
            return syncline.run_in_new_loop(submits)

        assert bridge.run_sync(outer) == 42


def test_a_call_to_the_loop_that_waits_for_it_works() -> None:
    """It runs beside what waits (case 3)."""

    async def outer() -> str:
        return syncline.run_in_new_loop(calls_the_one_that_waits)

    assert syncline.run_sync(outer) == "done"
