"""The end of the process: tasks cancelled, async generators finalized, loops closed, and nothing printed.

Every script runs in an interpreter of its own; "clean" means exit status 0 and an empty stderr.
"""

from __future__ import annotations

import pytest
from child import DEV, Finished, run_script

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])
modes = pytest.mark.parametrize(
    ("flags", "env"),
    [((), {}), (DEV, {}), ((), {"PYTHONASYNCIODEBUG": "1"})],
    ids=["plain", "dev-and-errors", "asyncio-debug"],
)

HELPERS = """
import asyncio, atexit, os, sys, threading, time
import syncline

bridge = syncline.Bridge(scope="{scope}", cleanup_timeout={cleanup_timeout})
keep = []

async def answer():
    await asyncio.sleep(0)
    return 42

async def background(label="background"):
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.01)
        os.write(1, f"{{label}} cleaned up\\n".encode())  # whole lines, from any thread

async def start(label="background"):
    # Returns when the task is in its try block.
    keep.append(asyncio.create_task(background(label)))
    await asyncio.sleep(0)

"""


def exiting(
    scope: str,
    script: str,
    *,
    flags: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
    cleanup_timeout: float = 5.0,
) -> Finished:
    """Run `script` after the definitions above."""
    helpers = HELPERS.format(scope=scope, cleanup_timeout=cleanup_timeout)
    return run_script(helpers + script, flags=flags, env=env)


@scopes
@modes
def test_the_finally_of_pending_tasks_runs(scope: str, flags: tuple[str, ...], env: dict[str, str]) -> None:
    """A task that is pending at exit is cancelled and finishes its async cleanup (cases 84, 87)."""
    end = exiting(scope, "bridge.run_sync(start)", flags=flags, env=env)
    assert end.lines == ["background cleaned up"]
    end.assert_clean()


@scopes
@modes
def test_open_async_generators_are_finalized(scope: str, flags: tuple[str, ...], env: dict[str, str]) -> None:
    """Half-used async generators, plain and synced ones, run their finally at exit (cases 84, 87)."""
    end = exiting(
        scope,
        """
async def numbers(label):
    try:
        yield 1
        yield 2
    finally:
        await asyncio.sleep(0)
        print(label, "closed", flush=True)

async def first():
    keep.append(numbers("plain"))
    return await anext(keep[-1])

assert bridge.run_sync(first) == 1
synced = bridge.synced(numbers)("synced")
assert next(synced) == 1
keep.append(synced)
""",
        flags=flags,
        env=env,
    )
    assert sorted(end.lines) == ["plain closed", "synced closed"]
    end.assert_clean()


@scopes
@modes
def test_loops_are_closed_and_silent(scope: str, flags: tuple[str, ...], env: dict[str, str]) -> None:
    """Loops of every level are closed when the interpreter ends; nothing warns about them (case 87)."""
    # An object that builtins hold is dropped last: it sees the loops as the interpreter leaves them.
    end = exiting(
        scope,
        """
import builtins

class AtTheVeryEnd:
    def __init__(self, loops, write):
        self.loops, self.write = loops, write

    def __del__(self):
        self.write(1, f"{[loop.is_closed() for loop in self.loops]}\\n".encode())

async def loops(depth):
    here = [asyncio.get_running_loop()]
    return here + (bridge.run_sync(loops, depth - 1) if depth else [])

found = bridge.run_sync(loops, 2)
assert len(set(found)) == 3
builtins.at_the_very_end = AtTheVeryEnd(found, os.write)
""",
        flags=flags,
        env=env,
    )
    assert end.lines == ["[True, True, True]"]
    end.assert_clean()


@scopes
@modes
def test_a_bridge_that_was_never_used_or_is_closed_is_silent(
    scope: str, flags: tuple[str, ...], env: dict[str, str]
) -> None:
    """Neither an idle bridge nor a closed one leaves anything to say (case 87)."""
    end = exiting(
        scope,
        f"""
assert bridge.run_sync(answer) == 42
bridge.close()
unused = syncline.Bridge(scope="{scope}")
with syncline.Bridge(scope="{scope}") as other:
    assert other.run_sync(answer) == 42
""",
        flags=flags,
        env=env,
    )
    assert end.out == ""
    end.assert_clean()


