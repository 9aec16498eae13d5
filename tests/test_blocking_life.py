"""Where twins live and how they end: bridges of all kinds, threads, forks, Ctrl-C, exits, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self

import anyio
import anyio.lowlevel
import pytest

import syncline
from child import FORKS, Child, run_script
from twin_code import AsyncItem, Shop


class AsyncCounter:
    """Uses anyio, so that it works with trio, too."""

    def __init__(self) -> None:
        self.count = 0
        self.gone: list[str] = []

    async def __aenter__(self) -> Self:
        self.group = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(self, *exc_info: object) -> bool | None:
        return await self.group.__aexit__(*exc_info)  # type: ignore[arg-type]

    async def add(self, n: int) -> int:
        await anyio.lowlevel.checkpoint()
        self.count += n
        return self.count

    async def up_to(self, n: int) -> Any:
        for i in range(n):
            await anyio.lowlevel.checkpoint()
            yield i

    async def part(self) -> AsyncCounter:
        return AsyncCounter()


def test_twins_work_on_bridges_of_all_kinds(
    each_bridge: syncline.Bridge, inside: Callable[[Callable[[], Any]], Any]
) -> None:
    """In plain threads, in other loops and below the bridge's own."""
    counter_of = each_bridge.blocking(AsyncCounter)

    def body() -> list[Any]:
        counter = counter_of()
        with counter as entered:
            assert entered is counter
            assert counter.add(1) == 1
        return [counter.add(1), list(counter.up_to(2)), counter.part().add(5)]

    assert inside(body) == [2, [0, 1], 5]


@pytest.mark.parametrize("scope", ["thread", "caller"])
def test_an_object_of_a_thread_s_loop_is_not_called_elsewhere(
    scope: str, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """Its calls would run on another loop than it lives on; the error says so."""
    counter = make_bridge(scope=scope).blocking(AsyncCounter)()
    assert counter.add(1) == 1
    message = rf'in scope "{scope}" an object lives on the loop of the thread that made it, \'MainThread\''
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match=message):
        pool.submit(counter.add, 1).result()
    assert counter.add(1) == 2


