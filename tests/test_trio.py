"""trio: a bridge whose loop is trio's, calls from trio programs, dual objects in both."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trio

import syncline
from child import Child, run_script

current: contextvars.ContextVar[str] = contextvars.ContextVar("current", default="unset")


@pytest.fixture
def bridge() -> Iterator[syncline.Bridge]:
    """A bridge that runs coroutines with trio."""
    with syncline.Bridge(backend="trio", name="trio") as bridge:
        yield bridge


def in_trio(body: Callable[[], Any]) -> Any:
    """Runs sync code inside a trio program."""

    async def main() -> Any:
        await trio.lowlevel.checkpoint()
        return body()

    return trio.run(main)


def in_asyncio(body: Callable[[], Any]) -> Any:
    """Runs sync code inside an asyncio program."""

    async def main() -> Any:
        return body()

    return asyncio.run(main())


places = pytest.mark.parametrize(
    "inside", [lambda body: body(), in_trio, in_asyncio], ids=["plain", "trio", "asyncio"]
)


async def add(a: int, b: int = 1) -> int:
    await trio.sleep(0)
    return a + b


async def name() -> str:
    await trio.lowlevel.checkpoint()
    return threading.current_thread().name


async def count(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        await trio.sleep(0)
        yield number


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
        await trio.sleep(0)
        raise problem

    with pytest.raises(ValueError, match="mine") as caught:
        inside(lambda: bridge.run_sync(fail))
    assert caught.value is problem
    assert bridge.run_sync(add, 1) == 2


def test_contextvars_flow_both_ways(bridge: syncline.Bridge) -> None:
    """As with asyncio (case 74)."""

    async def change() -> str:
        before = current.get()
        await trio.sleep(0)
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
                await trio.sleep(0)
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
        await trio.sleep(0)
        return 1 + bridge.run_sync(down, levels - 1) if levels else 0

    assert bridge.run_sync(down, 5) == 5


@places
def test_dual_objects_are_used_in_sync_code(bridge: syncline.Bridge, inside: Any) -> None:
    """Each kind, with trio code in it."""
    log: list[str] = []

    @bridge.generator
    async def echo() -> AsyncGenerator[Any, Any]:
        sent = None
        while True:
            await trio.sleep(0)
            try:
                sent = yield sent
            except KeyError:
                sent = "caught"

    @bridge.contextmanager
    async def hold() -> AsyncIterator[int]:
        try:
            yield 42
        finally:
            await trio.sleep(0)
            log.append("left")

    def body() -> list[Any]:
        generator = echo()
        steps = [next(generator), generator.send(1), generator.throw(KeyError())]
        generator.close()
        with hold() as value:
            items = list(bridge.iterate(count(3), prefetch=2))
        return [bridge.coroutine(add)(1).run(), list(bridge.iterator(count)(2)), steps, value, items]

    assert inside(body) == [2, [0, 1], [None, 1, "caught"], 42, [0, 1, 2]]
    assert log == ["left"]


@places
def test_scopes_and_nurseries_live_across_steps(bridge: syncline.Bridge, inside: Any) -> None:
    """In one task: a cancel scope across yields, a nursery across yields and held by a `with` (case 28)."""
    log: list[str] = []

    async def child(number: int) -> None:
        await trio.sleep(0)
        log.append(f"child {number}")

    @bridge.iterator
    async def scoped() -> AsyncIterator[Any]:
        task = trio.lowlevel.current_task()
        with trio.move_on_after(0.02) as scope:
            yield "in a time limit"
            await trio.sleep_forever()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child, 1)
            yield scope.cancelled_caught
        yield trio.lowlevel.current_task() is task

    async def spawn(nursery: trio.Nursery) -> None:
        nursery.start_soon(child, 2)

    def body() -> list[Any]:
        with bridge.enter(trio.open_nursery()) as nursery:
            bridge.run_sync(spawn, nursery)
        return list(scoped())

    assert inside(body) == ["in a time limit", True, True]
    assert log == ["child 2", "child 1"]


def test_breaking_off_closes_the_generator_at_once(bridge: syncline.Bridge) -> None:
    """Its finally, with trio's checkpoints in it, has run when the loop is left (case 36)."""
    log: list[str] = []

    @bridge.iterator
    async def endless() -> AsyncIterator[int]:
        task = trio.lowlevel.current_task()
        try:
            while True:
                yield 1
        finally:
            await trio.sleep(0)
            log.append("closed" if trio.lowlevel.current_task() is task else "closed elsewhere")

    for _ in endless():
        break
    assert log == ["closed"]


def test_dual_objects_are_awaited_in_trio_programs() -> None:
    """In the user's own task, with nothing of ours in between: of any bridge, the default one too."""
    tasks: list[Any] = []

    @syncline.iterator
    async def steps() -> AsyncIterator[int]:
        tasks.append(trio.lowlevel.current_task())
        await trio.sleep(0)
        yield 1

    @syncline.generator
    async def echo() -> AsyncGenerator[Any, Any]:
        tasks.append(trio.lowlevel.current_task())
        yield (yield 2)

    @syncline.contextmanager
    async def hold() -> AsyncIterator[int]:
        tasks.append(trio.lowlevel.current_task())
        yield 4

    async def main() -> list[Any]:
        found = [await syncline.coroutine(add)(-1)]
        found += [number async for number in steps()]
        generator = echo()
        found += [await anext(generator), await generator.asend(3)]
        await generator.aclose()
        async with hold() as value:
            found.append(value)
        assert set(tasks) == {trio.lowlevel.current_task()}
        return found

    assert trio.run(main) == [0, 1, 2, 3, 4]
    assert len(tasks) == 3


def test_trio_iterators_begun_in_sync_code_stay_there(bridge: syncline.Bridge) -> None:
    """`async for` in another trio program would change their loop: RuntimeError."""
    dual = bridge.iterator(count)(3)
    assert next(dual) == 0

    async def main() -> None:
        async for _ in dual:
            pass

    with pytest.raises(RuntimeError, match="sync"):
        trio.run(main)
    assert list(dual) == [1, 2]


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
