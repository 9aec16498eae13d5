"""`finalize` on trio: in runs of one's own, and on bridges with backend="trio"."""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import Any

import pytest
import trio
import trio.lowlevel

import syncline
from child import eventually, run_script


class Owner:
    """Something that has to be cleaned up."""


calls: list[object] = []


async def clean(what: object) -> str:
    """Notes where it runs."""
    await trio.lowlevel.checkpoint()
    calls.append((what, threading.get_ident()))
    return "cleaned"


@pytest.fixture(autouse=True)
def _none_yet() -> None:
    calls.clear()


def test_in_a_run_of_ones_own_the_running_one_is_the_home() -> None:
    """A collected object's cleanup is a task of the run; what is left is done at its end, the latest first."""
    left = [Owner(), Owner()]
    here = threading.get_ident()

    async def main() -> None:
        owner = Owner()
        finalizer = syncline.finalize(owner, clean, "collected")
        assert finalizer.alive
        for number, each in enumerate(left):
            syncline.finalize(each, clean, number)
        del owner
        while not calls:
            await trio.lowlevel.checkpoint()
        assert not finalizer.alive

    trio.run(main)
    assert calls == [("collected", here), (1, here), (0, here)]


def test_a_trio_bridges_run_is_the_home_of_its_objects() -> None:
    """Collected in any thread, called from sync code, and what is left when it is closed."""
    with syncline.Bridge(backend="trio") as bridge:

        async def where() -> int:
            return threading.get_ident()

        there = bridge.run_sync(where)
        owner = Owner()
        bridge.finalize(owner, clean, "collected")
        del owner
        assert eventually(lambda: bool(calls))
        owner = Owner()
        finalizer = bridge.finalize(owner, clean, "called")
        assert (finalizer(), finalizer()) == ("cleaned", None)
        bridge.finalize(owner, clean, "left")
    assert calls == [("collected", there), ("called", there), ("left", there)]


def test_loops_of_both_kinds_ask_each_other() -> None:
    """`aio` from trio for an asyncio home and the other way, and a waiter that is cancelled cancels it."""
    owner = Owner()
    cancelled = threading.Event()

    async def forever(sleep: Any) -> None:
        try:
            await sleep(3600)
        finally:
            cancelled.set()

    async def asyncios() -> str:
        await asyncio.sleep(0)
        return "asyncio"

    async def in_trio() -> None:
        assert await bridge.finalize(owner, asyncios).aio() == "asyncio"
        with trio.move_on_after(0.05) as scope:
            await bridge.finalize(owner, forever, asyncio.sleep).aio()
        assert scope.cancelled_caught

    async def in_asyncio() -> None:
        assert await trios.finalize(owner, clean, "trio").aio() == "cleaned"
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(trios.finalize(owner, forever, trio.sleep).aio(), 0.05)

    with syncline.Bridge() as bridge, syncline.Bridge(backend="trio") as trios:
        trio.run(in_trio)
        assert cancelled.wait(10)
        cancelled.clear()
        asyncio.run(in_asyncio())
        assert cancelled.wait(10)


def test_sync_code_in_the_run_itself_awaits_in_place_or_is_told() -> None:
    """Below run_nestable; elsewhere DeadlockError."""

    async def main() -> None:
        owner = Owner()
        finalizer = syncline.finalize(owner, clean, "called")
        with pytest.raises(syncline.DeadlockError, match="aio"):
            finalizer()
        assert await syncline.run_nestable(lambda: finalizer()) == "cleaned"  # noqa: PLW0108 -- a sync function

    trio.run(main)


def test_errors_are_logged_and_the_run_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    """What would end a trio run, if a system task raised it."""

    async def fails(error: BaseException) -> None:
        raise error

    async def main() -> str:
        for error in (ValueError("first"), SystemExit(1)):
            owner = Owner()
            syncline.finalize(owner, fails, error)
            del owner
        while len(caplog.records) < 2:
            await trio.sleep(0.001)
        return "goes on"

    with caplog.at_level(logging.ERROR, "syncline"):
        assert trio.run(main) == "goes on"


def test_what_is_left_runs_at_exit() -> None:
    """On a trio bridge, before it is closed."""
    finished = run_script("""
        import syncline, trio
        class Owner: pass
        async def clean():
            await trio.sleep(0.01)
            print("cleaned", flush=True)
        bridge = syncline.Bridge(backend="trio")
        owner = Owner()
        bridge.finalize(owner, clean)
        print("main ends", flush=True)
    """)
    assert finished.lines == ["main ends", "cleaned"], finished.err
    finished.assert_clean()
