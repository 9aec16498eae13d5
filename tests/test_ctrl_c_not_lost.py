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
    """A signal that comes while the waiting thread looks for a call that blocks a loop of its own interrupts the call
    (case 44)."""
    script = f"""
{STRIKE}
stalled = syncline.Bridge(stall_after=0.05)

async def blocks():
    ready()
    while not handled:
        time.sleep(0.01)

async def calls():
    stalled.run_sync(blocks)

strike_in(syncline._diagnosis, "own_stall_report")
{caught("asyncio.run(calls())")}
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


@pytest.mark.parametrize(
    "drive", ["bridge.run_sync(awaits)", "asyncio.run(awaits())", "uvloop.run(awaits())"]
)
def test_no_ctrl_c_is_lost_while_an_awaited_call_is_sent(drive: str) -> None:
    """The signal comes inside call_soon_threadsafe, in a task of the main thread's loop, which then sleeps: it ends
    what drives that loop (case 44)."""
    script = f"""
{STRIKE}
import uvloop

async def awaits():
    await asyncio.sleep(0)  # so that the loop turns
    await other.run_async(work)

class Others(asyncio.SelectorEventLoop):
    pass

other = syncline.Bridge(loop_factory=Others, cleanup_timeout=60.0)
print(other.run_sync(answer), flush=True)
strike_in(Others, "call_soon_threadsafe")
{caught(drive)}
print(other.run_sync(answer), flush=True)
"""
    end = run_script(WORK.format(scope="caller", cleanup_timeout=60.0) + script)
    # The cancellation may come before the work has begun, which never begins then.
    begun = ["cancelled", "cleaned up"] if "cancelled" in end.lines else []
    assert [line for line in end.lines if line != "ready"] == ["42", *begun, "caught 1", "42"]
    end.assert_clean()


@pytest.mark.parametrize(
    "drive", ["bridge.run_sync(awaits)", "visible.run_sync(awaits)", "asyncio.run(awaits())"]
)
@pytest.mark.parametrize("where", ["create_future", "call_later"])
def test_a_ctrl_c_while_a_task_begins_to_wait_for_another_loop_lets_that_clean_up(
    where: str, drive: str
) -> None:
    """The signal comes as the main thread's loop makes the future that the task is to wait for, or the timer for the
    time of the cleanup: what is awaited is ended, and that is waited for (case 44)."""
    # Interleaving: by then the other loop's thread runs what is awaited.
    script = f"""
{STRIKE}
begun = threading.Event()
visible = syncline.Bridge(scope="caller", visible=True, cleanup_timeout=60.0)

def strike_when_begun(owner, name):
    strike_in(owner, name)
    struck = getattr(owner, name)

    def waits(*args):
        begun.wait(10)
        return struck(*args)

    setattr(owner, name, waits)

async def begins():
    begun.set()
    await work()

async def awaits_other():
    await other.run_async(begins)

async def awaits():
    task = asyncio.create_task(awaits_other())
    if "{where}" == "call_later":
        while not begun.is_set():
            await asyncio.sleep(0)
        task.cancel()
    strike_when_begun(asyncio.BaseEventLoop, "{where}")
    await task

print(other.run_sync(answer), flush=True)  # its loop is there
{caught(drive)}
print(other.run_sync(answer), flush=True)
"""
    end = run_script(WORK.format(scope="caller", cleanup_timeout=60.0) + script)
    assert [line for line in end.lines if line != "ready"] == [
        "42",
        "cancelled",
        "cleaned up",
        "caught 1",
        "42",
    ]
    end.assert_clean()


@pytest.mark.parametrize("gives_up", ["awaiting.close()", "del awaiting"])
def test_no_ctrl_c_is_lost_while_an_awaited_call_is_given_up(gives_up: str) -> None:
    """The signal comes inside call_soon_threadsafe, by which the loop is told that nobody awaits the call any more: it
    ends what drives the main thread's loop (case 44)."""
    script = f"""
{STRIKE}
class Others(asyncio.SelectorEventLoop):
    pass

other = syncline.Bridge(loop_factory=Others, cleanup_timeout=60.0)
begun = threading.Event()

async def begins():
    begun.set()
    await asyncio.sleep(3600)

print(other.run_sync(answer), flush=True)  # its loop is there

async def awaits():
    awaiting = other.run_async(begins)
    awaiting.send(None)
    begun.wait()
    strike_in(Others, "call_soon_threadsafe")
    {gives_up}
    await asyncio.sleep(10)
    print("lost", flush=True)

{caught("asyncio.run(awaits())")}
print(other.run_sync(answer), flush=True)
"""
    end = run_script(WORK.format(scope="process", cleanup_timeout=60.0) + script)
    assert end.lines == ["42", "caught 1", "42"]
    end.assert_clean()


