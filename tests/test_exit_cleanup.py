"""Cleanup that runs because the process ends may use what it could use before; each in an interpreter of its own."""

from __future__ import annotations

import pytest

from child import DEV
from scripts import exiting

pytestmark = pytest.mark.timeout(60)
kinds = pytest.mark.parametrize(
    ("scope", "factory"),
    [
        ("process", "None"),
        ("thread", "None"),
        ("caller", "None"),
        ("process", "asyncio.SelectorEventLoop"),
        ("caller", "uvloop.new_event_loop"),
        ("process", "uvloop.new_event_loop"),
    ],
)

CLEANUP = """
import concurrent.futures, socket, uvloop
from contextlib import asynccontextmanager

bridge = syncline.Bridge(scope=bridge.scope, cleanup_timeout=20.0, loop_factory={factory})
pool = {pool}

async def clean_up():
    loop = asyncio.get_running_loop()
    await {cleanup}
    os.write(1, b"cleaned\\n")

async def back():
    await asyncio.sleep(0)

async def task():
    try:
        await asyncio.sleep(3600)
    finally:
        await clean_up()

async def generator():
    try:
        yield 1
    finally:
        await clean_up()

async def start_task():
    syncline.create_task(task())
    await asyncio.sleep(0)

async def start_generator():
    keep.append(generator())
    await anext(keep[0])

def start(what):
    if what == "task":
        bridge.run_sync(start_task)
    elif what == "generator":
        bridge.run_sync(start_generator)
    elif what == "iterator":
        keep.append(bridge.iterate(generator()))
        next(keep[0])
    else:
        keep.append(bridge.enter(asynccontextmanager(generator)()))
        keep[0].__enter__()
"""
CLEANUPS = {
    "asyncio.to_thread": "asyncio.to_thread(int)",
    "executor": "loop.run_in_executor(None, int)",
    "own pool": "loop.run_in_executor(pool, int)",
    "names": "loop.getaddrinfo('127.0.0.1', 80)",
    "to_thread": "syncline.to_thread(int)",
    "from_thread": "syncline.to_thread(syncline.from_thread, back)",
}


def ending(scope: str, factory: str, cleanup: str, script: str, *, used: bool = True) -> list[str]:
    """What a program prints that leaves something open; nothing else may be printed."""
    pool = "concurrent.futures.ThreadPoolExecutor(1)" if cleanup == "own pool" else "None"
    head = CLEANUP.format(factory=factory, cleanup=CLEANUPS[cleanup], pool=pool)
    # An executor that has threads already is another case than one that has none.
    use = """
bridge.run_sync(asyncio.to_thread, int)
bridge.run_sync(syncline.to_thread, int)
if pool:
    pool.submit(int).result()
"""
    use = use if used else ""
    end = exiting(scope, head + use + script)
    end.assert_clean()
    assert end.seconds < 15
    return end.lines


@kinds
@pytest.mark.parametrize("cleanup", CLEANUPS)
def test_it_may_use_threads(scope: str, factory: str, cleanup: str) -> None:
    """Executors too, though Python has ended them by then."""
    assert ending(scope, factory, cleanup, "start('task')") == ["cleaned"]


@kinds
@pytest.mark.parametrize("cleanup", ["executor", "to_thread"])
def test_it_may_be_the_first_to_use_threads(scope: str, factory: str, cleanup: str) -> None:
    """Where Python starts none any more the work is done in the loop's own thread."""
    assert ending(scope, factory, cleanup, "start('task')", used=False) == ["cleaned"]


@kinds
@pytest.mark.parametrize("what", ["generator", "iterator", "manager"])
def test_so_may_what_is_open(scope: str, factory: str, what: str) -> None:
    """Generators, iterators and managers that nobody has closed are closed as they would be in the program."""
    assert ending(scope, factory, "executor", f"start({what!r})") == ["cleaned"]


@kinds
@pytest.mark.parametrize("used", [False, True], ids=["first use", "used before"])
def test_an_atexit_function_may_use_what_is_open(scope: str, factory: str, used: bool) -> None:
    """Its calls run on the loop that was used before, with all that lives there, and have an executor."""
    script = """
async def lives_on():
    await clean_up()
    os.write(1, f"{asyncio.get_running_loop() is before} {background.done()}\\n".encode())

async def loop():
    keep.append(asyncio.create_task(asyncio.sleep(3600)))
    return asyncio.get_running_loop(), keep[-1]

before, background = bridge.run_sync(loop)
atexit.register(lambda: bridge.run_sync(lives_on))
"""
    assert ending(scope, factory, "executor", script, used=used) == ["cleaned", "True False"]


