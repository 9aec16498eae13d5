"""No Ctrl-C is lost, whatever the main thread does when the signal comes: each script sends it at one chosen moment."""

from __future__ import annotations

import pytest

from child import run_script
from scripts import REFUSES, WORK, interrupted, started

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


STRIKE = """
import syncline._diagnosis

main = threading.get_ident()

def strike_in(owner, name, times=1):
    # Interleaving: the signal comes when the main thread has just called that function.
    function, left = getattr(owner, name), [None] * times

    def struck(*args):
        if left and threading.get_ident() == main:
            left.pop()
            os.kill(os.getpid(), signal.SIGINT)
        return function(*args)

    setattr(owner, name, struck)

handled = []

def interrupt(number, frame):
    handled.append(number)
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt)
other = syncline.Bridge(loop_factory=asyncio.SelectorEventLoop, cleanup_timeout=60.0)
"""


def caught(call: str) -> str:
    """Makes a call, and says that it was interrupted, and how often the handler ran."""
    return f"""
try:
    {call}
except KeyboardInterrupt:
    print("caught", len(handled), flush=True)
"""


EXAMINED = 'strike_in(syncline._diagnosis, "blocked_on_lock")' + caught("other.run_sync(work)")


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_no_ctrl_c_is_lost_when_a_wait_begins(scope: str) -> None:
    """A wait finds out whether it is the main thread's without Python code, in which a handler would raise
    unseen (cases 44, 45)."""
    script = f"""
{STRIKE}
async def still_work():
    ready(still=True)
    try:
        await asyncio.sleep(3600)
    finally:
        print("cleaned up", flush=True)

strike_in(threading, "main_thread")
{caught("bridge.run_sync(still_work)")}
print(bridge.run_sync(answer), flush=True)
"""
    end = interrupted(scope, script)
    assert end.lines == ["cleaned up", "caught 1", "42"]
    end.assert_clean()


def test_no_ctrl_c_is_lost_while_a_wait_is_examined() -> None:
    """A signal that comes while the waiting thread looks for a deadlock interrupts the call (case 44)."""
    script = f"""
{STRIKE}
{EXAMINED}
print(other.run_sync(answer), flush=True)
"""
    with started("process", script) as child:
        end = child.finish()
    assert end.lines == ["cancelled", "cleaned up", "caught 1", "42"]
    end.assert_clean()


def test_no_second_ctrl_c_is_lost_while_a_wait_is_examined() -> None:
    """The second such signal stops waiting for a coroutine that refuses to be cancelled (case 45)."""
    script = f"""
{REFUSES}
{STRIKE}
strike_in(syncline._diagnosis, "blocked_on_lock", times=2)
try:
    other.run_sync(refuses)
except KeyboardInterrupt:
    print("caught", len(handled), flush=True)
    os._exit(0)  # the task would otherwise have its minute at exit, too
"""
    with started("process", script) as child:
        end = child.finish()
    assert end.lines == ["refused", "caught 2"]
    end.assert_clean()


def test_no_ctrl_c_is_lost_while_a_stall_is_reported() -> None:
    """A signal that comes while the waiting thread describes who blocks its loop interrupts the call (case
    44)."""
    script = f"""
{STRIKE}
stalled = syncline.Bridge(stall_after=0.05)

async def blocks():
    ready()
    while not handled:
        time.sleep(0.01)

strike_in(syncline._diagnosis, "stall_report")
{caught("stalled.run_sync(blocks)")}
print(stalled.run_sync(answer), flush=True)
"""
    with started("process", script) as child:
        end = child.finish()
    assert end.lines == ["caught 1", "42"]
    end.assert_clean()


def test_a_ctrl_c_while_a_call_is_sent_to_another_makers_loop_leaves_it_usable() -> None:
    """The signal comes inside call_soon_threadsafe, which then has scheduled nothing: the call is
    interrupted, and the loop hears of the next one (cases 44, 47)."""
    script = f"""
{STRIKE}
print(other.run_sync(answer), flush=True)
strike_in(asyncio.SelectorEventLoop, "call_soon_threadsafe")
{caught("other.run_sync(work)")}
print(other.run_sync(answer), flush=True)
"""
    end = run_script(WORK.format(scope="process", cleanup_timeout=60.0) + script)
    assert [line for line in end.lines if line not in ("ready", "cancelled", "cleaned up")] == [
        "42",
        "caught 1",
        "42",
    ]
    end.assert_clean()


def test_the_main_thread_is_known_though_another_thread_imported_us() -> None:
    """What a handler raises is the main thread's, wherever the first import was (case 44)."""
    script = f"""
import threading

importer = threading.Thread(target=lambda: __import__("syncline"))
importer.start()
importer.join()
{WORK.format(scope="process", cleanup_timeout=60.0)}
{STRIKE}
{EXAMINED}
"""
    end = run_script(script)
    assert end.lines == ["ready", "cancelled", "cleaned up", "caught 1"]
    end.assert_clean()


def test_the_thread_that_forked_is_the_main_one_of_the_child() -> None:
    """In a child forked by another thread, handlers run in that thread, and interrupt its calls (case 44)."""
    script = f"""
{WORK.format(scope="process", cleanup_timeout=60.0)}
{STRIKE}
import warnings

warnings.simplefilter("ignore", DeprecationWarning)  # of forking with threads

def fork():
    global main
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        return
    main = threading.get_ident()
    exec(EXAMINED)
    os._exit(0)

EXAMINED = {EXAMINED!r}
print(bridge.run_sync(answer), flush=True)
forker = threading.Thread(target=fork)
forker.start()
forker.join()
"""
    end = run_script(script)
    assert end.lines == ["42", "ready", "cancelled", "cleaned up", "caught 1"]
    end.assert_clean()
