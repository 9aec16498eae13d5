"""trio: a bridge whose loop is trio's, and calls from trio programs."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Any

import pytest
import trio
import trio.lowlevel

import syncline
from child import Child, run_script
from trio_code import add, bridge, count, places

__all__ = ["bridge"]

current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="unset")


async def name() -> str:
    await trio.lowlevel.checkpoint()
    return threading.current_thread().name


@places
def test_calls_run_in_trio(bridge: syncline.Bridge, inside: Any) -> None:
    """run_sync, run, submit and synced, from plain code and inside running programs of both kinds (case 10)."""
    synced = bridge.synced(count)

    def body() -> list[Any]:
        return [
            bridge.run_sync(add, 1, b=2),
            bridge.run(add(2)),
            bridge.run(add(3), timeout=30),
            bridge.submit(add, 4).result(20),
            bridge.synced(add)(5),
            list(synced(2)),
        ]

    assert inside(body) == [3, 3, 4, 5, 6, [0, 1]]


@places
def test_calls_to_asyncio_work_inside_a_trio_program(inside: Any) -> None:
    """The default bridge runs its own loop; trio waits meanwhile (case 10)."""

    async def work() -> int:
        await asyncio.sleep(0)
        return 42

    assert inside(lambda: [syncline.run_sync(work), syncline.coroutine(work)().run()]) == [42, 42]


def test_it_is_one_thread_of_its_own(bridge: syncline.Bridge) -> None:
    """Shared by all callers, named after the bridge, and gone when the bridge is closed."""
    assert {bridge.run_sync(name) for _ in range(3)} == {"trio"}
    found: list[str] = []
    thread = threading.Thread(target=lambda: found.append(bridge.run_sync(name)))
    thread.start()
    thread.join()
    assert found == ["trio"]
    bridge.close()
    assert "trio" not in [thread.name for thread in threading.enumerate()]
    with pytest.raises(syncline.RunnerClosedError, match="closed"):
        bridge.run_sync(name)


def test_calls_of_several_threads_run_at_the_same_time(bridge: syncline.Bridge) -> None:
    """Each waits until all are there, which only concurrent tasks can be (case 67)."""
    arrived, everybody = 0, trio.Event()

    async def meet() -> int:
        nonlocal arrived
        arrived += 1
        if arrived == 4:
            everybody.set()
        await everybody.wait()
        return arrived

    futures = [bridge.submit(meet) for _ in range(3)]
    assert bridge.run_sync(meet) == 4
    assert [future.result(20) for future in futures] == [4, 4, 4]


@places
def test_an_exception_is_the_same_object(bridge: syncline.Bridge, inside: Any) -> None:
    """Neither a nursery's group nor trio's own wrapping is around it (case 35)."""
    problem = ValueError("mine")

    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise problem

    with pytest.raises(ValueError, match="mine") as caught:
        inside(lambda: bridge.run_sync(fail))
    assert caught.value is problem
    assert bridge.run_sync(add, 1) == 2


def test_contextvars_flow_both_ways(bridge: syncline.Bridge) -> None:
    """As with asyncio (case 74)."""

    async def change() -> str:
        before = current.get()
        await trio.lowlevel.checkpoint()
        current.set("changed")
        return before

    def body() -> tuple[str, str]:
        current.set("mine")
        return bridge.run_sync(change), current.get()

    assert contextvars.copy_context().run(body) == ("mine", "changed")


@places
def test_a_timeout_cancels_trio_code(bridge: syncline.Bridge, inside: Any) -> None:
    """It sees trio.Cancelled, cleans up in a shielded scope, and the caller gets TimeoutError (case 50)."""
    log: list[str] = []

    async def slow() -> None:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            log.append("cancelled")
            raise
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            log.append("cleaned up")

    with pytest.raises(TimeoutError):
        inside(lambda: bridge.run(slow(), timeout=0.02))
    assert log == ["cancelled", "cleaned up"]
    assert bridge.run_sync(add, 1) == 2


def test_cancelling_a_future_cancels_trio_code(bridge: syncline.Bridge) -> None:
    """submit's future stops its task (case 53)."""
    begun, cancelled = threading.Event(), threading.Event()

    async def slow() -> None:
        begun.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    future = bridge.submit(slow)
    assert begun.wait(20)
    assert future.cancel()
    assert cancelled.wait(20)


def test_trio_code_calls_sync_code_that_calls_the_bridge(bridge: syncline.Bridge) -> None:
    """Nested calls work, five deep (case 3)."""

    async def down(levels: int) -> int:
        await trio.lowlevel.checkpoint()
        return 1 + bridge.run_sync(down, levels - 1) if levels else 0

    assert bridge.run_sync(down, 5) == 5


def test_ctrl_c_cancels_trio_code() -> None:
    """Its cleanup runs, then KeyboardInterrupt, and the bridge goes on (case 44)."""
    script = """
import syncline, trio
bridge = syncline.Bridge(backend="trio")

async def work():
    try:
        print("ready", flush=True)
        await trio.sleep_forever()
    finally:
        print("cleaned up", flush=True)

async def answer():
    return 42

try:
    bridge.run_sync(work)
except KeyboardInterrupt:
    print("caught", flush=True)
print(bridge.run_sync(answer), flush=True)
"""
    with Child(script) as child:
        child.expect("ready")
        child.signal()
        end = child.finish()
    assert end.lines == ["cleaned up", "caught", "42"]
    end.assert_clean()


def test_the_exit_closes_what_is_open() -> None:
    """A generator that is held, and a task in the background: their finally runs, nothing is printed (case 84)."""
    end = run_script(
        """
import os, threading
import syncline, trio
bridge = syncline.Bridge(backend="trio")
begun = threading.Event()

async def count():
    try:
        while True:
            yield 1
    finally:
        os.write(1, b"generator closed\\n")

async def background():
    try:
        begun.set()
        await trio.sleep_forever()
    finally:
        os.write(1, b"task cancelled\\n")

it = bridge.iterate(count())
assert next(it) == 1
future = bridge.submit(background)
assert begun.wait(20)
""",
        flags=("-X", "dev", "-W", "error"),
    )
    assert sorted(end.lines) == ["generator closed", "task cancelled"]
    end.assert_clean()


def test_without_trio_the_error_names_the_extra() -> None:
    """ImportError that says what to install; everything else works."""
    end = run_script(
        """
import sys
sys.modules["trio"] = None
import asyncio, syncline
assert syncline.run_sync(asyncio.sleep, 0, 42) == 42

async def nothing():
    pass

try:
    syncline.Bridge(backend="trio").run_sync(nothing)
except ImportError as error:
    print(error)
"""
    )
    assert "syncline[trio]" in end.out
    end.assert_clean()


def test_trio_is_loaded_only_where_it_is_used() -> None:
    """Neither by `import syncline` nor by calls to asyncio."""
    end = run_script(
        """
import asyncio, sys, syncline
syncline.run_sync(asyncio.sleep, 0)
assert "trio" not in sys.modules
"""
    )
    end.assert_clean()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "curio"}, "backend"),
        ({"backend": 5}, "backend"),
        ({"backend": "trio", "loop_factory": asyncio.new_event_loop}, "loop_factory"),
    ],
)
def test_wrong_options_are_named(options: dict[str, Any], message: str) -> None:
    """What isn't known, and what trio has no use for."""
    with pytest.raises((TypeError, ValueError), match=message):
        syncline.Bridge(**options)
