"""Bridge(stall_after=...) and the search for deadlocks, where tasks are parked in nested calls.

What blocks a loop in these tests goes on until the report is there: no test waits for a time to pass.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import trio
import uvloop

import syncline
from child import run_script
from stalls import Reports, reports

__all__ = ["reports"]

our_loops = pytest.mark.parametrize("bridge", ["process", "thread", "uvloop"], indirect=True)


@pytest.fixture
def bridge(request: pytest.FixtureRequest, make_bridge: Callable[..., syncline.Bridge]) -> syncline.Bridge:
    """One that reports stalls."""
    return make_bridge(scope=request.param, name="watched", nested="switch", stall_after=0.1)


@our_loops
def test_a_stall_report_shows_who_blocks_who_waits_and_who_is_parked(
    bridge: syncline.Bridge, reports: Reports
) -> None:
    """The blocking code, the caller and sync code parked in nested calls, alike stacks once; and nobody else."""

    def is_parked(event: asyncio.Event) -> None:
        bridge.run_sync(event.wait)

    async def parks(event: asyncio.Event) -> None:
        is_parked(event)

    async def parks_otherwise(event: asyncio.Event) -> None:
        await parks(event)

    async def has_nested() -> None:
        bridge.run_sync(asyncio.sleep, 0)

    def blocks_the_loop() -> None:
        assert reports.came.wait(30)

    async def main() -> None:
        event = asyncio.Event()
        tasks = [asyncio.create_task(parks(event)) for _ in range(3)]
        tasks.append(asyncio.create_task(parks_otherwise(event)))
        tasks.append(asyncio.create_task(has_nested()))
        while not tasks[-1].done():
            await asyncio.sleep(0)
        blocks_the_loop()
        event.set()
        await asyncio.gather(*tasks)

    def waits_for_main() -> None:
        bridge.run_sync(main)

    waits_for_main()
    text = reports.texts[0]
    first, *_ = text.splitlines()
    assert "the loop 'watched" in first
    assert "test_switch_watchdog.py" in first
    assert "in blocks_the_loop" in text
    assert "in waits_for_main" in text
    assert "3 stacks of the same thread, parked in a nested call:\n" in text
    assert text.count("in is_parked\n") == 2  # of the three, and of the other one
    assert text.count("in parks_otherwise\n") == 1
    assert "in has_nested" not in text


@our_loops
def test_a_stall_report_shows_all_of_a_long_chain(bridge: syncline.Bridge, reports: Reports) -> None:
    """Of a chain 40 deep, whose parts are in several greenlets, the outermost and the innermost frames."""

    async def level(left: int, event: asyncio.Event) -> None:
        if left:
            bridge.run_sync(level, left - 1, event)
        else:
            await innermost(event)

    async def innermost(event: asyncio.Event) -> None:
        bridge.run_sync(event.wait)

    async def outermost(event: asyncio.Event) -> None:
        bridge.run_sync(level, 40, event)

    async def main() -> None:
        event = asyncio.Event()
        task = asyncio.create_task(outermost(event))
        await asyncio.sleep(0)
        assert reports.came.wait(30)
        event.set()
        await task

    bridge.run_sync(main)
    parts = reports.texts[0].split("parked in a nested call:")
    (outer,) = [part for part in parts if "in outermost\n" in part]
    (inner,) = [part for part in parts if "in innermost\n" in part]
    assert outer is not inner
    assert "in level\n" in outer
    assert "in level\n" in inner


@our_loops
def test_a_stall_report_shows_calls_parked_in_greenlets_of_others(
    bridge: syncline.Bridge, reports: Reports, tmp_path: Path
) -> None:
    """A nested call made below SQLAlchemy's async session is parked in SQLAlchemy's greenlet, above ours."""
    asynchronous: Any = pytest.importorskip("sqlalchemy.ext.asyncio")

    async def main() -> None:
        engine = asynchronous.create_async_engine(f"sqlite+aiosqlite:///{tmp_path / 'db'}")
        parked, event = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            parked.set()
            await event.wait()

        def in_their_greenlet(_: object) -> None:
            bridge.run_sync(wait)

        async def uses_a_session() -> None:
            async with asynchronous.AsyncSession(engine) as session:
                await session.run_sync(in_their_greenlet)

        task = asyncio.create_task(uses_a_session())
        await parked.wait()
        assert reports.came.wait(30)
        event.set()
        await task
        await engine.dispose()

    bridge.run_sync(main)
    assert "in in_their_greenlet\n" in reports.texts[0]


@our_loops
def test_where_nothing_is_parked_nothing_is_said_of_it(bridge: syncline.Bridge, reports: Reports) -> None:
    """Greenlets at rest, and tasks that await as usual, are no news."""

    async def nests() -> None:
        bridge.run_sync(asyncio.sleep, 0)
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.create_task(nests())
        for _ in range(5):
            await asyncio.sleep(0)
        assert reports.came.wait(30)
        task.cancel()

    bridge.run_sync(main)
    assert "parked in a nested call" not in reports.texts[0]


def blocks_until_reported(
    bridge: syncline.Bridge, reports: Reports
) -> Callable[[], Coroutine[Any, Any, None]]:
    """A coroutine function whose sync call blocks the loop that runs it, until that is reported."""

    async def is_waited_for() -> None:
        while not reports.came.is_set():
            await asyncio.sleep(0.005)

    def blocks_the_loop() -> None:
        bridge.run_sync(is_waited_for)

    async def main() -> None:
        blocks_the_loop()

    return main


@pytest.mark.parametrize("host", ["asyncio", "uvloop", "trio"])
def test_a_call_that_blocks_a_loop_of_the_users_is_reported(host: str, reports: Reports) -> None:
    """In a task that did not opt in, the call blocks the user's loop: the report has the sync call and, below it, the
    coroutine that it waits for."""
    with syncline.Bridge(name="watched", stall_after=0.1) as bridge:
        main = blocks_until_reported(bridge, reports)
        if host == "trio":
            trio.run(main)
        else:
            loop = uvloop.new_event_loop if host == "uvloop" else asyncio.new_event_loop
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(main())
    (text,) = reports.texts
    first, *_ = text.splitlines()
    assert "blocks_the_loop() at" in first
    assert ("trio run" if host == "trio" else "event loop") in first
    assert "syncline.nestable" in first
    assert "in blocks_the_loop\n" in text
    assert "in is_waited_for\n" in text


def test_a_nested_call_on_another_thread_that_blocks_its_loop_is_reported(reports: Reports) -> None:
    """nested="thread": whoever waits for the outer loop reports the sync call that blocks it, once."""
    with syncline.Bridge(name="outer", nested="thread", stall_after=0.1) as bridge:
        main = blocks_until_reported(bridge, reports)

        def waits_for_main() -> None:
            bridge.run_sync(main)

        waits_for_main()
    (text,) = reports.texts
    first, *_ = text.splitlines()
    assert "the loop 'outer'" in first
    assert "blocks_the_loop() at" in first
    assert "in waits_for_main\n" in text


def test_a_call_that_blocks_no_loop_is_not_reported(reports: Reports) -> None:
    """A long call in plain code, in a worker thread, and one that awaits in place in the user's loop."""
    with syncline.Bridge(stall_after=0.05) as bridge:

        def long_call() -> None:
            bridge.run_sync(asyncio.sleep, 0.3)

        long_call()
        asyncio.run(syncline.run_nestable(long_call))

        async def main() -> None:
            await syncline.to_thread(long_call)

        asyncio.run(main())
    assert reports.texts == []


