"""What the first calls of a process import, in which threads, and what is refused where nothing can be imported."""

from __future__ import annotations

import pytest

from child import run_script

pytestmark = pytest.mark.timeout(60)


def test_a_first_call_on_trio_does_not_import_asyncio_in_two_threads_at_once() -> None:
    """The loop's thread imports asyncio, and the calling thread asked for `asyncio.events` meanwhile, which Python lets
    it have: each ran a part of asyncio, and what came next raised NameError."""
    # Interleaving: the loop's thread is in the middle of asyncio until the main thread wants something of it, too.
    end = run_script("""
import sys, threading, time
import syncline

main = threading.main_thread().ident

def is_importing():
    frame = sys._current_frames()[main]
    while frame is not None:
        if "importlib" in frame.f_code.co_filename:
            return True
        frame = frame.f_back
    return False

class Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "asyncio.base_events" and threading.get_ident() != main:
            met.append(name)
            end = time.monotonic() + 10
            while not is_importing() and time.monotonic() < end:
                time.sleep(0)

met = []

async def answer():
    return 42

async def from_a_thread():
    return await syncline.to_thread(lambda: 43)

bridge = syncline.Bridge(backend="trio")
sys.meta_path.insert(0, Finder)
print(bridge.run_sync(answer), bridge.run_sync(from_a_thread), bridge.run_sync(answer))
import asyncio
print(asyncio.run(answer()), len(met) < 2)
bridge.close()
""")
    assert end.lines == ["42 43 42", "42 True"], end.err
    end.assert_clean()


@pytest.mark.parametrize("options", ["", "scope='caller'", "backend='trio'"])
@pytest.mark.parametrize(
    "call",
    [
        "BRIDGE.run_sync(answer)",
        "list(BRIDGE.iterate(answers()))",
        "BRIDGE.synced(answer)()",
        "BRIDGE.submit(answer)",
        "BRIDGE.blocking(Client)",
        "BRIDGE.resource(answer)",
    ],
)
def test_where_nothing_can_be_imported_any_more_that_is_said(call: str, options: str) -> None:
    """A finalizer that runs while the interpreter frees its last modules: RuntimeError, and neither an ImportError of
    Python's nor a panic (83)."""
    end = run_script(f"""
import builtins, os
import syncline

async def answer():
    return 42

async def answers():
    yield 42

class Client:
    pass

class Last:
    def __del__(self, write=os.write, Bridge=syncline.Bridge, answer=answer, answers=answers, Client=Client):
        try:
            {call.replace("BRIDGE", f"Bridge({options})")}
        except RuntimeError as error:
            write(1, str(error).encode()[:32])
        except BaseException as error:
            write(1, repr(error).encode())

builtins.last = Last()
""")
    assert end.out == "the interpreter is shutting down", end.err
    end.assert_clean()


@pytest.mark.parametrize("line", [1, 5, 20, 100, 300, 600])
def test_a_handlers_call_in_the_middle_of_asyncios_import_is_told_so(line: int) -> None:
    """Scope "caller": it works, or DeadlockError names the module; it was an AttributeError of a module that is half
    imported. The call after the import works."""
    run_script(f"""
        import os, signal, sys, syncline

        bridge, seen = syncline.Bridge(scope="caller"), []

        async def answer():
            return 42

        def handle(*_):
            try:
                seen.append(bridge.run_sync(answer))
            except syncline.DeadlockError as error:
                assert "'asyncio" in str(error) and "in the middle of its import" in str(error), error
                seen.append(42)

        lines = 0

        def trace(frame, event, _):
            global lines
            if event == "line" and frame.f_globals["__name__"].startswith("asyncio"):
                lines += 1
                if lines == {line}:
                    sys.settrace(None)
                    os.kill(os.getpid(), signal.SIGUSR1)
            return trace

        signal.signal(signal.SIGUSR1, handle)
        sys.settrace(trace)
        import asyncio
        assert seen == [42]
        assert bridge.run_sync(answer) == 42
        bridge.close()
        """).assert_clean()
