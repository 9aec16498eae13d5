"""Threads that only wait: they sleep until they are told, and one of them looks after the loop for all.

The waits in these tests are old (`are_old`): whoever of these threads has to look for itself has done so.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import syncline
from child import eventually, run_script
from closing import Caller, MakeBridge, is_closed_error
from hosts import stopping
from syncline import _core

kinds = pytest.mark.parametrize("kind", ["ours", "a factory's", "somebody else's"])
SOON = 1.0
"""Seconds in which a thread that is told goes on, on a busy machine. One that looks by itself would do that each
second at the soonest."""


@pytest.fixture
def own_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that a thread runs."""
    with stopping(asyncio.new_event_loop) as theirs:
        yield theirs.loop


@pytest.fixture
def bridge(request: pytest.FixtureRequest, kind: str, make_bridge: MakeBridge) -> syncline.Bridge:
    if kind == "somebody else's":
        return make_bridge(loop=request.getfixturevalue("own_loop"))
    return make_bridge(loop_factory=asyncio.SelectorEventLoop if kind == "a factory's" else None)


def waiting(callers: list[Caller]) -> list[Caller]:
    """These callers, when they have waited for so long that they have looked if they do so at all."""

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
    bridge: syncline.Bridge,
    earlier: list[Callable[[], object]],
    later: list[Callable[[], object]],
    before: Callable[[], object] = lambda: None,
) -> Any:
    """What a thread gets that waits for the loop while it has a lock for which the loop's thread comes to wait, and
    the other callers. `earlier` are waited for before that, one after the other, the first by the thread that looks;
    `later` after that. `before` is called when all these waits are old, and the loop still turns."""
    lock = threading.Lock()

    def with_lock() -> None:
        with lock:
            bridge.run_sync(asyncio.sleep, 60)

    others = [caller for call in earlier for caller in waiting([Caller(call)])]
    unlucky, *rest = waiting([Caller(with_lock), *(Caller(call) for call in later)])
    before()

    async def takes() -> None:
        with lock:
            pass

    taken = bridge.submit(takes)
    assert unlucky.has_got.wait(10)
    taken.result(8)
    return unlucky.got, [*others, *rest]


class Errand:
    """A coroutine that has its caller run something for long."""

    def __init__(self, bridge: syncline.Bridge) -> None:
        self.bridge, self.begin = bridge, bridge.call(asyncio.Event)
        self.runs, self.end = threading.Event(), threading.Event()

    def run(self) -> None:
        self.runs.set()
        self.end.wait(30)

    async def sends(self) -> None:
        await self.begin.wait()
        await syncline.to_caller(self.run)

    def call(self) -> None:
        self.bridge.run_sync(self.sends)

    def start(self) -> None:
        self.bridge.call(self.begin.set)
        assert self.runs.wait(5)


@pytest.fixture
def errand(bridge: syncline.Bridge) -> Iterator[Errand]:
    made = Errand(bridge)
    yield made
    made.end.set()


class Ending:
    """A call that ends when it is told to."""

    def __init__(self, bridge: syncline.Bridge) -> None:
        self.bridge, self.event = bridge, bridge.call(asyncio.Event)

    def call(self) -> None:
        self.bridge.run_sync(self.event.wait)

    def end(self, left: int) -> None:
        """Ends it, so that so many waits are left."""
        self.bridge.call(self.event.set)
        assert eventually(lambda: len(_core.waiting_threads()) == left)


our_threads = pytest.mark.parametrize("kind", ["ours", "a factory's"])


@our_threads
def test_a_deadlock_of_an_old_wait_is_found_by_the_one_that_looks(bridge: syncline.Bridge) -> None:
    """It tells the thread that is part of it, and the others go on waiting."""
    sleeps = lambda: bridge.run_sync(asyncio.sleep, 60)  # noqa: E731
    got, others = in_deadlock(bridge, [sleeps], [sleeps])
    assert isinstance(got, syncline.DeadlockError)
    assert not any(caller.has_got.is_set() for caller in others)


