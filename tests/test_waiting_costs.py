"""Threads that only wait: they sleep until they are told, and one of them looks after the loop for all.

The waits in these tests are old (`are_old`): each of these threads has looked for itself, and leaves that to the first
from then on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import syncline
from child import eventually, run_script
from closing import Caller, MakeBridge, is_closed_error
from syncline import _core

kinds = pytest.mark.parametrize("kind", ["ours", "a factory's", "somebody else's"])
SOON = 1.0
"""Seconds in which a thread that is told goes on, on a busy machine. One that looks by itself would do that each
second at the soonest."""


@pytest.fixture
def own_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that a thread runs."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    if not loop.is_closed():
        loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture
def bridge(request: pytest.FixtureRequest, kind: str, make_bridge: MakeBridge) -> syncline.Bridge:
    if kind == "somebody else's":
        return make_bridge(loop=request.getfixturevalue("own_loop"))
    return make_bridge(loop_factory=asyncio.SelectorEventLoop if kind == "a factory's" else None)


def waiting(callers: list[Caller]) -> list[Caller]:
    """These callers, when they have waited for so long that all but one leave it to that one to look."""

    def are_old() -> bool:
        ages = {row[0]: row[3] for row in _core.waiting_threads()}
        return all(ages.get(caller.ident or 0, 0.0) > 1.3 for caller in callers)

    assert eventually(are_old)
    return callers


def sleepers(bridge: syncline.Bridge, count: int) -> list[Caller]:
    return waiting([Caller(lambda: bridge.run_sync(asyncio.sleep, 60)) for _ in range(count)])


@kinds
def test_close_ends_old_waits_at_once(bridge: syncline.Bridge) -> None:
    """All are told, whoever of them looks after the loop."""
    callers = sleepers(bridge, 5)
    bridge.close()
    for caller in callers:
        assert caller.has_got.wait(SOON)
        assert is_closed_error(caller.got)


@pytest.mark.parametrize("kind", ["ours", "a factory's"])
def test_a_loop_that_stops_ends_old_waits_at_once(bridge: syncline.Bridge) -> None:
    """Nobody has asked for that but a callback on the loop."""
    callers = sleepers(bridge, 5)
    bridge.call(lambda: asyncio.get_running_loop().call_soon(asyncio.get_running_loop().stop))
    for caller in callers:
        assert caller.has_got.wait(SOON)
        assert is_closed_error(caller.got)


def test_a_loop_that_nobody_runs_any_more_ends_old_waits(
    own_loop: asyncio.AbstractEventLoop, make_bridge: MakeBridge
) -> None:
    """One of the waiting threads finds that out, and the others go on with it."""
    callers = sleepers(make_bridge(loop=own_loop), 5)
    own_loop.call_soon_threadsafe(own_loop.stop)
    for caller in callers:
        assert caller.has_got.wait(5)
        assert isinstance(caller.got, syncline.RunnerClosedError)


def test_results_of_old_waits_come_at_once(make_bridge: MakeBridge) -> None:
    """Though the loop's thread goes on with a step that blocks it, and publishes nothing."""
    bridge, may_end, goes_on = make_bridge(), asyncio.Event(), threading.Event()

    async def ends() -> None:
        await may_end.wait()

    callers = waiting([Caller(lambda: bridge.run_sync(ends)) for _ in range(5)])

    async def blocks() -> None:
        may_end.set()
        await asyncio.sleep(0)
        goes_on.wait(10)

    blocked = bridge.submit(blocks)
    assert all(caller.has_got.wait(SOON) for caller in callers)
    goes_on.set()
    blocked.result(10)


def in_deadlock(
    bridge: syncline.Bridge, before: Callable[[], object], others: list[Callable[[], object]]
) -> Any:
    """What the second of the threads gets that wait for the loop, if that waits for a lock which this thread has; after
    `before` was called. The first one and the third make other calls."""
    lock = threading.Lock()

    def with_lock() -> None:
        with lock:
            bridge.run_sync(asyncio.sleep, 60)

    first = waiting([Caller(others[0])])
    rest = waiting([Caller(with_lock), *(Caller(other) for other in others[1:])])
    before()

    async def takes() -> None:
        with lock:
            pass

    taken = bridge.submit(takes)
    assert rest[0].has_got.wait(8)
    taken.result(8)
    return rest[0].got, [*first, *rest[1:]]


