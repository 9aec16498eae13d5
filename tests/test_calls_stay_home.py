"""Calls of a bridge of one's own run on its own loop, whatever the application has opted in to: the task is parked."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio
import uvloop

import syncline
from child import run_script
from neutral import turn
from places import installed, own_loop
from remote_code import Cleaning, answer, until

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


class Sdk:
    """A library that keeps its client on a bridge of its own."""

    def __init__(self, **options: Any) -> None:
        self.bridge = syncline.Bridge(name="sdk", **options)
        self.home = self.bridge.run_sync(own_loop)

    async def _query(self) -> bool:
        await turn()
        return asyncio.get_running_loop() is self.home

    def query(self) -> bool:
        return self.bridge.run_sync(self._query)


Options = dict[str, Any]
SDKS: dict[str, Options] = {
    "plain": {},
    "thread": {"nested": "thread"},
    "error": {"nested": "error"},
    "a loop for each thread": {"scope": "thread"},
    "copied contexts": {"context": "copy"},
    "uvloop": {"loop_factory": uvloop.new_event_loop},
}


@pytest.fixture(params=SDKS.values(), ids=SDKS)
def sdk(request: pytest.FixtureRequest) -> Iterator[Sdk]:
    made = Sdk(**request.param)
    with made.bridge:
        yield made


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
def test_an_application_does_not_move_a_librarys_calls(sdk: Sdk, run: Callable[[Any], Any]) -> None:
    """Neither by opting in, in either way, nor by not doing it."""

    async def main() -> bool:
        return sdk.query() and sdk.bridge.run(sdk._query(), timeout=10)

    assert run(main())
    assert run(installed(main))
    assert run(syncline.nestable(main)())


def test_on_the_loop_of_another_bridge_they_stay_home_too(sdk: Sdk) -> None:
    """The default bridge's, and one of the application's."""

    if sdk.bridge.scope == "thread":
        pytest.skip("that loop's thread has a loop of its own")

    async def main() -> bool:
        return sdk.query()

    assert syncline.run_sync(main)
    with syncline.Bridge() as application:
        assert application.run_sync(main)


def test_the_default_bridge_runs_in_the_task_that_opted_in() -> None:
    """It has no home. With roams=True neither has another one."""

    async def main() -> bool:
        here = asyncio.get_running_loop(), asyncio.current_task()

        async def where() -> object:
            return asyncio.get_running_loop(), asyncio.current_task()

        with syncline.Bridge(roams=True) as roaming:
            return syncline.run_sync(where) == roaming.run_sync(where) == here

    assert asyncio.run(syncline.nestable(main)())


def test_the_loop_of_a_parked_task_goes_on() -> None:
    """Another task of it lets the call go that the first one waits for."""
    with syncline.Bridge() as bridge:

        async def main() -> int:
            event = bridge.call(asyncio.Event)
            task = asyncio.create_task(syncline.run_nestable(bridge.run_sync, event.wait))
            await turn()
            assert not task.done()
            bridge.call(event.set)
            assert await task
            return 1

        assert asyncio.run(main()) == 1
        assert syncline.run_sync(main) == 1


def test_errors_context_timeouts_and_cancellations_come_through() -> None:
    """As for every call."""
    bridge, cleaning, known = syncline.Bridge(), [Cleaning(), Cleaning()], KeyError("known")

    async def fail() -> None:
        variable.set("changed")
        await turn()
        raise known

    def sync_code() -> None:
        with pytest.raises(KeyError) as caught:
            bridge.run_sync(fail)
        assert (caught.value, variable.get()) == (known, "changed")
        with pytest.raises(TimeoutError, match=r"within 0\.05 s"):
            bridge.run(cleaning[0](), timeout=0.05)
        assert cleaning[0].is_clean
        bridge.run_sync(cleaning[1])

    async def main() -> None:
        task = asyncio.create_task(syncline.run_nestable(sync_code))
        await until(cleaning[1].waits.is_set)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert cleaning[1].is_clean

    with bridge:
        asyncio.run(main())


def test_iterators_and_managers_stay_home() -> None:
    """All their steps, in one task there; the application's loop goes on in between."""
    with syncline.Bridge() as bridge:
        home = bridge.run_sync(own_loop)
        tasks: set[Any] = set()

        async def numbers() -> AsyncIterator[int]:
            for number in range(3):
                await turn()
                tasks.add(asyncio.current_task())
                assert asyncio.get_running_loop() is home
                yield number

        @asynccontextmanager
        async def session() -> AsyncIterator[asyncio.AbstractEventLoop]:
            entered = asyncio.current_task()
            await turn()
            yield asyncio.get_running_loop()
            assert asyncio.current_task() is entered

        def sync_code() -> list[int]:
            with bridge.enter(session) as loop:
                assert loop is home
                return [*bridge.iterate(numbers()), *bridge.iterate(numbers(), prefetch=2)]

        assert asyncio.run(syncline.run_nestable(sync_code)) == [0, 1, 2] * 2
        assert asyncio.run(installed(lambda: syncline.run_nestable(sync_code))) == [0, 1, 2] * 2
        assert len(tasks) == 4


