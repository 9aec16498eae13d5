"""os.fork() while other threads call, or are about to: the child finds nothing half made."""

from __future__ import annotations

import pytest

from scripts import forking

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


@scopes
def test_forks_during_calls_of_other_threads(scope: str) -> None:
    """Four threads call without a pause while the main one forks 20 times: every call and child ends
    well (case 80)."""
    end = forking(
        scope,
        """
stop = threading.Event()
counts = []

def caller():
    done = 0
    while not stop.is_set():
        call()
        done += 1
    counts.append(done)

# The first call imports modules, and CPython leaves a child with a locked module if it forks in the middle of that.
call()
threads = [threading.Thread(target=caller) for _ in range(4)]
for thread in threads:
    thread.start()
statuses = [in_child(lambda: [call() for _ in range(5)]) for _ in range(20)]
stop.set()
for thread in threads:
    thread.join()
print(statuses == [0] * 20, len(counts), min(counts) > 0)
""",
    )
    assert end.lines == ["True 4 True"], end.err
    end.assert_clean()


@scopes
def test_a_call_in_flight_at_the_fork_returns_in_the_parent(scope: str) -> None:
    """A thread that waits in a call during the fork gets its result after it (case 80)."""
    # Interleaving: the coroutine has begun and is suspended, and its caller waits, when the fork happens.
    end = forking(
        scope,
        """
begun = threading.Event()
go = threading.Event()

async def until_go():
    begun.set()
    while not go.is_set():
        await asyncio.sleep(0.005)
    return "done"

thread = threading.Thread(target=lambda: print(bridge.run_sync(until_go), flush=True))
thread.start()
begun.wait()
print("child", in_child(call), flush=True)
call()
go.set()
thread.join()
""",
    )
    assert end.lines == ["child 0", "done"]
    end.assert_clean()


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_a_fork_while_another_thread_starts_the_first_runner(scope: str) -> None:
    """The child doesn't inherit a start that is half done: its own first call starts a runner (case 80)."""
    # Interleaving: the runner's loop is being made (its factory is on the stack) when the main thread forks.
    end = forking(
        scope,
        """
parent = os.getpid()
entered = threading.Event()
release = threading.Event()

def factory():
    if os.getpid() == parent:
        entered.set()
        release.wait()
    return asyncio.SelectorEventLoop()

bridge = syncline.Bridge(scope="SCOPE", loop_factory=factory)
thread = threading.Thread(target=call)
thread.start()
entered.wait()
print("child", in_child(call), flush=True)
release.set()
thread.join()
call()
""".replace("SCOPE", scope),
    )
    assert end.lines == ["child 0"]
    end.assert_clean()


@scopes
def test_a_fork_while_another_thread_looks_a_name_up(scope: str) -> None:
    """What the first call looks up once is not left half looked up in the child (case 80)."""
    # Interleaving: each time that a thread of the first call is about to import something for the core, it waits
    # there until the main thread has forked a child and seen its end.
    end = forking(
        scope,
        """
import builtins, queue

parent, main = os.getpid(), threading.current_thread()
reached, go_on = queue.SimpleQueue(), queue.SimpleQueue()
imports = builtins.__import__

def is_within_an_import():
    # There the lock of a module is held, and a fork would leave it so in the child: CPython's own limit.
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != "_find_and_load":
        frame = frame.f_back
    return frame is not None

def held_import(name, *rest):
    if not is_within_an_import() and os.getpid() == parent and threading.current_thread() is not main:
        reached.put(name)
        go_on.get()
    return imports(name, *rest)

def first_call():
    call()
    reached.put(None)

builtins.__import__ = held_import
thread = threading.Thread(target=first_call)
thread.start()
statuses = []
while reached.get() is not None:
    statuses.append(0 if any(statuses) else in_child(call))
    go_on.put(None)
builtins.__import__ = imports
go_on.put(None)  # to one that has begun since
thread.join()
print(len(statuses) > 1, set(statuses))
""",
    )
    assert end.lines == ["True {0}"], end.err
    end.assert_clean()


def test_forks_at_every_moment_of_a_first_call() -> None:
    """A child calls, whatever another thread's first call was at when it was forked (case 80)."""
    # Each of these processes makes one first call, and forks so many turns of its main thread later: with a tiny
    # switch interval the two threads take turns at each moment at which one lets go of the interpreter.
    end = forking(
        "process",
        """
def trial(turns):
    sys.setswitchinterval(1e-6)
    begun = threading.Event()

    def first_call():
        begun.set()
        call()

    thread = threading.Thread(target=first_call)
    thread.start()
    begun.wait()
    for _ in range(turns):
        pass
    assert in_child(call) == 0
    thread.join()

statuses = []
for turns in range(60):
    statuses.append(in_child(lambda: trial(turns)))
    if any(statuses):
        break
print(set(statuses))
""",
    )
    assert end.lines == ["{0}"], end.err
    end.assert_clean()
