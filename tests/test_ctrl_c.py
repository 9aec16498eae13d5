"""Ctrl-C while a call waits: a real SIGINT sent to real processes.

Each script says "ready" from inside its coroutine, and only then is it interrupted, so that the signal always
finds a call in flight. Where the main thread is at that moment (before its wait, in it) is left open on
purpose on runners of ours: every one of these places must behave the same. In scope "caller" the main thread
itself runs the coroutine, and would be hit in the middle of its code: there "ready" comes when that thread
stands still in its selector, and one test of its own hits the code.
"""

from __future__ import annotations

import signal

import pytest

from child import Child, run_script
from scripts import WORK, interrupted, started

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


@scopes
def test_ctrl_c_cancels_the_coroutine_and_runs_its_cleanup(scope: str) -> None:
    """The coroutine sees CancelledError and finishes its async cleanup before KeyboardInterrupt (case 44)."""
    end = interrupted(scope, "bridge.run_sync(work)")
    assert end.lines == ["cancelled", "cleaned up"], end.err
    assert end.err.splitlines()[-1].startswith("KeyboardInterrupt"), end.err
    assert end.seconds < 15


@scopes
def test_ctrl_c_ends_the_process_as_it_ends_a_sync_program(scope: str) -> None:
    """The exit status of an interrupted call is that of an interrupted time.sleep() (case 44)."""
    with Child("import time\nprint('ready', flush=True)\ntime.sleep(3600)") as plain:
        plain.expect("ready")
        plain.signal()
        expected = plain.finish().status
    assert expected in (-signal.SIGINT, 130)
    assert interrupted(scope, "bridge.run_sync(work)").status == expected


@scopes
@pytest.mark.parametrize(
    "call", ["bridge.run_sync(work)", "bridge.run(work())", "bridge.run(work(), timeout=600)", "synced()"]
)
def test_keyboard_interrupt_can_be_caught_and_the_bridge_goes_on(scope: str, call: str) -> None:
    """Whatever started the call, KeyboardInterrupt is an ordinary exception for its caller (case 44)."""
    script = f"""
synced = bridge.synced(work)
try:
    {call}
except KeyboardInterrupt as error:
    print("caught", flush=True)
print(bridge.run_sync(answer), flush=True)
"""
    end = interrupted(scope, script)
    assert end.lines == ["cancelled", "cleaned up", "caught", "42"]
    end.assert_clean()


@scopes
def test_each_of_many_ctrl_cs_cancels_its_own_call(scope: str) -> None:
    """30 interrupts in a row, each as soon as its coroutine runs: 30 cleanups and 30 KeyboardInterrupts
    (case 44)."""
    script = """
for _ in range(30):
    try:
        bridge.run_sync(work)
    except KeyboardInterrupt:
        print("caught", flush=True)
        sys.stdin.readline()
print(bridge.run_sync(answer), flush=True)
"""
    with started(scope, script) as child:
        for turn in range(30):
            if turn:
                child.expect("ready")
            child.signal()
            child.expect("cancelled")
            child.expect("cleaned up")
            child.expect("caught")
            child.tell("next")
        end = child.finish()
    assert end.lines == ["42"]
    end.assert_clean()


def test_ctrl_c_amid_a_coroutine_on_the_main_threads_own_loop_runs_its_cleanup() -> None:
    """Scope "caller": KeyboardInterrupt is raised in the coroutine's code, as in any sync code (case 44)."""
    # Interleaving: the coroutine runs Python code and never suspends until it is interrupted.
    script = """
async def busy():
    try:
        print("ready", flush=True)
        while True:
            sum(range(1000))
    finally:
        await asyncio.sleep(0.01)
        print("cleaned up", flush=True)

try:
    bridge.run_sync(busy)
except KeyboardInterrupt:
    print("caught", flush=True)
print(bridge.run_sync(answer), flush=True)
"""
    end = interrupted("caller", script)
    assert end.lines == ["cleaned up", "caught", "42"]
    end.assert_clean()


REFUSES = """
async def refuses():
    ready()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("refused", flush=True)
"""


