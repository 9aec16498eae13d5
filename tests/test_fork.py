"""os.fork() in a process that uses bridges: the child starts clean, the parent goes on.

The scripts fork for real. A child that hangs is killed by SIGALRM with a dump of its stacks on stderr, so
that "nothing on stderr, status 0" is a proof of life too.
"""

from __future__ import annotations

import pytest

from scripts import forking

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


@scopes
def test_parent_and_child_call_before_and_after_a_fork(scope: str) -> None:
    """A bridge used before the fork works in the child and goes on working in the parent (case 80)."""
    end = forking(
        scope,
        """
call()
print("child", in_child(call))
call()
print("child", in_child(lambda: [call() for _ in range(100)]))
call()
""",
    )
    assert end.lines == ["child 0", "child 0"]
    end.assert_clean()


@scopes
def test_a_bridge_first_used_in_the_child_works_in_both(scope: str) -> None:
    """Nothing has started at the fork: the child's first call and then the parent's first call work
    (case 80)."""
    end = forking(scope, "print('child', in_child(call))\ncall()\nprint('child', in_child(call))")
    assert end.lines == ["child 0", "child 0"]
    end.assert_clean()


@scopes
def test_the_default_bridge_survives_a_fork(scope: str) -> None:
    """The module's functions are no exception to any of this, whatever other bridges exist (case 80)."""
    end = forking(
        scope,
        """
def default():
    assert syncline.run_sync(pid) == os.getpid()
    assert syncline.run(pid(), timeout=20) == os.getpid()
    assert syncline.submit(pid).result(20) == os.getpid()
    call()

default()
print("child", in_child(default))
default()
""",
    )
    assert end.lines == ["child 0"]
    end.assert_clean()


@scopes
def test_the_child_ends_quietly_with_status_zero(scope: str) -> None:
    """A child that goes through the whole interpreter exit prints nothing and returns 0 (cases 80, 84)."""
    end = forking(
        scope,
        """
tasks = []

async def background(label):
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0)
        print(label, "cleanup in", "child" if os.getpid() != parent else "parent", flush=True)

async def start(label):
    tasks.append(asyncio.create_task(background(label)))
    await asyncio.sleep(0)

parent = os.getpid()
bridge.run_sync(start, "first")
for uses_bridge in (False, True):
    child = os.fork()
    if child == 0:
        if uses_bridge:
            bridge.run_sync(start, "second")
        sys.exit(0)
    print("status", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
call()
""",
    )
    # The parent's task is the parent's alone: it is cleaned up once, and not by the children.
    assert end.lines == ["status 0", "second cleanup in child", "status 0", "first cleanup in parent"]
    end.assert_clean()


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


@scopes
def test_the_parents_loop_and_descriptors_go_on_after_the_child_ended(scope: str) -> None:
    """The child closes its copies of everything: the parent's readers, wakeups and executor don't notice
    (case 80)."""
    end = forking(
        scope,
        """
left, right = socket.socketpair()
left.setblocking(False)
state = {}

async def watch():
    loop = asyncio.get_running_loop()
    state["loop"] = loop
    state["bytes"] = asyncio.Queue()
    loop.add_reader(left, lambda: state["bytes"].put_nowait(left.recv(100)))

async def next_bytes():
    return await asyncio.wait_for(state["bytes"].get(), 10)

async def woken_by_another_thread():
    event = asyncio.Event()
    threading.Thread(target=state["loop"].call_soon_threadsafe, args=(event.set,)).start()
    await asyncio.wait_for(event.wait(), 10)
    return await state["loop"].run_in_executor(None, os.getpid)

def in_parent():
    right.send(b"hello")
    assert bridge.run_sync(next_bytes) == b"hello"
    assert bridge.run_sync(woken_by_another_thread) == os.getpid()

bridge.run_sync(watch)
in_parent()

def child():
    call()
    bridge.close()
    state.clear()
    gc.collect()

print("child", in_child(child), flush=True)
in_parent()

pid_of_child = os.fork()  # and one whose interpreter closes everything at its exit
if pid_of_child == 0:
    call()
    sys.exit(0)
print("child", os.waitstatus_to_exitcode(os.waitpid(pid_of_child, 0)[1]), flush=True)
in_parent()
""",
    )
    assert end.lines == ["child 0", "child 0"]
    end.assert_clean()


@scopes
def test_a_child_of_a_child_works(scope: str) -> None:
    """Three generations, each calls before and after it forks (case 80)."""
    end = forking(
        scope,
        """
def generation(number):
    call()
    if number < 3:
        assert in_child(lambda: generation(number + 1)) == 0
    call()
    print("generation", number)

generation(0)
""",
    )
    assert end.lines == [f"generation {number}" for number in (3, 2, 1, 0)]
    end.assert_clean()


@scopes
def test_a_fork_inside_a_coroutine(scope: str) -> None:
    """The child of a fork on the loop thread can call, and the parent's coroutine goes on (case 80)."""
    end = forking(
        scope,
        """
async def forks():
    await asyncio.sleep(0)
    status = in_child(call)
    await asyncio.sleep(0)
    return status

print("child", bridge.run_sync(forks), flush=True)
call()
""",
    )
    assert end.lines == ["child 0"]
    end.assert_clean()


