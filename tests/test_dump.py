"""`syncline.dump()` and `dump_on()`: the text, and a signal that has a process write it."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import syncline
from child import Child, eventually, open_descriptors, run_script
from scripts import waiting_child
from waiting import in_a_circle


def test_the_text_says_first_how_many_wait_and_then_who_for_whom() -> None:
    """A thread, the coroutine, sync code in a worker, each with its lines of code; then loops, workers, limiters."""
    finished = run_script(
        """
        import threading, syncline

        bridge = syncline.Bridge(name="text")
        arrived, release = threading.Event(), threading.Event()

        def works():
            arrived.set()
            release.wait()

        async def asks():
            await syncline.to_thread(works)

        thread = threading.Thread(target=lambda: bridge.run_sync(asks), name="the caller")
        thread.start()
        arrived.wait()
        while "1 call waits" not in syncline.dump():
            pass
        print(syncline.dump(), end="")
        release.set()
        thread.join()
        """
    )
    finished.assert_clean()
    assert finished.lines[0].startswith("syncline: 1 call waits, the longest for ")
    at = [
        next(index for index, line in enumerate(finished.lines) if words in line)
        for words in (
            "thread 'the caller', for ",
            "waits for ",
            "in asks",
            "await syncline.to_thread(works)",
            "waits for worker thread 'syncline-worker-",
            "release.wait()",
            "loop 'text' in the thread 'text', 1 task, sleeps",
            "worker threads: 1 busy",
            "thread_limiter(): 0 wait, 1 of 250 tokens are held: the thread 'syncline-worker-",
        )
    ]
    assert at == sorted(at)


def test_where_nothing_waits_the_text_says_so() -> None:
    """In one line, and in a process that has made no call."""
    finished = run_script("import syncline; print(syncline.dump(), end='')")
    assert (finished.out, finished.err) == ("syncline: no call waits\n", "")


def test_what_waits_alike_is_shown_once() -> None:
    """With their number; those that wait through more others come first."""
    finished = run_script(
        """
        import asyncio, os, threading, syncline

        async def waits():
            await asyncio.Event().wait()

        async def parks():
            syncline.run_sync(waits)

        for function in [waits] * 20 + [parks]:
            threading.Thread(target=syncline.run_sync, args=(function,), daemon=True).start()
        while syncline.waits().blocked < 22:
            pass
        print(syncline.dump(), end="", flush=True)
        os._exit(0)
        """
    )
    finished.assert_clean()
    assert finished.out.startswith("syncline: 22 calls wait")
    assert finished.out.count("and 19 more like it") == 1
    assert finished.out.index("makes a nested call of") < finished.out.index("and 19 more like it")


def test_a_circle_is_named_in_the_first_line_and_where_it_closes() -> None:
    """Two tasks that wait for each other."""
    with in_a_circle("the caller"):
        text = syncline.dump()
    assert text.splitlines()[0].endswith("; A CIRCLE")
    assert "WHICH IS ABOVE: A CIRCLE" in text


def test_a_long_chain_loses_its_middle(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """A thousand nested calls."""
    bridge = make_bridge(name="deep")
    texts: list[str] = []

    async def level(left: int) -> None:
        if left:
            bridge.run_sync(level, left - 1)
        else:
            await asyncio.sleep(0)
            texts.append(await asyncio.to_thread(syncline.dump))

    bridge.run_sync(level, 1000)
    assert len(texts[0]) < 10_000
    assert "... and so on, " in texts[0]


def test_a_signal_has_a_process_write_the_dump_to_stderr() -> None:
    """While its main thread waits in a call, which goes on; and again for a second signal."""
    script = """
    async def waits():
        print("ready", flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

    syncline.dump_on(signal.SIGUSR1)
    syncline.run_sync(waits)
    print("went on", flush=True)
    """
    with waiting_child(script) as child:
        assert eventually(lambda: _has_dumped(child, 1))
        assert eventually(lambda: _has_dumped(child, 2))
        child.tell("")
        child.expect("went on")
        finished = child.finish()
    assert finished.status == 0
    assert "\nsyncline: 1 call waits" in f"\n{finished.err}"
    assert "thread 'MainThread', for " in finished.err


def _has_dumped(child: Child, count: int) -> bool:
    """Sends the signal until that many dumps, or more, show a wait: the wait is known after some milliseconds."""
    child.signal(signal.SIGUSR1)
    return eventually(lambda: child.errors.count("1 call waits") >= count, 1)


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
def test_the_handler_runs_while_the_main_thread_waits(scope: str) -> None:
    """In each scope, and where it runs in the middle of a coroutine that blocks its loop."""
    finished = run_script(
        f"""
        import asyncio, io, os, signal, threading, time, syncline

        text = io.StringIO()
        syncline.dump_on(signal.SIGUSR1, text)
        bridge = syncline.Bridge(scope={scope!r})
        came = threading.Event()

        async def waits():
            await asyncio.get_running_loop().run_in_executor(None, came.wait)

        def sends():
            while "waits() in the task" not in text.getvalue():  # a dump may come before the task has one
                os.kill(os.getpid(), signal.SIGUSR1)
                time.sleep(0.01)
            came.set()

        threading.Thread(target=sends).start()
        bridge.run_sync(waits)
        bridge.close()
        assert "thread 'MainThread', for " in text.getvalue()
        assert "waits() in the task" in text.getvalue()
        """
    )
    finished.assert_clean()


def test_a_file_gets_the_dumps_one_after_the_other(tmp_path: Path) -> None:
    """A path, or an object that can be written to."""
    path, stream = tmp_path / "dumps", io.StringIO()
    for file in (path, str(path), stream):
        undo = syncline.dump_on(signal.SIGUSR2, file)
        os.kill(os.getpid(), signal.SIGUSR2)
        undo()
    assert path.read_text().count("syncline: no call waits") == 2
    assert stream.getvalue().startswith("syncline: no call waits\n")


def test_an_earlier_handler_is_called_after_it_and_comes_back() -> None:
    """And one that was set later stays where the dump is undone."""
    order: list[str] = []

    class Stream(io.StringIO):
        def write(self, text: str) -> int:
            order.append("dump")
            return len(text)

    def earlier(*_: Any) -> None:
        order.append("earlier")

    def later(*_: Any) -> None:
        pass

    before = signal.signal(signal.SIGUSR2, earlier)
    try:
        undo = syncline.dump_on(signal.SIGUSR2, Stream())
        os.kill(os.getpid(), signal.SIGUSR2)
        assert order == ["dump", "earlier"]
        undo()
        assert signal.getsignal(signal.SIGUSR2) is earlier
        undo()
        undo = syncline.dump_on(signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, later)
        undo()
        assert signal.getsignal(signal.SIGUSR2) is later
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_undoing_leaves_no_descriptor() -> None:
    """Whatever it was made with."""
    syncline.dump_on(signal.SIGUSR2)()  # imports
    before = open_descriptors()
    for _ in range(10):
        syncline.dump_on(signal.SIGUSR2)()
    assert open_descriptors() == before


def test_a_dump_that_can_not_be_written_is_written_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    """With what went wrong, and nothing is raised in the code that the signal interrupts."""

    class Broken:
        def write(self, text: str) -> None:
            raise OSError("no room")

    undo = syncline.dump_on(signal.SIGUSR2, Broken())
    os.kill(os.getpid(), signal.SIGUSR2)
    undo()
    said = capfd.readouterr().err
    assert "the dump could not be written" in said
    assert "no room" in said
    assert "syncline: no call waits" in said


def test_the_handler_finds_room_where_the_stack_is_used_up() -> None:
    """It comes in the deepest recursion that goes."""
    stream = io.StringIO()
    undo = syncline.dump_on(signal.SIGUSR2, stream)

    def deeper(left: int) -> None:
        if left:
            deeper(left - 1)
        else:
            os.kill(os.getpid(), signal.SIGUSR2)

    def used() -> int:
        frame: Any = sys._getframe()
        count = 0
        while frame is not None:
            frame, count = frame.f_back, count + 1
        return count

    deeper(sys.getrecursionlimit() - used() - 60)
    undo()
    assert stream.getvalue().startswith("syncline: no call waits")


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: syncline.dump_on(0), ValueError, "0, which is no signal"),
        (lambda: syncline.dump_on("SIGUSR1"), ValueError, "signal.SIGUSR1"),  # type: ignore[arg-type]
        (lambda: syncline.dump_on(signal.SIGKILL), ValueError, "SIGKILL can't be handled"),
        (lambda: syncline.dump_on(signal.SIGUSR2, 3), TypeError, "got int for a file"),
        (lambda: syncline.dump_on(signal.SIGUSR2, "/no/such/folder"), FileNotFoundError, "/no/such"),
    ],
    ids=["number", "name", "kill", "file", "path"],
)
def test_mistakes_are_named(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    """And nothing was set."""
    before = signal.getsignal(signal.SIGUSR2)
    with pytest.raises(error, match=words):
        call()
    assert signal.getsignal(signal.SIGUSR2) is before


def test_another_thread_is_told_to_leave_it_to_the_main_one() -> None:
    """Only that may set handlers."""
    with pytest.raises(ValueError, match="only the main thread may"):
        syncline.run_sync(syncline.to_thread, syncline.dump_on, signal.SIGUSR2)


def test_a_forked_child_has_the_handler_too() -> None:
    """It writes its own waits."""
    finished = run_script(
        """
        import io, os, signal, syncline

        text = io.StringIO()
        syncline.dump_on(signal.SIGUSR1, text)
        child = os.fork()
        if child == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
            os._exit(text.getvalue() != "syncline: no call waits\\n\\n")
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert text.getvalue() == ""
        """
    )
    finished.assert_clean()


def test_importing_syncline_imports_nothing_of_this() -> None:
    """It comes with the first use."""
    finished = run_script(
        "import sys, syncline; print([m for m in sys.modules if 'diagnosis' in m or 'dump' in m or m == 'asyncio'])"
    )
    assert finished.out == "[]\n"
