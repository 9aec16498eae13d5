"""Many threads, every way a call can end, all at once: nothing lost, nothing stuck, nothing leaked.

Quick by default; SYNCLINE_STRESS=full makes it 8 threads x 10,000 calls. Every choice comes from a seed that
is printed when a test fails; SYNCLINE_SEED=<number> repeats it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any, Literal

import pytest

import syncline

Scope = Literal["process", "thread", "caller"]
FULL = os.environ.get("SYNCLINE_STRESS") == "full"
SEED = int(os.environ.get("SYNCLINE_SEED", random.SystemRandom().randrange(2**32)))
THREADS = 8
CALLS = 10_000 if FULL else 500
ROUNDS = 200 if FULL else 20

pytestmark = pytest.mark.timeout(1200 if FULL else 120)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


class OwnError(Exception):
    """What failing coroutines raise."""


def resources() -> tuple[int, int]:
    """Threads and descriptors of this process."""
    return threading.active_count(), len(os.listdir("/proc/self/fd"))


def settled(before: tuple[int, int], seconds: float = 20.0) -> bool:
    """Whether threads and descriptors came down to what they were."""
    deadline = time.monotonic() + seconds
    gc.collect()
    while any(now > then for now, then in zip(resources(), before, strict=True)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
        gc.collect()
    return True


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Run work(number) in `count` threads that start together; the first error is raised here, with the
    seed."""
    errors: list[BaseException] = []
    together = threading.Barrier(count)

    def guarded(number: int) -> None:
        try:
            together.wait(30)
            work(number)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(n,), daemon=True) for n in range(count)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + (1000 if FULL else 100)
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
        assert not thread.is_alive(), f"a thread is stuck, SYNCLINE_SEED={SEED}"
    if errors:
        raise AssertionError(f"SYNCLINE_SEED={SEED}: {errors[0]!r}") from errors[0]


class Caller:
    """One thread's calls: each is made by a method named after how it ends, and checked on the spot."""

    def __init__(self, bridge: syncline.Bridge, number: int) -> None:
        self.bridge = bridge
        self.chance = random.Random(SEED * 1000 + number)
        self.cleaned = 0
        self.entered = 0

    async def value(self, token: object, suspensions: int) -> object:
        for _ in range(suspensions):
            await asyncio.sleep(0)
        return token

    async def failing(self, error: BaseException, suspensions: int) -> None:
        for _ in range(suspensions):
            await asyncio.sleep(0)
        raise error

    async def forever(self) -> None:
        self.entered += 1
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            self.cleaned += 1

    def returns(self) -> None:
        token = object()
        assert self.bridge.run_sync(self.value, token, self.chance.randrange(4)) is token

    def returns_late(self) -> None:
        token = object()
        assert self.bridge.run(asyncio.sleep(self.chance.random() * 0.002, token), timeout=60) is token

    def raises(self) -> None:
        error = OwnError()
        with pytest.raises(OwnError) as caught:
            self.bridge.run_sync(self.failing, error, self.chance.randrange(3))
        assert caught.value is error

    def is_cancelled_inside(self) -> None:
        with pytest.raises(asyncio.CancelledError):
            self.bridge.run_sync(self.failing, asyncio.CancelledError(), self.chance.randrange(3))

    def exits(self) -> None:
        error = SystemExit(3)
        with pytest.raises(SystemExit) as caught:
            self.bridge.run_sync(self.failing, error, self.chance.randrange(3))
        assert caught.value is error

    def times_out(self) -> None:
        steps: list[str] = []

        async def slow() -> None:
            steps.append("entered")
            try:
                await asyncio.sleep(3600)
            finally:
                await asyncio.sleep(0)
                steps.append("cleaned")

        with pytest.raises(TimeoutError):
            self.bridge.run(slow(), timeout=self.chance.random() * 0.002)
        # It may have been too late to begin at all; what began was cleaned up before the caller was told.
        assert steps in ([], ["entered", "cleaned"])

    def submits(self) -> None:
        token = object()
        future = self.bridge.submit(self.value, token, self.chance.randrange(4))
        if self.bridge.scope == "caller":
            self.returns()  # only a call turns the loop
            while not future.done():
                self.returns()
        assert future.result(60) is token

    def cancels(self) -> None:
        future = self.bridge.submit(self.forever)
        if self.chance.randrange(2):
            self.returns()  # gives it the time to begin
        assert future.cancel()
        assert future.cancelled()
        with pytest.raises(CancelledError):
            future.result(60)

    def nests(self) -> None:
        token = object()

        async def outer() -> object:
            await asyncio.sleep(0)
            return self.bridge.run_sync(self.value, token, 1)

        assert self.bridge.run_sync(outer) is token

    def uses_the_executor(self) -> None:
        async def outer() -> int:
            return await asyncio.get_running_loop().run_in_executor(None, threading.get_ident)

        assert self.bridge.run_sync(outer) != threading.get_ident()

    KINDS = (
        (returns, 50), (returns_late, 10), (raises, 12), (is_cancelled_inside, 5), (exits, 3), (times_out, 6),
        (submits, 6), (cancels, 5), (nests, 2), (uses_the_executor, 1),
    )  # fmt: skip

    def run(self, calls: int) -> Counter[str]:
        """Make so many random calls; how many of each kind there were."""
        kinds, weights = zip(*self.KINDS, strict=True)
        made: Counter[str] = Counter()
        for kind in self.chance.choices(kinds, weights, k=calls):
            kind(self)
            made[kind.__name__] += 1
        return made