def test_a_closed_bridge_says_so(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Calls don't wait; attributes can still be read."""
    bridge = make_bridge()
    counter = bridge.blocking(AsyncCounter)()
    bridge.close()
    with pytest.raises(syncline.RunnerClosedError):
        counter.add(1)
    assert counter.count == 0


def test_many_threads_share_one_object(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """All calls run on its loop, one step at a time."""
    counter = make_bridge().blocking(AsyncCounter)()
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(lambda _: counter.add(1), range(200))) == list(range(1, 201))


def test_a_call_below_its_own_loop_awaits_in_place(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Sync code that a coroutine of the bridge called uses the twin: no other thread, no blocked loop."""
    bridge = make_bridge()
    counter = bridge.blocking(AsyncCounter)()

    async def outer() -> int:
        return int(counter.add(1))

    assert bridge.run_sync(outer) == 1
    assert bridge.stats()["runners"] == 1


class AsyncResident:
    """Knows the loop that it was made on."""

    def __init__(self) -> None:
        self._home = asyncio.get_running_loop()

    async def is_at_home(self) -> bool:
        return asyncio.get_running_loop() is self._home


def test_an_object_is_called_at_home_in_tasks_that_opted_in(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """And from threads that such a task sends: a bridge of one's own does not roam."""
    resident_of = make_bridge().blocking(AsyncResident)
    outside = resident_of()

    @syncline.nestable
    async def main() -> list[bool]:
        inside = resident_of()
        return [inside.is_at_home(), outside.is_at_home(), await asyncio.to_thread(inside.is_at_home)]

    assert asyncio.run(main()) == [True] * 3


def test_twins_leave_nothing_behind(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """10,000 of them go when nobody has them, and their objects with them."""
    from syncline._twins import objects

    shop = Shop("corner")
    gc.collect()
    before = len(objects._twins)

    async def many() -> list[AsyncItem]:
        return [AsyncItem(number) for number in range(10_000)]

    raw = make_bridge().run_sync(many)
    twins = [shop.whatever(item) for item in raw]
    assert len(objects._twins) == before + 10_000
    watched = weakref.ref(raw[5000])
    del raw
    assert twins[5000].number == 5000
    del twins
    gc.collect()
    assert len(objects._twins) == before
    assert watched() is None


def test_a_ring_through_a_twin_is_collected() -> None:
    """The async object has its own twin in an attribute."""
    shop = Shop("ring")
    shop._twin_object.twin = shop
    watched = weakref.ref(shop._twin_object)
    del shop
    gc.collect()
    assert watched() is None


class AsyncFinal:
    """Says where it goes."""

    def __init__(self, gone: list[int], is_gone: threading.Event) -> None:
        self._gone, self._is_gone = gone, is_gone

    async def where(self) -> int:
        return threading.get_ident()

    def __del__(self) -> None:
        self._gone.append(threading.get_ident())
        self._is_gone.set()


def test_a_finalizer_runs_on_the_loop_s_thread(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """As it would in async code; it may need the loop."""
    gone: list[int] = []
    is_gone = threading.Event()
    final = make_bridge().blocking(AsyncFinal)(gone, is_gone)
    there = final.where()
    del final
    assert is_gone.wait(10)
    assert gone == [there]


def test_a_finalizer_runs_after_the_bridge_was_closed(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Where it is dropped, as there is no loop any more."""
    gone: list[int] = []
    bridge = make_bridge()
    final = bridge.blocking(AsyncFinal)(gone, threading.Event())
    bridge.close()
    del final
    assert gone == [threading.get_ident()]


def test_the_exit_leaves_what_is_entered() -> None:
    """A twin that nobody left neither hangs nor is lost: its `__aexit__` runs."""
    finished = run_script(
        """
        import asyncio, syncline

        class Connection:
            async def __aenter__(self):
                return self
            async def __aexit__(self, *exc_info):
                await asyncio.sleep(0)
                print("left")
            async def ask(self):
                return 1

        connection = syncline.blocking(Connection)()
        connection.__enter__()
        print(connection.ask())
        """
    )
    finished.assert_clean()
    assert finished.lines == ["1", "left"]


def test_the_exit_finalizes_what_is_there() -> None:
    """The object's `__del__` runs, though there is no loop any more."""
    finished = run_script(
        """
        import sys, types, syncline

        class Connection:
            async def ask(self):
                return 1
            def __del__(self):
                print("gone")

        # A module of its own, as what tests put before a script keeps the main module's names to the very end.
        keeper = sys.modules["keeper"] = types.ModuleType("keeper")
        keeper.connection = syncline.blocking(Connection)()
        print(keeper.connection.ask())
        del keeper
        """
    )
    finished.assert_clean()
    assert finished.lines == ["1", "gone"]


def test_an_object_whose_program_ends_with_an_error_goes_in_silence() -> None:
    """The error's frames keep it until Python takes itself apart; there is no loop any more that could have it."""
    finished = run_script(
        """
        import syncline

        class Connection:
            async def ask(self):
                return 1
            def __del__(self):
                pass

        def fail():
            connection = syncline.blocking(Connection)()
            raise ValueError(connection.ask())

        fail()
        """
    )
    assert finished.err.splitlines()[-1] == "ValueError: 1"
    assert "ignored" not in finished.err


def test_an_object_that_was_left_goes_with_its_twin() -> None:
    """Nothing that entered it keeps it."""
    with Shop("corner") as shop:
        watched = weakref.ref(shop._twin_object)
    del shop
    gc.collect()
    assert watched() is None


def test_ctrl_c_cancels_a_method() -> None:
    """It cleans up, and KeyboardInterrupt is raised; the twin can be used again."""
    with Child(
        """
        import asyncio, syncline

        class Client:
            async def wait(self):
                print("waiting", flush=True)
                try:
                    await asyncio.sleep(60)
                finally:
                    print("cleaned up", flush=True)
            async def ask(self):
                return "still there"

        client = syncline.blocking(Client)()
        try:
            client.wait()
        except KeyboardInterrupt:
            print("interrupted", client.ask(), flush=True)
        """
    ) as child:
        child.expect("waiting")
        child.signal()
        child.expect("cleaned up")
        child.expect("interrupted still there")
        assert child.finish().status == 0


def test_a_forked_child_has_a_loop_of_its_own() -> None:
    """For objects that need nothing of the parent's; both go on."""
    finished = run_script(
        """
        import asyncio, os, syncline

        class Client:
            async def ask(self):
                await asyncio.sleep(0)
                return "answer"
            def __del__(self):
                pass

        client = syncline.blocking(Client)()
        client.ask()
        pid = os.fork()
        if pid == 0:
            assert client.ask() == "answer"
            del client
            os._exit(0)
        print(os.waitpid(pid, 0)[1], client.ask())
        """,
        flags=FORKS,
    )
    finished.assert_clean()
    assert finished.lines == ["0 answer"]
