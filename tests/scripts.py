"""What the scripts of the tests about signals, fork and exit begin with, and how they are run."""

from __future__ import annotations

from child import Child, Finished, run_script

WORK = """
import asyncio, os, signal, sys, threading, time
import syncline

bridge = syncline.Bridge(scope="{scope}", cleanup_timeout={cleanup_timeout})

def when_still():
    # Returns when the main thread has not moved for a while: it waits.
    seen, times = None, 0
    while times < 5:
        frame = sys._current_frames()[threading.main_thread().ident]
        now, names = (id(frame), frame.f_lasti), set()
        while frame is not None:
            names.add(frame.f_code.co_name)
            frame = frame.f_back
        # Not while the main thread is still in ready(), which starts this thread, or in a handler that called it.
        seen, times = now, times + 1 if now == seen and names.isdisjoint(("ready", "interrupt")) else 0
        time.sleep(0.01)
    print("ready", flush=True)

def ready(still=bridge.scope == "caller"):
    if still:
        threading.Thread(target=when_still, daemon=True).start()
    else:
        print("ready", flush=True)

async def work():
    try:
        ready()
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise
    finally:
        await asyncio.sleep(0.01)
        print("cleaned up", flush=True)

async def answer():
    await asyncio.sleep(0)
    return 42

"""


def started(scope: str, script: str, cleanup_timeout: float = 60.0) -> Child:
    """A child that runs `script` after the definitions above, up to its first "ready"."""
    child = Child(WORK.format(scope=scope, cleanup_timeout=cleanup_timeout) + script)
    child.expect("ready")
    return child


def interrupted(scope: str, script: str, cleanup_timeout: float = 60.0) -> Finished:
    """What became of such a child after one Ctrl-C."""
    with started(scope, script, cleanup_timeout) as child:
        child.signal()
        return child.finish()


# Follows the definitions above.
REFUSES = """
async def refuses():
    ready()
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("refused", flush=True)
"""


FORKING = """
import asyncio, gc, os, socket, sys, threading, traceback, warnings
import syncline

warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning)
bridge = syncline.Bridge(scope="{scope}", name="fork")

async def pid():
    await asyncio.sleep(0)
    return os.getpid()

def call():
    # A call that works returns the id of the process it ran in.
    assert bridge.run_sync(pid) == os.getpid()

def in_child(function):
    # Exit status of a forked child that calls `function` and then ends without any exit hooks.
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

"""


def forking(scope: str, script: str, *, flags: tuple[str, ...] = ()) -> Finished:
    """Run `script` after the definitions above."""
    return run_script(FORKING.format(scope=scope) + script, flags=flags)


EXITING = """
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
    helpers = EXITING.format(scope=scope, cleanup_timeout=cleanup_timeout)
    return run_script(helpers + script, flags=flags, env=env)
