"""What a child has of its parent after os.fork(): closed bridges, futures and generators that end, no descriptors."""

from __future__ import annotations

import pytest

from scripts import forking

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])


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


@scopes
def test_a_child_with_its_parents_number_is_known_as_a_child(scope: str) -> None:
    """In a namespace of its own it may have that; here Python says so. Its parent's group is not waited for."""
    end = forking(
        scope,
        """
number = os.getpid()
group = bridge.group()
group.__enter__()
task = group.start(asyncio.sleep, 3600)
child = os.fork()
if child == 0:
    os.getpid = lambda: number
    status = 1
    try:
        task.result(10)
    except syncline.RunnerClosedError:
        status = 0
    finally:
        os._exit(status)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
group.cancel()
group.__exit__(None, None, None)
bridge.close()
""",
    )
    assert end.lines == ["0"], end.err
    end.assert_clean()
