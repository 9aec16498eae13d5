"""What the interpreter's own tools read of a process with visible bridges, from outside."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from child import Child

pytestmark = [
    pytest.mark.skipif(sys.version_info < (3, 14), reason="the tools came with Python 3.14"),
    pytest.mark.timeout(90),
]
all_threads = pytest.mark.skipif(
    sys.version_info < (3, 15),
    reason="the tools of Python 3.14 look at the main thread's tasks only (gh-149230)",
)

ONE_THREAD = """
    import asyncio
    import syncline

    bridge = syncline.Bridge(scope="caller", visible={visible})

    async def query():
        await asyncio.sleep(3600)

    def load():
        return bridge.run_sync(query)

    async def handle():
        return load()

    async def main():
        tasks = [asyncio.create_task(handle()), asyncio.create_task(asyncio.sleep(3600), name="mine")]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(lambda: print("ready", flush=True))
        await asyncio.gather(*tasks)

    bridge.run_sync(main)
    """

MANY_THREADS = """
    import asyncio
    import threading
    import syncline

    near = syncline.Bridge(visible=True, name="near")
    far = syncline.Bridge(visible=True, name="far")
    waits = threading.Semaphore(0)

    async def query():
        waits.release()
        await asyncio.sleep(3600)

    def sync():
        return far.run_sync(query)

    async def parked():
        return sync()

    async def remote():
        return await far.run_async(query)

    async def threaded():
        return await syncline.to_thread(sync)

    async def blocks():
        return sync()

    async def numbers():
        await query()
        yield 1

    def in_thread(function, *args):
        threading.Thread(target=function, args=args, daemon=True).start()

    for function in (parked, remote, threaded):
        in_thread(near.run_sync, function)
    in_thread(lambda: asyncio.run(blocks()))
    in_thread(lambda: list(near.iterate(numbers())))
    near.submit(query)
    for _ in range(6):
        waits.acquire()
    near.run_sync(asyncio.sleep, 0)  # the loops have turned since
    far.run_sync(asyncio.sleep, 0)
    print("ready", flush=True)
    threading.Event().wait()
    """


def asked(*arguments: str) -> str:
    """The output of a tool."""
    finished = subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    said = finished.stdout + finished.stderr
    if re.search("PermissionError|Operation not permitted|permission", said):
        pytest.skip(f"the system lets no process read another one's memory: {said.strip().splitlines()[-1]}")
    assert finished.returncode == 0, said
    return finished.stdout


@pytest.fixture
def many_threads() -> Iterator[str]:
    """The pid of a program whose tasks wait for each other across threads and loops."""
    with Child(MANY_THREADS, limit=80) as child:
        child.expect("ready")
        yield str(child.pid)


def branches(tree: str) -> set[tuple[str, ...]]:
    """What `pstree` shows, as the ways from its roots to its leaves: tasks as "(T) name", frames by their functions."""
    ways: set[tuple[str, ...]] = set()
    way: list[tuple[int, str]] = []
    grows = False
    for line in tree.splitlines():
        shown = re.match(r"([ │]*[├└]──\s+)(\(T\) )?(\S+)", line)
        if shown is None:
            continue
        depth = len(shown[1].rstrip())
        grows = not way or way[-1][0] < depth
        if not grows:
            ways.add(tuple(label for _, label in way))
        while way and way[-1][0] >= depth:
            way.pop()
        way.append((depth, (shown[2] or "") + shown[3]))
    return {*ways, tuple(label for _, label in way)}


def tree_of(pid: int | str) -> set[tuple[str, ...]]:
    return branches(asked("asyncio", "pstree", str(pid)))


def test_a_tree_has_names_and_whole_stacks() -> None:
    """`python -m asyncio pstree`: sync code between nested calls is in the stack, and asyncio's own edges stay."""
    with Child(ONE_THREAD.format(visible=True), limit=80) as child:
        child.expect("ready")
        main = ("(T) main", "syncline_task", "main")
        assert tree_of(child.pid) == {
            (*main, "(T) handle", "syncline_task", "handle", "load", "query", "sleep"),
            (*main, "(T) mine", "syncline_task", "sleep"),
        }


def test_the_lines_are_those_of_the_code() -> None:
    """`pstree` shows each frame's file and the line at which it is suspended."""
    with Child(ONE_THREAD.format(visible=True), limit=80) as child:
        child.expect("ready")
        tree = asked("asyncio", "pstree", str(child.pid))
        [(file, line)] = re.findall(r"load (\S+script\.py):(\d+)", tree)
        assert Path(file).read_text().splitlines()[int(line) - 1].strip() == "return bridge.run_sync(query)"


def test_a_table_has_names_and_stacks() -> None:
    """`python -m asyncio ps`: one line for each task, with its stack, and what waits for it."""
    with Child(ONE_THREAD.format(visible=True), limit=80) as child:
        child.expect("ready")
        table = asked("asyncio", "ps", str(child.pid))
        [handle] = [line for line in table.splitlines() if re.search(r"0x\w+ +handle ", line)]
        assert "sleep -> query -> load -> handle -> syncline_task" in handle
        assert re.search(r"main -> syncline_task +main +0x", handle)


def test_a_bridge_that_is_not_visible_harms_no_tool() -> None:
    """Its tasks are listed without a stack."""
    with Child(ONE_THREAD.format(visible=False), limit=80) as child:
        child.expect("ready")
        table = asked("asyncio", "ps", str(child.pid))
        assert re.search(r"0x\w+ +mine ", table)


@all_threads
def test_a_tree_leads_through_loops_and_threads(many_threads: str) -> None:
    """From the task that waits, parked, for a worker, or with its loop blocked, to the one that runs the call."""
    queried = ("(T) query", "syncline_task", "query", "sleep")
    tree = {tuple(label.removeprefix("Bridge.") for label in way) for way in tree_of(many_threads)}
    assert tree == {
        ("(T) parked", "syncline_task", "parked", "sync", *queried),
        ("(T) remote", "syncline_task", "remote", "run_async", *queried),
        ("(T) threaded", "syncline_task", "threaded", "to_thread", *queried),
        ("(T) Task-1", "blocks", *queried),
        ("(T) numbers", "syncline_task", "numbers", "query", "sleep"),
        queried,
    }


@all_threads
def test_a_dump_shows_what_each_task_waits_for(many_threads: str) -> None:
    """`python -m profiling.sampling dump --async-aware`: with the waiting task's frames above those of the call."""
    dump = asked("profiling.sampling", "dump", "--async-aware", many_threads)
    functions = [re.findall(r", in (\S+)", part) for part in dump.split("Stack dump")]
    queried = ["query", "syncline_task", "query", "sleep"]
    assert ["remote", "syncline_task", "remote", "Bridge.run_async", *queried] in functions
    assert ["parked", "syncline_task", "parked", "sync", *queried] in functions
    assert ["numbers", "syncline_task", "numbers", "query", "sleep"] in functions


@all_threads
def test_a_profile_counts_the_frames_of_tasks(many_threads: str, tmp_path: Path) -> None:
    """`python -m profiling.sampling attach --async-aware`: the stacks of suspended tasks are in the profile."""
    file = tmp_path / "profile.txt"
    options = ("--async-aware", "--async-mode", "all", "-d", "1", "-r", "100", "--collapsed", "-o", str(file))
    asked("profiling.sampling", "attach", *options, many_threads)
    stacks = [line.rpartition(" ")[0] for line in file.read_text().splitlines()]
    assert any(re.search(r"parked.*sync.*query.*syncline_task.*query.*sleep", line) for line in stacks), (
        stacks
    )
