"""A first call that is interrupted, at each place where Python runs signal handlers: it raises what the handler
raised, the next call works, and nothing is left."""

from __future__ import annotations

import sys

import pytest

from child import run_script

pytestmark = pytest.mark.timeout(120)

# A profile function is called where Python looks for signals: where a function of Python's begins, and where one of
# C's that Python code called has returned. The first call of each bridge is interrupted at the next such place, until
# there is none.
SCRIPT = """
import asyncio, contextlib, gc, os, signal, sys, threading, time, warnings
import syncline

kind, options = sys.argv[1], dict(option.split("=") for option in sys.argv[2:])
makes = {"uvloop": lambda: __import__("uvloop").new_event_loop(), "asyncio": asyncio.SelectorEventLoop}
if loop := options.pop("loop", None):
    options["loop_factory"] = makes[loop]
is_watched = "stall_after" in options
if is_watched:
    options["stall_after"] = float(options["stall_after"])
name = options.pop("raises")
raises = getattr(__import__("builtins"), name)

def interrupt(number, frame):
    raise raises("by a handler")

signal.signal(signal.SIGUSR1, interrupt)
warnings.simplefilter("ignore", ResourceWarning)  # of what asyncio has half made
if kind == "dual":
    warnings.filterwarnings("ignore", "coroutine 'answer' was never awaited")  # where it was not to be run yet
if kind == "enter":
    # contextlib's `await anext(...)`, interrupted in the middle: Python 3.14 and later warn of that.
    warnings.filterwarnings("ignore", "coroutine method 'asend' of 'managed' was never awaited")
ignored = []
sys.unraisablehook = lambda what: ignored.append((what.exc_type.__name__, getattr(what.object, "__qualname__", "")))

async def answer():
    return 42

async def suspended():
    await asyncio.sleep(0)
    return 42

async def numbers():
    yield 42

@contextlib.asynccontextmanager
async def managed():
    global inside
    inside += 1
    try:
        yield 42
    finally:
        inside -= 1

inside = 0

def call(bridge):
    if kind == "run_sync":
        return bridge.run_sync(answer)
    if kind == "suspend":
        return bridge.run_sync(suspended)
    if kind == "run":
        return bridge.run(answer(), timeout=20)
    if kind == "submit":
        return bridge.submit(answer).result(20)
    if kind == "iterate":
        return list(bridge.iterate(numbers()))[0]
    if kind == "enter":
        with bridge.enter(managed()) as value:
            return value
    return bridge.coroutine(answer)().run()

def is_in_finalizer(frame):
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None

def descriptors():
    return len(os.listdir("/proc/self/fd"))

def pending():
    return [task for task in gc.get_objects() if isinstance(task, asyncio.Task) and not task.done()]

def settled(condition):
    end = time.monotonic() + 5
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)
        gc.collect()
    return condition()

with syncline.Bridge(**options) as bridge:
    call(bridge)
gc.collect()
threads, files, event, wrong = threading.active_count(), descriptors(), 0, []
while True:
    left, where, begun = event, None, False

    def profile(frame, what, function):
        global left, where, begun
        begun = begun or (what == "call" and frame.f_code is call.__code__)
        # Not in a destructor: what is raised there Python reports, and goes on.
        if not begun or what not in ("call", "c_return") or "_weakrefset" in frame.f_code.co_filename:
            return
        if function is sys.setprofile or is_in_finalizer(frame):
            return
        # From Python 3.14 on each loop tries whether it can wait for processes, and an OSError says that it can't.
        if frame.f_code.co_name == "can_use_pidfd" and issubclass(raises, OSError):
            return
        # Between an `__enter__` of C's and the block Python 3.14 looks for signals, a mistake of its own, which
        # nobody can help who is entered there. Python 3.15 does not look, and only calls this function.
        if sys.version_info >= (3, 14) and "method __enter__ of DualContextManager" in str(function):
            return
        if left == 0:
            sys.setprofile(None)
            where = os.path.basename(frame.f_code.co_filename), frame.f_code.co_name, what, str(function)
            signal.raise_signal(signal.SIGUSR1)
        left -= 1

    bridge = syncline.Bridge(**options)
    if kind == "suspend":
        # asyncio's C code overlooks an error of call_soon for a moment. A collection then would report it as its own.
        gc.disable()
    try:
        sys.setprofile(profile)
        got = call(bridge)
        sys.setprofile(None)
    except raises as error:
        got = str(error)
    except BaseException as error:
        got = repr(error)
    sys.setprofile(None)
    gc.enable()
    if where is None:
        break
    if got != "by a handler":
        wrong.append((where, "got", got))
    if not settled(lambda: bridge.stats()["active"] == 0):
        wrong.append((where, bridge.stats()))
    if (again := call(bridge)) != 42:
        wrong.append((where, "next", again))
    if is_watched and [each.name for each in threading.enumerate()].count("syncline-watcher") != 1:
        wrong.append((where, "is not watched", threading.enumerate()))
    # What is interrupted in its own `__aexit__` the loop finalizes.
    if inside and "__aexit__" not in where:
        wrong.append((where, "was not left"))
    began = time.monotonic()
    bridge.close()
    if time.monotonic() - began > 4:
        wrong.append((where, "held up close()"))
    if inside:
        wrong.append((where, "was never left"))
    del bridge
    # Half made pairs of sockets are the standard library's to lose.
    if where[0] == "socket.py":
        files = max(files, descriptors())
    if not settled(lambda: threading.active_count() <= threads and descriptors() <= files and not pending()):
        wrong.append((where, threading.enumerate(), descriptors() - files, pending()))
        files = descriptors()
    if ignored:
        wrong.append((where, "ignored", ignored[:]))
        ignored.clear()
    event += 1
print(got, event > 5)
for each in wrong:
    print(*each)
"""


