"""The wait for a runner's start ends as every wait does; whoever gives it up leaves the loop to the next caller."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import uvloop

import syncline
from child import eventually, run_script
from closing import Caller, MakeBridge, is_closed_error
from syncline._trio import TrioLoop

pytestmark = pytest.mark.timeout(60)
FAR = 20.0


class Factory:
    """Makes loops of one kind, each only when it is told to."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self.make = make
        self.begun, self.go = threading.Event(), threading.Event()
        self.calls = 0
        self.error: Exception | None = None
        self.options: dict[str, Any] = {}

    def __call__(self) -> Any:
        self.calls += 1
        self.begun.set()
        assert self.go.wait(FAR)
        if self.error is not None:
            raise self.error
        return self.make()


@pytest.fixture(params=["asyncio", "uvloop", "trio"])
def factory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Factory]:
    """What makes the loops of each kind, slowly. It is let go at the end."""
    makes = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop, "trio": lambda: None}
    factory = Factory(makes[request.param])
    factory.options = {"loop_factory": factory}
    if request.param == "trio":
        factory.options = {"backend": "trio"}
        make = TrioLoop.__init__

        def slowly(self: TrioLoop, *args: Any) -> None:
            factory()
            make(self, *args)

        monkeypatch.setattr(TrioLoop, "__init__", slowly)
    yield factory
    factory.go.set()


runner_scopes = pytest.mark.parametrize("scope", ["process", "thread"])


async def here() -> int:
    return threading.get_ident()


@runner_scopes
def test_a_timeout_ends_the_wait_for_a_start_and_the_late_loop_serves_the_next_call(
    make_bridge: MakeBridge, factory: Factory, scope: str
) -> None:
    """run(timeout=) raises at its timeout while the loop is made; nothing is made twice."""
    bridge = make_bridge(scope=scope, **factory.options)
    began = time.monotonic()
    coroutine = here()
    with pytest.raises(TimeoutError):
        bridge.run(coroutine, timeout=0.05)
    assert time.monotonic() - began < FAR / 2
    assert coroutine.cr_frame is None  # closed, without a warning
    assert bridge.stats()["active"] == 0
    factory.go.set()
    assert bridge.run_sync(here) != threading.get_ident()
    assert factory.calls == 1


def test_a_second_thread_that_waits_for_the_start_ends_at_its_own_timeout(
    make_bridge: MakeBridge, factory: Factory
) -> None:
    """Each of two callers has its own time; the first one's result comes all the same."""
    bridge = make_bridge(**factory.options)
    first = Caller(lambda: bridge.run_sync(here))
    assert factory.begun.wait(FAR)
    with pytest.raises(TimeoutError):
        bridge.run(here(), timeout=0.05)
    assert not first.has_got.is_set()
    factory.go.set()
    assert first.has_got.wait(FAR)
    assert isinstance(first.got, int)
    assert factory.calls == 1


def test_a_second_thread_gets_the_loop_when_the_first_caller_has_given_up(
    make_bridge: MakeBridge, factory: Factory
) -> None:
    """The start belongs to all who need it, not to whoever began it."""
    bridge = make_bridge(**factory.options)
    first = Caller(lambda: bridge.run(here(), timeout=0.2))
    assert factory.begun.wait(FAR)
    second = Caller(lambda: bridge.run_sync(here))
    assert first.has_got.wait(FAR)
    assert isinstance(first.got, TimeoutError)
    factory.go.set()
    assert second.has_got.wait(FAR)
    assert isinstance(second.got, int)
    assert factory.calls == 1


@pytest.mark.parametrize("factory", ["asyncio", "trio"], indirect=True)
def test_a_start_that_fails_is_its_beginners_error_and_the_next_caller_tries_again(
    make_bridge: MakeBridge, factory: Factory
) -> None:
    """A second thread that waits for the same start is woken when it fails, and begins another one."""
    bridge = make_bridge(**factory.options)
    error = factory.error = OSError("no descriptors left")
    first = Caller(lambda: bridge.run_sync(here))
    assert factory.begun.wait(FAR)
    second = Caller(lambda: bridge.run_sync(here))
    factory.go.set()
    assert first.has_got.wait(FAR)
    assert second.has_got.wait(FAR)
    assert first.got is error
    assert second.got is error
    factory.error = None
    assert isinstance(bridge.run_sync(here), int)


