"""asgiref's thread-sensitive code below a bridge's calls: the thread that waits runs it, as below async_to_sync."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.local import Local
from asgiref.sync import AsyncToSync, SyncToAsync, ThreadSensitiveContext, async_to_sync, sync_to_async

import syncline
from child import run_script
from neutral import with_asyncio

MakeBridge = Callable[..., syncline.Bridge]
here = threading.get_ident
current = sync_to_async(here)


async def threads(count: int = 2) -> set[int]:
    """Where thread-sensitive code runs: of this task, and of those that it starts."""
    await asyncio.sleep(0)
    return {await current(), *await asyncio.gather(*(current() for _ in range(count)))}


@with_asyncio
def test_it_runs_in_the_thread_that_waits(each_bridge: syncline.Bridge) -> None:
    """In any scope, on any loop; one after the other."""
    for _ in range(3):
        assert each_bridge.run_sync(threads) == {here()}


@with_asyncio
def test_a_sync_view_calls_a_coroutine_that_calls_the_orm(each_bridge: syncline.Bridge) -> None:
    """The view has the request's only thread, and waits in it."""

    def view(call: Callable[..., Any]) -> tuple[Any, int]:
        return call(), here()

    async def server() -> None:
        async with ThreadSensitiveContext():
            view_of = sync_to_async(view)
            thread = (await view_of(async_to_sync(current)))[1]
            assert await view_of(lambda: each_bridge.run_sync(threads)) == ({thread}, thread)
            # As before: what the view calls by asgiref goes to the server's loop.
            assert (await view_of(async_to_sync(loop_of)))[0] is asyncio.get_running_loop()

    asyncio.run(server())


async def loop_of() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


@with_asyncio
def test_calls_of_both_kinds_inside_each_other(each_bridge: syncline.Bridge) -> None:
    """One thread runs all of the sync code, however deep it goes."""

    def ours(depth: int) -> list[int]:
        return [here(), *(each_bridge.run_sync(through_asgiref, depth - 1) if depth else [])]

    def theirs(depth: int) -> list[int]:
        return [here(), *(async_to_sync(through_us)(depth - 1) if depth else [])]

    async def through_asgiref(depth: int) -> list[int]:
        return await sync_to_async(theirs)(depth)

    async def through_us(depth: int) -> list[int]:
        return await sync_to_async(ours)(depth)

    assert ours(6) == [here()] * 7


def test_nothing_is_left_in_the_thread(make_bridge: MakeBridge) -> None:
    """Neither the executor nor the loop that asgiref notes for a thread: its own calls go on as before."""
    bridge = make_bridge()
    assert bridge.run_sync(threads) == {here()}
    assert getattr(AsyncToSync.executors, "current", None) is None
    assert not hasattr(SyncToAsync.threadlocal, "main_event_loop")
    loop = async_to_sync(loop_of)()
    assert loop.is_closed(), "it was made for this call"


@with_asyncio
def test_locals_go_both_ways(each_bridge: syncline.Bridge) -> None:
    """asgiref's `Local` belongs to a thread; it is moved with the call, and what is changed there comes back: by the
    coroutine, its tasks' functions, and in a second call."""
    local = Local()
    local.language = "de"

    def sync_code() -> None:
        local.seen = [*local.seen, local.language]

    async def main() -> None:
        local.seen = [local.language]
        await syncline.to_caller(sync_code)
        await sync_to_async(sync_code)()
        await asyncio.sleep(0)
        local.language = "fr"

    each_bridge.run_sync(main)
    assert (local.language, local.seen) == ("fr", ["de"] * 3)
    each_bridge.run_sync(main)
    assert local.seen == ["fr"] * 3


@pytest.mark.parametrize("ours", [syncline.to_thread, lambda fn: sync_to_async(fn, thread_sensitive=False)()])
def test_locals_are_seen_in_worker_threads(make_bridge: MakeBridge, ours: Callable[..., Any]) -> None:
    """By ours as by asgiref's own; what the function changes comes back, also below `run_sync`, and no further."""
    local, untouched = Local(), Local()

    def work() -> int:
        assert untouched.value == "kept"
        local.seen = [*local.seen, local.language]
        return here()

    async def main() -> None:
        untouched.value = "kept"
        local.seen = []
        assert await ours(work) != here()
        local.language = "fr"
        await asyncio.gather(ours(work), ours(work))  # each in a task's own context
        await ours(work)
        assert local.seen == ["de", "fr"]

    local.language = "de"
    asyncio.run(main())
    assert not hasattr(local, "seen")
    make_bridge().run_sync(main)
    assert (local.seen, local.language, untouched.value) == (["de", "fr"], "fr", "kept")
    with syncline.Worker() as worker:
        asyncio.run(worker_sees(worker, local))


