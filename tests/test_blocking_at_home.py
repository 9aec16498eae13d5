"""Twins of the default bridge stay home, in whatever task they are called; and what a twin leaves on the loop."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import uvloop

import syncline
from child import FORKS, eventually, run_script
from neutral import turn
from places import installed
from sdk import blocking as written
from trace_format import load


class AsyncResident:
    """Says whether it is called on the loop where it was made."""

    alive: ClassVar[weakref.WeakSet[AsyncResident]] = weakref.WeakSet()

    def __init__(self) -> None:
        self._home = asyncio.get_running_loop()
        self.alive.add(self)

    async def is_home(self) -> bool:
        await turn()
        return asyncio.get_running_loop() is self._home

    def is_home_too(self) -> bool:
        return asyncio.get_running_loop() is self._home

    async def looks(self) -> AsyncIterator[bool]:
        yield await self.is_home()
        yield await self.is_home()

    @asynccontextmanager
    async def visit(self) -> AsyncIterator[bool]:
        yield await self.is_home()

    @property
    async def at_home(self) -> bool:
        return await self.is_home()

    @functools.cached_property
    async def at_home_once(self) -> bool:
        return await self.is_home()

    def __await__(self) -> Any:
        return self.is_home().__await__()

    @classmethod
    async def made(cls) -> Self:
        return cls()

    async def __aenter__(self) -> Self:
        self._group = asyncio.TaskGroup()
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._group.__aexit__(*exc_info)  # type: ignore[arg-type]


Resident = syncline.blocking(AsyncResident)


def all_looks(resident: Any) -> list[bool]:
    with resident, resident.visit() as visited:
        return [
            visited,
            resident.is_home(),
            resident.is_home_too(),
            resident.at_home,
            resident.at_home_once,
            resident.run(),
            *resident.looks(),
        ]


OPTED_IN: dict[str, Callable[[Any], Any]] = {
    "nestable": lambda main: syncline.nestable(main)(),
    "install": installed,
}


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("opt_in", OPTED_IN.values(), ids=OPTED_IN)
def test_a_twin_of_the_default_bridge_stays_home(
    run: Callable[[Any], Any], opt_in: Callable[[Any], Any]
) -> None:
    """Made outside or inside of a task that opted in, each kind of call runs on the loop where the object lives."""
    outside = Resident()

    async def main() -> Any:
        inside = Resident()
        assert all_looks(outside) == all_looks(inside) == [True] * 8
        assert Resident.made().is_home()
        assert await outside.aio.is_home()
        async with inside.aio as entered:
            assert [look async for look in entered.looks()] == [True, True]
        return inside

    inside = run(opt_in(main))
    assert all_looks(inside) == [True] * 8


def test_the_loop_of_the_task_that_calls_a_twin_goes_on() -> None:
    """The task is parked: another one of its loop lets the call go that it waits for."""

    class AsyncGate:
        def __init__(self) -> None:
            self._event = asyncio.Event()

        async def wait(self) -> None:
            await self._event.wait()

        def open(self) -> None:
            self._event.set()

    gate = syncline.blocking(AsyncGate)()

    async def main() -> None:
        waiting = syncline.create_task(syncline.nestable(wait)())
        await asyncio.sleep(0)
        assert not waiting.done()
        await asyncio.to_thread(gate.open)
        await waiting

    async def wait() -> None:
        gate.wait()

    asyncio.run(asyncio.wait_for(main(), 10))


def test_written_twins_stay_home() -> None:
    """By the methods of their bridge, which are those of the default bridge but for that."""
    outside = written.Client("memory")

    @syncline.nestable
    async def main() -> None:
        inside = written.Client("memory")
        assert inside._aio._loop is outside._aio._loop is not asyncio.get_running_loop()
        inside.put("a", "1")
        outside.put("a", "2")
        assert inside._bridge.run_sync(inside._aio.get, "a") == "1"
        assert [each._aio._loop for each in (inside, outside)] == [
            outside._bridge.call(asyncio.get_running_loop)
        ] * 2

    asyncio.run(main())


def test_the_options_of_the_default_bridge_reach_twins_that_were_made_before() -> None:
    """`configure` comes after the import of the library that made a twin of its client."""
    finished = run_script("""
        import asyncio, threading, syncline

        class Client:
            async def where(self):
                return threading.current_thread().name

        Blocking = syncline.blocking(Client)
        syncline.configure(name="configured")

        @syncline.nestable
        async def main():
            return Blocking().where()

        assert asyncio.run(main()) == Blocking().where() == "configured"
        assert syncline.default_bridge().stats()["runners"] == 1
        syncline.default_bridge().close()
        try:
            Blocking()
        except syncline.RunnerClosedError:
            print("closed")
    """)
    finished.assert_clean()
    assert finished.lines == ["closed"]


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_a_twin_that_is_never_left_is_not_kept_longer_than_in_async_code(
    make_bridge: Callable[..., syncline.Bridge], scope: str
) -> None:
    """Nobody can leave it once it is dropped: its object goes, and so does the task in which it was entered."""
    bridge = make_bridge(scope=scope)
    resident_of = bridge.blocking(AsyncResident)
    gc.collect()
    known = set(AsyncResident.alive)

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    for _ in range(20):
        resident_of().__enter__()
    gc.collect()
    assert eventually(lambda: bridge.run_sync(tasks) == 1)
    assert set(AsyncResident.alive) == known


def test_one_that_async_code_has_entered_and_never_leaves_goes_too(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """By `.aio`, from a loop of its own."""
    bridge = make_bridge()
    resident_of = bridge.blocking(AsyncResident)
    gc.collect()
    known = set(AsyncResident.alive)

    async def main() -> None:
        for _ in range(20):
            await resident_of().aio.__aenter__()

    async def tasks() -> int:
        return len(asyncio.all_tasks())

    asyncio.run(main())
    gc.collect()
    assert eventually(lambda: bridge.run_sync(tasks) == 1)
    assert set(AsyncResident.alive) == known


def test_one_that_somebody_has_is_left_when_its_loop_ends() -> None:
    """As any manager that sync code has entered."""
    finished = run_script("""
        import syncline

        class Client:
            async def __aenter__(self):
                return self
            async def __aexit__(self, *exc_info):
                print("left", exc_info[0].__name__)

        with syncline.Bridge() as bridge:
            client = bridge.blocking(Client)()
            client.__enter__()
    """)
    finished.assert_clean()
    assert finished.lines == ["left CancelledError"]


def test_a_forked_child_drops_what_its_parent_has_entered() -> None:
    """The parent's loop has it, and goes on with it."""
    finished = run_script(
        """
        import os, syncline

        class Client:
            async def __aenter__(self):
                return self
            async def __aexit__(self, *exc_info):
                print("left", flush=True)

        client = syncline.blocking(Client)()
        with client:
            pid = os.fork()
            if pid == 0:
                del client
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
    """,
        flags=FORKS,
    )
    finished.assert_clean()
    assert finished.lines == ["left"]  # by the parent