def check(kind: str, raises: str, **options: str) -> None:
    words = " ".join(f"{name}={value}" for name, value in {"raises": raises, **options}.items())
    script = f"import sys\nsys.argv[1:] = {[kind, *words.split()]!r}\n{SCRIPT}"
    end = run_script(script, limit=60)
    assert end.lines == ["42 True"], f"{end.out}\n{end.err}"
    assert (end.status, end.err) == (0, "")


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
@pytest.mark.parametrize("kind", ["run_sync", "suspend", "run", "submit", "iterate", "enter", "dual"])
def test_a_first_call_may_be_interrupted_anywhere(kind: str, scope: str) -> None:
    """By Ctrl-C: the call raises it, a manager that was entered is left, and no thread, descriptor or task stays."""
    check(kind, "KeyboardInterrupt", scope=scope)


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
@pytest.mark.parametrize("kind", ["run_sync", "suspend", "submit", "iterate"])
def test_a_handler_may_raise_anything_there(kind: str, scope: str) -> None:
    """An alarm's TimeoutError, which asyncio takes for an error of whatever callback it interrupts."""
    check(kind, "TimeoutError", scope=scope)


@pytest.mark.parametrize("options", [{"loop": "asyncio"}, {"loop": "uvloop"}, {"backend": "trio"}])
@pytest.mark.parametrize("kind", ["run_sync", "submit"])
def test_so_on_other_loops(kind: str, options: dict[str, str]) -> None:
    """Loops that are fed by call_soon_threadsafe, and trio's."""
    if options.get("backend") == "trio":
        kind = {"run_sync": "dual"}.get(kind, kind)
    check(kind, "KeyboardInterrupt", scope="thread", **options)


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
@pytest.mark.parametrize("kind", ["run_sync", "submit"])
def test_so_where_stalls_are_reported(kind: str, scope: str) -> None:
    """Whoever stirs the watcher leaves it no lock that is taken, and one thread looks afterwards."""
    check(kind, "KeyboardInterrupt", scope=scope, stall_after="50")


TRIOS_LOCK = """
import os, signal, sys, threading
import syncline

def interrupt(number, frame):
    raise KeyboardInterrupt("by a handler")

signal.signal(signal.SIGUSR1, interrupt)

def profile(frame, what, function):
    # Interleaving: the signal comes when Python code has taken trio's lock, and the block that gives it back has not
    # begun.
    if what == "c_return" and frame.f_code.co_name == "run_sync_soon" and "method __enter__ of" in str(function):
        sys.setprofile(None)
        signal.raise_signal(signal.SIGUSR1)

async def answer():
    return 42

with syncline.Bridge(backend="trio", scope=sys.argv[1]) as bridge:
    bridge.run_sync(answer)
    sys.setprofile(profile)
    try:
        print(bridge.submit(answer).result(20))
    except KeyboardInterrupt as error:
        print(error)
    sys.setprofile(None)
    got = []
    thread = threading.Thread(target=lambda: got.append(bridge.run_sync(answer)))
    thread.start()
    thread.join()
    print(bridge.run_sync(answer), got)
print("closed")
"""


@pytest.mark.skipif(sys.version_info < (3, 14), reason="nothing raises at that moment there")
@pytest.mark.parametrize("scope", ["process", "thread"])
def test_a_signal_as_trio_is_told_of_a_call_leaves_its_lock_free(scope: str) -> None:
    """The run, and others who tell it something, need that lock. So in the main thread no Python code has it: Python
    3.14 may run a handler there, and 3.15 a profile function."""
    end = run_script(f"import sys\nsys.argv[1:] = [{scope!r}]\n{TRIOS_LOCK}")
    assert end.lines == ["42", "42 [42]", "closed"], end.err
    end.assert_clean()