async def worker_sees(worker: syncline.Worker, local: Local) -> None:
    assert await worker.to_thread(getattr, local, "language") == "fr"


def test_locals_are_seen_by_sync_iterables_and_managers() -> None:
    """In all steps; each has a context of its own, from which nothing comes back."""
    local = Local()

    def rows() -> Iterator[str]:
        for _ in range(2):
            yield local.language
            local.language += "!"

    @contextmanager
    def opened() -> Iterator[str]:
        yield local.language
        left.append(local.language)

    left: list[str] = []

    async def main() -> None:
        for prefetch in (0, 2):
            assert [row async for row in syncline.aiterate(rows(), prefetch=prefetch)] == ["de", "de!"]
        async with syncline.aenter(opened()) as language:
            assert language == "de"
        assert left == ["de"]
        assert local.language == "de"

    local.language = "de"
    asyncio.run(main())


def test_context_variables_tokens_are_good_in_the_next_call(make_bridge: MakeBridge) -> None:
    """Though asgiref's executor is another one in each."""
    bridge = make_bridge()
    variable = contextvars.ContextVar("variable", default=0)

    async def set_it() -> contextvars.Token[int]:
        await current()
        return variable.set(1)

    async def reset(token: contextvars.Token[int]) -> None:
        await current()
        variable.reset(token)

    bridge.run_sync(reset, bridge.run_sync(set_it))
    assert variable.get() == 0


def test_a_loop_that_the_call_blocks_runs_no_such_code(make_bridge: MakeBridge) -> None:
    """Libraries refuse to run it where a loop runs (Django does); it has the thread that it has without us."""
    bridge = make_bridge()

    async def main() -> None:
        alone = await current()
        assert alone != here()
        assert bridge.run_sync(threads) == {alone}

    asyncio.run(main())


def test_below_a_nested_call_it_runs_in_the_outermost_thread(make_bridge: MakeBridge) -> None:
    """The sync code in between is in the loop's thread, which must not run it."""
    for nested in ("switch", "thread"):
        bridge = make_bridge(nested=nested)

        async def main(bridge: syncline.Bridge = bridge) -> set[int]:
            return bridge.run_sync(threads)

        assert bridge.run_sync(main) == {here()}


def test_a_task_that_outlives_its_call_is_told(make_bridge: MakeBridge) -> None:
    """As asgiref's own executor does it, once its call has ended; an outer one that still waits takes it."""
    bridge = make_bridge()

    async def later(go_on: asyncio.Event) -> int:
        await go_on.wait()
        return await current()

    async def start() -> tuple[asyncio.Event, asyncio.Task[int]]:
        go_on = asyncio.Event()
        return go_on, asyncio.create_task(later(go_on))

    async def end(go_on: asyncio.Event, task: asyncio.Task[int]) -> int:
        go_on.set()
        return await task

    with pytest.raises(RuntimeError, match="its thread has gone on"):
        bridge.run_sync(end, *bridge.run_sync(start))

    async def outer() -> int:
        return await end(*await sync_to_async(bridge.run_sync)(start))

    assert bridge.run_sync(outer) == here()


@with_asyncio
def test_the_steps_of_objects(each_bridge: syncline.Bridge) -> None:
    """Each is a call, and has its own thread that waits."""

    @each_bridge.contextmanager
    async def manager() -> AsyncGenerator[int, None]:
        yield await current()
        assert await current() == here_then

    async def rows() -> AsyncGenerator[int, None]:
        for _ in range(3):
            yield await current()

    here_then = here()
    with manager() as thread:
        assert thread == here()
    assert list(each_bridge.iterate(rows())) == [here()] * 3


def test_errors_are_those_of_the_code(make_bridge: MakeBridge) -> None:
    """The same object."""
    error = LookupError("gone")

    def fails() -> None:
        raise error

    with pytest.raises(LookupError) as caught:
        make_bridge().run_sync(sync_to_async(fails))
    assert caught.value is error


INTERRUPTED = """
import asyncio, signal, threading
import syncline
from asgiref.sync import sync_to_async

def interrupted():
    signal.raise_signal(signal.SIGINT)

async def main():
    try:
        await asyncio.gather(sync_to_async(interrupted)(), asyncio.sleep(20))
    finally:
        print("cleaned up in", (await sync_to_async(threading.current_thread)()).name)

try:
    syncline.Bridge(scope={scope!r}).run_sync(main)
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_ctrl_c_in_it_cancels_the_call(scope: str) -> None:
    """And the cleanup has its thread."""
    ended = run_script(INTERRUPTED.format(scope=scope))
    ended.assert_clean()
    assert ended.lines == ["cleaned up in MainThread", "KeyboardInterrupt"]
