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
