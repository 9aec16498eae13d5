"""Forks by C code, of which Python hears nothing: no hook of its own runs in the child. (uWSGI forks like that.)"""

from __future__ import annotations

import ctypes
import sys

import pytest

from child import run_script
from scripts import FORKING

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform == "win32", reason="forks"),
]
forks_unheard = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "_Fork"), reason="needs glibc 2.34"
)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])

NATIVE = """
import ctypes

libc, python = ctypes.CDLL(None), ctypes.PyDLL(None)
unheard = getattr(python, "_Fork", None)  # it runs no handlers of C code either

async def numbers():
    for number in range(3):
        await asyncio.sleep(0)
        yield number

def use():
    assert bridge.run_sync(pid) == os.getpid()
    assert list(bridge.iterate(numbers())) == [0, 1, 2]
    assert list(bridge.iterate(numbers(), prefetch=2)) == [0, 1, 2]
    assert bridge.run_sync(syncline.to_thread, os.getpid) == os.getpid()
    assert bridge.run_sync(asyncio.to_thread, int) == 0

def status_of_child(fork, use=use):
    child = fork()
    if child == 0:
        status = 1
        try:
            use()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


@scopes
@pytest.mark.parametrize(
    "fork",
    ["libc.fork", "python.fork", pytest.param("unheard", marks=forks_unheard)],
    ids=["without the lock", "with the lock", "without handlers"],
)
def test_the_child_works_and_so_does_the_parent(scope: str, fork: str) -> None:
    """Calls, iteration and worker threads; nobody waits for a thread that only the parent has."""
    end = run_script(
        FORKING.format(scope=scope)
        + NATIVE
        + f"""
use()
print(status_of_child({fork}), flush=True)
use()
print(status_of_child({fork}), status_of_child(os.fork), flush=True)
bridge.close()
"""
    )
    assert end.lines == ["0", "0 0"], end.err
    end.assert_clean()


@scopes
def test_a_child_of_a_signal_handlers_fork_leaves_the_call_that_it_interrupted(scope: str) -> None:
    """A call of the parent's that the fork came in the middle of is not waited for in the child."""
    end = run_script(
        FORKING.format(scope=scope)
        + NATIVE
        + """
import signal

def handler(number, frame):
    global child
    child = python.fork()

signal.signal(signal.SIGUSR1, handler)

async def interrupts():
    os.kill(os.getpid(), signal.SIGUSR1)
    await asyncio.sleep(0.2)
    return "done"

parent = os.getpid()
try:
    result = bridge.run_sync(interrupts)
except syncline.RunnerClosedError:
    result = "closed"
except RuntimeError as error:
    # Python 3.11's asyncio forgets the running loop in a child, and says so to the coroutine's sleep.
    if os.getpid() == parent or "no running event loop" not in str(error):
        raise
    result = "closed"
if os.getpid() == parent:
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(result, status, flush=True)
else:
    os._exit(result not in ("done", "closed"))
"""
    )
    assert end.lines == ["done 0"], end.err
    end.assert_clean()


@scopes
@pytest.mark.parametrize("forked", [False, True], ids=["not forked", "forked"])
@pytest.mark.parametrize("used", ["calls", "workers"])
def test_a_process_that_c_ends_says_nothing(scope: str, forked: bool, used: str) -> None:
    """Python is finalized after the thread-locals of the process are gone: nothing panics on that."""
    end = run_script(
        FORKING.format(scope=scope)
        + NATIVE
        + f"""
if {used == "workers"}:
    use()
else:
    call()
if {forked}:
    child = os.fork()
    if child:
        sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
finalize = ctypes.cast(ctypes.pythonapi.Py_FinalizeEx, ctypes.c_void_p)
libc["__cxa_atexit"](finalize, None, None)
python.exit(0)
"""
    )
    end.assert_clean()


CIRCLES = {
    "a lock": "with lock: bridge.run_sync(takes_the_lock)",
    "a future": "bridge.run_sync(waits_for_its_loop)",
    "an event": "bridge.run_sync(sleeps)",
}


@pytest.mark.parametrize("scope", ["process", "thread"])
@pytest.mark.parametrize("circle", list(CIRCLES))
@pytest.mark.parametrize("fork", ["python.fork", pytest.param("unheard", marks=forks_unheard)])
def test_what_looks_at_all_threads_leaves_those_of_the_parent_alone(
    scope: str, circle: str, fork: str
) -> None:
    """Python lists them still, and reads their stacks, which new threads have by now: it crashed. Deadlocks are found
    all the same."""
    end = run_script(
        FORKING.format(scope=scope)
        + NATIVE
        + f"""
lock, event = threading.Lock(), threading.Event()

async def takes_the_lock():
    with lock:
        pass

async def waits_for_its_loop():
    bridge.submit(asyncio.sleep, 0).result()

async def sleeps():
    event.wait()

def use_once_more():
    use()
    shown = syncline.dump()
    assert "loop 'fork" in shown, shown
    try:
        {CIRCLES[circle]}
    except syncline.DeadlockError:
        return
    raise AssertionError("it is a deadlock")

use()
print(status_of_child({fork}, use_once_more), flush=True)
bridge.close()
""",
        limit=50,
    )
    assert end.lines == ["0"], end.err


@scopes
@pytest.mark.parametrize("fork", ["python.fork", pytest.param("unheard", marks=forks_unheard)])
def test_the_childs_loops_are_watched(scope: str, fork: str) -> None:
    """The thread that watched the parent's is not there."""
    end = run_script(
        FORKING.format(scope=scope)
        + NATIVE
        + f"""
import logging

came = threading.Event()

class Reports(logging.Handler):
    def emit(self, record):
        came.set()

logging.getLogger("syncline").addHandler(Reports())
watched = syncline.Bridge(scope={scope!r}, stall_after=0.1)

async def blocks():
    assert came.wait(15)

watched.run_sync(asyncio.sleep, 0)
print(status_of_child({fork}, lambda: watched.run_sync(blocks)), flush=True)
watched.close()
"""
    )
    assert end.lines == ["0"], end.err
    end.assert_clean()
