"""Signals other than Ctrl-C, with handlers of the user's: real signals sent to real processes."""

from __future__ import annotations

import signal

import pytest

from child import run_script
from scripts import started

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


@scopes
def test_a_signal_handler_that_raises_cancels_the_call_and_its_error_arrives(scope: str) -> None:
    """Any exception of any handler is treated like KeyboardInterrupt (case 44)."""
    script = """
class Alarm(Exception):
    pass

alarm = Alarm()

def handler(number, frame):
    raise alarm

signal.signal(signal.SIGUSR1, handler)
try:
    bridge.run_sync(work)
except Alarm as error:
    print(error is alarm, flush=True)
print(bridge.run_sync(answer), flush=True)
"""
    with started(scope, script) as child:
        child.signal(signal.SIGUSR1)
        end = child.finish()
    assert end.lines == ["cancelled", "cleaned up", "True", "42"]
    end.assert_clean()


@scopes
def test_sys_exit_in_a_sigterm_handler_cleans_up_and_sets_the_exit_status(scope: str) -> None:
    """The usual way to end a server: SIGTERM, sys.exit() in the handler, cleanup, that status (case 44)."""
    script = """
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
bridge.run_sync(work)
"""
    with started(scope, script) as child:
        child.signal(signal.SIGTERM)
        end = child.finish()
    assert end.lines == ["cancelled", "cleaned up"]
    assert (end.status, end.err) == (143, "")


@scopes
def test_a_signal_handler_that_returns_does_not_end_the_call(scope: str) -> None:
    """The handler runs at once, while the caller waits, and the call goes on to its result (case 44)."""
    script = """
handled = threading.Event()
signal.signal(signal.SIGUSR1, lambda number, frame: handled.set())

async def until_handled():
    print("ready", flush=True)
    while not handled.is_set():
        await asyncio.sleep(0.01)
    return "done"

print(bridge.run_sync(until_handled), flush=True)
"""
    with started(scope, script) as child:
        child.signal(signal.SIGUSR1)
        end = child.finish()
    assert end.lines == ["done"]
    end.assert_clean()


@scopes
@pytest.mark.parametrize("waiting", ["suspended", "running"])
def test_a_signal_handler_can_call_the_bridge_mid_call(scope: str, waiting: str) -> None:
    """A call made by a handler runs while the interrupted one waits, and both return their values (case
    71)."""
    # Interleavings: "suspended" - the loop sleeps in its selector when the handler calls;
    # "running" - a coroutine runs Python code just then (in scope "caller": in the very frame below
    # the handler).
    step = "await asyncio.sleep(0.01)" if waiting == "suspended" else "sum(range(1000))"
    script = f"""
handled = []

def handler(number, frame):
    handled.append(None)
    os.write(1, f"handler {{bridge.run_sync(answer)}}\\n".encode())  # print() may be what it interrupts

signal.signal(signal.SIGUSR1, handler)

async def until_handled():
    print("ready", flush=True)
    while not handled:
        {step}
    await asyncio.sleep(0)
    return "done"

print(bridge.run_sync(until_handled), flush=True)
print(bridge.run_sync(answer), flush=True)
"""
    with started(scope, script) as child:
        child.signal(signal.SIGUSR1)
        end = child.finish()
    assert end.lines == ["handler 42", "done", "42"], end.err
    end.assert_clean()


@scopes
def test_the_bridge_never_touches_signal_handlers(scope: str) -> None:
    """No handler, no wakeup descriptor and no interval timer changes at import, in a call or after it
    (case 47)."""
    script = """
import signal

def state():
    return {number: signal.getsignal(number) for number in signal.valid_signals()}

before = state()
changed = []
for name in ("signal", "set_wakeup_fd", "siginterrupt", "setitimer", "pthread_sigmask"):
    def spy(*args, _name=name, _original=getattr(signal, name)):
        changed.append(_name)
        return _original(*args)
    setattr(signal, name, spy)

import asyncio
import syncline

async def look():
    await asyncio.sleep(0)
    return state()

bridge = syncline.Bridge(scope="SCOPE")
assert bridge.run_sync(look) == before
assert bridge.run(look(), timeout=10) == before
assert bridge.submit(look).result() if "SCOPE" != "caller" else True
assert state() == before
bridge.close()
assert state() == before
assert changed == [], changed
assert signal.set_wakeup_fd(-1) == -1
print("ok")
""".replace("SCOPE", scope)
    end = run_script(script)
    assert end.lines == ["ok"], end.err
    end.assert_clean()
