"""A loop of somebody else's that is stopped, not closed: what no thread waits for ends, too (`Bridge(loop=...)`)."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
import uvloop

import syncline
from child import FORKS, eventually, run_script
from hosts import Theirs, stopping
from remote_code import Anywhere, until

RAN = "is onto was stopped before the call ended, and nobody runs it"


@pytest.fixture(params=[asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def theirs(request: pytest.FixtureRequest) -> Iterator[Theirs]:
    with stopping(request.param) as made:
        yield made


async def forever(begun: threading.Event) -> None:
    begun.set()
    await asyncio.Event().wait()


@pytest.mark.usefixtures("leaks_nothing")
def test_a_future_ends_whoever_takes_its_result(theirs: Theirs) -> None:
    """A thread in `result()`, one in `concurrent.futures.wait`, and a callback; the loop can be run again."""
    begun, called = [threading.Event(), threading.Event()], threading.Event()
    with syncline.Bridge(loop=theirs.loop) as bridge:
        futures = [bridge.submit(forever, event) for event in begun]
        for event in begun:
            assert event.wait(10)
        futures[0].add_done_callback(lambda _: called.set())
        theirs.stop()
        assert not concurrent.futures.wait(futures, 20).not_done
        for future in futures:
            with pytest.raises(syncline.RunnerClosedError, match=RAN):
                future.result()
        assert called.wait(10)
        theirs.run()
        assert bridge.submit(asyncio.sleep, 0, "again").result() == "again"
    assert eventually(lambda: "syncline-standing" not in [thread.name for thread in threading.enumerate()])


def test_a_task_of_another_loop_that_awaits_it_ends(anywhere: Anywhere, theirs: Theirs) -> None:
    """By `run_async`, and in a step of an object at home there."""
    begun = [threading.Event(), threading.Event()]

    async def items(event: threading.Event) -> Any:
        await forever(event)
        yield 1

    with syncline.Bridge(loop=theirs.loop, in_async="home") as bridge:

        async def main() -> None:
            async def run() -> None:
                with pytest.raises(syncline.RunnerClosedError, match=RAN):
                    await bridge.run_async(forever, begun[0])

            async def step() -> None:
                with pytest.raises(syncline.RunnerClosedError):
                    await anext(bridge.iterate(items(begun[1])))

            async with anyio.create_task_group() as group:
                group.start_soon(run)
                group.start_soon(step)
                await until(lambda: all(event.is_set() for event in begun))
                theirs.loop.call_soon_threadsafe(theirs.loop.stop)

        anywhere(main)
        theirs._thread.join()
        theirs.run()


def test_a_loop_that_runs_again_soon_has_lost_nothing(theirs: Theirs) -> None:
    """As between two `run_until_complete` of a program's thread."""
    event = threading.Event()

    async def ends(go_on: asyncio.Event) -> str:
        event.set()
        await go_on.wait()
        return "ended"

    with syncline.Bridge(loop=theirs.loop) as bridge:
        go_on = bridge.call(asyncio.Event)
        future = bridge.submit(ends, go_on)
        assert event.wait(10)
        theirs.stop()
        with pytest.raises(TimeoutError):
            future.result(0.3)  # three looks
        theirs.run()
        bridge.call(go_on.set)
        assert future.result(10) == "ended"


def test_a_forked_child_looks_for_itself() -> None:
    """Its parent's thread that looks is not there."""
    script = """
        import asyncio, os, syncline, threading

        def stopped():
            loop, begun = asyncio.new_event_loop(), threading.Event()
            thread = threading.Thread(target=loop.run_forever)
            thread.start()

            async def forever():
                begun.set()
                await asyncio.Event().wait()

            bridge = syncline.Bridge(loop=loop)
            future = bridge.submit(forever)
            begun.wait()
            return bridge, loop, thread, future

        def ends(bridge, loop, thread, future):
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            assert isinstance(future.exception(20), syncline.RunnerClosedError)
            bridge.close()
            loop.close()

        held = stopped()
        child = os.fork()
        if not child:
            ends(*stopped())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        ends(*held)
        """
    run_script(script, flags=FORKS).assert_clean()


@pytest.mark.parametrize(
    "call",
    [
        "list(bridge.map(answer, [1]))",
        "in_a_group()",
        "bridge.run_sync(syncline.run_nestable, int)",
        "bridge.run_sync(syncline.to_thread, int)",
    ],
)
def test_a_loop_whose_thread_can_run_no_code_of_ours_any_more_ends_its_calls(call: str) -> None:
    """A function that was registered with `atexit` before syncline was imported runs after our exit, and a daemon
    thread's loop runs still. That thread stays for ever where it comes into code of ours, which a call of it would
    have waited for."""
    end = run_script(f"""
import atexit, threading

def last():
    try:
        print({call})
    except RuntimeError as error:
        print(str(error)[:32])

atexit.register(last)
import asyncio
import syncline

async def answer(*_):
    await asyncio.sleep(0)
    return 42

def in_a_group():
    with bridge.group() as group:
        group.start(answer)

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
bridge = syncline.Bridge(loop=loop)
""")
    assert end.lines == ["the interpreter is shutting down"], end.err
    end.assert_clean()
