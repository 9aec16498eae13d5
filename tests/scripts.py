"""What the scripts of the tests about signals, fork and exit begin with, and how they are run."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

from child import Child, Finished, run_script

STRIKES = """
import signal

class Struck({base}):
    pass

def strike(number, frame):
    raise Struck

signal.signal(signal.SIGUSR1, strike)
"""
"""What the handler of SIGUSR1 raises, which `base` is the class of."""

WORK = """
import asyncio, os, signal, sys, threading, time
import syncline

bridge = syncline.Bridge(scope="{scope}", cleanup_timeout={cleanup_timeout})

def in_trio():
    return "trio" in sys.modules and sys.modules["trio"].lowlevel.in_trio_task()

async def sleep(seconds):
    await (sys.modules["trio"] if in_trio() else asyncio).sleep(seconds)

async def cleanup(seconds=0.01):
    # An await that may be made by what was cancelled.
    if in_trio():
        with sys.modules["trio"].CancelScope(shield=True):
            await sleep(seconds)
    else:
        await sleep(seconds)

def say_when_still(line):
    # Says it when the main thread has not moved for a while: it waits.
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
    print(line, flush=True)

def ready(line="ready", still=bridge.scope == "caller"):
    if still:
        threading.Thread(target=say_when_still, args=(line,), daemon=True).start()
    else:
        print(line, flush=True)

async def work():
    try:
        ready()
        await sleep(3600)
    except BaseException as error:
        print(type(error).__name__.removesuffix("Error").lower(), flush=True)
        raise
    finally:
        await cleanup()
        print("cleaned up", flush=True)

async def answer():
    await sleep(0)
    return 42

"""


def started(scope: str, script: str, cleanup_timeout: float = 60.0) -> Child:
    """A child that runs `script` after the definitions above, up to its first "ready". Scope "trio" is that backend."""
    definitions = WORK.format(scope=scope, cleanup_timeout=cleanup_timeout)
    child = Child(definitions.replace('scope="trio"', 'backend="trio"') + script)
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
    wait = sleep
    while True:
        try:
            await wait(3600)
        except BaseException:
            # In scope "caller" a signal that came before it waits again would be raised here, and refused as well.
            ready("refused")
            wait = cleanup
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


WAITS = """
import asyncio, os, signal, sys, threading, syncline

async def waits():
    print("ready", flush=True)
    await asyncio.Event().wait()
"""


@contextmanager
def waiting_child(script: str) -> Iterator[Child]:
    """A child that runs `script` after the definitions above, up to its first "ready"."""
    with Child(WAITS + textwrap.dedent(script)) as child:
        child.expect("ready")
        yield child