@modes
def test_exit_with_bridges_of_every_scope_thread_and_depth(
    flags: tuple[str, ...], env: dict[str, str]
) -> None:
    """Many bridges, used from many threads and nested, with a task pending on each: all are cleaned up
    (case 84)."""
    end = exiting(
        "process",
        """
async def nested(label, other):
    await start(label)
    other.run_sync(start, label)

bridges = [syncline.Bridge(scope=scope) for scope in ("process", "thread", "caller")]
hold = threading.Event()
ready = threading.Barrier(4)

def work():
    for one in bridges:
        one.run_sync(nested, "thread", one)
    ready.wait()
    hold.wait()

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
for one in bridges:
    one.run_sync(nested, "main", one)
ready.wait()
""",
        flags=flags,
        env=env,
    )
    # A daemon thread's own loop (scope "caller") can only be turned by that thread, which never
    # wakes again: its
    # first tasks can't run their cleanup. What ran on our runners, and on the main thread's loop, must.
    assert end.lines.count("main cleaned up") == 6
    assert end.lines.count("thread cleaned up") >= 15
    end.assert_clean()


@scopes
def test_a_task_that_refuses_to_end_delays_the_exit_by_a_bound(scope: str) -> None:
    """After cleanup_timeout the process ends with its status, and a report names the task (case 84)."""
    end = exiting(
        scope,
        """
async def stubborn():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("refused", flush=True)

async def start_stubborn():
    keep.append(asyncio.create_task(stubborn()))
    await asyncio.sleep(0)

bridge.run_sync(start_stubborn)
""",
        cleanup_timeout=0.5,
    )
    assert end.status == 0, end.err
    assert "refused" in end.lines
    assert "stubborn" in end.err
    assert "Traceback" not in end.err
    assert end.seconds < 10


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_a_blocked_loop_thread_delays_the_exit_by_a_bound(scope: str) -> None:
    """A coroutine that blocks its thread for good can't be cancelled; the process ends all the same
    (case 84)."""
    end = exiting(
        scope,
        """
blocked = threading.Event()

async def blocks():
    blocked.set()
    threading.Event().wait()

waiter = threading.Thread(target=lambda: bridge.run_sync(blocks), daemon=True)
threading.excepthook = lambda args: None
waiter.start()
blocked.wait()
""",
        cleanup_timeout=0.5,
    )
    assert end.status == 0, end.err
    assert end.seconds < 10


@scopes
@pytest.mark.parametrize("used", [False, True], ids=["first-call", "used-before"])
@pytest.mark.parametrize("registered", ["before-import", "after-import"])
def test_a_call_inside_atexit_runs(scope: str, used: bool, registered: str) -> None:
    """A call in an atexit handler returns its value, wherever ours stands among the handlers (case 82)."""
    script = f"""
import atexit, sys

def last():
    slept = bridge.run(asyncio.sleep(0.01, "slept"), timeout=10)
    print(bridge.run_sync(answer), slept, syncline.run_sync(answer), flush=True)

if {registered == "before-import"}:
    atexit.register(last)
import asyncio
import syncline
if {registered == "after-import"}:
    atexit.register(last)

async def answer():
    await asyncio.sleep(0)
    return 42

bridge = syncline.Bridge(scope="{scope}")
if {used}:
    bridge.run_sync(answer)
"""
    end = run_script(script)
    assert end.lines == ["42 slept 42"], end.err
    end.assert_clean()


@scopes
def test_a_call_inside_atexit_cleans_up_behind_itself(scope: str) -> None:
    """Tasks that a call in atexit leaves behind are cancelled too, and the loop is closed (cases 82, 84,
    87)."""
    end = run_script(
        f"""
import atexit

def last():
    bridge.run_sync(start)

atexit.register(last)
{HELPERS.format(scope=scope, cleanup_timeout=5.0)}
""",
        flags=DEV,
    )
    assert end.lines == ["background cleaned up"]
    end.assert_clean()


