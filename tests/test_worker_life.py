"""The life of worker threads: idle, at exit, after fork."""

from __future__ import annotations

import sys

import pytest

from child import DEV, run_script

BUSY_OR_IDLE = pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop", "syncline", "trio"])

RUN = """
import asyncio, os, sys, threading, time
import anyio
import syncline

def run(main):
    loop = {loop!r}
    if loop == "trio":
        import trio
        return trio.run(main)
    if loop == "uvloop":
        import uvloop
        return uvloop.run(main())
    return asyncio.run(main()) if loop == "asyncio" else syncline.run_sync(main)
"""


@LOOPS
@BUSY_OR_IDLE
def test_exit_waits_for_no_worker(loop: str, busy: bool) -> None:
    """A worker that is idle, or busy in a call that was abandoned, neither holds up the exit nor breaks it."""
    script = RUN.format(loop=loop) + (
        """
begun = threading.Event()

def block():
    begun.set()
    while True:
        time.sleep(0.001)  # wakes up, and wants the interpreter, at any moment of its end

async def main():
    await syncline.to_thread(int)
    async with anyio.create_task_group() as group:
        group.start_soon(syncline.to_thread, block)
        await syncline.to_thread(begun.wait)
        group.cancel_scope.cancel()

"""
        if busy
        else """
async def main():
    await syncline.to_thread(int)

"""
    )
    finished = run_script(script + "run(main)\nprint('end')\n", flags=("-W", "error"))
    finished.assert_clean()
    assert finished.lines == ["end"]
    assert finished.seconds < 15


@LOOPS
def test_exit_while_a_worker_waits_in_from_thread(loop: str) -> None:
    """A worker that waits for a coroutine when the main thread ends is left where it is."""
    finished = run_script(
        RUN.format(loop=loop)
        + """
begun = threading.Event()

async def never():
    begun.set()
    await anyio.sleep_forever()

def daemon():
    async def main():
        await syncline.to_thread(syncline.from_thread, never)
    run(main)

threading.Thread(target=daemon, daemon=True).start()
begun.wait()
print("end")
""",
    )
    assert (finished.status, finished.lines) == (0, ["end"]), finished.err
    assert "Fatal" not in finished.err
    assert finished.seconds < 15


def test_a_call_in_atexit_runs() -> None:
    """asyncio.run() in atexit, before and after syncline's own handler, with calls in worker threads: they run, in the
    calling thread if no other can be started any more."""
    finished = run_script(
        """
import atexit

@atexit.register
def after():
    print("after", asyncio.run(syncline.to_thread(abs, -2)))

import asyncio, syncline

@atexit.register
def before():
    print("before", asyncio.run(syncline.to_thread(abs, -1)))

""",
        flags=DEV,
    )
    finished.assert_clean()
    assert finished.lines == ["before 1", "after 2"]


@LOOPS
def test_a_forked_child_has_workers_of_its_own(loop: str) -> None:
    """The child starts with no workers and all tokens, and works; the parent goes on."""
    finished = run_script(
        RUN.format(loop=loop)
        + """
limiter = syncline.ThreadLimiter(1)
hold = threading.Event()
begun = threading.Event()

def block():
    begun.set()
    hold.wait()

async def main():
    await syncline.to_thread(int)
    return await limiter.to_thread(threading.get_ident)

async def blocked():
    await limiter.to_thread(block)

run(main)
thread = threading.Thread(target=run, args=(blocked,))
thread.start()
begun.wait()
assert limiter.borrowed_tokens == 1
pid = os.fork()
if pid == 0:
    assert syncline._core.worker_counts() == (0, 0)
    assert limiter.borrowed_tokens == 0
    run(main)
    assert threading.active_count() >= 2
    print("child", flush=True)
    os._exit(0)
print("status", os.waitpid(pid, 0)[1])
hold.set()
thread.join()
run(main)
print("parent")
""",
    )
    assert finished.lines == ["child", "status 0", "parent"], finished.err
    assert finished.status == 0


def test_a_call_that_forks_ends_in_both() -> None:
    """A function in a worker that forks: the child's copy of the thread ends with the function."""
    finished = run_script(
        """
import asyncio, os, syncline

def fork():
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    return None

async def main():
    print("status", await syncline.to_thread(fork))

asyncio.run(main())
""",
    )
    assert finished.lines == ["status 0"], finished.err


@pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")
def test_idle_workers_retire() -> None:
    """Threads that nobody needs end after ten seconds, those that are used again stay (case 69)."""
    finished = run_script(
        """
import asyncio, os, threading, time, syncline

def workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("syncline-worker")]

async def main():
    barrier = threading.Barrier(5)
    await asyncio.gather(*(syncline.to_thread(barrier.wait) for _ in range(5)))
    assert len(workers()) == 5, workers()
    deadline = time.monotonic() + 20
    while len(workers()) > 1 and time.monotonic() < deadline:
        await syncline.to_thread(int)
        await asyncio.sleep(0.05)
    assert len(workers()) == 1, workers()
    assert syncline._core.worker_counts()[0] == 1

asyncio.run(main())
print("end")
""",
        limit=40,
    )
    assert finished.lines == ["end"], finished.err
    assert finished.seconds > 9
