"""Circles of waits that lead through what the standard library has for waiting: a thread's end, a pool's result, an
event, a queue.

Where it is certain who is waited for, it is a DeadlockError; else a warning with both stacks, and never silence. The
long waits without deadlock last for 2.5 seconds, several check intervals.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Self

import pytest

import syncline
from child import run_script
from hosts import KINDS, Host
from waiting import answer, bridge, in_time

__all__ = ["bridge"]

pytestmark = pytest.mark.timeout(60)
LONG = 2.5
Function = Callable[[], Coroutine[Any, Any, Any]]
Hop = Callable[[syncline.Bridge, Function], Any]


def by_call(bridge: syncline.Bridge, fn: Function) -> Any:
    return bridge.run_sync(fn)


def by_future(bridge: syncline.Bridge, fn: Function) -> Any:
    return bridge.submit(fn).result()


def by_manager(bridge: syncline.Bridge, fn: Function) -> Any:
    @asynccontextmanager
    async def manager() -> AsyncIterator[Any]:
        yield await fn()

    with bridge.enter(manager()) as value:
        return value


hops = pytest.mark.parametrize("hop", [by_call, by_future, by_manager])


def in_thread(fn: Callable[[], Any]) -> tuple[threading.Thread, Future[Any]]:
    """Calls a function in a thread of its own."""
    outcome: Future[Any] = Future()

    def runs() -> None:
        try:
            outcome.set_result(fn())
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=runs, name="helper", daemon=True)
    thread.start()
    return thread, outcome


@contextmanager
def pool_of_one() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1, thread_name_prefix="pool") as pool:
        yield pool


@hops
def test_a_coroutine_that_joins_its_caller_raises(bridge: syncline.Bridge, hop: Hop) -> None:
    """The caller is told, with both stacks, and ends; and so the coroutine goes on."""
    joined = threading.Event()

    def calls() -> None:
        caller = threading.current_thread()

        async def joins() -> None:
            caller.join()
            joined.set()

        hop(bridge, joins)

    with in_time():
        _, outcome = in_thread(calls)
        with pytest.raises(syncline.DeadlockError, match="the end of the thread 'helper'") as caught:
            outcome.result(20)
    assert "in joins" in str(caught.value)
    assert "in calls" in str(caught.value)
    assert joined.wait(10)
    assert bridge.run_sync(answer) == 42


@hops
def test_a_coroutine_that_joins_a_thread_which_needs_its_loop_raises(
    bridge: syncline.Bridge, hop: Hop
) -> None:
    """That thread is told."""

    async def joins() -> Future[Any]:
        thread, outcome = in_thread(lambda: hop(bridge, answer))
        thread.join()
        return outcome

    with in_time():
        outcome = bridge.run_sync(joins)
    with pytest.raises(syncline.DeadlockError, match="the end of the thread 'helper'"):
        outcome.result(0)


@hops
def test_a_coroutine_that_waits_for_a_pool_which_needs_its_loop_raises(
    bridge: syncline.Bridge, hop: Hop
) -> None:
    """So is the pool's thread, which gives the error on."""
    with pool_of_one() as pool:

        async def waits() -> Any:
            return pool.submit(hop, bridge, answer).result()

        with in_time(), pytest.raises(syncline.DeadlockError, match="runs for a pool"):
            bridge.run_sync(waits)


@hops
def test_a_coroutine_that_waits_for_the_only_thread_of_a_pool_raises(
    bridge: syncline.Bridge, hop: Hop
) -> None:
    """That thread is the one that waits for the coroutine."""
    with pool_of_one() as pool:

        async def waits() -> int:
            return pool.submit(int).result()

        with in_time(), pytest.raises(syncline.DeadlockError, match="alone in its pool"):
            pool.submit(hop, bridge, waits).result(20)


@hops
def test_a_lock_is_found_whatever_its_holder_waits_by(bridge: syncline.Bridge, hop: Hop) -> None:
    """Also by `result()`, in which nobody looked before."""
    lock = threading.Lock()

    async def takes_the_lock() -> None:
        with lock:
            pass

    with in_time(), lock, pytest.raises(syncline.DeadlockError, match="holds"):
        hop(bridge, takes_the_lock)


@pytest.mark.parametrize("limit", [LONG, None], ids=["with a limit", "without"])
def test_a_thread_that_ends_by_itself_is_no_deadlock(bridge: syncline.Bridge, limit: float | None) -> None:
    """It waits for another loop; or the coroutine stops waiting for it."""
    outcomes: list[Future[Any]] = []
    with syncline.Bridge(name="free") as free:

        async def joins() -> str:
            needed = bridge if limit else free
            thread, outcome = in_thread(lambda: needed.run_sync(asyncio.sleep, 0 if limit else LONG, "slept"))
            outcomes.append(outcome)
            thread.join(limit)
            return "went on"

        assert bridge.run_sync(joins) == "went on"
        assert outcomes[0].result(20) == "slept"


def test_a_pool_that_takes_long_is_no_deadlock(bridge: syncline.Bridge) -> None:
    """Its thread waits for nobody."""
    with pool_of_one() as pool:

        async def waits() -> None:
            return pool.submit(time.sleep, LONG).result()

        assert bridge.submit(waits).result() is None