@scopes
@pytest.mark.parametrize("used", [False, True], ids=["first-call", "used-before"])
@pytest.mark.parametrize("holder", ["global", "cycle", "builtins", "thread-local"])
def test_a_call_in_del_at_exit_runs_or_raises_at_once(scope: str, used: bool, holder: str) -> None:
    """A module-level object whose __del__ calls the bridge gets its value or a RuntimeError, never a
    hang (case 83)."""
    hold = {
        "global": "thing = Thing()",
        "cycle": "cycle = [Thing()]; cycle.append(cycle); del cycle",
        "builtins": "import builtins; builtins.thing = Thing()",
        "thread-local": "local = threading.local(); local.thing = Thing()",
    }[holder]
    end = exiting(
        scope,
        f"""
import gc
gc.disable()

class Thing:
    # everything it needs is bound here, since a module's globals may be gone by then
    def __del__(self, bridge=bridge, answer=answer, write=os.write, error=RuntimeError):
        try:
            result = bridge.run_sync(answer)
        except error as caught:
            result = "refused"
        write(1, f"{{result}}\\n".encode())

if {used}:
    assert bridge.run_sync(answer) == 42
{hold}
""",
    )
    assert end.lines in (["42"], ["refused"]), end.err
    end.assert_clean()
    assert end.seconds < 15


@scopes
def test_a_daemon_thread_mid_call_does_not_disturb_the_exit(scope: str) -> None:
    """Its coroutine is cancelled where its loop can still turn, its caller told, and nothing is printed
    (case 84)."""
    end = exiting(
        scope,
        """
begun = threading.Event()

async def forever():
    begun.set()
    await asyncio.sleep(3600)

def caller():
    try:
        bridge.run_sync(forever)
    except syncline.RunnerClosedError:
        pass

threading.Thread(target=caller, daemon=True).start()
begun.wait()
""",
        flags=DEV,
    )
    assert end.out == ""
    end.assert_clean()
    assert end.seconds < 15


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_the_coroutine_of_a_daemon_threads_call_is_cleaned_up(scope: str) -> None:
    """On a runner of ours, the coroutine that a daemon thread waits for ends with its cleanup (case 84)."""
    end = exiting(
        scope,
        """
begun = threading.Event()

async def forever():
    begun.set()
    await background()

def caller():
    try:
        bridge.run_sync(forever)
    except syncline.RunnerClosedError:
        pass

threading.Thread(target=caller, daemon=True).start()
begun.wait()
""",
    )
    assert end.lines == ["background cleaned up"]
    end.assert_clean()


@scopes
@pytest.mark.parametrize("turn", range(5))
def test_daemon_threads_that_call_without_a_pause_never_crash_the_exit(scope: str, turn: int) -> None:
    """Calls begin, wait and end at every moment of the exit: no crash, no hang, no output (cases 84, 86)."""
    end = exiting(
        scope,
        """
running = threading.Barrier(5)

def caller():
    running.wait()
    try:
        while True:
            bridge.run_sync(answer)
    except RuntimeError:  # RunnerClosedError, or the interpreter refuses
        pass

for _ in range(4):
    threading.Thread(target=caller, daemon=True).start()
running.wait()
assert bridge.run_sync(answer) == 42
""",
    )
    assert end.out == ""
    end.assert_clean()
    assert end.seconds < 15


@scopes
@pytest.mark.parametrize("used", [False, True], ids=["first-call", "used-before"])
def test_a_non_daemon_thread_can_call_after_the_main_thread_ended(scope: str, used: bool) -> None:
    """The process lives until its last ordinary thread ends, and so do its bridges (case 82)."""
    # Interleaving: the thread calls only when the main thread has ended and waits for it at exit.
    end = exiting(
        scope,
        f"""
def caller():
    threading.main_thread().join()
    print(bridge.run_sync(answer), syncline.run_sync(answer), flush=True)

if {used}:
    bridge.run_sync(answer)
threading.Thread(target=caller).start()
""",
    )
    assert end.lines == ["42 42"], end.err
    end.assert_clean()


@scopes
def test_a_call_of_a_non_daemon_thread_outlives_the_main_thread(scope: str) -> None:
    """A call in flight when the main thread ends is finished, not cancelled (case 84)."""
    end = exiting(
        scope,
        """
begun = threading.Event()

async def until_main_ended():
    begun.set()
    while threading.main_thread().is_alive():
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.05)
    return "finished"

threading.Thread(target=lambda: print(bridge.run_sync(until_main_ended), flush=True)).start()
begun.wait()
""",
    )
    assert end.lines == ["finished"], end.err
    end.assert_clean()


@scopes
def test_sys_exit_inside_a_coroutine_ends_the_process_with_that_status(scope: str) -> None:
    """SystemExit reaches the caller and so the interpreter; pending tasks are cleaned up (cases 48, 84)."""
    end = exiting(
        scope,
        """
async def leave():
    await start()
    sys.exit(7)

bridge.run_sync(leave)
""",
    )
    assert end.lines == ["background cleaned up"]
    assert (end.status, end.err) == (7, "")