def test_no_ctrl_c_is_lost_in_the_callback_of_a_weak_reference() -> None:
    """The signal comes as a task begins to wait, and the next Python code is that by which a WeakSet forgets what is
    freed, out of which Python lets no error (case 44)."""
    script = f"""
{STRIKE}
import functools, operator, weakref

async def awaits_other():
    await other.run_async(asyncio.sleep, 3600)  # which prints nothing beside

async def awaits():
    awaiting, held = awaits_other(), [type("Item", (), {{}})()]
    items = weakref.WeakSet(held)
    strike_in(asyncio.BaseEventLoop, "create_future")
    list(map(operator.call, [functools.partial(awaiting.send, None), held.clear]))
    print("lost", flush=True)

print(other.run_sync(answer), flush=True)  # its loop is there
{caught("asyncio.run(awaits())")}
print(other.run_sync(answer), flush=True)
"""
    end = run_script(WORK.format(scope="process", cleanup_timeout=60.0) + script)
    assert [line for line in end.lines if line in ("lost", "caught 1", "42")] == ["42", "caught 1", "42"]
    end.assert_clean()


def test_no_ctrl_c_is_lost_that_comes_where_no_python_code_runs() -> None:
    """The same where no code of the task's, of uvloop's and of ours is Python's: nothing could raise it before."""
    script = f"""
{STRIKE}
import ctypes, functools, operator, uvloop, weakref

home = syncline.Bridge(in_async="home")

async def awaits():
    await home.coroutine(answer)()  # the loop has heard of other threads before
    awaiting, held = home.coroutine(asyncio.sleep)(3600).__await__(), [type("Item", (), {{}})()]
    items = weakref.WeakSet(held)
    comes = functools.partial(getattr(ctypes.PyDLL(None), "raise"), signal.SIGINT)
    list(map(operator.call, [comes, functools.partial(awaiting.send, None), held.clear]))
    print("lost", flush=True)

{caught("asyncio.Runner(loop_factory=uvloop.new_event_loop).run(awaits())")}
print(home.run_sync(answer), flush=True)
"""
    end = run_script(WORK.format(scope="process", cleanup_timeout=60.0) + script)
    assert end.lines == ["caught 1", "42"]
    end.assert_clean()


# Submits a call to a loop that the main thread runs.
SUBMITS = """
import concurrent.futures
import syncline._futures, syncline._watcher

async def gives():
    {first}
    return 42

ends = []

def submits(bridge):
    future = bridge.submit(gives)
    concurrent.futures.wait([future])
    ends.append(repr(future.exception() or future.result()))

async def runs():
    global thread
    onto = syncline.Bridge(loop=asyncio.get_running_loop(), stall_after={stall_after})
    strike_in({where})
    thread = threading.Thread(target=submits, args=(onto,))
    thread.start()
    await asyncio.sleep(10)
    print("lost", flush=True)
"""


@pytest.mark.parametrize("first", ["pass", "await asyncio.sleep(0)"])
def test_no_ctrl_c_is_lost_while_a_future_is_settled(first: str) -> None:
    """The signal comes inside set_result, in the main thread's loop, which then sleeps: in the call's first step, or in
    a later one (case 44)."""
    where = 'syncline._futures.SubmittedFuture, "set_result"'
    script = f"""
{STRIKE}
{SUBMITS.format(first=first, stall_after=None, where=where)}
{caught("asyncio.run(runs())")}
thread.join()
print(*ends, flush=True)
"""
    end = run_script(WORK.format(scope="process", cleanup_timeout=60.0) + script)
    assert end.lines == ["caught 1", "42"]
    end.assert_clean()


def test_no_ctrl_c_is_lost_while_a_loop_takes_its_mail() -> None:
    """The signal comes as the main thread's loop tells the watcher that it has something to do (case 44)."""
    where = 'syncline._watcher, "stir"'
    script = f"""
{STRIKE}
{SUBMITS.format(first="await asyncio.Event().wait()", stall_after=60.0, where=where)}
{caught("asyncio.run(runs())")}
thread.join()
print(*ends, flush=True)
"""
    end = run_script(WORK.format(scope="process", cleanup_timeout=60.0) + script)
    caught_it, future = end.lines
    assert caught_it == "caught 1"
    assert future.startswith("RunnerClosedError(")  # the program that ran the loop has ended
    end.assert_clean()


def test_a_ctrl_c_while_a_frame_is_freed_is_raised_where_that_was_called() -> None:
    """The signal comes as a bridge is dropped with the frame of a function that C code has called: just then Python
    3.12 shows by sys._getframe() something that is no frame (case 44)."""
    script = f"""
{STRIKE}
class Others(asyncio.SelectorEventLoop):
    pass

def uses(_=None):
    bridge = syncline.Bridge(loop_factory=Others)
    bridge.run_sync(answer)
    strike_in(Others, "call_soon_threadsafe")

async def uses_async():
    bridge = syncline.Bridge(loop_factory=Others)
    bridge.run_sync(answer)
    strike_in(Others, "call_soon_threadsafe")

def generates():
    bridge = syncline.Bridge(loop_factory=Others)
    bridge.run_sync(answer)
    strike_in(Others, "call_soon_threadsafe")
    yield

for _ in range(5):
    {caught("list(map(uses, [1]))").replace(chr(10), chr(10) + "    ")}
    {caught("asyncio.run(uses_async())").replace(chr(10), chr(10) + "    ")}
    {caught("list(generates())").replace(chr(10), chr(10) + "    ")}
print(other.run_sync(answer), flush=True)
"""
    end = run_script(WORK.format(scope="process", cleanup_timeout=60.0) + script)
    assert end.lines == [*(f"caught {number}" for number in range(1, 16)), "42"]
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
