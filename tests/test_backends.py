"""Bridges of one library in programs of the other: their coroutines run at home, where their library runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import aiosqlite
import anyio
import anyio.lowlevel
import pytest
import sniffio
import trio

import syncline

R = TypeVar("R")
MakeBridge = Callable[..., syncline.Bridge]
Sync = Callable[[], R]

current: ContextVar[str] = ContextVar("current", default="unset")


async def nestable(body: Sync[R]) -> R:
    @syncline.nestable
    async def call() -> R:
        return body()

    return await call()


async def run_nestable(body: Sync[R]) -> R:
    return await syncline.run_nestable(body)


async def installed(body: Sync[R]) -> R:
    """In a task that was spawned after `install()`."""
    found: list[R] = []

    async def task() -> None:
        found.append(body())

    undo = syncline.install()
    async with anyio.create_task_group() as group:
        group.start_soon(task)
    undo()
    return found[0]


OPTED_IN = pytest.mark.parametrize("opted_in", [nestable, run_nestable, installed])
Enter = Callable[[Sync[Any]], Coroutine[Any, Any, Any]]


def in_program(library: str, opted_in: Enter, body: Sync[R]) -> R:
    """Runs sync code in a task that opted in."""

    async def main() -> R:
        result: R = await opted_in(body)
        return result

    return anyio.run(main, backend=library)


# What only its own library can run.


async def asyncio_code(path: Path) -> list[int]:
    await asyncio.sleep(0.001)
    async with aiosqlite.connect(path) as db, asyncio.timeout(30):
        await db.execute("create table numbers (number)")
        await asyncio.gather(
            *(db.execute("insert into numbers values (?)", (number,)) for number in range(3))
        )
        return sorted([row[0] async for row in await db.execute("select number from numbers")])


async def trio_code(path: Path) -> list[int]:
    await trio.sleep(0.001)
    found: list[int] = []
    send, receive = trio.open_memory_channel[int](0)

    async def produce() -> None:
        async with send:
            for number in range(3):
                await send.send(number)

    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(produce)
            found += [number async for number in receive]
        assert await trio.Path(path.parent).exists()
    return found


CODE: dict[str, Callable[[Path], Awaitable[list[int]]]] = {"asyncio": asyncio_code, "trio": trio_code}
both_ways = pytest.mark.parametrize(("library", "backend"), [("trio", "asyncio"), ("asyncio", "trio")])


@OPTED_IN
@both_ways
@pytest.mark.parametrize("scope", ["process", "thread"])
def test_a_bridge_runs_its_coroutines_with_its_own_library(
    library: str, backend: str, opted_in: Enter, scope: str, tmp_path: Path, make_bridge: MakeBridge
) -> None:
    """In tasks that opted in as well: `run_sync`, `run`, `submit`, `synced`, contextvars both ways."""
    bridge = make_bridge(backend=backend, scope=scope)
    here = threading.get_ident()

    async def change() -> tuple[str, str, bool]:
        before = current.get()
        current.set("theirs")
        return before, sniffio.current_async_library(), threading.get_ident() == here

    def body() -> None:
        code = CODE[backend]
        assert bridge.run_sync(code, tmp_path / "run_sync") == [0, 1, 2]
        assert bridge.run(code(tmp_path / "run"), timeout=30) == [0, 1, 2]
        assert bridge.submit(code, tmp_path / "submit").result(30) == [0, 1, 2]
        assert bridge.synced(code)(tmp_path / "synced") == [0, 1, 2]
        current.set("mine")
        assert bridge.run_sync(change) == ("mine", backend, False)
        assert current.get() == "theirs"

    in_program(library, opted_in, body)


@OPTED_IN
def test_the_default_bridge_runs_asyncio_below_trio(opted_in: Enter, tmp_path: Path) -> None:
    """Its coroutines are asyncio's, whatever the program runs on."""

    def body() -> list[int]:
        return syncline.run_sync(asyncio_code, tmp_path / "db")

    assert in_program("trio", opted_in, body) == [0, 1, 2]


@OPTED_IN
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_bridge_of_the_programs_library_awaits_in_place(
    backend: str, opted_in: Enter, make_bridge: MakeBridge
) -> None:
    """In the very task, with no runner, if it roams; a bridge of the other library beside it doesn't change that."""
    bridge = make_bridge(backend=backend, roams=True)
    other = make_bridge(backend="asyncio" if backend == "trio" else "trio")

    async def where() -> tuple[int, int]:
        await anyio.lowlevel.checkpoint()
        return threading.get_ident(), anyio.get_current_task().id

    async def elsewhere() -> int:
        await anyio.lowlevel.checkpoint()
        return threading.get_ident()

    def body() -> None:
        here = threading.get_ident(), anyio.get_current_task().id
        assert bridge.run_sync(where) == here
        assert other.run_sync(elsewhere) != here[0]
        assert bridge.run_sync(where) == here

    in_program(backend, opted_in, body)
    assert bridge.stats()["runners"] == 0
    assert other.stats()["runners"] == 1


