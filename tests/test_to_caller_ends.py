"""to_caller, where the wait or the function ends otherwise than by a result."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable

import anyio
import pytest

import syncline
from child import Child, run_script

MakeBridge = Callable[..., syncline.Bridge]
here = threading.get_ident
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])
LIMIT = 20


def test_a_timeout_while_the_function_runs_comes_when_it_has_ended(each_bridge: syncline.Bridge) -> None:
    """Nothing can break it off. Then the coroutine is cancelled, and its cleanup has the caller's thread."""
    begun: list[float] = []
    ran: list[int] = []

    def overruns(seconds: float) -> None:
        begun.append(seconds)
        time.sleep(3 * seconds)
        ran.append(here())

    async def main(seconds: float) -> None:
        try:
            await syncline.to_caller(overruns, seconds)
            await anyio.sleep(LIMIT)
        finally:
            with anyio.CancelScope(shield=True):
                await syncline.to_caller(lambda: ran.append(here()))

    timeout = 0.05
    while not begun:  # on a busy machine the timeout may pass before
        ran.clear()
        with pytest.raises(TimeoutError):
            each_bridge.run(main(timeout), timeout=timeout)
        timeout *= 4
    assert ran == [here()] * 2


def test_a_function_whose_await_is_cancelled_before_it_begins_is_not_run(
    each_bridge: syncline.Bridge,
) -> None:
    """Two lie in the queue. While the first one runs, the second one's task is cancelled, by the loop's thread."""
    ran: list[str] = []
    runs, cancelled = threading.Event(), threading.Event()

    def first() -> None:
        runs.set()
        assert cancelled.wait(LIMIT)
        ran.append("first")

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(syncline.to_caller, first)
            while not runs.is_set():
                await anyio.sleep(0.001)
            with anyio.move_on_after(0.05) as scope:
                await syncline.to_caller(ran.append, "second")
            assert scope.cancelled_caught
            cancelled.set()

    if each_bridge.scope == "caller":
        pytest.skip("the loop stands still while the function runs")
    each_bridge.run_sync(main)
    assert ran == ["first"]


def test_a_function_that_has_begun_runs_to_its_end_though_its_await_is_cancelled(
    make_bridge: MakeBridge,
) -> None:
    """Its result is dropped, and its caller's thread is busy with it until then."""
    ran: list[str] = []
    cancelled = threading.Event()

    def waits() -> None:
        assert cancelled.wait(LIMIT)
        ran.append("to its end")

    async def main() -> str:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await syncline.to_caller(waits)
        cancelled.set()
        return await syncline.to_caller(str, "next")

    assert make_bridge().run_sync(main) == "next"
    assert ran == ["to its end"]


def test_a_caller_that_has_given_up_runs_nothing(make_bridge: MakeBridge) -> None:
    """The coroutine does not end in the time for its cleanup: its caller goes on, and what it sends then is refused."""
    bridge = make_bridge(cleanup_timeout=0.05)
    told: list[str] = []
    gone, refused = threading.Event(), threading.Event()

    async def main() -> None:
        try:
            await asyncio.sleep(LIMIT)
        finally:
            await asyncio.to_thread(gone.wait, LIMIT)
            try:
                await syncline.to_caller(told.append, "run")
            except RuntimeError as error:
                told.append(str(error))
            refused.set()

    with pytest.raises(TimeoutError):
        bridge.run(main(), timeout=0.05)
    gone.set()
    assert refused.wait(LIMIT)
    assert len(told) == 1
    assert "its thread has gone on" in told[0]


def test_a_function_in_the_queue_of_a_caller_that_gives_up_is_refused(make_bridge: MakeBridge) -> None:
    """It was handed over in time, behind one that takes too long; the task that awaits it and nobody else is told."""
    bridge = make_bridge(cleanup_timeout=0.05)
    queued, told = threading.Event(), threading.Event()

    async def behind() -> None:
        queued.set()
        with pytest.raises(RuntimeError, match="its thread has gone on"):
            await syncline.to_caller(str)
        told.set()

    def first() -> None:
        assert queued.wait(LIMIT)
        time.sleep(0.1)  # longer than the cleanup may take

    async def main() -> None:
        try:
            await asyncio.sleep(LIMIT)
        finally:
            await asyncio.gather(syncline.to_caller(first), behind())

    with pytest.raises(TimeoutError):
        bridge.run(main(), timeout=0.05)
    assert told.wait(LIMIT)


@scopes
def test_a_bridge_that_the_function_closes_ends_the_call(make_bridge: MakeBridge, scope: str) -> None:
    """RunnerClosedError, as for every call; no hang."""
    bridge = make_bridge(scope=scope)

    async def main() -> None:
        await syncline.to_caller(bridge.close)
        await asyncio.sleep(LIMIT)

    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(main)


def test_a_bridge_that_is_closed_while_the_function_runs_ends_the_call_after_that(
    make_bridge: MakeBridge,
) -> None:
    """By another thread: the function's caller is told when it is back."""
    bridge = make_bridge()
    runs, closed = threading.Event(), threading.Event()

    def close() -> None:
        assert runs.wait(LIMIT)
        bridge.close()
        closed.set()

    def waits() -> None:
        runs.set()
        assert closed.wait(LIMIT)

    async def main() -> None:
        await syncline.to_caller(waits)
        await asyncio.sleep(LIMIT)

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(syncline.RunnerClosedError):
        bridge.run_sync(main)
    closer.join()


