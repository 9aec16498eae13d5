"""close() lets what is open come to its end: cleanup that needs other threads, managers, what is started on the way."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvloop

import syncline
from closing import Caller, is_closed_error

pytestmark = pytest.mark.timeout(60)
kinds = pytest.mark.parametrize(
    "options",
    [
        {},
        {"scope": "thread"},
        {"scope": "caller"},
        {"nested": "thread"},
        {"loop_factory": uvloop.new_event_loop},
        {"scope": "caller", "loop_factory": uvloop.new_event_loop},
    ],
    ids=["process", "thread", "caller", "nested in threads", "uvloop", "caller, uvloop"],
)


async def to_thread(log: list[str]) -> None:
    await syncline.to_thread(log.append, "cleaned")


async def from_thread(log: list[str]) -> None:
    async def back() -> None:
        await asyncio.sleep(0)
        log.append("cleaned")

    await syncline.to_thread(syncline.from_thread, back)


async def gathered(log: list[str]) -> None:
    async def part() -> None:
        await syncline.to_thread(int)

    await gather_parts(part)
    log.append("cleaned")


async def gather_parts(part: Callable[[], Any]) -> None:
    async with syncline.create_gather_task_group() as group:
        for _ in range(3):
            group.start_soon(part)


async def executor(log: list[str]) -> None:
    await asyncio.to_thread(log.append, "cleaned")


@kinds
@pytest.mark.parametrize("cleanup", [to_thread, from_thread, gathered, executor])
@pytest.mark.parametrize("what", ["task", "generator", "iterator", "manager"])
def test_cleanup_may_use_worker_threads(
    options: dict[str, Any], cleanup: Callable[[list[str]], Awaitable[None]], what: str
) -> None:
    """What a `finally` awaits of a worker thread comes, though the loop takes no calls any more."""
    log: list[str] = []
    keep: list[object] = []

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.sleep(3600)
        finally:
            await cleanup(log)
            log.append("over")

    async def task() -> None:
        async for _ in generator():
            await asyncio.sleep(3600)

    async def start() -> None:
        if what == "task":
            keep.append(asyncio.create_task(task()))
        else:
            keep.append(generator())
            await anext(keep[0])  # type: ignore[call-overload]
        await asyncio.sleep(0)

    with syncline.Bridge(cleanup_timeout=20.0, **options) as bridge:
        if what == "iterator":
            keep.append(bridge.iterate(generator()))
            next(keep[0])  # type: ignore[call-overload]
        elif what == "manager":
            keep.append(bridge.enter(contextlib.asynccontextmanager(generator)()))
            keep[0].__enter__()  # type: ignore[attr-defined]
        else:
            bridge.run_sync(start)
    if what == "task":
        keep.clear()
        gc.collect()
    assert log == ["cleaned", "over"]


@kinds
def test_a_worker_that_is_under_way_as_the_loop_ends_is_waited_for(options: dict[str, Any]) -> None:
    """Its result reaches the cleanup that awaits it: the worker ends only when the bridge has begun to close."""
    log: list[str] = []
    closing = threading.Event()

    async def background() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            closing.set()
            log.append(await asyncio.shield(asyncio.ensure_future(worker())))

    async def worker() -> str:
        return await syncline.to_thread(closing.wait, 10) and "came"

    async def start() -> None:
        syncline.create_task(background())
        await asyncio.sleep(0)

    with syncline.Bridge(cleanup_timeout=20.0, **options) as bridge:
        bridge.run_sync(start)
    assert log == ["came"]


@kinds
def test_tasks_that_cleanup_starts_end_too(options: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is left pending on a loop that is closed, whoever started it, and when."""
    ended: list[str] = []

    async def last(name: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(name)

    async def background() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            syncline.create_task(last("of a task"))
            await asyncio.sleep(0)

    async def generator() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            syncline.create_task(last("of a generator"))
            await asyncio.sleep(0)

    keep: list[AsyncIterator[int]] = []

    async def start() -> None:
        syncline.create_task(background())
        keep.append(generator())
        await anext(keep[0])

    with caplog.at_level(logging.DEBUG), syncline.Bridge(cleanup_timeout=5.0, **options) as bridge:
        bridge.run_sync(start)
    gc.collect()
    assert sorted(ended) == ["of a generator", "of a task"]
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG] == []