@scopes
def test_a_fork_in_a_thread_that_calls(scope: str) -> None:
    """Not only the main thread forks: the forking thread is the child's main thread (case 80)."""
    end = forking(
        scope,
        """
def work():
    call()
    os.write(1, f"child {in_child(call)}\\n".encode())  # whole lines, from any thread
    call()

threads = [threading.Thread(target=work) for _ in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
call()
""",
    )
    assert end.lines == ["child 0"] * 3
    end.assert_clean()


@scopes
def test_nested_calls_work_on_both_sides_of_a_fork(scope: str) -> None:
    """Runners of deeper levels are as fresh in the child as the first one (cases 3, 80)."""
    end = forking(
        scope,
        """
async def level(depth):
    return bridge.run_sync(level, depth - 1) if depth else os.getpid()

def nested():
    assert bridge.run_sync(level, 3) == os.getpid()

nested()
print("child", in_child(nested), flush=True)
nested()
""",
    )
    assert end.lines == ["child 0"]
    end.assert_clean()


def test_a_uvloop_bridge_works_on_both_sides_of_a_fork() -> None:
    """A loop that is not ours is left alone in the child and replaced by a new one (case 80)."""
    pytest.importorskip("uvloop")
    end = forking(
        "process",
        """
import uvloop
bridge = syncline.Bridge(loop_factory=uvloop.new_event_loop)
call()
print("child", in_child(lambda: [call() for _ in range(10)]), flush=True)
call()
child = os.fork()
if child == 0:
    call()
    sys.exit(0)
print("child", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
call()
""",
    )
    assert end.lines == ["child 0", "child 0"]
    end.assert_clean()


@scopes
def test_a_closed_bridge_is_closed_in_the_child_too(scope: str) -> None:
    """close() before the fork holds on both sides of it (case 80)."""
    end = forking(
        scope,
        """
def refused():
    try:
        bridge.run(pid())
    except syncline.RunnerClosedError:
        return
    raise AssertionError

call()
bridge.close()
print("child", in_child(refused), flush=True)
refused()
""",
    )
    assert end.lines == ["child 0"]
    end.assert_clean()


@scopes
def test_forks_leave_no_descriptor_behind_in_the_parent(scope: str) -> None:
    """After 20 forks the parent has the descriptors and threads that it had before (case 80)."""
    end = forking(
        scope,
        """
call()
before = (len(os.listdir("/proc/self/fd")), threading.active_count())
for _ in range(20):
    assert in_child(call) == 0
    call()
print((len(os.listdir("/proc/self/fd")), threading.active_count()) == before)
""",
    )
    assert end.lines == ["True"]
    end.assert_clean()


def test_a_future_of_the_parent_ends_in_the_child() -> None:
    """Waiting in the child for a call that only the parent runs raises instead of hanging (case 80)."""
    end = forking(
        "process",
        """
go = threading.Event()

async def until_go():
    while not go.is_set():
        await asyncio.sleep(0.005)
    return "done"

future = bridge.submit(until_go)
call()

def child():
    call()
    try:
        future.result(20)
    except syncline.RunnerClosedError:
        return
    raise AssertionError

print("child", in_child(child), flush=True)
go.set()
print(future.result(20))
""",
    )
    assert end.lines == ["child 0", "done"]
    end.assert_clean()


@scopes
def test_a_generator_of_the_parent_ends_in_the_child(scope: str) -> None:
    """The next step of a generator that the parent began raises in the child, and works in the parent
    (case 80)."""
    end = forking(
        scope,
        """
async def count():
    for number in range(3):
        await asyncio.sleep(0)
        yield number

numbers = bridge.synced(count)()
print(next(numbers), flush=True)

def child():
    call()
    try:
        next(numbers)
    except syncline.RunnerClosedError:
        return
    raise AssertionError

print("child", in_child(child), flush=True)
print(*numbers)
""",
    )
    assert end.lines == ["0", "child 0", "1 2"]
    end.assert_clean()


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_a_call_ends_in_the_child_of_a_signal_handler(scope: str) -> None:
    """The child of a fork in a signal handler returns into the call that the signal interrupted, which raises
    there and goes on in the parent (case 80)."""
    # Interleaving: the coroutine is suspended until the child has ended.
    end = forking(
        scope,
        """
import signal

pids, forked, go = [], threading.Event(), threading.Event()

def handler(*_):
    pids.append(os.fork())
    forked.set()

async def until_go():
    os.kill(os.getpid(), signal.SIGUSR1)
    while not go.is_set():
        await asyncio.sleep(0.005)
    return "done"

def see_the_child_end():
    forked.wait()
    print("child", os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]), flush=True)
    go.set()

signal.signal(signal.SIGUSR1, handler)
call()
threading.Thread(target=see_the_child_end).start()
try:
    print(bridge.run_sync(until_go))
except syncline.RunnerClosedError:
    call()
    os._exit(0 if pids == [0] else 1)
""",
    )
    assert end.lines == ["child 0", "done"], end.err
    end.assert_clean()