INTERRUPTED = r"""
import asyncio, signal, sys, threading
import syncline

bridge = syncline.Bridge(scope={scope!r})
at = {at!r}

def interrupted():
    # In the thread that waits, which is the main one: Python runs the handler here.
    signal.raise_signal(signal.SIGINT)

async def other():
    await syncline.to_caller(interrupted)

async def told():
    try:
        await other()
    except RuntimeError as error:
        print("told\n" if "its thread has gone on" in str(error) else error, end="", flush=True)

async def main():
    try:
        if at == "own":
            await syncline.to_caller(interrupted)
        elif at == "child":
            await asyncio.gather(other(), asyncio.sleep(20))
        else:  # nobody awaits the task that sent it
            kept = asyncio.create_task(told())
            await asyncio.sleep(20)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        # The cleanup has its caller, too, and is not broken off.
        await asyncio.sleep(0.05)
        await syncline.to_caller(print, "cleaned up", threading.current_thread().name == "MainThread")
        raise

try:
    bridge.run_sync(main)
except KeyboardInterrupt:
    print("KeyboardInterrupt\n", end="")
async def again():
    return await syncline.to_caller(threading.current_thread)
print(bridge.run_sync(again).name)
bridge.close()
"""


@scopes
@pytest.mark.parametrize("at", ["own", "child", "nobody's"])
def test_ctrl_c_in_the_function_cancels_the_call(scope: str, at: str) -> None:
    """As a Ctrl-C in the wait: the coroutine is cancelled, cleans up, and KeyboardInterrupt is raised by the call."""
    ended = run_script(INTERRUPTED.format(scope=scope, at=at))
    main = scope == "caller"
    ended.assert_clean()
    assert ended.lines[:2] == ["cancelled", f"cleaned up {main}"]
    assert ended.lines[-1] == "MainThread"
    told = ["told"] if at == "nobody's" else []
    assert sorted(ended.lines[2:-1]) == ["KeyboardInterrupt", *told]


WAITING = """
import asyncio, threading
import syncline

async def main():
    try:
        await syncline.to_caller(print, "waits", flush=True)
        await asyncio.sleep(20)
    finally:
        await syncline.to_caller(print, "cleaned up in", threading.main_thread().name)

try:
    syncline.Bridge(scope={scope!r}).run_sync(main)
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""


@scopes
def test_after_ctrl_c_in_the_wait_the_cleanup_has_its_caller(scope: str) -> None:
    """A rollback, say, belongs to the thread that is interrupted."""
    with Child(WAITING.format(scope=scope)) as child:
        child.expect("waits")
        child.signal(signal.SIGINT)
        ended = child.finish()
    ended.assert_clean()
    assert ended.lines == ["cleaned up in MainThread", "KeyboardInterrupt"]


FORKED = """
import asyncio, os, warnings
import syncline

# Python says of each fork in a program with threads that it may deadlock.
warnings.simplefilter("ignore", DeprecationWarning)

bridge = syncline.Bridge(scope={scope!r})

async def main():
    return await syncline.to_caller(os.fork)

try:
    child = bridge.run_sync(main)
except syncline.RunnerClosedError:
    # The parent's loop is not here; a new one is.
    print("closed in the child", flush=True)
    print(bridge.run_sync(asyncio.sleep, 0, "and goes on"), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print("parent", bridge.run_sync(asyncio.sleep, 0, "goes on"))
"""


@pytest.mark.parametrize("scope", ["process", "thread"])
def test_a_function_that_forks(scope: str) -> None:
    """In the child the call has no loop, and says so; in the parent it goes on."""
    ended = run_script(FORKED.format(scope=scope))
    ended.assert_clean()
    assert ended.lines == ["closed in the child", "and goes on", "parent goes on"]


AT_EXIT = """
import asyncio, threading
import syncline

waits = threading.Event()

async def main():
    waits.set()
    try:
        await asyncio.sleep(20)
    finally:
        try:
            await syncline.to_caller(print, "must not run: the thread ends with the process")
        except RuntimeError as error:
            print("refused" if "shutting down" in str(error) else error)

threading.Thread(target=syncline.run_sync, args=(main,), daemon=True).start()
waits.wait()
"""


def test_at_exit_a_daemon_thread_runs_nothing_any_more() -> None:
    """The cleanup at the exit is told, and does not wait for it."""
    ended = run_script(AT_EXIT)
    ended.assert_clean()
    assert ended.lines == ["refused"]
    assert ended.seconds < LIMIT / 2


def test_one_core_is_enough() -> None:
    """Hundreds of errands of several threads, each in its own thread, on one core."""
    script = r"""
    import asyncio, os, threading
    import syncline
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    async def main():
        return {await syncline.to_caller(threading.get_ident) for _ in range(200)}

    def thread():
        assert syncline.run_sync(main) == {threading.get_ident()}
        print("done\n", end="")

    threads = [threading.Thread(target=thread) for _ in range(4)]
    for each in threads: each.start()
    for each in threads: each.join()
    """
    ended = run_script(script)
    ended.assert_clean()
    assert ended.lines == ["done"] * 4


@pytest.mark.timeout(20)
def test_what_fetches_items_ahead_finds_no_caller() -> None:
    """The consumer may be elsewhere, and never come back: no wait for it, but an error that says so."""

    async def items() -> AsyncIterator[int]:
        yield await syncline.to_caller(threading.get_ident)

    with pytest.raises(RuntimeError, match="fetches items ahead"):
        next(syncline.iterate(items(), prefetch=1))
    assert next(syncline.iterate(items())) == threading.get_ident()
