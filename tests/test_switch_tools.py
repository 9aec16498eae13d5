"""What looks at, or cleans up after, running code, where nested calls await in place: finalizer hooks, faulthandler,
tracing and profiling tools, other bridges' worker threads."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import re
import sys
import tempfile
import threading
from collections.abc import AsyncIterator
from types import FrameType
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async

import syncline
from switching import Place, place

__all__ = ["place"]


async def turns(count: int = 1) -> int:
    """Suspends that often."""
    for _ in range(count):
        await asyncio.sleep(0)
    return count


# Async generators, and the hooks by which a loop learns of them


def test_the_loops_hooks_for_async_generators_are_set_in_nested_calls(place: Place) -> None:
    """The same ones as outside, before and after a suspension."""

    async def inner() -> list[object]:
        before = sys.get_asyncgen_hooks()
        await turns(2)
        return [before, sys.get_asyncgen_hooks()]

    async def main() -> None:
        hooks = sys.get_asyncgen_hooks()
        assert hooks.firstiter is not None
        assert place.call(inner) == [hooks, hooks]
        assert sys.get_asyncgen_hooks() == hooks

    place.run(main)


@pytest.mark.parametrize("where", ["dropped in the call", "dropped after it"])
def test_an_abandoned_async_generator_of_a_nested_call_is_finalized_by_the_loop(
    place: Place, where: str
) -> None:
    """Its `finally` runs on the loop, and may await."""

    async def main() -> None:
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        async def numbers() -> AsyncIterator[int]:
            try:
                yield 1
                yield 2
            finally:
                await turns(2)
                assert asyncio.get_running_loop() is loop
                ended.set()

        kept: list[AsyncIterator[int]] = []

        async def begins() -> int:
            generator = numbers()
            found = await anext(generator)
            await turns()
            if where == "dropped after it":
                kept.append(generator)
            return found

        assert place.call(begins) == 1
        kept.clear()
        gc.collect()
        await asyncio.wait_for(ended.wait(), 20)

    place.run(main)


def test_an_async_generator_of_a_nested_call_is_closed_with_its_loop() -> None:
    """One that is left open when the bridge closes: `finally` runs in the loop's thread."""
    threads: list[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await turns()
            threads.append(threading.current_thread().name)

    generator = numbers()
    with syncline.Bridge(name="closing", nested="switch") as bridge:

        async def begins() -> int:
            return await anext(generator)

        async def main() -> int:
            return bridge.run_sync(begins)

        assert bridge.run_sync(main) == 1
        assert threads == []
    assert threads == ["closing"]


# Stacks and tracing


def dumped(*, all_threads: bool) -> str:
    """What faulthandler shows."""
    with tempfile.TemporaryFile("w+") as file:
        faulthandler.dump_traceback(file, all_threads=all_threads)
        file.seek(0)
        return file.read()


def functions_in(text: str) -> list[str]:
    """The names of this file's functions in such a text."""
    return re.findall(rf'File "{re.escape(__file__)}", line \d+ in (\w+)', text)


@pytest.mark.parametrize("suspends", [False, True])
def test_faulthandler_shows_the_frames_of_nested_calls(place: Place, suspends: bool) -> None:
    """The innermost first, sync and async ones in turn, in a stack that has been left and come back to as well."""

    async def inner() -> str:
        if suspends:
            await turns(2)
        return dumped(all_threads=False)

    def sync_code() -> str:
        return place.bridge.run_sync(inner)

    async def outer() -> str:
        return sync_code()

    async def main() -> str:
        return await syncline.run_nestable(outer)

    assert functions_in(place.run(main))[:4] == ["dumped", "inner", "sync_code", "outer"]


def test_faulthandler_leaves_parked_stacks_alone(place: Place) -> None:
    """While 50 tasks are parked, the loop's thread and another one dump all threads; then all go on."""

    async def main() -> int:
        opened = asyncio.Event()

        async def parked() -> int:
            await opened.wait()
            return 1

        def sync_code() -> int:
            return place.bridge.run_sync(parked)

        tasks = [asyncio.create_task(syncline.run_nestable(sync_code)) for _ in range(50)]
        await turns(3)
        texts: list[str] = []
        other = threading.Thread(target=lambda: texts.append(dumped(all_threads=True)))
        other.start()
        other.join()
        texts.append(dumped(all_threads=True))
        for text in texts:
            assert "dumped" in functions_in(text)
            assert "parked" not in functions_in(text)
        opened.set()
        return sum(await asyncio.gather(*tasks))

    assert place.run(main) == 50


@pytest.mark.parametrize("tool", ["settrace", "setprofile"])
def test_a_trace_function_sees_calls_made_in_nested_calls(place: Place, tool: str) -> None:
    """Before and after the nested coroutine has been suspended, and behind the call; as it would without a bridge."""
    seen: list[str] = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if (
            event == "call"
            and frame.f_code.co_filename == __file__
            and frame.f_code.co_name.startswith("seen")
        ):
            seen.append(frame.f_code.co_name)
        return trace

    def seen_before() -> None: ...
    def seen_after() -> None: ...
    def seen_behind() -> None: ...

    async def seen_inner() -> None:
        seen_before()
        await asyncio.sleep(0)
        seen_after()

    async def main() -> None:
        await asyncio.sleep(0)
        before = sys.gettrace() if tool == "settrace" else sys.getprofile()
        getattr(sys, tool)(trace)
        try:
            place.bridge.run_sync(seen_inner)
            seen_behind()
        finally:
            getattr(sys, tool)(before)

    place.run(main)
    # A coroutine that is resumed is called again, for trace functions.
    assert seen == ["seen_inner", "seen_before", "seen_inner", "seen_after", "seen_behind"]


# asgiref


def test_threads_of_asgirefs_sync_to_async_call_us(place: Place) -> None:
    """Sync code in asgiref's worker thread calls the bridge, and below that call others await in place; asgiref's own
    way back (async_to_sync) works next to it."""

    async def main() -> list[object]:
        loop, me = asyncio.get_running_loop(), threading.get_ident()

        async def inner(left: int) -> int:
            await turns(2)
            return place.bridge.run_sync(inner, left - 1) + 1 if left else 0

        async def where() -> bool:
            return asyncio.get_running_loop() is loop

        def sync_code() -> list[object]:
            # The thread that waits runs it; in scope "caller" that is the loop's own, and `where` gets another loop.
            assert (threading.get_ident() == me) is (place.name == "caller")
            return [place.bridge.run_sync(inner, 3), async_to_sync(where)()]

        found = await sync_to_async(sync_code)()
        return [*found, place.call(turns, 2), *place.bridge.run_sync(sync_to_async(sync_code))]

    is_there = place.name != "caller"
    assert place.run(main) == [3, is_there, 2, 3, is_there]
