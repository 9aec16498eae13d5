"""`trace`: how a recording begins and ends, in whichever way the program does."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

import syncline
import trace_format
from child import FORKS, Child, eventually, open_descriptors, run_script, threads_of_the_system

MakeBridge = Callable[..., syncline.Bridge]
ROOM = 1 << 17
"""So many records a thread may have until they are written (crates/syncline-core/src/trace.rs)."""

CALLS = """
        import os, signal, sys, threading
        import syncline

        async def quick():
            return 1

        for _ in range(3):  # before the trace, too
            syncline.run_sync(quick)
"""


async def quick() -> int:
    return 1


def test_start_and_stop_do_what_the_block_does(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """A second `stop` does nothing, and a second `start` writes the file anew."""
    bridge = make_bridge()
    recording = syncline.trace(tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()
    for calls in (3, 1):
        recording.start()
        for _ in range(calls):
            bridge.run_sync(quick)
        recording.stop()
        recording.stop()
        assert len(trace_format.read(tmp_path / "out.json").named("quick", "call")) == calls
    assert recording.path == str(tmp_path / "out.json")
    assert recording.lost == 0


class Counting:
    """To be awaited: how many references there are to it meanwhile."""

    def __await__(self) -> Generator[None, None, int]:
        return sys.getrefcount(self)
        yield


def test_after_a_trace_nobody_looks_at_calls_any_more(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """Which would cost time. Whoever looks at a call has one more reference to what it runs."""
    bridge = make_bridge()

    def references() -> int:
        return bridge.run(Counting())  # outside of an `assert`, which keeps what it shows

    before = references()
    with syncline.trace(tmp_path / "out.json"):
        assert references() == before + 1
    assert references() == before


def test_a_second_trace_at_once_is_refused(tmp_path: Path) -> None:
    """And the first one goes on."""
    with syncline.trace(tmp_path / "first.json"):
        with (
            pytest.raises(RuntimeError, match=r"first\.json.* is being recorded"),
            syncline.trace(tmp_path / "second.json"),
        ):
            pass
        assert not (tmp_path / "second.json").exists()
        syncline.run_sync(quick)
    assert trace_format.read(tmp_path / "first.json").named("quick", "call")


def test_a_file_that_can_not_be_written_is_an_error_at_once(tmp_path: Path) -> None:
    """And no trace is on afterwards."""
    with pytest.raises(FileNotFoundError), syncline.trace(tmp_path / "missing" / "out.json"):
        pass
    with syncline.trace(tmp_path / "out.json"):
        pass


def test_what_is_no_path_is_refused() -> None:
    """With the call as it should be."""
    with pytest.raises(TypeError, match=r"trace\('out\.json'\)"):
        syncline.trace(5)  # type: ignore[arg-type]


def test_a_path_of_bytes_is_taken_too(tmp_path: Path) -> None:
    """As `open` does."""
    path = tmp_path / "out.json"
    with syncline.trace(os.fsencode(path)) as recording:  # type: ignore[arg-type]
        pass
    assert recording.path == str(path)
    assert path.read_bytes().startswith(b"[")


def test_a_full_disk_is_an_error_at_the_end() -> None:
    """`stop` says so, and calls go on as if nothing were recorded."""
    recording = syncline.trace("/dev/full")
    recording.start()
    assert syncline.run_sync(quick) == 1
    with pytest.raises(OSError, match="No space left"):
        recording.stop()
    assert syncline.run_sync(quick) == 1


def test_calls_that_are_under_way_at_the_beginning_and_at_the_end_are_cut(
    tmp_path: Path, make_bridge: MakeBridge
) -> None:
    """The first is not shown, the second has no end, and neither does harm to a trace that comes later."""
    bridge = make_bridge()
    running = threading.Event()

    def last(name: str) -> tuple[threading.Thread, Callable[[], object]]:
        event = bridge.call(asyncio.Event)

        async def waits() -> None:
            running.set()
            await event.wait()

        waits.__qualname__ = name
        thread = threading.Thread(target=bridge.run_sync, args=(waits,))
        running.clear()
        thread.start()
        assert running.wait(10)
        return thread, lambda: bridge.call(event.set)

    first, end_first = last("first")
    with syncline.trace(tmp_path / "out.json"):
        second, end_second = last("second")
        end_first()
        first.join()
    with syncline.trace(tmp_path / "later.json"):
        end_second()
        second.join()
    found = trace_format.read(tmp_path / "out.json", still_running=True)
    assert not found.named("first", "call")
    ((_, call),) = found.named("second", "call")
    assert call.end is None
    assert not trace_format.read(tmp_path / "later.json").named("second", "call")


def test_the_file_of_a_killed_program_can_be_read(tmp_path: Path) -> None:
    """What happened more than a moment before is in it."""
    path = tmp_path / "out.json"
    script = f"""
        {CALLS}
        syncline.trace({str(path)!r}).start()
        syncline.run_sync(quick)
        print("called", flush=True)
        threading.Event().wait()
    """
    with Child(script) as child:
        child.expect("called")
        assert eventually(lambda: '"name":"quick"' in path.read_text())
        child.signal(signal.SIGKILL)
        assert child.finish().status == -signal.SIGKILL
    found = trace_format.read(path, cut_off=True)
    assert len(found.named("quick", "call")) == 1


def test_a_program_that_ends_leaves_a_whole_file(tmp_path: Path) -> None:
    """Without a `stop`, with calls made by atexit functions, older and younger than the trace, and with an error that
    ends it."""
    path = tmp_path / "out.json"
    script = f"""
        {CALLS}
        import atexit

        async def older():
            return 1

        async def younger():
            return 1

        atexit.register(syncline.run_sync, older)
        recording = syncline.trace({str(path)!r})
        recording.start()
        atexit.register(syncline.run_sync, younger)
        syncline.run_sync(quick)
        raise LookupError("the end")
    """
    finished = run_script(script)
    assert finished.status == 1
    assert finished.err.startswith("Traceback ")
    assert finished.err.endswith("\nLookupError: the end\n")
    assert finished.err.count("Error") == 2  # where it is raised, and what it is
    found = trace_format.read(path)
    assert [len(found.named(name, "call")) for name in ("quick", "younger", "older")] == [1, 1, 1]


def test_a_forked_child_does_not_write_into_its_parents_file(tmp_path: Path) -> None:
    """It makes calls, leaves the block, has no descriptor of the file, and may record a trace of its own."""
    path = tmp_path / "out.json"
    script = f"""
        {CALLS}
        def files():
            links = (os.readlink(f"/proc/self/fd/{{name}}") for name in os.listdir("/proc/self/fd")
                     if os.path.exists(f"/proc/self/fd/{{name}}"))
            return [link for link in links if link.endswith(".json")]

        with syncline.trace({str(path)!r}) as recording:
            syncline.run_sync(quick)
            pid = os.fork()
            if pid == 0:
                assert not files(), files()
                for _ in range(5):
                    assert syncline.run_sync(quick) == 1
                with syncline.trace({str(path)!r} + ".child.json"):
                    assert syncline.run_sync(quick) == 1
        if pid == 0:
            recording.stop()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
    """
    run_script(script, flags=FORKS).assert_clean()
    of_parent = trace_format.read(path)
    assert len(of_parent.named("quick", "call")) == 1
    of_child = trace_format.read(tmp_path / "out.json.child.json")
    assert len(of_child.named("quick", "call")) == 1
    assert {event["pid"] for event in of_parent.events} != {event["pid"] for event in of_child.events}


def test_a_trace_leaves_no_descriptor_and_no_thread(tmp_path: Path) -> None:
    """The writer's is gone when `stop` returns."""
    syncline.run_sync(quick)
    descriptors, threads = open_descriptors(), threads_of_the_system()
    for _ in range(10):
        with syncline.trace(tmp_path / "out.json"):
            syncline.run_sync(quick)
        assert eventually(lambda: threads_of_the_system() <= threads)
    assert open_descriptors() == descriptors