@pytest.mark.parametrize("kind", ["ours", "a factory's"])
def test_a_deadlock_of_an_old_wait_is_found_by_the_one_that_looks(bridge: syncline.Bridge) -> None:
    """It tells the thread that is part of it, and the others go on waiting."""
    sleeps = lambda: bridge.run_sync(asyncio.sleep, 60)  # noqa: E731
    got, others = in_deadlock(bridge, lambda: None, [sleeps, sleeps])
    assert isinstance(got, syncline.DeadlockError)
    assert not any(caller.has_got.is_set() for caller in others)


@pytest.mark.parametrize("kind", ["ours", "a factory's"])
def test_another_one_looks_when_the_one_that_looked_goes_on(bridge: syncline.Bridge) -> None:
    """Its wait ends before there is a deadlock."""
    end = bridge.call(asyncio.Event)

    def end_first() -> None:
        bridge.call(end.set)
        assert eventually(lambda: len(_core.waiting_threads()) == 2)

    sleeps = lambda: bridge.run_sync(asyncio.sleep, 60)  # noqa: E731
    got, _ = in_deadlock(bridge, end_first, [lambda: bridge.run_sync(end.wait), sleeps])
    assert isinstance(got, syncline.DeadlockError)


@pytest.mark.parametrize("kind", ["ours", "a factory's"])
def test_another_one_looks_while_the_one_that_looked_runs_its_coroutines_code(
    bridge: syncline.Bridge,
) -> None:
    """`to_caller` keeps its thread busy."""
    begin, runs, end = bridge.call(asyncio.Event), threading.Event(), threading.Event()

    def errand() -> None:
        runs.set()
        end.wait(20)

    async def sends() -> None:
        await begin.wait()
        await syncline.to_caller(errand)

    def begin_errand() -> None:
        bridge.call(begin.set)
        assert runs.wait(5)

    sleeps = lambda: bridge.run_sync(asyncio.sleep, 60)  # noqa: E731
    got, _ = in_deadlock(bridge, begin_errand, [lambda: bridge.run_sync(sends), sleeps])
    end.set()
    assert isinstance(got, syncline.DeadlockError)


@pytest.mark.parametrize("kind", ["a factory's", "somebody else's"])
def test_one_thread_searches_for_deadlocks_for_all(
    bridge: syncline.Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of those whose waits are old: the search looks at all threads, and may walk the heap."""
    callers = sleepers(bridge, 5)
    searched: list[int] = []

    def search(loop: int, waiter: int) -> None:
        searched.append(waiter)

    monkeypatch.setattr("syncline._diagnosis.blocked_on_lock", search)
    assert eventually(lambda: len(searched) >= 3)
    assert len(set(searched)) == 1
    assert searched[0] in {caller.ident for caller in callers}


COSTS = """
import asyncio, resource, threading, time, uvloop
import syncline
from syncline import _core

COUNT = 200

def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

def cost(run_sync):
    end = run_sync(made_there)
    threads = [threading.Thread(target=run_sync, args=(end.wait,)) for _ in range(COUNT)]
    for thread in threads:
        thread.start()
    time.sleep(2)  # a thread's first second is its own
    before = cpu()
    time.sleep(2)  # what is measured is a span of time
    used = cpu() - before
    run_sync(set_there, end)
    for thread in threads:
        thread.join()
    return used

async def made_there():
    return asyncio.Event()

async def set_there(event):
    event.set()

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()
reference = cost(lambda fn, *args: asyncio.run_coroutine_threadsafe(fn(*args), loop).result())
made = {
    "ours": lambda: syncline.Bridge(),
    "uvloop": lambda: syncline.Bridge(loop_factory=uvloop.new_event_loop),
    "stalls": lambda: syncline.Bridge(stall_after=0.5),
    "attached": lambda: syncline.Bridge(loop=loop),
}
with made[KIND]() as bridge:
    ours = cost(bridge.run_sync)
print("as the reference's" if ours <= reference + 0.02 else f"{ours} s, and the reference's {reference} s")
"""


@pytest.mark.parametrize("kind", ["ours", "uvloop", "stalls", "attached"])
def test_threads_that_wait_cost_as_much_as_the_references(kind: str) -> None:
    """At most one per cent of a core more, for 200 of them."""
    finished = run_script(f"KIND = {kind!r}\n{COSTS}")
    assert finished.lines == ["as the reference's"], finished