class Told(logging.Handler):
    """Keeps what is logged, and does something then."""

    def __init__(self, then: Callable[[], object]) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []
        self._then = then

    def emit(self, record: logging.LogRecord) -> None:
        self.messages.append(record.getMessage())
        self._then()

    def __enter__(self) -> Self:
        logging.getLogger("syncline").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("syncline").removeHandler(self)


linux = pytest.mark.skipif(sys.platform != "linux", reason="what threads wait for is known on Linux")


@linux
@hops
@pytest.mark.parametrize("scope", ["process", "thread"])
def test_a_coroutine_that_waits_for_a_queue_is_warned_of(scope: str, hop: Hop) -> None:
    """Anybody may put something in, so it is no error; once, with both stacks; and the wait goes on."""
    items: queue.Queue[int] = queue.Queue()

    async def takes() -> int:
        return items.get()

    def calls() -> Any:
        with syncline.Bridge(scope=scope) as bridge:  # type: ignore[arg-type]
            return hop(bridge, takes)

    # Interleaving: the wait ends only once the warning is there.
    with Told(lambda: items.put(42)) as told:
        _, outcome = in_thread(calls)
        assert outcome.result(30) == 42
    assert len(told.messages) == 1
    assert "this is a deadlock, unless" in told.messages[0]
    assert "in takes" in told.messages[0]
    assert "in calls" in told.messages[0]


@linux
def test_each_sleep_is_warned_of_though_it_is_at_the_same_place(bridge: syncline.Bridge) -> None:
    """Nobody looks between the two, so the second was taken for the first one, of which was told."""
    items: queue.SimpleQueue[int] = queue.SimpleQueue()

    async def takes() -> int:
        # In one frame, at one instruction: the queue is written in C.
        return sum([items.get() for _ in range(2)])

    # Interleaving: each wait ends only once its warning is there.
    with Told(lambda: items.put(21)) as told:
        _, outcome = in_thread(lambda: bridge.run_sync(takes))
        assert outcome.result(30) == 42
    assert len(told.messages) == 2


@hops
def test_a_loop_that_is_in_a_long_call_itself_is_not_warned_of(
    bridge: syncline.Bridge, hop: Hop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread sleeps, too, until the call ends: that is what calls do."""
    monkeypatch.setattr("syncline._diagnosis.suspicion._TELL_AFTER", 0.1)
    with syncline.Bridge(name="other") as other, Told(int) as told:

        async def calls() -> Any:
            return hop(other, lambda: asyncio.sleep(LONG, "slept"))

        with syncline.Bridge(name="first", nested="thread") as first:
            assert first.run_sync(calls) == "slept"
    assert told.messages == []


@linux
@pytest.mark.parametrize("hop", ["bridge.run_sync(waits)", "bridge.submit(waits).result()"])
def test_where_all_threads_sleep_it_is_an_error(hop: str) -> None:
    """Nobody is left who could set the event."""
    finished = run_script(f"""
import syncline, threading
bridge = syncline.Bridge()
event = threading.Event()

async def waits():
    event.wait()

def calls():
    {hop}

try:
    calls()
except syncline.DeadlockError as error:
    print("TOLD", error)
event.set()
""")
    assert finished.out.startswith("TOLD"), finished.out + finished.err
    assert "in waits" in finished.out
    assert "in calls" in finished.out


@linux
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hop", [by_call, by_future])
def test_a_call_back_to_the_only_loop_there_is_is_warned_of(kind: str, hop: Hop) -> None:
    """The loop is somebody else's, so the call can't run elsewhere, and what waits for it may be ended by others."""
    host = Host(kind)
    released = threading.Event()
    with syncline.Bridge(loop=host.loop, nested="thread") as onto, syncline.Bridge(name="other") as other:

        async def comes_back() -> str:
            back = asyncio.ensure_future(onto.run_async(on_host))
            release = asyncio.ensure_future(asyncio.to_thread(released.wait))
            done, _ = await asyncio.wait({back, release}, return_when=asyncio.FIRST_COMPLETED)
            return "released" if release in done else "came back"

        async def on_host() -> None:
            pass

        async def blocks() -> Any:
            return hop(other, comes_back)

        with Told(released.set) as told:
            assert host.run(blocks) == "released"
    host.end()
    assert len(told.messages) == 1
    assert "blocks this thread's event loop" in told.messages[0]


@pytest.mark.parametrize("how", ["asyncio.wrap_future(wanted)", "asyncio.to_thread(wanted.result)"])
def test_a_future_that_needs_the_loop_which_its_wait_blocks_is_told_of(how: str) -> None:
    """As a call is: an error where nobody else can act, else a warning."""
    finished = run_script(f"""
import asyncio, logging, os, sys, syncline
logging.basicConfig(level="WARNING", stream=sys.stdout, format="TOLD %(message)s")

async def needs(loop):
    wanted = asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop)
    await {how}

async def main():
    try:
        syncline.Bridge().submit(needs, asyncio.get_running_loop()).result(8)
    except syncline.DeadlockError as error:
        print("TOLD", error)
    except TimeoutError:
        pass

asyncio.run(main())
sys.stdout.flush()
os._exit(0)
""")
    assert finished.out.count("TOLD") == 1, finished.out + finished.err
    assert "in needs" in finished.out
    assert "in main" in finished.out