def test_an_error_that_comes_when_the_caller_has_gone_is_logged(
    make_bridge: MakeBridge, factory: Factory, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody would hear of it otherwise; the next call makes another loop."""
    bridge = make_bridge(**factory.options)
    with pytest.raises(TimeoutError):
        bridge.run(here(), timeout=0.05)
    assert factory.begun.wait(FAR)
    factory.error = OSError("late failure")
    factory.go.set()
    assert eventually(lambda: "nobody waits for it any more" in caplog.text)
    assert "late failure" in caplog.text
    assert caplog.records[-1].levelno == logging.ERROR
    factory.error = None
    assert isinstance(bridge.run_sync(here), int)
    assert factory.calls == 2


@runner_scopes
def test_a_close_during_a_start_frees_its_callers_and_leaves_nothing(
    leaks_nothing: None, factory: Factory, scope: str
) -> None:
    """Callers get RunnerClosedError at once; close waits for the loop that comes up late, and that ends itself."""
    bridge = syncline.Bridge(scope=scope, **factory.options)
    callers = [Caller(lambda: bridge.run_sync(here)) for _ in range(2 if scope == "process" else 1)]
    assert factory.begun.wait(FAR)
    closing = Caller(bridge.close)
    # The loop is made only after that.
    for caller in callers:
        assert caller.has_got.wait(FAR)
        assert is_closed_error(caller.got), caller.got
        caller.join()
    assert not closing.has_got.is_set()
    factory.go.set()
    assert closing.has_got.wait(FAR)
    closing.join()
    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(here)


async def numbers() -> AsyncIterator[int]:
    yield 1


@contextlib.asynccontextmanager
async def managed() -> AsyncIterator[int]:
    yield 1


def first(bridge: syncline.Bridge, kind: str) -> object:
    if kind == "submit":
        return bridge.submit(here).result(FAR)
    if kind == "iterate":
        return next(iter(bridge.iterate(numbers())))
    if kind == "enter":
        with bridge.enter(managed()) as value:
            return value
    return bridge.coroutine(here)().run(timeout=None)


@pytest.mark.parametrize("kind", ["submit", "iterate", "enter", "dual"])
def test_each_kind_of_first_call_waits_for_a_start_of_another_thread(
    make_bridge: MakeBridge, factory: Factory, kind: str
) -> None:
    """The first caller times out, one of another kind waits on, and gets what it asked for."""
    bridge = make_bridge(**factory.options)
    with pytest.raises(TimeoutError):
        bridge.run(here(), timeout=0.05)
    caller = Caller(lambda: first(bridge, kind))
    assert factory.begun.wait(FAR)
    factory.go.set()
    assert caller.has_got.wait(FAR)
    assert isinstance(caller.got, int), caller.got
    assert factory.calls == 1


def test_the_timeout_of_a_call_reaches_the_nested_call_that_has_a_runner_started(
    make_bridge: MakeBridge, factory: Factory
) -> None:
    """The nested first call blocks its loop; it ends when the outer one is over, which cleans up."""
    outer, inner = make_bridge(nested="thread"), make_bridge(**factory.options)
    seen: list[type[BaseException]] = []

    async def nests() -> None:
        try:
            inner.run_sync(here)
        except BaseException as error:
            seen.append(type(error))
            raise

    with pytest.raises(TimeoutError):
        outer.run(nests(), timeout=0.05)
    assert seen == [asyncio.CancelledError]
    factory.go.set()
    assert isinstance(inner.run_sync(here), int)


def test_scope_caller_makes_its_loop_in_the_calling_thread(make_bridge: MakeBridge) -> None:
    """A slow factory is the caller's own code there: it runs to its end, and once."""
    made_by: list[int] = []

    def slow() -> asyncio.AbstractEventLoop:
        made_by.append(threading.get_ident())
        time.sleep(0.1)
        return asyncio.new_event_loop()

    bridge = make_bridge(scope="caller", loop_factory=slow)
    with pytest.raises(TimeoutError):
        bridge.run(asyncio.sleep(FAR), timeout=0.05)
    assert bridge.run_sync(here) == threading.get_ident()
    assert made_by == [threading.get_ident()]


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
@pytest.mark.parametrize("raises", ["KeyboardInterrupt", "TimeoutError", "SystemExit"])
def test_a_signal_ends_the_wait_for_a_start_at_once(scope: str, raises: str) -> None:
    """What its handler raises, the first call raises; the next one gets the loop that was being made, if any."""
    # Interleaving: the signal comes when the factory runs, which goes on only when the call has ended.
    end = run_script(f"""
import asyncio, os, signal, sys, threading
import syncline

go, calls = threading.Event(), []

def interrupt(number, frame):
    raise {raises}("by a handler")

signal.signal(signal.SIGUSR1, interrupt)

def slow():
    calls.append(threading.get_ident())
    if len(calls) == 1:
        os.kill(os.getpid(), signal.SIGUSR1)
        go.wait(20)
    return asyncio.new_event_loop()

async def answer():
    return 42

bridge = syncline.Bridge(scope="{scope}", loop_factory=slow)
coroutine = answer()
try:
    bridge.run(coroutine)
except {raises} as error:
    print(error, coroutine.cr_frame)
go.set()
print(bridge.run_sync(answer), len(calls), bridge.stats()["active"])
bridge.close()
print(threading.active_count())
""")
    calls = 2 if scope == "caller" else 1
    assert end.lines == ["by a handler None", f"42 {calls} 0", "1"], end.err
    end.assert_clean()
    assert end.seconds < 15


IMPORTED_MEANWHILE = """
import sys, threading
import syncline

main = threading.get_ident()
held, done = threading.Event(), threading.Event()
failed = []

def hold(event, args):
    # Interleaving: the other thread is in the middle of asyncio until this one waits for that, or has its answer.
    if event == "import" and args[0] == "asyncio.constants" and threading.get_ident() != main:
        held.set()
        while not done.wait(0.001):
            if "importlib" in sys._current_frames()[main].f_code.co_filename:
                return

def imports():
    try:
        import asyncio
    except BaseException as error:
        failed.append(error)

assert "asyncio" not in sys.modules
sys.addaudithook(hold)
thread = threading.Thread(target=imports)
thread.start()
held.wait()
print(syncline.in_event_loop())
done.set()
thread.join()
import asyncio
print(failed, asyncio.run(asyncio.sleep(0, "imported")))
"""


def test_what_asks_for_a_loop_waits_for_another_threads_import_of_asyncio() -> None:
    """Of the whole package: two threads with a half each would leave neither of them with any."""
    end = run_script(IMPORTED_MEANWHILE)
    end.assert_clean()
    assert end.lines == ["False", "[] imported"]
