"""Threads that end take their loop with them: no thread, loop, task or descriptor is left.

The ends are awaited with `eventually`, since a runner's own thread may end a moment after its caller's.
"""

from __future__ import annotations

import _thread
import asyncio
import gc
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Literal

import pytest

import syncline
from child import eventually, open_descriptors
from places import own_loop

Scope = Literal["process", "thread", "caller"]
pytestmark = pytest.mark.timeout(60)
own_loop_scopes = pytest.mark.parametrize("scope", ["thread", "caller"])


def in_threads(count: int, work: Callable[[], object], *, together: int = 25) -> None:
    """Run `work` in `count` threads, `together` of them at a time, and wait for all; errors are raised
    here."""
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    for first in range(0, count, together):
        threads = [threading.Thread(target=guarded) for _ in range(min(together, count - first))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


def open_loops() -> int:
    """How many event loops exist that are not closed."""
    gc.collect()
    found = [thing for thing in gc.get_objects() if isinstance(thing, asyncio.AbstractEventLoop)]
    return sum(not loop.is_closed() for loop in found)


def resources() -> tuple[int, int, int]:
    """Threads (the system's count), descriptors and open loops of this process."""
    return len(os.listdir("/proc/self/task")), open_descriptors(), open_loops()


def settles(before: tuple[int, int, int]) -> bool:
    """Whether all of them come down to what they were; less is fine: an earlier test's may end only now."""
    return eventually(lambda: all(now <= then for now, then in zip(resources(), before, strict=True)))


@own_loop_scopes
def test_300_finished_threads_leave_no_thread_loop_or_descriptor(scope: Scope) -> None:
    """300 threads made calls on loops of their own and ended: nothing of them is left (case 62)."""
    with syncline.Bridge(scope=scope) as bridge:
        before = resources()
        loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()

        def work() -> None:
            loop = bridge.run_sync(own_loop)
            assert bridge.run_sync(own_loop) is loop
            loops.add(loop)

        in_threads(300, work)
        assert settles(before), (resources(), before)
        assert bridge.stats()["runners"] == 0
        assert bridge.stats()["active"] == 0
        assert bridge.stats()["calls"] == 600
        gc.collect()
        assert all(loop.is_closed() for loop in loops)


@own_loop_scopes
def test_pending_background_tasks_of_300_finished_threads_are_cleaned_up(scope: Scope) -> None:
    """Each thread leaves a task and a half-used async generator behind: both run their finally (cases
    26, 62)."""
    tidied: list[str] = []
    kept: list[object] = []

    async def background() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            tidied.append("task")

    async def numbers() -> object:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            tidied.append("generator")

    async def start() -> None:
        generator = numbers()
        kept.extend((asyncio.create_task(background()), generator))
        assert await anext(generator) == 1

    with syncline.Bridge(scope=scope) as bridge:
        before = resources()
        in_threads(300, lambda: bridge.run_sync(start))
        assert eventually(lambda: len(tidied) == 600), len(tidied)
        assert tidied.count("task") == 300
        kept.clear()
        assert settles(before), (resources(), before)
        assert bridge.stats()["runners"] == 0


@own_loop_scopes
def test_threads_that_threading_does_not_know_leave_nothing(scope: Scope) -> None:
    """Threads of _thread.start_new_thread (as C libraries make them) are cleaned up the same way (case
    62)."""
    with syncline.Bridge(scope=scope) as bridge:
        before = resources()

        def work(done: threading.Event, results: list[object]) -> None:
            results.append(bridge.run_sync(own_loop))
            done.set()

        for _ in range(50):
            done, results = threading.Event(), list[object]()
            _thread.start_new_thread(work, (done, results))
            assert done.wait(10)
            assert len(results) == 1
            results.clear()
        assert settles(before), (resources(), before)


@own_loop_scopes
def test_pool_threads_keep_their_loop_until_the_pool_ends(scope: Scope) -> None:
    """A pool's thread finds its loop again in each job, and takes it along at its end (cases 25, 62)."""
    with syncline.Bridge(scope=scope) as bridge:
        before = resources()
        seen: dict[int, set[int]] = {}

        def work() -> None:
            seen.setdefault(threading.get_ident(), set()).add(id(bridge.run_sync(own_loop)))

        with ThreadPoolExecutor(4) as pool:
            for job in [pool.submit(work) for _ in range(100)]:
                job.result()
            assert bridge.stats()["runners"] == len(seen)
        assert all(len(loops) == 1 for loops in seen.values())
        assert settles(before), (resources(), before)


@own_loop_scopes
def test_a_new_thread_never_gets_the_loop_of_an_ended_one(scope: Scope) -> None:
    """Thread ids are used again by the system; each thread still gets an open loop of its own (cases 19,
    62)."""
    loops: list[asyncio.AbstractEventLoop] = []
    with syncline.Bridge(scope=scope) as bridge:

        def work() -> None:
            loop = bridge.run_sync(own_loop)
            assert not loop.is_closed()
            loops.append(loop)

        in_threads(50, work, together=1)
        assert len(set(loops)) == 50


@own_loop_scopes
def test_threads_that_share_a_name_are_independent(scope: Scope) -> None:
    """Two living threads of one name have two loops, and neither waits for the other (case 63)."""
    # Interleaving: both coroutines are in flight at once, each needs the other to have begun.
    with syncline.Bridge(scope=scope) as bridge:
        both = threading.Barrier(2)
        found: list[tuple[asyncio.AbstractEventLoop, int]] = []

        async def meet() -> None:
            both.wait(10)  # blocks its loop: this passes only on two loops in two threads
            found.append((asyncio.get_running_loop(), threading.get_ident()))

        threads = [threading.Thread(target=bridge.run_sync, args=(meet,), name="same") for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({loop for loop, _ in found}) == 2
        assert len({ident for _, ident in found}) == 2


def test_threads_of_different_names_share_the_process_loop() -> None:
    """In scope "process" the name of the calling thread plays no part: one loop, nothing per thread
    (case 63)."""
    with syncline.Bridge() as bridge:
        loops = {bridge.run_sync(own_loop)}
        before = resources()
        in_threads(300, lambda: loops.add(bridge.run_sync(own_loop)))
        assert len(loops) == 1
        assert settles(before), (resources(), before)
        assert bridge.stats()["runners"] == 1


def test_the_runner_of_a_thread_is_a_daemon_that_carries_its_name() -> None:
    """threading.enumerate() shows which thread a runner serves (case 62)."""
    with syncline.Bridge(scope="thread", name="mine") as bridge:
        runners: list[threading.Thread] = []

        async def runner() -> threading.Thread:
            return threading.current_thread()

        thread = threading.Thread(target=lambda: runners.append(bridge.run_sync(runner)), name="boss")
        thread.start()
        thread.join()
        assert [one.name for one in runners] == ["mine-thread-boss"]
        assert runners[0].daemon
        assert eventually(lambda: not runners[0].is_alive())


@own_loop_scopes
def test_the_end_of_one_thread_disturbs_no_other(scope: Scope) -> None:
    """A call that is in flight while 50 other threads end returns its value (case 62)."""
    with syncline.Bridge(scope=scope) as bridge:
        begun, go = threading.Event(), threading.Event()
        results: list[str] = []

        async def until_go() -> str:
            begun.set()
            while not go.is_set():
                await asyncio.sleep(0.005)
            return "done"

        thread = threading.Thread(target=lambda: results.append(bridge.run_sync(until_go)))
        thread.start()
        assert begun.wait(10)
        in_threads(50, lambda: bridge.run_sync(own_loop))
        go.set()
        thread.join()
        assert results == ["done"]


def test_a_submitted_call_of_a_thread_that_ended_ends_too() -> None:
    """Its loop is gone, so its future doesn't stay pending: whoever waits for it is told (cases 34, 62). In scope
    "caller" a submitted call runs on the process runner, which stays."""
    with syncline.Bridge(scope="thread") as bridge:
        futures: list[Future[None]] = []
        tidied = threading.Event()

        async def forever() -> None:
            try:
                await asyncio.sleep(3600)
            finally:
                tidied.set()

        def work() -> None:
            futures.append(bridge.submit(forever))
            bridge.run_sync(own_loop)  # when this is over, forever() has begun: it was sent before

        in_threads(1, work)
        with pytest.raises((syncline.RunnerClosedError, CancelledError)):
            futures[0].result(10)
        assert tidied.wait(10)


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_a_bridge_that_is_dropped_without_close_frees_its_threads(scope: Scope) -> None:
    """Nobody can call a bridge that is unreachable: its runners end, nested ones too (case 62)."""
    before = resources()

    def use() -> None:
        bridge = syncline.Bridge(scope=scope)

        async def nested() -> None:
            bridge.run_sync(own_loop)

        bridge.run_sync(nested)

    for _ in range(10):
        use()
    gc.collect()
    assert settles(before), (resources(), before)


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_bridges_that_are_closed_leave_nothing(scope: Scope) -> None:
    """100 bridges opened, used from two threads and closed (case 62)."""
    before = resources()
    for _ in range(100):
        with syncline.Bridge(scope=scope) as bridge:
            bridge.run_sync(own_loop)
            in_threads(1, lambda bridge=bridge: bridge.run_sync(own_loop))  # type: ignore[misc]
    assert settles(before), (resources(), before)


@pytest.mark.parametrize("scope", ["thread", "caller"])
def test_cleanup_that_asks_for_its_thread_leaves_none_behind(scope: Literal["thread", "caller"]) -> None:
    """Asked so late, threading makes up a thread, which must go, too (cases 34, 87)."""
    asked: list[threading.Thread] = []
    kept: list[object] = []

    async def background() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            asked.append(threading.current_thread())

    async def begin() -> None:
        kept.append(asyncio.create_task(background()))
        await asyncio.sleep(0)

    with syncline.Bridge(scope=scope) as bridge:
        before = threading.enumerate()
        thread = threading.Thread(target=bridge.run_sync, args=(begin,))
        thread.start()
        thread.join()
        assert len(asked) == 1
        assert threading.enumerate() == before


class Calls:
    """Something that a thread keeps for itself, and whose finalizer makes a call."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call

    def __del__(self) -> None:
        self.call()


class CallsByAnotherName:
    """The same, as its finalizer is its method `close`."""

    def __init__(self, call: Callable[[], object]) -> None:
        self.call = call

    def close(self, *_: object) -> None:
        self.call()

    __del__ = close


def calls_in_its_finally(call: Callable[[], object]) -> Iterator[None]:
    """A generator."""
    try:
        yield
    finally:
        call()


def suspended(call: Callable[[], object]) -> Iterator[None]:
    generator = calls_in_its_finally(call)
    next(generator)
    return generator


class Kept:
    """Something whose end weak references tell of."""


REFERENCES: list[object] = []
"""Weak references, which have to live longer than what they refer to."""


def told_by_a_callback(call: Callable[[], object]) -> Kept:
    kept = Kept()
    REFERENCES.append(weakref.ref(kept, lambda _: call()))
    return kept


def told_by_any_arguments(call: Callable[[], object]) -> Kept:
    kept = Kept()
    REFERENCES.append(weakref.ref(kept, lambda *_: call()))
    return kept


def told_by_finalize(call: Callable[[], object]) -> Kept:
    kept = Kept()
    weakref.finalize(kept, call)
    return kept


LAST_CALLS: list[Callable[[Callable[[], object]], object]] = [
    Calls,
    CallsByAnotherName,
    suspended,
    told_by_a_callback,
    told_by_any_arguments,
    told_by_finalize,
]


@own_loop_scopes
@pytest.mark.parametrize("had_one", [False, True], ids=["its first call", "not its first call"])
@pytest.mark.parametrize("kept_by", LAST_CALLS)
def test_a_call_at_the_very_end_of_a_thread_leaves_nothing(
    scope: Scope, had_one: bool, kept_by: Callable[[Callable[[], object]], object]
) -> None:
    """Where the thread can't close a loop any more, it runs on the process runner (cases 34, 62)."""
    names: list[str] = []
    local = threading.local()

    async def name() -> None:
        names.append(threading.current_thread().name)

    with syncline.Bridge(scope=scope, name="last") as bridge:

        def work() -> None:
            if had_one:
                bridge.run_sync(own_loop)
            local.kept = kept_by(lambda: bridge.run_sync(name))

        def in_a_thread() -> None:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

        in_a_thread()
        before = resources()
        for _ in range(10):
            in_a_thread()
        assert len(names) == 11
        REFERENCES.clear()
        assert settles(before), (resources(), before)


def test_the_first_call_of_a_thread_keeps_no_variable_of_what_threading_does_not_know() -> None:
    """Its outermost function is looked at, to see whether it is a finalizer; what that drops later is freed."""
    freed, done = threading.Event(), threading.Event()
    found: list[bool] = []

    with syncline.Bridge(scope="caller") as bridge:

        def work() -> None:
            kept = Calls(freed.set)
            bridge.run_sync(own_loop)
            del kept
            found.append(freed.is_set())
            done.set()

        _thread.start_new_thread(work, ())
        assert done.wait(10)
    assert found == [True]


@own_loop_scopes
def test_a_thread_whose_state_another_one_has_as_it_ends_leaves_that_ones_loop_alone(scope: Scope) -> None:
    """Memory tools have the dict of its state, by `gc.get_objects()`: what lies in there is freed in their thread."""
    entered, may_end = threading.Event(), threading.Event()

    with syncline.Bridge(scope=scope) as bridge:

        def work() -> None:
            bridge.run_sync(own_loop)
            entered.set()
            assert may_end.wait(10)

        mine = bridge.run_sync(own_loop)
        thread = threading.Thread(target=work)
        thread.start()
        assert entered.wait(10)
        held = gc.get_objects()
        may_end.set()
        thread.join(10)
        assert not thread.is_alive()
        del held
        gc.collect()
        assert bridge.run_sync(own_loop) is mine
        assert scope == "thread" or bridge.run_sync(here) == threading.get_ident()


async def here() -> int:
    return threading.get_ident()