LOCK = """
    import asyncio, logging, os, sys, syncline, threading

    logging.basicConfig(level="WARNING", stream=sys.stdout, format="LOGGED %(message)s")
    bridge = syncline.Bridge(nested="switch", stall_after=0.2, cleanup_timeout=0.2)
    lock = threading.Lock()

    async def waits(event):
        await event.wait()

    def holds(event):
        with lock:
            bridge.run_sync(waits, event)

    async def holder(event):
        holds(event)

    def takes():
        {takes}

    async def main():
        event = asyncio.Event()
        task = asyncio.create_task(holder(event))
        await asyncio.sleep(0)
        takes()
"""


@pytest.mark.parametrize("takes", ["with lock: pass", "lock.acquire()", "self = lock; self.acquire()"])
def test_a_lock_that_a_parked_task_of_the_same_loop_holds_is_reported(takes: str) -> None:
    """The loop can never turn again: the watchdog names the holder, and whoever waits for the loop gets DeadlockError
    (case 73). The process ends by force, as that loop can't."""
    finished = run_script(
        LOCK.format(takes=takes)
        + """
    try:
        bridge.run_sync(main)
    except syncline.DeadlockError as error:
        print("TOLD", error, flush=True)
    os._exit(0)
    """
    )
    logged, told = finished.out.split("TOLD")
    assert "holds() at" in logged.splitlines()[0]
    assert "no_switch" in logged.splitlines()[0]
    for text in (logged, told):
        assert "in takes" in text, finished.err
        assert "in holds" in text