def test_a_trace_shows_what_a_twin_calls_by_its_name(
    tmp_path: Path, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """Its class where it is made, its methods, sync ones too, and its properties; nothing of ours."""
    path = tmp_path / "trace.json"
    resident_of = make_bridge().blocking(AsyncResident)
    with syncline.trace(path):
        resident = resident_of()
        all_looks(resident)
        resident_of.made()

        async def main() -> None:
            async with resident.aio:
                assert resident.aio.is_home_too()
                assert await resident.aio

        asyncio.run(main())
    names = {event["name"] for event in load(path) if event.get("cat") in ("call", "step", "task")}
    of_the_class = ["is_home", "is_home_too", "at_home", "at_home_once", "made", "__aenter__", "__aexit__"]
    assert {"AsyncResident", *(f"AsyncResident.{name}" for name in of_the_class)} <= names
    ours = {
        name
        for name in names
        if name.startswith(("_called", "_read", "_await", "OneTask", "Family", "Entered"))
    }
    assert not ours


def test_the_task_that_makes_a_twin_has_the_name_of_its_class(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """Whoever looks at a visible bridge while a constructor runs."""
    seen: list[str] = []

    class AsyncSeen:
        def __init__(self) -> None:
            task = asyncio.current_task()
            assert task is not None
            seen.append(task.get_coro().__qualname__)  # type: ignore[union-attr]

        async def method(self) -> None: ...

    make_bridge(visible=True).blocking(AsyncSeen)()
    assert seen == [AsyncSeen.__qualname__]


def test_threads_share_one_home(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """A bridge of one's own that roams has one, too, for its twins."""
    bridge = make_bridge(roams=True)
    resident = bridge.blocking(AsyncResident)()
    looks: list[bool] = []

    @syncline.nestable
    async def main() -> None:
        looks.append(resident.is_home())
        await asyncio.to_thread(lambda: looks.append(resident.is_home()))

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join(10)
    assert looks == [True, True]
    assert bridge.blocking(AsyncResident) is resident._twin_home.bridge.blocking(AsyncResident)