@our_threads
def test_another_one_looks_when_the_one_that_looked_goes_on(bridge: syncline.Bridge) -> None:
    """Its wait ends before there is a deadlock."""
    sleeps, ending = lambda: bridge.run_sync(asyncio.sleep, 60), Ending(bridge)
    got, _ = in_deadlock(bridge, [ending.call], [sleeps], lambda: ending.end(left=2))
    assert isinstance(got, syncline.DeadlockError)


@our_threads
def test_another_one_looks_while_the_one_that_looked_runs_its_coroutines_code(
    bridge: syncline.Bridge, errand: Errand
) -> None:
    """`to_caller` keeps its thread busy."""
    sleeps = lambda: bridge.run_sync(asyncio.sleep, 60)  # noqa: E731
    got, _ = in_deadlock(bridge, [errand.call], [sleeps], errand.start)
    assert isinstance(got, syncline.DeadlockError)


@our_threads
def test_a_thread_that_runs_its_coroutines_code_is_not_the_next_to_look(
    bridge: syncline.Bridge, errand: Errand
) -> None:
    """The order is forced: it is the second in the row, and busy, when the first one, which has looked, goes on. Who is
    roused in its place would not hear of that before its errand ends."""
    sleeps, ending = lambda: bridge.run_sync(asyncio.sleep, 60), Ending(bridge)

    def before() -> None:
        errand.start()
        ending.end(left=3)

    got, _ = in_deadlock(bridge, [ending.call, errand.call], [sleeps], before)
    assert isinstance(got, syncline.DeadlockError)


@our_threads
def test_whoever_comes_back_from_its_coroutines_code_looks_again(
    bridge: syncline.Bridge, errand: Errand
) -> None:
    """All who wait are busy when the one that has looked goes on: the first that comes back looks."""
    lock, ending, has_lock = threading.Lock(), Ending(bridge), threading.Event()
    waiting([Caller(ending.call)])
    back = bridge.call(asyncio.Event)

    async def sends() -> None:
        await errand.sends()
        await back.wait()

    def with_lock() -> None:
        with lock:
            has_lock.set()
            bridge.run_sync(sends)

    (unlucky,) = waiting([Caller(with_lock)])
    errand.start()
    ending.end(left=1)
    errand.end.set()

    async def takes() -> None:
        with lock:
            pass

    taken = bridge.submit(takes)
    assert unlucky.has_got.wait(10)
    taken.result(8)
    assert isinstance(unlucky.got, syncline.DeadlockError)


@our_threads
def test_all_old_waits_end_if_two_other_threads_have_blocked_each_other(bridge: syncline.Bridge) -> None:
    """One of them is the loop's, so none of the calls can end. The one that looks tells all, rather than leave it to
    the next one."""
    callers = sleepers(bridge, 5)
    first, second, has_first, goes_on = (
        threading.Lock(),
        threading.Lock(),
        threading.Event(),
        threading.Event(),
    )

    def in_thread() -> None:
        with contextlib.suppress(RuntimeError), first:  # it is released below
            has_first.set()
            goes_on.wait(10)
            with second:
                pass

    async def on_loop() -> None:
        with second:
            has_first.wait(10)
            goes_on.set()
            with first:
                pass

    thread = threading.Thread(target=in_thread)
    thread.start()
    done = bridge.submit(on_loop)
    assert eventually(lambda: any(caller.has_got.is_set() for caller in callers))
    for caller in callers:
        assert caller.has_got.wait(SOON)
        assert isinstance(caller.got, syncline.DeadlockError)
    first.release()
    thread.join(10)
    done.result(10)