@scopes
def test_a_second_ctrl_c_stops_waiting_at_once(scope: str) -> None:
    """A coroutine that refuses to be cancelled keeps its caller only until the second Ctrl-C (case 45)."""
    script = f"""
{REFUSES}
try:
    bridge.run_sync(refuses)
except KeyboardInterrupt:
    print("caught", flush=True)
    os._exit(0)  # the task would otherwise have its minute at exit, too
"""
    with started(scope, script) as child:
        child.signal()
        child.expect("refused")
        child.signal()
        child.expect("caught")
        end = child.finish()
    assert end.status == 0
    assert end.seconds < 15


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_a_second_ctrl_c_stops_waiting_for_a_blocked_loop(scope: str) -> None:
    """A coroutine that blocks its loop thread can't be cancelled, yet its caller can leave (case 45)."""
    script = """
seen = threading.Event()

async def blocks():
    ready()
    seen.wait()

def interrupt(number, frame):
    # The next signal must not come before this handler has raised, or the two raise one exception only.
    ready(still=True)
    raise KeyboardInterrupt

signal.signal(signal.SIGINT, interrupt)
try:
    bridge.run_sync(blocks)
except KeyboardInterrupt:
    print("caught", flush=True)
seen.set()
print(bridge.run_sync(answer), flush=True)
"""
    with started(scope, script) as child:
        child.signal()
        child.expect("ready")
        child.signal()
        child.expect("caught")
        end = child.finish()
    assert end.lines == ["42"]
    assert end.seconds < 15


@scopes
def test_after_ctrl_c_a_coroutine_that_refuses_to_end_is_left_behind_and_reported(scope: str) -> None:
    """The caller is free after cleanup_timeout, and the log names the coroutine that goes on (cases 44,
    51)."""
    script = f"""
{REFUSES}
import logging
logging.basicConfig(format="%(name)s %(levelname)s %(message)s", stream=sys.stdout)
try:
    bridge.run_sync(refuses)
except KeyboardInterrupt:
    print("caught", flush=True)
os._exit(0)
"""
    end = interrupted(scope, script, cleanup_timeout=0.3)
    assert end.status == 0
    assert "caught" in end.lines
    reports = [line for line in end.lines if line.startswith("syncline ")]
    assert any("refuses" in line for line in reports), end.out
    assert end.seconds < 15


@scopes
def test_ctrl_c_in_a_nested_call_cleans_up_every_level(scope: str) -> None:
    """sync -> async -> sync -> async: the innermost cleanup runs first, then the outer ones (cases 3, 44)."""
    script = """
async def level(depth):
    try:
        if depth:
            bridge.run_sync(level, depth - 1)
        else:
            await work()
    finally:
        await asyncio.sleep(0)
        print("level", depth, flush=True)

try:
    bridge.run_sync(level, 2)
except KeyboardInterrupt:
    print("caught", flush=True)
print(bridge.run_sync(answer), flush=True)
"""
    end = interrupted(scope, script)
    assert end.lines == ["cancelled", "cleaned up", "level 0", "level 1", "level 2", "caught", "42"], end.err
    assert end.status == 0
    assert end.seconds < 15


@scopes
def test_ctrl_c_inside_a_running_foreign_loop_reaches_the_blocked_caller(scope: str) -> None:
    """A loop run by run_until_complete() has no handler of its own: one Ctrl-C cancels the call (cases
    1, 44)."""
    script = """
async def main():
    try:
        bridge.run_sync(work)
    finally:
        print("main left", flush=True)

loop = asyncio.new_event_loop()
try:
    loop.run_until_complete(main())
except KeyboardInterrupt:
    print("caught", flush=True)
print(loop.run_until_complete(answer()), flush=True)
loop.close()
"""
    end = interrupted(scope, script)
    assert end.lines == ["cancelled", "cleaned up", "main left", "caught", "42"]
    end.assert_clean()


@scopes
def test_under_asyncio_run_the_second_ctrl_c_reaches_the_blocked_caller(scope: str) -> None:
    """asyncio.run's own handler takes the first Ctrl-C (it raises nothing); its second one raises (cases
    44, 47)."""
    script = """
async def polite():
    # Interleaving: the second signal is sent only when asyncio has handled the first one.
    print("ready", flush=True)
    while not main_task.cancelling():
        await asyncio.sleep(0.01)
    print("first", flush=True)
    await work()

async def main():
    global main_task
    main_task = asyncio.current_task()
    bridge.run_sync(polite)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("caught", flush=True)
"""
    with started(scope, script) as child:
        child.signal()
        child.expect("first")
        child.expect("ready")
        child.signal()
        end = child.finish()
    assert end.lines == ["cancelled", "cleaned up", "caught"]
    end.assert_clean()