@scopes
def test_the_exit_status_of_the_program_is_kept(scope: str) -> None:
    """sys.exit(5) and an unhandled error end with their own status when tasks are pending (case 84)."""
    end = exiting(scope, "bridge.run_sync(start)\nsys.exit(5)")
    assert (end.status, end.lines, end.err) == (5, ["background cleaned up"], "")
    end = exiting(scope, "bridge.run_sync(start)\nraise ValueError('mine')")
    assert (end.status, end.lines) == (1, ["background cleaned up"])
    assert end.err.splitlines()[-1] == "ValueError: mine"
    assert end.err.count("Traceback") == 1


@scopes
def test_an_error_in_cleanup_at_exit_is_logged_and_the_rest_goes_on(scope: str) -> None:
    """One task's failing finally doesn't keep another's from running, nor change the exit status (case
    84)."""
    end = exiting(
        scope,
        """
import logging
logging.basicConfig(format="%(name)s %(levelname)s", stream=sys.stdout)

async def fails():
    try:
        await asyncio.sleep(3600)
    finally:
        raise ValueError("cleanup failed")

async def start_fails():
    keep.append(asyncio.create_task(fails()))
    await asyncio.sleep(0)

bridge.run_sync(start_fails)
bridge.run_sync(start)
""",
    )
    assert end.status == 0
    assert "background cleaned up" in end.lines
    assert "syncline ERROR" in end.lines, end.out + end.err


@scopes
def test_executor_work_that_ends_after_close_harms_nothing(scope: str) -> None:
    """A late completion finds a closed loop: no error, no log, and its caller was freed long before
    (cases 85, 86)."""
    # Interleaving: the executor's thread is in its function when the bridge closes, and ends after that.
    end = exiting(
        scope,
        """
entered = threading.Event()
release = threading.Event()
ended = threading.Event()

def slow():
    entered.set()
    release.wait()
    ended.set()

async def uses_executor():
    keep.append(asyncio.get_running_loop().run_in_executor(None, slow))
    await asyncio.sleep(0)

bridge.run_sync(uses_executor)
entered.wait()
bridge.close()
release.set()
ended.wait()
print("closed", bridge.closed)
""",
        flags=DEV,
        cleanup_timeout=0.5,
    )
    assert end.lines == ["closed True"]
    assert end.status == 0
    assert "Traceback" not in end.err
    assert end.seconds < 15


@scopes
def test_executor_work_that_runs_at_exit_harms_nothing(scope: str) -> None:
    """Python itself waits for executor threads at exit: their completions meet no closed loop (cases 85,
    86)."""
    end = exiting(
        scope,
        """
entered = threading.Event()

def slow():
    entered.set()
    time.sleep(0.5)

async def uses_executor():
    keep.append(asyncio.get_running_loop().run_in_executor(None, slow))
    await asyncio.sleep(0)

bridge.run_sync(uses_executor)
entered.wait()
""",
        flags=DEV,
    )
    assert end.out == ""
    end.assert_clean()


@scopes
def test_call_soon_threadsafe_after_the_exit_began_is_refused_politely(scope: str) -> None:
    """A thread of the user's that feeds the loop until the end gets asyncio's own RuntimeError (case 85)."""
    end = exiting(
        scope,
        """
async def loop():
    return asyncio.get_running_loop()

target = bridge.run_sync(loop)
feeding = threading.Event()

def feed():
    try:
        while True:
            target.call_soon_threadsafe(int)
            feeding.set()
    except RuntimeError:
        pass

threading.Thread(target=feed, daemon=True).start()
feeding.wait()
""",
    )
    assert end.out == ""
    end.assert_clean()


@modes
def test_exit_with_a_uvloop_bridge(flags: tuple[str, ...], env: dict[str, str]) -> None:
    """Loops of other makers are cleaned up and closed the same way (cases 84, 87)."""
    pytest.importorskip("uvloop")
    end = exiting(
        "process",
        """
import uvloop
bridge = syncline.Bridge(loop_factory=uvloop.new_event_loop)
bridge.run_sync(start)
""",
        flags=flags,
        env=env,
    )
    assert end.lines == ["background cleaned up"]
    end.assert_clean()