@kinds
def test_a_generator_that_is_dropped_while_its_loop_ends_is_closed(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """asyncio closes such a one in a task of its own: the loop waits for that."""
    log: list[str] = []
    keep: list[AsyncIterator[int]] = []

    async def dropped() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            log.append("closed")

    async def background() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            # Interleaving: the last turn before the loop closes its generators; it knows nothing of this one any more.
            keep.clear()

    async def start() -> None:
        keep.append(dropped())
        await anext(keep[0])
        syncline.create_task(background())
        await asyncio.sleep(0)

    with caplog.at_level(logging.WARNING), syncline.Bridge(cleanup_timeout=5.0, **options) as bridge:
        bridge.run_sync(start)
    gc.collect()
    assert log == ["closed"]
    assert caplog.records == []


@kinds
@pytest.mark.parametrize("within", ["the program", "a task", "a manager"])
def test_a_manager_is_left_before_what_it_holds_open_is_waited_for(
    options: dict[str, Any], within: str
) -> None:
    """A child task that can end only once its manager has begun to leave holds up nobody."""
    left: list[str] = []
    entered: list[Any] = []

    @contextlib.asynccontextmanager
    async def server() -> AsyncIterator[str]:
        stopped = asyncio.Event()

        async def reader() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                await stopped.wait()

        async with asyncio.TaskGroup() as group:
            group.create_task(reader())
            await asyncio.sleep(0)
            try:
                yield "connection"
            finally:
                stopped.set()
                left.append("left")

    async def hold() -> None:
        async with server():
            await asyncio.sleep(3600)

    async def start() -> None:
        syncline.create_task(hold())
        await asyncio.sleep(0)

    bridge = syncline.Bridge(cleanup_timeout=20.0, **options)
    if within == "a task":
        bridge.run_sync(start)
    else:
        for _ in range(1 + (within == "a manager")):
            entered.append(bridge.enter(server()))
            entered[-1].__enter__()
    loop = asyncio.new_event_loop()
    begun = loop.time()
    bridge.close()
    assert loop.time() - begun < 8
    loop.close()
    assert set(left) == {"left"}


def test_an_iterator_that_is_dropped_while_its_bridge_is_closed_says_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is closed with its loop; a destructor has nobody to tell that the bridge is closed."""
    ignored: list[str] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda it: ignored.append(repr(it.exc_value)))
    began, closing, dropped = threading.Event(), threading.Event(), threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            # Interleaving: the bridge is closed while the drop below waits for this.
            closing.set()
            await asyncio.sleep(3600)

    for scope in ("process", "thread", "caller"):
        closing.clear()
        bridge = syncline.Bridge(scope=scope, cleanup_timeout=5.0)  # type: ignore[arg-type]

        def drop(bridge: syncline.Bridge = bridge) -> None:
            it = bridge.iterate(numbers())
            next(it)
            began.set()
            del it
            dropped.set()

        dropping = Caller(drop)
        assert closing.wait(10)
        bridge.close()
        assert dropping.has_got.wait(10)
        assert dropping.got is None
    assert ignored == []


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_a_second_close_waits_for_the_first(scope: Any) -> None:
    """Whoever closes a bridge finds its loops ended afterwards, also where another thread has begun that."""
    bridge = syncline.Bridge(scope=scope, cleanup_timeout=20.0)
    begun, cleaning, go_on = threading.Event(), threading.Event(), threading.Event()
    cleaned: list[bool] = []

    async def work() -> None:
        asyncio.get_running_loop().call_soon(begun.set)
        try:
            await asyncio.sleep(3600)
        finally:
            cleaning.set()
            await asyncio.to_thread(go_on.wait, 10)
            cleaned.append(True)

    def close() -> list[bool]:
        bridge.close()
        return list(cleaned)

    caller = Caller(lambda: bridge.run_sync(work))
    assert begun.wait(10)
    first = Caller(close)
    assert cleaning.wait(10)
    # Interleaving: the first close waits for the cleanup when the second one begins.
    second = Caller(close)
    assert not second.has_got.wait(0.1)
    go_on.set()
    for each in (first, second, caller):
        assert each.has_got.wait(10)
    assert first.got == second.got == [True]
    assert is_closed_error(caller.got)


def test_a_close_while_a_first_call_starts_ends_that_call() -> None:
    """The loop that is being made then is closed as well, and its caller is told."""
    making, go_on = threading.Event(), threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    def factory() -> asyncio.AbstractEventLoop:
        making.set()
        assert go_on.wait(10)
        loops.append(asyncio.new_event_loop())
        return loops[0]

    bridge = syncline.Bridge(loop_factory=factory)
    caller = Caller(lambda: bridge.run_sync(asyncio.sleep, 0))
    assert making.wait(10)
    # Interleaving: the close comes while the loop's thread is in the factory.
    closing = Caller(bridge.close)
    while not bridge.closed:
        pass
    go_on.set()
    assert closing.has_got.wait(10)
    assert caller.has_got.wait(10)
    assert closing.got is None
    assert is_closed_error(caller.got)
    assert loops[0].is_closed()


@kinds
def test_a_close_in_a_coroutine_of_the_bridge_returns(options: dict[str, Any]) -> None:
    """It can't wait for the loop that it runs on: that one ends when the coroutine does."""
    bridge = syncline.Bridge(cleanup_timeout=5.0, **options)
    seen: list[Any] = []

    async def closes() -> None:
        seen.append(asyncio.get_running_loop())
        bridge.close()
        bridge.close()
        seen.append("closed")
        await asyncio.sleep(0)

    with contextlib.suppress(syncline.RunnerClosedError):
        bridge.run_sync(closes)
    bridge.close()
    assert seen[1] == "closed"
    assert seen[0].is_closed()


def test_a_step_that_ends_while_the_bridge_closes_leaves_an_iterator_that_is_closed() -> None:
    """It was in the middle of a step when those between two steps were closed, and is between two when tasks are
    cancelled, which it refuses then: it is closed, too, and not waited for in vain."""
    log: list[str] = []
    bridge = syncline.Bridge(cleanup_timeout=30.0)
    go_on, is_in_step = asyncio.Event(), threading.Event()

    async def first() -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            go_on.set()
            for _ in range(5):
                await asyncio.sleep(0)
            log.append("first")

    async def second() -> AsyncIterator[int]:
        try:
            is_in_step.set()
            await go_on.wait()
            yield 1
        finally:
            await asyncio.sleep(0)
            log.append("second")

    one, other = bridge.iterate(first()), bridge.iterate(second())
    assert next(one) == 1
    step = Caller(lambda: next(other))
    assert is_in_step.wait(10)
    # Interleaving: what the closing of the one does lets the other's step end, before the close gets to tasks.
    begun = time.monotonic()
    bridge.close()
    assert time.monotonic() - begun < 10
    assert step.has_got.wait(10)
    assert log == ["first", "second"]