@scopes
def test_ctrl_c_in_the_main_thread_leaves_the_calls_of_other_threads_alone(scope: str) -> None:
    """Another thread waits in a call, the main one in an Event: only the main one is interrupted (case
    44)."""
    script = """
go = threading.Event()

async def until_go():
    ready(still=True)
    while not go.is_set():
        await asyncio.sleep(0.01)
    return "worker done"

worker = threading.Thread(target=lambda: print(bridge.run_sync(until_go), flush=True))
worker.start()
try:
    threading.Event().wait()
except KeyboardInterrupt:
    print("caught", flush=True)
go.set()
worker.join()
"""
    end = interrupted(scope, script)
    assert end.lines == ["caught", "worker done"]
    end.assert_clean()


@scopes
def test_ctrl_c_cancels_only_the_main_threads_call(scope: str) -> None:
    """Two threads wait in calls of one bridge: the main one's is cancelled, the other returns (case 44)."""
    script = """
go = threading.Event()
begun = threading.Event()

async def until_go():
    begun.set()
    while not go.is_set():
        await asyncio.sleep(0.01)
    return "worker done"

worker = threading.Thread(target=lambda: print(bridge.run_sync(until_go), flush=True))
worker.start()
begun.wait()
try:
    bridge.run_sync(work)
except KeyboardInterrupt:
    print("caught", flush=True)
go.set()
worker.join()
"""
    end = interrupted(scope, script)
    assert end.lines == ["cancelled", "cleaned up", "caught", "worker done"]
    end.assert_clean()


def test_ctrl_c_in_result_leaves_the_submitted_coroutine_running() -> None:
    """A future is only looked at by result(): Ctrl-C there cancels nothing (case 53)."""
    script = """
go = threading.Event()

async def until_go():
    ready(still=True)
    while not go.is_set():
        await asyncio.sleep(0.01)
    return "done"

future = bridge.submit(until_go)
try:
    future.result()
except KeyboardInterrupt:
    print("caught", flush=True)
go.set()
print(future.result(), flush=True)
"""
    end = interrupted("process", script)
    assert end.lines == ["caught", "done"]
    end.assert_clean()


@scopes
def test_ctrl_c_while_a_synced_generator_is_iterated_runs_its_finally(scope: str) -> None:
    """The async generator's cleanup runs when the step that waits is interrupted (case 44)."""
    script = """
@bridge.synced
async def numbers():
    try:
        yield 1
        ready()
        await asyncio.sleep(3600)
        yield 2
    finally:
        await asyncio.sleep(0)
        print("closed", flush=True)

try:
    for number in numbers():
        assert number == 1
except KeyboardInterrupt:
    print("caught", flush=True)
print(bridge.run_sync(answer), flush=True)
"""
    end = interrupted(scope, script)
    assert end.lines == ["closed", "caught", "42"]
    end.assert_clean()


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
try:
    bridge.run_sync(still_work)
except KeyboardInterrupt:
    print("caught", len(handled), flush=True)
print(bridge.run_sync(answer), flush=True)
"""
    end = interrupted(scope, script)
    assert end.lines == ["cleaned up", "caught 1", "42"]
    end.assert_clean()


def test_no_ctrl_c_is_lost_while_a_wait_is_examined() -> None:
    """A signal that comes while the waiting thread looks for a deadlock interrupts the call (case 44)."""
    script = f"""
{STRIKE}
strike_in(syncline._diagnosis, "blocked_on_lock")
try:
    other.run_sync(work)
except KeyboardInterrupt:
    print("caught", len(handled), flush=True)
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
try:
    stalled.run_sync(blocks)
except KeyboardInterrupt:
    print("caught", len(handled), flush=True)
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
try:
    other.run_sync(work)
except KeyboardInterrupt:
    print("caught", len(handled), flush=True)
print(other.run_sync(answer), flush=True)
"""
    end = run_script(WORK.format(scope="process", cleanup_timeout=60.0) + script)
    assert [line for line in end.lines if line not in ("ready", "cancelled", "cleaned up")] == [
        "42",
        "caught 1",
        "42",
    ]
    end.assert_clean()


EXAMINED = """
strike_in(syncline._diagnosis, "blocked_on_lock")
try:
    other.run_sync(work)
except KeyboardInterrupt:
    print("caught", len(handled), flush=True)
"""


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
