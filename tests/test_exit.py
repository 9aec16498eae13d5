"""The end of the process: tasks cancelled, async generators finalized, loops closed, and nothing printed.

Every script runs in an interpreter of its own; "clean" means exit status 0 and an empty stderr.
"""

from __future__ import annotations

import pytest

from child import DEV, run_script
from scripts import exiting

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])
modes = pytest.mark.parametrize(
    ("flags", "env"),
    [((), {}), (DEV, {}), ((), {"PYTHONASYNCIODEBUG": "1"})],
    ids=["plain", "dev-and-errors", "asyncio-debug"],
)


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

bridge = syncline.Bridge(scope=bridge.scope, nested="thread")

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

bridges = [syncline.Bridge(scope=scope, nested="thread") for scope in ("process", "thread", "caller")]
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
    assert end.err.count("stubborn") == 1
    assert len(end.err.splitlines()) == 1
    assert end.seconds < 10


@pytest.mark.parametrize("factory", ["None", "uvloop.new_event_loop"])
@pytest.mark.parametrize(
    "task", ["await task", "await asyncio.sleep(100)"], ids=["awaited", "in-the-background"]
)
def test_a_call_that_the_exit_refuses_is_nobodys_error(task: str, factory: str) -> None:
    """A task that calls another bridge again and again ends by the exit's refusal, and nothing is printed of that."""
    end = run_script(f"""
import asyncio, syncline
{f"import {factory.partition('.')[0]}" if "." in factory else ""}
one, two = syncline.Bridge(loop_factory={factory}), syncline.Bridge(loop_factory={factory})

async def calls_two():
    while True:
        two.run_sync(asyncio.sleep, 0)
        await asyncio.sleep(0)

async def main():
    task = asyncio.create_task(calls_two())
    {task}

future = one.submit(main)
two.run_sync(one.run_async, asyncio.sleep, 0.01)
""")
    end.assert_clean()


@scopes
def test_an_error_that_nobody_saw_is_logged_at_the_very_end(scope: str) -> None:
    """A failed task that lives as long as the interpreter is reported when nothing can be imported any more
    (case 84)."""
    # Freed later than the modules are: a cycle that builtins hold.
    end = exiting(
        scope,
        """
import builtins

async def fails():
    raise ValueError("never seen")

async def start_fails():
    task = asyncio.create_task(fails())
    await asyncio.sleep(0)
    held = [task]
    held.append(held)
    builtins.held = held

bridge.run_sync(start_fails)
""",
    )
    assert end.status == 0, end.err
    assert end.err.startswith("Task exception was never retrieved")
    assert "ValueError: never seen" in end.err
    assert "ImportError" not in end.err


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


def test_the_exit_waits_for_a_daemon_thread_that_examines_its_wait() -> None:
    """Python kills daemon threads by unwinding, which frames of ours don't survive: not amid an examination
    (case 84)."""
    # Interleaving: the exit begins when the examination has, which goes on for longer than the exit takes.
    end = exiting(
        "process",
        """
import syncline._diagnosis
examining = threading.Event()

def examine(*args):
    examining.set()
    for _ in range(300):
        time.sleep(0.001)

syncline._diagnosis.blocked_on_lock = examine
bridge = syncline.Bridge(loop_factory=asyncio.SelectorEventLoop)
threading.excepthook = lambda args: None
threading.Thread(target=bridge.run_sync, args=(background,), daemon=True).start()
examining.wait()
""",
    )
    assert end.lines == ["background cleaned up"]
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


def test_exit_with_a_loop_that_looks_for_its_caller() -> None:
    """Whoever tells a loop to stop at exit has a frame of Python's, as uvloop in debug mode expects on Python 3.15."""
    end = exiting(
        "process",
        """
class Loop(asyncio.SelectorEventLoop):
    def call_soon_threadsafe(self, callback, *args, context=None):
        sys._getframe(1)
        return super().call_soon_threadsafe(callback, *args, context=context)

bridge = syncline.Bridge(loop_factory=Loop)
bridge.run_sync(start)
""",
    )
    assert end.lines == ["background cleaned up"]
    end.assert_clean()