@pytest.mark.parametrize("factory", ["None", "asyncio.SelectorEventLoop"])
@pytest.mark.parametrize("what", ["task", "generator", "iterator", "manager"])
def test_a_thread_that_ends_with_what_is_open_is_not_waited_for_in_vain(factory: str, what: str) -> None:
    """Python waits for it before it exits, and it waits for cleanup on the loop that the main thread drives
    itself."""
    script = f"""
ends = threading.Event()
int = ends.set

def lasts():
    ends.wait()
    os.write(1, b"thread ended\\n")

threading.Thread(target=lasts).start()
start({what!r})
"""
    lines = ending("caller", factory, "executor", script, used=False)
    assert sorted(lines) == ["cleaned", "thread ended"]


def test_the_exit_costs_a_program_without_loops_nothing() -> None:
    """What only loops need is not even imported."""
    end = exiting(
        "process",
        """
class Last:
    def __del__(self, modules=sys.modules, write=os.write):
        write(1, f"{'syncline._last' in modules}\\n".encode())

import builtins
atexit.register(lambda: print("syncline._last" in sys.modules, flush=True))
""",
        flags=DEV,
    )
    assert end.lines == ["False"]
    end.assert_clean()


# Calls that begin, or wait, as the exit goes on

NO_NOISE = """
async def forever():
    await asyncio.sleep(3600)

def calls(other=bridge):
    try:
        other.run_sync(answer)
    except RuntimeError:
        os.write(1, b"refused\\n")
"""


@pytest.mark.parametrize("scope", ["process", "thread"])
@pytest.mark.parametrize("where", ["done callback", "finally", "worker", "executor"])
def test_a_call_on_a_thread_of_ours_is_refused_politely(scope: str, where: str) -> None:
    """RuntimeError, which the code there can handle: SystemExit would come out of a callback, or end a task."""
    script = {
        "done callback": """
other.run_sync(answer)
future = bridge.submit(forever)
bridge.run_sync(answer)
future.add_done_callback(lambda _: calls(other))
""",
        "finally": """
async def work():
    try:
        await forever()
    finally:
        calls(other)
bridge.submit(work)
bridge.run_sync(asyncio.sleep, 0)
""",
        "worker": """
async def work():
    try:
        await forever()
    finally:
        await syncline.to_thread(calls, other)
bridge.run_sync(syncline.to_thread, answer.__call__)
bridge.submit(work)
bridge.run_sync(asyncio.sleep, 0)
""",
        "executor": """
async def work():
    try:
        await forever()
    finally:
        await asyncio.to_thread(calls, other)
bridge.submit(work)
bridge.run_sync(asyncio.sleep, 0)
""",
    }[where]
    other = "other = syncline.Bridge(nested='thread')\n"
    end = exiting(scope, NO_NOISE + other + script.replace(", answer.__call__", ", int"))
    assert end.lines == ["refused"]
    end.assert_clean()


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
@pytest.mark.parametrize("flags", [(), DEV], ids=["plain", "dev-and-errors"])
def test_the_exit_waits_for_a_first_call_that_has_just_begun(scope: str, flags: tuple[str, ...]) -> None:
    """A daemon thread that makes a loop then is not ended in the middle of that, which would abort the process."""
    # Interleaving: the thread is in the factory when the exit begins, and comes out of it while the exit goes on.
    end = exiting(
        scope,
        """
making, exiting = threading.Event(), threading.Event()

def factory():
    making.set()
    exiting.wait()
    time.sleep(0.1)
    return asyncio.SelectorEventLoop()

class Last:
    def __del__(self, sleep=time.sleep):
        sleep(0.3)

import builtins
builtins.last = Last()
slow = syncline.Bridge(scope=bridge.scope, loop_factory=factory)
threading.Thread(target=slow.run_sync, args=(answer,), daemon=True).start()
making.wait()
atexit.register(exiting.set)
""",
        flags=flags,
    )
    assert end.out == ""
    end.assert_clean()
