"""A first call in the middle of which its own thread calls the bridge again: it works, or raises at once."""

from __future__ import annotations

import asyncio
import threading

import pytest

import syncline
from child import run_script
from closing import MakeBridge

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])

BEGIN = """
import gc, signal, sys, threading, time
import syncline

async def answer():
    return 42

"""

HANDLER = """
calls = []

def handler(number, frame):
    calls.append(len(calls))
    if calls[-1] == turn:
        got.append(bridge.run_sync(answer))

signal.signal(signal.SIGUSR1, handler)
"""


def total(script: str) -> int:
    """How often the script's handler runs where it calls nothing."""
    end = run_script(script.replace("TURN", "-1"))
    assert end.status == 0, end.err
    return int(end.lines[0].split()[-1])


@scopes
def test_a_signal_handler_calls_the_bridge_in_the_middle_of_an_import(scope: str) -> None:
    """At each import of a process's very first call: both calls work, or the error of a module that is half imported is
    raised at once (case 70)."""
    # Interleaving: the main thread holds the lock of the module that is being imported when the handler runs.
    script = f"""{BEGIN}
turn, got = TURN, []
{HANDLER}
class Importing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if threading.current_thread() is threading.main_thread():
            signal.raise_signal(signal.SIGUSR1)

sys.meta_path.insert(0, Importing)
bridge = syncline.Bridge(scope="{scope}")
try:
    print(bridge.run_sync(answer), got, len(calls))
except (AttributeError, ImportError, NameError, syncline.DeadlockError) as error:
    # What the handler needs is the very module that it interrupts, or that one is not there for its caller then.
    print("42 [42]", len(calls))
bridge.close()
"""
    count = total(script)
    # Where the loop has a thread of its own, that one imports asyncio.
    assert count > (10 if scope == "caller" else 1)
    # Each eighth, beginning with another one for each scope: a process for each of them takes long.
    for turn in range(len(scope) % 3, count, 8):
        end = run_script(script.replace("TURN", str(turn)), limit=15)
        assert [line[:7] for line in end.lines] == ["42 [42]"], (turn, end.out, end.err)
        assert (end.status, end.seconds < 10) == (0, True)


@scopes
@pytest.mark.parametrize("options", ["", "loop_factory=asyncio.SelectorEventLoop", "nested='thread'"])
def test_a_signal_handler_calls_the_bridge_at_any_place_of_its_first_call(scope: str, options: str) -> None:
    """Thread.__init__, Thread.start(), the making of the loop: both calls work (case 70)."""
    # Interleaving: a profile function is called where Python looks for signals, and the handler runs there.
    script = f"""{BEGIN}
import asyncio
syncline.Bridge(scope="{scope}").run_sync(answer)
turn, got = 0, []
{HANDLER}

def profile(frame, what, function):
    # Not in a destructor, which can't tell who waits.
    if what in ("call", "c_return") and function is not sys.setprofile and len(calls) <= turn:
        sys.setprofile(None)
        signal.raise_signal(signal.SIGUSR1)
        sys.setprofile(profile)

while True:
    calls.clear()
    got.clear()
    bridge = syncline.Bridge(scope="{scope}", {options})
    sys.setprofile(profile)
    value = bridge.run_sync(answer)
    sys.setprofile(None)
    bridge.close()
    if len(calls) <= turn:
        break
    assert (value, got) == (42, [42]), (turn, value, got)
    turn += 1
print(turn > 5, threading.active_count())
"""
    end = run_script(script, flags=("-W", "error"))
    assert end.lines == ["True 1"], end.err
    end.assert_clean()


@scopes
def test_a_finalizer_that_the_collector_runs_calls_the_bridge(scope: str) -> None:
    """The collector may run at any place of a first call, in any thread of it, and a finalizer may make a call: that
    works, or says at once that it came in the middle of the making of the loop (case 71)."""
    end = run_script(f"""{BEGIN}
syncline.run_sync(answer)
got = []

class Late:
    def __init__(self, bridge):
        self.bridge, self.itself = bridge, self

    def __del__(self):
        try:
            got.append(self.bridge.run(answer(), timeout=10))
        except syncline.DeadlockError as error:
            assert "in the middle of it" in str(error)
            got.append(42)

for threshold in range(1, 40):
    gc.collect()
    bridge = syncline.Bridge(scope="{scope}")
    Late(bridge)
    gc.set_threshold(threshold)
    assert bridge.run_sync(answer) == 42
    gc.set_threshold(700)
    # The loop's thread may be in the collector just now: then a call of it does nothing here.
    for _ in range(5000):
        gc.collect()
        if len(got) == threshold:
            break
        time.sleep(0.001)
    bridge.close()
print({{str(value) for value in got}}, len(got))
""")
    assert end.lines == ["{'42'} 39"], (end.out, end.err)
    end.assert_clean()


@scopes
def test_a_loop_factory_that_calls_its_own_bridge_gets_an_error_that_says_so(
    leaks_nothing: None, scope: str
) -> None:
    """DeadlockError at once, in all scopes."""

    def factory() -> asyncio.AbstractEventLoop:
        bridge.run_sync(asyncio.sleep, 0)
        return asyncio.new_event_loop()

    with syncline.Bridge(scope=scope, loop_factory=factory) as bridge:  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(syncline.DeadlockError, match=r"loop_factory of the bridge .* the very loop"):
                bridge.run_sync(asyncio.sleep, 0)
        assert bridge.stats()["active"] == 0


@scopes
def test_two_bridges_whose_factories_call_each_other_get_that_error(leaks_nothing: None, scope: str) -> None:
    """The circle is seen across bridges, and threads."""

    def first() -> asyncio.AbstractEventLoop:
        two.run_sync(asyncio.sleep, 0)
        return asyncio.new_event_loop()

    def second() -> asyncio.AbstractEventLoop:
        one.run_sync(asyncio.sleep, 0)
        return asyncio.new_event_loop()

    with (
        syncline.Bridge(scope=scope, loop_factory=first) as one,  # type: ignore[arg-type]
        syncline.Bridge(scope=scope, loop_factory=second) as two,  # type: ignore[arg-type]
        pytest.raises(syncline.DeadlockError, match="loop_factory of the bridge"),
    ):
        one.run_sync(asyncio.sleep, 0)


@scopes
def test_a_loop_factory_may_call_another_bridge(make_bridge: MakeBridge, scope: str) -> None:
    """What the message advises works."""
    other = make_bridge(scope=scope)

    def factory() -> asyncio.AbstractEventLoop:
        assert other.run_sync(asyncio.sleep, 0, "ready") == "ready"
        return asyncio.new_event_loop()

    bridge = make_bridge(scope=scope, loop_factory=factory)
    assert bridge.run_sync(asyncio.sleep, 0, threading.get_ident()) == threading.get_ident()