@pytest.fixture
def searched(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The threads that search for deadlocks, once for each search."""
    found: list[int] = []

    def search(loop: int, waiter: int | None) -> list[int]:
        if waiter is not None:
            found.append(waiter)
        return []

    monkeypatch.setattr("syncline._diagnosis.locks._closed_way", search)
    return found


@pytest.mark.parametrize("kind", ["a factory's", "somebody else's"])
def test_one_thread_searches_for_deadlocks_for_all(bridge: syncline.Bridge, searched: list[int]) -> None:
    """From the beginning: the search looks at all threads, and may walk the heap."""
    callers = sleepers(bridge, 5)
    assert eventually(lambda: len(searched) >= 3)
    assert len(set(searched)) == 1
    assert searched[0] in {caller.ident for caller in callers}


@pytest.mark.parametrize("kind", ["a factory's"])
def test_a_thread_in_which_a_loop_runs_looks_for_itself(bridge: syncline.Bridge, searched: list[int]) -> None:
    """What is to be seen from such a thread alone, the one that looks for all others does not see."""
    sleepers(bridge, 2)

    async def blocks() -> None:
        bridge.run_sync(asyncio.sleep, 60)

    (caller,) = waiting([Caller(lambda: asyncio.run(blocks()))])
    assert eventually(lambda: caller.ident in searched)


COSTS = """
import asyncio, resource, threading, time, uvloop
import syncline
from syncline import _core

COUNT = 200

def cpu():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime

def have_looked(count):
    # What each imports for its first look is no cost of waiting.
    return sum(row[3] > 1.3 for row in _core.waiting_threads()) >= count

def cost(run_sync, looks):
    end = run_sync(made_there)
    threads = [threading.Thread(target=run_sync, args=(end.wait,)) for _ in range(COUNT)]
    for thread in threads:
        thread.start()
    while looks and not have_looked(COUNT):
        time.sleep(0.05)
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
reference = cost(lambda fn, *args: asyncio.run_coroutine_threadsafe(fn(*args), loop).result(), looks=False)
made = {
    "ours": lambda: syncline.Bridge(),
    "uvloop": lambda: syncline.Bridge(loop_factory=uvloop.new_event_loop),
    "stalls": lambda: syncline.Bridge(stall_after=0.5),
    "attached": lambda: syncline.Bridge(loop=loop),
}
with made[KIND]() as bridge:
    ours = cost(bridge.run_sync, looks=True)
print("as the reference's" if ours <= reference + 0.02 else f"{ours} s, and the reference's {reference} s")
"""


@pytest.mark.parametrize("kind", ["ours", "uvloop", "stalls", "attached"])
def test_threads_that_wait_cost_as_much_as_the_references(kind: str) -> None:
    """At most one per cent of a core more, for 200 of them."""
    finished = run_script(f"KIND = {kind!r}\n{COSTS}")
    assert finished.lines == ["as the reference's"], finished


def test_workers_that_wait_for_their_sender_cost_next_to_nothing() -> None:
    """At most one per cent of a core for 200 of them: each looks once a second whether it waits in vain."""
    finished = run_script(
        """
        import asyncio, time, syncline
        from syncline import _core

        async def program():
            end, begun = asyncio.Event(), []

            async def waits():
                begun.append(None)
                await end.wait()

            tasks = [asyncio.create_task(syncline.to_thread(syncline.from_thread, waits)) for _ in range(200)]
            while len(begun) < 200:
                await asyncio.sleep(0.01)
            while sum(row[3] > 1.3 for row in _core.waiting_threads()) < 200:  # each has looked once
                await asyncio.sleep(0.05)
            before = time.process_time()
            await asyncio.sleep(2)  # what is measured is a span of time
            used = time.process_time() - before
            end.set()
            await asyncio.gather(*tasks)
            return used

        used = asyncio.run(program())
        print("next to nothing" if used <= 0.02 else f"{used} s")
        """
    )
    assert finished.lines == ["next to nothing"], finished


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's count of a thread's sleeps is Linux's")
def test_a_thread_whose_calls_take_long_sleeps_once_for_each() -> None:
    """Not a second time after five milliseconds, in which most calls end. The least of 30 calls counts, as the
    interpreter's lock makes a thread sleep, too."""
    finished = run_script(
        """
        import asyncio, threading, syncline

        def sleeps():
            with open("/proc/thread-self/status") as file:
                return next(int(line.split()[1]) for line in file if line.startswith("voluntary"))

        def calls():
            for _ in range(30):
                before = sleeps()
                syncline.run_sync(asyncio.sleep, 0.02)
                counts.append(sleeps() - before)

        counts = []
        thread = threading.Thread(target=calls)
        thread.start()
        thread.join()
        print(min(counts))
        """
    )
    assert finished.lines == ["1"], finished
