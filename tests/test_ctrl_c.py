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

from child import Child
from scripts import REFUSES, interrupted, started

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller", "trio"])


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
    # Short sleeps: a signal that comes right before one is seen at its end only.
    with Child("import time\nprint('ready', flush=True)\nwhile True: time.sleep(0.01)") as plain:
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
        await cleanup()
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


@pytest.mark.parametrize("scope", ["process", "thread", "trio"])
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
        await cleanup()
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
        await sleep(0.01)
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
        await sleep(0.01)
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
        await sleep(0.01)
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
        await sleep(0.01)
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
        await sleep(3600)
        yield 2
    finally:
        await cleanup()
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
