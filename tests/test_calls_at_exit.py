"""Calls that are made, or still run, while the process ends; each in an interpreter of its own."""

from __future__ import annotations

import pytest

from child import DEV, run_script
from scripts import EXITING, exiting

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


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
@pytest.mark.parametrize("used", [False, True], ids=["first-call", "used-before"])
@pytest.mark.parametrize("registered", ["before-import", "after-import"])
def test_a_submitted_call_inside_atexit_runs(scope: str, used: bool, registered: str) -> None:
    """Where no thread can have it any more it has come to its end when `submit` returns."""
    script = f"""
import atexit, sys

def last():
    answered, failed, forgotten = (bridge.submit(fn, 6) for fn in (answer, fails, fails))
    print(answered.result(), answered.cancel(), repr(failed.exception()), syncline.submit(answer, 7).result())
    if {registered == "before-import"}:  # else a loop may have it, whose end cancels it
        syncline.submit(answer, 8).add_done_callback(lambda future: print(future.result(), flush=True))

if {registered == "before-import"}:
    atexit.register(last)
import asyncio
import syncline
if {registered == "after-import"}:
    atexit.register(last)

async def answer(number):
    await asyncio.sleep(0)
    return number

async def fails(number):
    await asyncio.sleep(0)
    raise ValueError(number)

bridge = syncline.Bridge(scope="{scope}")
if {used}:
    bridge.submit(answer, 1).result()
"""
    end = run_script(script)
    last = ["8"] if registered == "before-import" else []
    assert end.lines == ["6 False ValueError(6) 7", *last], end.err
    assert "an error of submit() was never retrieved" in end.err


IN_ATEXIT = """
import atexit

def last():
{body}

if {registered!r} == "before-import":
    atexit.register(last)
import asyncio
import contextlib
import syncline
if {registered!r} == "after-import":
    atexit.register(last)

bridge = syncline.Bridge(scope={scope!r})

async def running():
    await asyncio.sleep(0)
    return asyncio.get_running_loop()

@contextlib.asynccontextmanager
async def opened():
    yield await running()

async def loops(count):
    for _ in range(count):
        yield await running()
"""


@scopes
@pytest.mark.parametrize("registered", ["before-import", "after-import"])
@pytest.mark.parametrize(
    "body",
    [
        """
    with bridge.enter(opened()) as loop:
        assert bridge.run_sync(running) is loop
        with bridge.enter(opened()) as same:
            assert same is loop
""",
        """
    with bridge.group() as group:
        task = group.start(running)
        assert not task.result().is_closed()
""",
        """
    first, second = bridge.iterate(loops(1)), bridge.iterate(loops(3))
    found = [next(first), next(second), bridge.run_sync(running)]
    assert next(first, None) is None
    found += [*second]
    assert len(set(found)) == 1
""",
    ],
    ids=["manager", "group", "iterators"],
)
def test_what_is_open_inside_atexit_shares_one_loop_with_calls(
    scope: str, registered: str, body: str
) -> None:
    """What a manager gives can be used by calls in its block, the result of a group's task can be waited for, and one
    iterator goes on when another one on its loop has ended (case 82)."""
    end = run_script(IN_ATEXIT.format(body=body, scope=scope, registered=registered), flags=DEV, limit=10)
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
{EXITING.format(scope=scope, cleanup_timeout=5.0)}
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


def test_a_call_too_late_for_a_loop_leaves_none_unclosed() -> None:
    """When Python has no modules any more the call is refused before a loop is made for it (cases 83, 87)."""
    end = run_script(
        """
import asyncio, builtins, os, syncline

bridge = syncline.Bridge(scope="caller")

async def answer():
    return 42

class Thing:
    # everything it needs is bound here, since a module's globals are gone by then
    def __del__(self, bridge=bridge, answer=answer, write=os.write, error=RuntimeError):
        try:
            bridge.run_sync(answer)
        except error:
            write(1, b"refused\\n")

assert bridge.run_sync(answer) == 42
builtins.thing = Thing()
""",
        flags=DEV,
    )
    assert end.out == "refused\n", end.err
    end.assert_clean()


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
exit_began = threading.Event()

def slow():
    entered.set()
    exit_began.wait()

async def uses_executor():
    keep.append(asyncio.get_running_loop().run_in_executor(None, slow))
    await asyncio.sleep(0)

bridge.run_sync(uses_executor)
entered.wait()
# Interleaving: called before the executors' own function for the exit, as that was registered first.
threading._register_atexit(exit_began.set)
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


@pytest.mark.parametrize(
    "way",
    [
        "asyncio.run(syncline.run_nestable(steps))",
        "asyncio.run(installed())",
        "asyncio.run(many())",
    ],
    ids=["nestable", "install", "amap"],
)
def test_a_daemon_threads_own_loop_does_not_crash_the_exit(way: str) -> None:
    """Python before 3.14 kills daemon threads where they ask for the interpreter, which our frames do not survive."""
    # Interleaving: with this switch interval the threads are almost always in the middle of a short step when the
    # interpreter ends.
    for _ in range(3):
        finished = run_script(
            f"""
    import asyncio, sys, threading, syncline
    sys.setswitchinterval(1e-6)
    begun = threading.Barrier(5)
    async def step(_=None):
        for _ in range(300):
            pass
        await asyncio.sleep(0)
    async def steps():
        begun.wait()
        while True:
            await step()
    async def installed():
        syncline.install()
        begun.wait()
        while True:
            await asyncio.create_task(step())
    async def many():
        begun.wait()
        while True:
            async for _ in syncline.amap(step, range(5)):
                pass
    for _ in range(4):
        threading.Thread(target=lambda: {way}, daemon=True).start()
    begun.wait()
    """
        )
        finished.assert_clean()