@OPTED_IN
@both_ways
def test_dual_objects_of_the_other_library_work(
    library: str, backend: str, opted_in: Enter, make_bridge: MakeBridge
) -> None:
    """Begun, gone on with and closed in tasks that opted in: all steps are made at home, in one task."""
    bridge = make_bridge(backend=backend)
    log: list[str] = []

    @bridge.iterator
    async def count() -> AsyncIterator[tuple[str, int]]:
        task = anyio.get_current_task().id
        try:
            for number in range(3):
                await anyio.lowlevel.checkpoint()
                assert anyio.get_current_task().id == task
                yield sniffio.current_async_library(), number
        finally:
            log.append("closed")

    @bridge.contextmanager
    async def hold() -> AsyncIterator[str]:
        with anyio.CancelScope():
            yield sniffio.current_async_library()
        await anyio.lowlevel.checkpoint()

    def body() -> None:
        assert list(count()) == [(backend, number) for number in range(3)]
        assert list(bridge.iterate(count(), prefetch=2)) == [(backend, number) for number in range(3)]
        with hold() as name:
            assert name == backend
        left = count()
        next(left)
        left.close()

    in_program(library, opted_in, body)
    assert log == ["closed"] * 3


@OPTED_IN
@both_ways
def test_timeouts_and_errors_of_the_other_library_arrive(
    library: str, backend: str, opted_in: Enter, make_bridge: MakeBridge
) -> None:
    """TimeoutError after the coroutine was cancelled by its own library's rules; an error is the same object."""
    bridge = make_bridge(backend=backend)
    log: list[str] = []
    problem = ValueError("mine")

    async def waits() -> None:
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            log.append("cancelled")
            raise

    async def fails() -> None:
        await anyio.lowlevel.checkpoint()
        raise problem

    def body() -> None:
        with pytest.raises(TimeoutError, match=r"0\.02 s"):
            bridge.run(waits(), timeout=0.02)
        with pytest.raises(ValueError, match="mine") as caught:
            bridge.run_sync(fails)
        assert caught.value is problem

    in_program(library, opted_in, body)
    assert log == ["cancelled"]


@pytest.mark.parametrize("levels", [2, 5])
@pytest.mark.parametrize("nested", ["switch", "thread"])
def test_the_libraries_take_turns_in_one_chain(levels: int, nested: str, make_bridge: MakeBridge) -> None:
    """asyncio below trio below asyncio ...: each level on its own library; the innermost error comes out at the top."""
    bridges = {name: make_bridge(backend=name, nested=nested) for name in ("asyncio", "trio")}
    problem = ValueError("innermost")

    async def level(left: int, name: str) -> list[str]:
        await anyio.lowlevel.checkpoint()
        assert sniffio.current_async_library() == name
        if left < 0:
            raise problem
        other = "asyncio" if name == "trio" else "trio"
        return [name] if left == 0 else [name, *bridges[other].run_sync(level, left - 1, other)]

    for name, bridge in bridges.items():
        found = bridge.run_sync(level, levels, name)
        assert found == [["asyncio", "trio"][(name == "trio") ^ (depth % 2)] for depth in range(levels + 1)]
        with pytest.raises(ValueError, match="innermost") as caught:
            bridge.run_sync(level, -1, name)
        assert caught.value is problem


@pytest.mark.parametrize("library", ["asyncio", "trio"])
@pytest.mark.parametrize("there", ["asyncio", "trio"])
def test_worker_threads_belong_to_no_library(library: str, there: str) -> None:
    """A worker that a program of anyio's sends may run another such program, and call back to the first."""

    async def answer() -> str:
        await anyio.lowlevel.checkpoint()
        return sniffio.current_async_library()

    def work() -> tuple[str, str]:
        return anyio.run(answer, backend=there), syncline.from_thread(answer)

    async def main() -> tuple[tuple[str, str], str]:
        return await syncline.to_thread(work), await answer()

    assert anyio.run(main, backend=library) == ((there, library), library)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("library", ["asyncio", "trio"])
def test_calls_in_programs_of_anyio_run_with_the_bridges_library(
    library: str, backend: str, make_bridge: MakeBridge
) -> None:
    """Whichever that program's is: anyio's code, and what is built on it, finds it so; also in calls that share a
    context, as they change variables."""
    bridge = make_bridge(backend=backend)

    async def answer(value: str) -> str:
        await anyio.lowlevel.checkpoint()
        current.set(value)
        return sniffio.current_async_library()

    async def main() -> list[str]:
        found = [bridge.run_sync(answer, value) for value in ("first", "second")]
        assert current.get() == "second"
        return [*found, bridge.submit(answer, "third").result(30), sniffio.current_async_library()]

    assert anyio.run(main, backend=library) == [backend, backend, backend, library]