def test_many_threads_and_many_calls_lose_nothing(tmp_path: Path, make_bridge: MakeBridge) -> None:
    """Each call is there, with its steps; threads that end leave theirs."""
    bridge = make_bridge()
    bridge.run_sync(quick)
    before = threads_of_the_system()

    def call() -> None:
        for _ in range(2000):
            bridge.run_sync(quick)

    with syncline.trace(tmp_path / "out.json") as recording:
        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert recording.lost == 0
    found = trace_format.read(tmp_path / "out.json")
    assert len(found.named("quick", "call")) == 16_000
    assert len(found.named("quick", "step")) == 16_000
    assert eventually(lambda: threads_of_the_system() <= before)


def test_more_records_than_a_thread_has_room_for_are_written_while_they_come(
    tmp_path: Path, make_bridge: MakeBridge
) -> None:
    """Those of a loop whose task takes fifty thousand turns: the two of each step, and the turn's own."""

    async def turns() -> None:
        for _ in range(50_000):
            await asyncio.sleep(0)

    bridge = make_bridge(name="shop")
    with syncline.trace(tmp_path / "out.json") as recording:
        bridge.run_sync(turns)
    assert recording.lost == 0
    of_loop = trace_format.read(tmp_path / "out.json").slices["shop"]
    count = Counter(one.category for one in of_loop if one.end is not None)
    assert count["step"] == 50_001
    assert 2 * count["step"] + count["loop"] > ROOM


def test_ctrl_c_ends_a_traced_call_as_any_other(tmp_path: Path) -> None:
    """The slice has the outcome, and the file its end."""
    path = tmp_path / "out.json"
    script = f"""
        {CALLS}
        import asyncio

        async def waits():
            print("waiting", flush=True)
            await asyncio.sleep(3600)

        try:
            with syncline.trace({str(path)!r}):
                syncline.run_sync(waits)
        except KeyboardInterrupt:
            print("interrupted")
    """
    with Child(script) as child:
        child.expect("waiting")
        child.signal()
        finished = child.finish()
    finished.assert_clean()
    assert finished.lines == ["interrupted"]
    ((_, call),) = trace_format.read(path).named("waits", "call")
    assert call.args["outcome"] == "raised KeyboardInterrupt"
