"""Nested calls that block a loop and only wait: they sleep, too, until they are told, or look once a second.

What the loop they block can't tell its own coroutine they hear of at once. A thread that looked by itself would do so
at its next look, most of a second later: each wait here has just looked when it is to hear something.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

import syncline
from child import eventually, run_script
from closing import Caller, MakeBridge
from syncline import _core

AT_ONCE = 0.5
TRIES = 3
"""On a busy machine one of them is quick; of threads that look by themselves none is."""
AGE = 1.2
T = TypeVar("T")


class Nested:
    """A call on one loop, whose sync code blocks that loop by a call on another one."""

    def __init__(self, inner: syncline.Bridge, outer: syncline.Bridge) -> None:
        self.inner, self.outer = inner, outer
        self.event = inner.call(asyncio.Event)
        self.thread = 0
        self.raised: BaseException | None = None
        self.ended_at = 0.0
        self.has_ended = threading.Event()

    async def blocks(self) -> None:
        self.thread = threading.get_ident()
        try:
            self.inner.run_sync(self.event.wait)
        except BaseException as error:
            self.raised = error
            raise
        finally:
            self.ended_at = time.monotonic()
            self.has_ended.set()

    def has_just_looked(self) -> bool:
        ages = {row[0]: row[3] for row in _core.waiting_threads() if row[1] != self.thread}
        return ages.get(self.thread, 0.0) > AGE

    def ends_in(self, begin: Callable[[], T], end: Callable[[T], object]) -> float:
        """The seconds from `end` to the end of the nested call, which `begin` makes. `end` gets what that returns."""
        begun = begin()
        assert eventually(self.has_just_looked)
        told = time.monotonic()
        end(begun)
        assert self.has_ended.wait(10)
        return self.ended_at - told


Make = Callable[[], Nested]


@pytest.fixture
def nested(make_bridge: MakeBridge) -> Make:
    return lambda: Nested(make_bridge(), make_bridge(nested="thread"))


def is_quick(attempt: Callable[[], float]) -> bool:
    return any(attempt() < AT_ONCE for _ in range(TRIES))


def test_a_nested_call_hears_at_once_that_its_loop_is_closed(nested: Make) -> None:
    """The loop of the call around it, which it blocks."""

    def attempt() -> float:
        made = nested()
        took = made.ends_in(
            lambda: Caller(lambda: made.outer.run_sync(made.blocks)), lambda _: made.outer.close()
        )
        assert isinstance(made.raised, asyncio.CancelledError | syncline.RunnerClosedError)
        return took

    assert is_quick(attempt)


def test_a_nested_call_hears_at_once_that_the_loop_it_waits_for_is_closed(nested: Make) -> None:
    """That loop can say so."""

    def attempt() -> float:
        made = nested()
        took = made.ends_in(
            lambda: Caller(lambda: made.outer.run_sync(made.blocks)), lambda _: made.inner.close()
        )
        assert isinstance(made.raised, syncline.RunnerClosedError)
        return took

    assert is_quick(attempt)


def test_a_nested_call_hears_at_once_that_the_call_around_it_is_cancelled(nested: Make) -> None:
    """By its future."""

    def attempt() -> float:
        made = nested()
        took = made.ends_in(lambda: made.outer.submit(made.blocks), lambda future: future.cancel())
        assert isinstance(made.raised, asyncio.CancelledError)
        return took

    assert is_quick(attempt)


def test_each_of_several_nested_calls_hears_of_the_end_of_the_one_around_it(
    nested: Make, make_bridge: MakeBridge
) -> None:
    """Each blocks the loop of the next one, and cancels it."""

    def attempt() -> float:
        made, middle = nested(), make_bridge(nested="thread")

        async def around() -> None:
            middle.run_sync(made.blocks)

        took = made.ends_in(lambda: made.outer.submit(around), lambda future: future.cancel())
        assert isinstance(made.raised, asyncio.CancelledError)
        return took

    assert is_quick(attempt)


@pytest.mark.parametrize("scope", ["process", "caller"])
def test_a_nested_call_ends_at_the_deadline_of_the_call_around_it(
    make_bridge: MakeBridge, scope: str
) -> None:
    """In scope "caller" nobody can tell it: the thread that would is this one. Not the main one, which looks for
    signals often."""
    timeout = AGE + 0.1

    def attempt() -> float:
        made = Nested(make_bridge(), make_bridge(scope=scope, nested="thread"))
        begun = time.monotonic()
        with pytest.raises(TimeoutError):
            made.outer.run(made.blocks(), timeout=timeout)
        assert isinstance(made.raised, asyncio.CancelledError)
        return made.ended_at - begun - timeout

    with ThreadPoolExecutor(1) as other:
        assert other.submit(is_quick, attempt).result(30)


def test_an_interrupted_call_ends_its_nested_one_at_once() -> None:
    """Ctrl-C comes to the thread that waits for the call around it."""
    finished = run_script(
        """
        import asyncio, os, signal, threading, time
        import syncline
        from syncline import _core

        def interrupt(thread):
            while {row[0]: row[3] for row in _core.waiting_threads()}.get(thread, 0.0) < 1.2:
                time.sleep(0.005)
            interrupted.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        async def blocks():
            threading.Thread(target=interrupt, args=(threading.get_ident(),)).start()
            try:
                inner.run_sync(asyncio.sleep, 60)
            finally:
                took.append(time.monotonic() - interrupted[-1])

        interrupted, took = [], []
        with syncline.Bridge() as inner, syncline.Bridge(nested="thread") as outer:
            for _ in range(3):
                try:
                    outer.run_sync(blocks)
                except KeyboardInterrupt:
                    print("interrupted")
        print("at once" if min(took) < 0.5 else took)
        """
    )
    assert finished.lines == ["interrupted"] * 3 + ["at once"], finished


@pytest.fixture
def waiting(make_bridge: MakeBridge) -> Iterator[list[threading.Thread]]:
    """The threads of ten loops, each blocked by a nested call that waits, since long."""
    inner, outer = make_bridge(), make_bridge(scope="thread", nested="thread")
    event = inner.call(asyncio.Event)

    async def blocks() -> None:
        inner.run_sync(event.wait)

    callers = [Caller(lambda: outer.run_sync(blocks)) for _ in range(10)]
    idents = {caller.ident for caller in callers}

    def are_old() -> bool:
        return sum(row[3] > AGE for row in _core.waiting_threads()) == 20

    assert eventually(are_old)
    nested = {row[0] for row in _core.waiting_threads()} - idents
    yield [thread for thread in threading.enumerate() if thread.ident in nested]
    inner.call(event.set)
    for caller in callers:
        caller.join(10)


def sleeps(thread: threading.Thread) -> int:
    """How often the thread went to sleep."""
    status = Path(f"/proc/self/task/{thread.native_id}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("voluntary"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_nested_call_that_waits_wakes_up_once_a_second(waiting: list[threading.Thread]) -> None:
    """It looks whether it waits in vain; besides, it may sleep for the interpreter each time."""
    before = {thread: sleeps(thread) for thread in waiting}
    assert len(before) == 10
    time.sleep(2)  # what is measured is a span of time
    assert max(sleeps(thread) - before[thread] for thread in waiting) < 40