SUSPENDED = """
    import asyncio, logging, os, sys, syncline, threading

    logging.basicConfig(level="WARNING", stream=sys.stdout, format="LOGGED %(message)s")
    bridge = syncline.Bridge(nested={nested!r}, stall_after=0.2, cleanup_timeout=0.2, loop_factory={factory})
    lock = threading.Lock()

    async def holds(event):
        with lock:
            await event.wait()

    async def takes():
        with lock:
            pass

    async def main():
        event = asyncio.Event()
        tasks = [asyncio.create_task(holds(event)), asyncio.create_task(takes())]
        await asyncio.gather(*tasks)

    try:
        bridge.run_sync(main)
    except syncline.DeadlockError as error:
        print("TOLD", error, flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize("nested", ["switch", "thread"])
@pytest.mark.parametrize("factory", ["None", "asyncio.SelectorEventLoop"])
def test_a_lock_that_a_suspended_coroutine_of_the_same_loop_holds_is_reported(
    nested: str, factory: str
) -> None:
    """`with lock: await ...` in one task, and another one takes the lock: the same, without any nested call."""
    finished = run_script(SUSPENDED.format(nested=nested, factory=factory))
    logged, told = finished.out.split("TOLD")
    if factory == "None":
        assert "holds() at" in logged.splitlines()[0]
    for text in (logged, told):
        if text:
            assert "in takes\n" in text, finished.err
    assert "in holds\n" in told


@pytest.mark.parametrize("how", ["a time limit", "another thread"])
def test_a_lock_that_may_still_come_free_is_no_deadlock(
    how: str, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """Taken with a time limit; or held without a `with` block, and released by another thread. Both go on after more
    than a second, when waits are examined."""
    bridge = make_bridge(nested="switch")
    lock = threading.Lock()

    def holds_it_by_with(event: asyncio.Event) -> None:
        with lock:
            bridge.run_sync(event.wait)

    def just_took_it(event: asyncio.Event) -> None:
        lock.acquire()
        bridge.run_sync(event.wait)

    async def main() -> bool:
        event = asyncio.Event()
        holds = holds_it_by_with if how == "a time limit" else just_took_it
        task = asyncio.create_task(syncline.run_nestable(holds, event))
        await asyncio.sleep(0)
        assert lock.locked()
        if how == "a time limit":
            got = lock.acquire(timeout=2.0)
        else:
            threading.Timer(2.0, lock.release).start()
            got = lock.acquire()
        event.set()
        await task
        return got

    assert bridge.run_sync(main) == (how == "another thread")


def test_a_forked_child_does_not_report_its_parents_tasks() -> None:
    """What is parked on the parent's loops never goes on in the child, whose threads may get the same numbers."""
    finished = run_script(
        """
    import asyncio, os, syncline, warnings
    from syncline._carriers import _carriers
    warnings.simplefilter("ignore", DeprecationWarning)
    bridge = syncline.Bridge(nested="switch")

    async def nests():
        bridge.run_sync(asyncio.Event().wait)

    async def main():
        global task
        task = asyncio.create_task(nests())
        await asyncio.sleep(0)

    bridge.run_sync(main)
    assert _carriers
    child = os.fork()
    if child == 0:
        os._exit(len(_carriers))
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    """
    )
    assert (finished.status, finished.lines) == (0, ["0"]), finished.err
