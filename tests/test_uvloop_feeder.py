"""How a loop of uvloop's is fed: by handles of libuv's, which spin and take mail before the loop sleeps.

What is asked of every loop of a factory is in test_foreign_loops.py, for uvloop, too.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvloop

import syncline
from child import FORKS, eventually, open_descriptors, run_script

MakeBridge = Callable[..., syncline.Bridge]
pytestmark = pytest.mark.timeout(60)


class CountingLoop(uvloop.Loop):  # type: ignore[misc, valid-type, unused-ignore]
    """A loop of uvloop's that counts how often another thread schedules a callback."""

    scheduled = 0

    def call_soon_threadsafe(self, *args: Any, **kwargs: Any) -> asyncio.Handle:
        """Count, then do what the base class does."""
        self.scheduled += 1
        handle: asyncio.Handle = super().call_soon_threadsafe(*args, **kwargs)
        return handle


async def answer(suspensions: int = 0) -> int:
    """A coroutine that suspends some times."""
    for _ in range(suspensions):
        await asyncio.sleep(0)
    return 42


async def this_loop() -> asyncio.AbstractEventLoop:
    """The loop that runs the calls."""
    return asyncio.get_running_loop()


@pytest.fixture
def bridge(make_bridge: MakeBridge) -> syncline.Bridge:
    """A bridge on a loop of uvloop's."""
    return make_bridge(loop_factory=uvloop.new_event_loop)


@contextmanager
def flooded(bridge: syncline.Bridge, suspensions: int, threads: int = 4) -> Iterator[None]:
    """Other threads that do nothing but call, until the end."""
    is_over = threading.Event()

    def calls() -> None:
        while not is_over.is_set():
            assert bridge.run_sync(answer, suspensions) == 42

    callers = [threading.Thread(target=calls) for _ in range(threads)]
    for caller in callers:
        caller.start()
    try:
        yield
    finally:
        is_over.set()
        for caller in callers:
            caller.join()


@pytest.mark.parametrize("suspensions", [0, 1, 5])
def test_no_call_needs_a_callback(make_bridge: MakeBridge, suspensions: int) -> None:
    """The interpreter is not asked for, and nothing is scheduled, to tell the loop of a call."""
    bridge = make_bridge(loop_factory=CountingLoop)
    loop = bridge.run_sync(this_loop)
    assert isinstance(loop, CountingLoop)
    before = loop.scheduled
    for _ in range(200):
        assert bridge.run_sync(answer, suspensions) == 42
    assert loop.scheduled == before