def test_asyncio_code_below_trio_and_the_other_way_round() -> None:
    """A parked task's loop may be run by the other library."""
    with syncline.Bridge() as bridge, syncline.Bridge(backend="trio") as of_trio:

        async def trio_code() -> str:
            await trio.lowlevel.checkpoint()
            return "trio"

        async def asyncio_code() -> str:
            await asyncio.sleep(0)
            return "asyncio"

        def sync_code() -> tuple[str, str]:
            return bridge.run_sync(asyncio_code), of_trio.run_sync(trio_code)

        async def main() -> tuple[str, str]:
            return await syncline.run_nestable(sync_code)

        assert asyncio.run(main()) == trio.run(main) == ("asyncio", "trio")


def test_in_no_switch_the_loop_is_blocked_instead() -> None:
    """The block says that no other task may run; and the call works."""
    with syncline.Bridge() as bridge:
        ran: list[str] = []

        async def other() -> None:
            ran.append("other")

        def sync_code() -> int:
            with syncline.no_switch():
                return bridge.run_sync(answer, 3)

        async def main() -> None:
            task = asyncio.create_task(other())
            assert await syncline.run_nestable(sync_code) == 42
            assert not ran
            await task

        asyncio.run(main())


def test_two_libraries_that_call_each_other_are_no_circle() -> None:
    """Each call parks its task, so no thread waits for another one."""
    with syncline.Bridge(name="one") as one, syncline.Bridge(name="two") as two:

        async def down(depth: int) -> int:
            await turn()
            return (one if depth % 2 else two).run_sync(down, depth - 1) + 1 if depth else 0

        assert one.run_sync(down, 9) == 9
        assert one.stats()["runners"] == two.stats()["runners"] == 1


def test_ctrl_c_reaches_what_a_parked_task_waits_for() -> None:
    """In a real process: asyncio cancels the main task, and the coroutine cleans up at home."""
    script = """
        import asyncio, os, signal, syncline, threading

        bridge = syncline.Bridge()

        async def wait():
            try:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.01)
                print("clean", threading.current_thread().name, flush=True)

        try:
            asyncio.run(syncline.run_nestable(bridge.run_sync, wait))
        except KeyboardInterrupt:
            print("interrupted")
    """
    done = run_script(script)
    done.assert_clean()
    assert done.lines == ["clean syncline", "interrupted"]


def test_a_client_of_aiohttp_stays_on_its_loop() -> None:
    """A real client and server: used from an application that installs, and from one that doesn't."""
    aiohttp, web = pytest.importorskip("aiohttp"), pytest.importorskip("aiohttp.web")
    with syncline.Bridge(name="sdk") as bridge:

        async def hello(request: Any) -> Any:
            return web.Response(text="hello")

        async def serve() -> Any:
            application = web.Application()
            application.router.add_get("/", hello)
            runner = web.AppRunner(application)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            return runner

        async def get() -> str:
            async with client.get(f"http://127.0.0.1:{port}/") as response:
                text: str = await response.text()
                return text

        def sync_code() -> str:
            return bridge.run_sync(get)

        async def main() -> str:
            await turn()
            return sync_code()

        server = syncline.run_sync(serve)
        port = server.addresses[0][1]
        with bridge.enter(aiohttp.ClientSession) as client:
            answers = [sync_code(), asyncio.run(main()), asyncio.run(installed(main))]
            answers.append(asyncio.run(syncline.nestable(main)()))
        syncline.run_sync(server.cleanup)
        assert answers == ["hello"] * 4