@scopes
def test_every_call_of_many_threads_is_accounted_for(scope: Scope) -> None:
    """8 threads with errors, timeouts and cancels mixed in: each result is right, none is lost (cases
    64, 72)."""
    before = resources()
    made: list[Counter[str]] = []
    callers: list[Caller] = []
    with syncline.Bridge(scope=scope, name="stress") as bridge:

        def work(number: int) -> None:
            caller = Caller(bridge, number)
            callers.append(caller)
            made.append(caller.run(CALLS))

        in_threads(THREADS, work)
        total = sum(made, Counter())
        assert total.total() == THREADS * CALLS
        assert bridge.stats()["calls"] >= total.total()
        deadline = time.monotonic() + 20
        while bridge.stats()["active"] and time.monotonic() < deadline:
            bridge.run_sync(asyncio.sleep, 0)  # cancelled tasks finish their cleanup
        assert bridge.stats()["active"] == 0, f"SYNCLINE_SEED={SEED}"
    assert all(caller.cleaned == caller.entered for caller in callers), f"SYNCLINE_SEED={SEED}"
    assert settled(before), (resources(), before)


@pytest.mark.parametrize("turn", range(3))
def test_a_busy_python_thread_beside_the_calls_changes_nothing(turn: int) -> None:
    """The same mix while another thread hogs the interpreter (case 64)."""
    stop = threading.Event()

    def hog() -> None:
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=hog)
    thread.start()
    try:
        with syncline.Bridge() as bridge:
            in_threads(3, lambda number: Caller(bridge, number + 100 * turn).run(CALLS // 20) and None)
    finally:
        stop.set()
        thread.join()


@scopes
def test_close_during_calls_frees_every_caller(scope: Scope) -> None:
    """close() at a random moment: each call returns its value or raises RunnerClosedError, then all
    threads end."""
    chance = random.Random(SEED)
    before = resources()
    for _ in range(ROUNDS):
        bridge = syncline.Bridge(scope=scope, cleanup_timeout=10.0)
        ends: Counter[str] = Counter()
        lock = threading.Lock()
        delay = chance.random() * 0.02

        def work(number: int, bridge: syncline.Bridge = bridge, ends: Counter[str] = ends,
                 delay: float = delay, lock: threading.Lock = lock) -> None:  # fmt: skip
            if number == 0:
                time.sleep(delay)
                bridge.close()
                return
            calls = 0
            while True:
                try:
                    token = object()
                    seconds = 3600 if calls % 10 == 9 and number == 1 and scope != "caller" else 0
                    assert bridge.run_sync(asyncio.sleep, seconds, token) is token
                    calls += 1
                except syncline.RunnerClosedError:
                    break
            with lock:
                ends["freed"] += 1

        in_threads(5, work)
        assert ends["freed"] == 4
        assert bridge.closed
        with pytest.raises(syncline.RunnerClosedError):
            bridge.run_sync(asyncio.sleep, 0)
    assert settled(before), (resources(), before)


@scopes
def test_close_during_calls_ends_every_future(scope: Scope) -> None:
    """Futures submitted around close() end: with a value, RunnerClosedError or cancelled, but they end
    (case 53)."""
    chance = random.Random(SEED)
    for _ in range(ROUNDS):
        bridge = syncline.Bridge(scope=scope)
        futures: list[Future[Any]] = []
        delay = chance.random() * 0.005

        def work(number: int, bridge: syncline.Bridge = bridge, futures: list[Future[Any]] = futures,
                 delay: float = delay) -> None:  # fmt: skip
            if number == 0:
                time.sleep(delay)
                bridge.close()
                return
            try:
                for turn in range(200):
                    futures.append(bridge.submit(asyncio.sleep, 3600 if turn % 3 == 0 else 0, number))
            except syncline.RunnerClosedError:
                pass

        in_threads(4, work)
        for future in futures:
            with contextlib.suppress(syncline.RunnerClosedError, CancelledError):
                assert future.result(20) in (1, 2, 3)


@scopes
def test_bridges_opened_and_closed_in_a_loop_leak_nothing(scope: Scope) -> None:
    """Four threads open, use and close bridges of their own (case 62)."""
    before = resources()

    def work(number: int) -> None:
        for turn in range(ROUNDS):
            with syncline.Bridge(scope=scope, name=f"b{number}") as bridge:
                Caller(bridge, number * 1000 + turn).run(5)

    in_threads(4, work)
    assert settled(before), (resources(), before)


@scopes
def test_threads_that_end_amid_everything_leak_nothing(scope: Scope) -> None:
    """Threads submit, call, and end without waiting; their futures end, and nothing is left (case 62)."""
    before = resources()
    futures: list[Future[Any]] = []
    with syncline.Bridge(scope=scope) as bridge:

        def work(number: int) -> None:
            chance = random.Random(SEED + number)
            for _ in range(chance.randrange(4)):
                futures.append(bridge.submit(asyncio.sleep, chance.choice((0, 0.001, 3600)), number))
            if chance.randrange(2):
                Caller(bridge, number).run(3)

        for _ in range(ROUNDS):
            in_threads(8, work)
    for future in futures:
        with contextlib.suppress(syncline.RunnerClosedError, CancelledError):
            assert future.result(20) in range(8)
    futures.clear()
    assert settled(before), (resources(), before)


FORKS = """
import faulthandler, os, random, signal, sys, threading, warnings
faulthandler.register(signal.SIGALRM, all_threads=True, chain=True)
signal.alarm({limit})
os.register_at_fork(after_in_child=lambda: signal.alarm(30))
warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
sys.path.insert(0, {folder!r})
import syncline
# Before any fork: CPython leaves the lock of a module that another thread is importing held in the child.
import concurrent.futures.thread, syncline._diagnosis, syncline._futures, syncline._loops, syncline._synced
from test_stress import Caller

bridge = syncline.Bridge(scope="{scope}")
stop = threading.Event()
errors, done = [], []

def work(number):
    turn = 0
    try:
        while not stop.is_set():
            Caller(bridge, number * 100000 + turn).run(10)
            turn += 1
        done.append(turn)
    except BaseException as error:
        errors.append(repr(error))
        raise

threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
for thread in threads:
    thread.start()
for number in range({forks}):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            Caller(bridge, number).run(20)
            if number % 2:
                sys.exit(0)  # through the whole exit of the interpreter
            status = 0
        except SystemExit:
            raise
        except BaseException:
            import traceback
            traceback.print_exc()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        errors.append(f"child {{number}}: {{status}}")
    Caller(bridge, 99).run(5)
stop.set()
for thread in threads:
    thread.join()
print(len(done), min(done, default=0) > 0, errors)
"""


@scopes
def test_forks_during_calls_of_every_kind(scope: Scope) -> None:
    """Four threads call in every way while the main one forks: parents and children all come through
    (case 80)."""
    limit = 900 if FULL else 90
    script = textwrap.dedent(FORKS).format(
        scope=scope, forks=200 if FULL else 20, limit=limit, folder=os.path.dirname(__file__)
    )
    end = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True, text=True, timeout=limit + 20, env={**os.environ, "SYNCLINE_SEED": str(SEED)},
    )  # fmt: skip
    assert (end.returncode, end.stdout, end.stderr) == (0, "4 True []\n", ""), (
        f"SYNCLINE_SEED={SEED}\n{end.stdout}\n{end.stderr}"
    )