@pytest.mark.parametrize("missing", ["the function", "the loop"])
def test_where_a_loop_of_libuvs_is_not_shown_calls_come_by_callbacks(
    make_bridge: MakeBridge, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    """An older uvloop, and one that hides its loop, work as other loops do."""
    if missing == "the function":
        monkeypatch.delattr("uvloop.loop.libuv_get_loop_t_ptr")
    else:
        monkeypatch.setattr("uvloop.loop.libuv_get_loop_t_ptr", lambda loop: None)
    bridge = make_bridge(loop_factory=CountingLoop)
    loop = bridge.run_sync(this_loop)
    assert isinstance(loop, CountingLoop)
    before = loop.scheduled
    assert [bridge.run_sync(answer, 1) for _ in range(20)] == [42] * 20
    assert loop.scheduled == before + 20


def test_where_libuv_is_in_no_library_of_its_own_calls_come_by_callbacks() -> None:
    """As where uvloop was built into the interpreter. In a process of its own, as the library is looked up once."""
    end = run_script("""
        import uvloop.loop
        uvloop.loop.__file__ = "/nowhere/loop.so"
        import syncline

        class Loop(uvloop.Loop):
            scheduled = 0
            def call_soon_threadsafe(self, *args, **kwargs):
                Loop.scheduled += 1
                return super().call_soon_threadsafe(*args, **kwargs)

        async def answer():
            return 42

        with syncline.Bridge(loop_factory=Loop) as bridge:
            assert [bridge.run_sync(answer) for _ in range(10)] == [42] * 10
        assert Loop.scheduled >= 10
    """)
    end.assert_clean()


@pytest.mark.parametrize("suspensions", [0, 1])
def test_descriptors_callbacks_and_timers_have_their_turns(bridge: syncline.Bridge, suspensions: int) -> None:
    """While other threads keep the loop busy, nothing of the loop's own waits for them to stop."""

    async def ping_pong(rounds: int) -> int:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            for number in range(rounds):
                await loop.sock_sendall(ours, bytes([number]))
                assert await loop.sock_recv(theirs, 1) == bytes([number])
                called = loop.create_future()
                loop.call_soon(called.set_result, None)
                await called
                await asyncio.sleep(0.001)
        return rounds

    with flooded(bridge, suspensions):
        assert bridge.run_sync(ping_pong, 50) == 50


def test_a_timer_is_late_by_a_spin_at_most(bridge: syncline.Bridge) -> None:
    """What a timer waits for is libuv's millisecond, not mail: of many, the best one is hardly late."""

    async def lateness() -> float:
        start = time.monotonic()
        await asyncio.sleep(0.003)
        return time.monotonic() - start - 0.003

    with flooded(bridge, 0, threads=1):
        assert min(bridge.run_sync(lateness) for _ in range(30)) < 0.003


def test_results_that_come_from_descriptors_are_told_of(bridge: syncline.Bridge) -> None:
    """A coroutine that ends in a descriptor's callback, and so in the middle of the loop's sleep, wakes its caller."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)

        async def one_byte() -> bytes:
            return await asyncio.get_running_loop().sock_recv(ours, 1)

        for number in range(100):
            future = bridge.submit(one_byte)
            threading.Thread(target=theirs.send, args=(bytes([number]),)).start()
            assert future.result(20) == bytes([number])
        # The caller itself sleeps, too, and looks for its result only after many milliseconds by itself.
        timer = threading.Timer(0.2, theirs.send, args=(b"x",))
        timer.start()
        assert bridge.run_sync(one_byte) == b"x"
        timer.join()


def test_closing_while_threads_call_ends_every_call(caplog: pytest.LogCaptureFixture) -> None:
    """Each one gets its result or RunnerClosedError; no descriptor is left, and uvloop finds no handle that it does not
    know."""
    with syncline.Bridge(loop_factory=uvloop.new_event_loop) as warm:
        warm.run_sync(answer)
    before = open_descriptors()
    for _ in range(10):
        bridge = syncline.Bridge(loop_factory=uvloop.new_event_loop)
        called = threading.Barrier(5)
        ends: list[BaseException] = []

        def calls(
            bridge: syncline.Bridge = bridge,
            called: threading.Barrier = called,
            ends: list[BaseException] = ends,
        ) -> None:
            assert bridge.run_sync(answer) == 42
            called.wait()
            try:
                while True:
                    bridge.run_sync(answer)
            except Exception as error:
                ends.append(error)

        callers = [threading.Thread(target=calls) for _ in range(4)]
        for caller in callers:
            caller.start()
        # The order forced here: all threads are in the middle of their calls when the loop is told to end.
        called.wait()
        bridge.close()
        for caller in callers:
            caller.join()
        assert [type(end).__name__ for end in ends] == ["RunnerClosedError"] * 4
    gc.collect()
    assert eventually(lambda: open_descriptors() == before)
    assert caplog.records == []


def test_a_loop_that_is_stopped_ends_the_call_that_waits(bridge: syncline.Bridge) -> None:
    """Whoever stops it from inside: the caller is told, and the next call has a new loop."""

    async def stops() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.sleep(60)

    for _ in range(5):
        with pytest.raises(syncline.RunnerClosedError):
            bridge.run_sync(stops)
        assert bridge.run_sync(answer, 1) == 42


def test_tasks_of_other_loops_are_told_while_a_nested_call_is_parked(bridge: syncline.Bridge) -> None:
    """Where a greenlet is parked in the loop's thread, PyO3 takes that for attached, also while it is not."""
    parked, goes_on = threading.Event(), threading.Event()

    async def waits() -> int:
        parked.set()
        while not goes_on.is_set():
            await asyncio.sleep(0.001)
        return 1

    async def nests() -> int:
        return bridge.run_sync(waits)

    async def asks(count: int) -> int:
        return sum([await bridge.run_async(answer, number % 3) for number in range(count)])

    future = bridge.submit(nests)
    assert parked.wait(20)
    with flooded(bridge, 1, threads=2):
        assert asyncio.run(asks(200)) == 200 * 42
        gc.collect()
        assert asyncio.run(asks(200)) == 200 * 42
    goes_on.set()
    assert future.result(20) == 1


def test_a_forked_child_has_a_loop_of_its_own() -> None:
    """A thread forks while others call and the loop spins: both processes go on, and each ends."""
    end = run_script(
        """
        import os, sys, threading
        import syncline, uvloop

        async def answer():
            return 42

        bridge = syncline.Bridge(loop_factory=uvloop.new_event_loop)
        is_over = threading.Event()

        def calls():
            while not is_over.is_set():
                assert bridge.run_sync(answer) == 42

        callers = [threading.Thread(target=calls) for _ in range(2)]
        assert bridge.run_sync(answer) == 42
        for caller in callers:
            caller.start()
        for _ in range(10):
            child = os.fork()
            if child == 0:
                assert [bridge.run_sync(answer) for _ in range(20)] == [42] * 20
                bridge.close()
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        is_over.set()
        for caller in callers:
            caller.join()
        assert bridge.run_sync(answer) == 42
        bridge.close()
    """,
        flags=FORKS,
    )
    end.assert_clean()


def test_a_coroutine_may_fork() -> None:
    """The child of a first step, which is made before the loop sleeps, comes back into the loop that it has inherited:
    that sleeps, rather than take the processor."""
    end = run_script(
        """
        import os, resource, signal
        import syncline, uvloop

        async def answer():
            return 42

        async def forks():
            child = os.fork()
            if child == 0:
                # Ended by the timer if it sleeps, by the limit if it does not.
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, 2.5)
                resource.setrlimit(resource.RLIMIT_CPU, (1, 1))
            return child

        with syncline.Bridge(loop_factory=uvloop.new_event_loop) as bridge:
            for _ in range(2):
                # The loop spins now, if it can, and takes the next call before it sleeps.
                assert [bridge.run_sync(answer) for _ in range(50)] == [42] * 50
                status = os.waitpid(bridge.run_sync(forks), 0)[1]
                assert os.waitstatus_to_exitcode(status) == -signal.SIGALRM, status
        """,
        flags=FORKS,
    )
    end.assert_clean()


def test_a_long_call_is_no_stall_and_a_blocked_loop_is_one(
    make_bridge: MakeBridge, caplog: pytest.LogCaptureFixture
) -> None:
    """A loop that sleeps is known to; one that stands in a descriptor's callback, which is a part of libuv's sleep, is
    reported."""
    bridge = make_bridge(loop_factory=uvloop.new_event_loop, stall_after=0.2)
    caplog.set_level(logging.WARNING, "syncline")
    bridge.run_sync(asyncio.sleep, 1.0)
    assert caplog.records == []
    ours, theirs = socket.socketpair()

    def hogs_the_loop() -> None:
        theirs.recv(1)
        standing.set()
        time.sleep(1.0)

    async def watch() -> None:
        asyncio.get_running_loop().add_reader(theirs, hogs_the_loop)

    async def forget() -> None:
        asyncio.get_running_loop().remove_reader(theirs)

    with ours, theirs:
        standing = threading.Event()
        bridge.run_sync(watch)
        ours.send(b"x")
        # The order forced here: the call is made when the loop stands in the callback.
        assert standing.wait(20)
        assert bridge.run_sync(answer) == 42
        bridge.run_sync(forget)
    (record,) = caplog.records
    assert "in hogs_the_loop" in record.getMessage()


def test_an_idle_loop_takes_no_processor_time(bridge: syncline.Bridge) -> None:
    """After its last call it sleeps: spins end, and nothing keeps it awake."""
    for _ in range(100):
        bridge.run_sync(answer, 1)

    def seconds() -> float:
        before = time.process_time()
        time.sleep(0.2)
        return time.process_time() - before

    assert min(seconds() for _ in range(5)) < 0.05


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs one core only")
def test_one_core_never_spins() -> None:
    """Where the process may use one core, a spin would keep the other thread from its work."""
    end = run_script("""
        import os
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        import syncline, uvloop

        async def answer():
            return 42

        with syncline.Bridge(loop_factory=uvloop.new_event_loop) as bridge:
            assert [bridge.run_sync(answer) for _ in range(200)] == [42] * 200
            stats = bridge.stats()
            assert (stats["spins_won"], stats["spins_lost"]) == (0, 0), stats
    """)
    end.assert_clean()
