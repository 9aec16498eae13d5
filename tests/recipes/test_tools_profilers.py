"""Profilers of others where nested calls await in place, as docs/debugging.md tells it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tool_code import STACK, python, write

pytestmark = pytest.mark.timeout(200)
ROUNDS = 12
SCOPES = pytest.mark.parametrize("scope", ["process", "caller"])


def has_stack(stacks: Iterable[list[str]]) -> bool:
    """Whether one of these stacks, from the base on, goes through the nested call as it should."""
    return any(" ".join(STACK) in " ".join(stack) for stack in stacks)


# pyinstrument

PYINSTRUMENT = """
import json
import sys

import program
from pyinstrument import Profiler
from pyinstrument.renderers import JSONRenderer


async def measured():
    with Profiler(async_mode=sys.argv[4]) as profiler:
        await program.main(int(sys.argv[3]))
    print(profiler.output(JSONRenderer(show_all=True)))

program.bridge.run_sync(measured)
"""


@SCOPES
@pytest.mark.parametrize("mode", ["enabled", "disabled", "strict"])
def test_pyinstrument_shows_what_computes_below_the_sync_code_that_waits(
    tmp_path: Path, scope: str, mode: str
) -> None:
    """In each of its modes, if it is started on the loop: it looks at the thread that has started it."""
    pytest.importorskip("pyinstrument")
    write(tmp_path)
    (tmp_path / "script.py").write_text(PYINSTRUMENT)
    ran = python(tmp_path, "script.py", scope, "switch", str(ROUNDS), mode)
    assert (ran.returncode, ran.stderr) == (0, "")
    seconds: Counter[str] = Counter()
    stacks: list[list[str]] = []

    def read(frame: dict[str, Any], above: list[str]) -> None:
        stack = [*above, frame["function"]]
        seconds[frame["function"]] += frame["time"]
        stacks.append(stack)
        for child in frame["children"]:
            read(child, stack)

    read(json.loads(ran.stdout)["root_frame"], [])
    assert has_stack(stacks)
    # Twice as much is computed in the inner coroutine as in the outer one.
    assert 1.4 < seconds["burn_inner"] / seconds["burn_outer"] < 2.8


# memray

ALLOCATES = """
import asyncio
import sys
import syncline

bridge = syncline.Bridge(scope=sys.argv[1])


def allocates():
    return bytearray(20_000_000)


async def inner():
    first = allocates()
    await asyncio.sleep(0.01)
    return first, allocates()


def sync_code():
    return bridge.run_sync(inner)


async def outer():
    return sync_code()


async def main():
    return await asyncio.gather(outer(), outer())

kept = bridge.run_sync(main)
"""


@SCOPES
def test_memray_knows_the_stack_of_each_allocation(tmp_path: Path, scope: str) -> None:
    """Before and after a suspension, of tasks that took turns; each greenlet is a thread of its own to memray."""
    memray: Any = pytest.importorskip("memray")
    (tmp_path / "program.py").write_text(ALLOCATES)
    ran = python(tmp_path, "-m", "memray", "run", "--quiet", "-o", "out.bin", "program.py", scope)
    assert ran.returncode == 0, ran.stderr
    with memray.FileReader(tmp_path / "out.bin") as reader:
        records = list(reader.get_high_watermark_allocation_records(merge_threads=False))
        large = [record for record in records if record.size >= 20_000_000]
        stacks = [[frame[0] for frame in record.stack_trace()] for record in large]
    assert sum(record.size for record in large) >= 4 * 20_000_000
    assert {tuple(stack[:5]) for stack in stacks} == {("allocates", "inner", "sync_code", "outer", "carry")}


# py-spy


@SCOPES
def test_py_spy_samples_whatever_runs(tmp_path: Path, scope: str) -> None:
    """From the greenlet's base on, where the thread's own stack ends for it."""
    write(tmp_path)
    program = [sys.executable, "program.py", scope, "switch", str(2 * ROUNDS)]
    options = ["record", "--rate=200", "--format=raw", "--output=out.txt", "--function", "--", *program]
    spy = Path(sys.executable).with_name("py-spy")
    if not spy.exists():
        pytest.skip("py-spy is not there")
    ran = subprocess.run(
        [str(spy), *options],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
        env={"PYTHONPATH": ":".join(["", *sys.path])},
    )
    if "Permission" in ran.stderr:
        pytest.skip("this process may not look into others")
    stacks: Counter[tuple[str, ...]] = Counter()
    for line in (tmp_path / "out.txt").read_text().splitlines():
        frames, _, count = line.rpartition(" ")
        stacks[tuple(frame.partition(" (")[0] for frame in frames.split(";"))] += int(count)
    assert has_stack(map(list, stacks)), ran.stderr
    inner = sum(count for stack, count in stacks.items() if "burn_inner" in stack)
    outer = sum(count for stack, count in stacks.items() if "burn_outer" in stack)
    assert 1.2 < inner / outer < 3.2
    # The task that is parked all the while is in no sample but its first and last ones.
    parked = sum(count for stack, count in stacks.items() if "parked_sync" in stack)
    assert parked <= 2


# viztracer


def traced(folder: Path, *arguments: str) -> tuple[str, Counter[str]]:
    """What viztracer says, and how many calls of each function of the program it has written down."""
    pytest.importorskip("viztracer", exc_type=ImportError)
    options = ["--quiet", "--ignore_c_function", "-o", "out.json"]
    ran = python(folder, "-m", "viztracer", *options, "program.py", *arguments)
    events = json.loads((folder / "out.json").read_text())["traceEvents"]
    names = [each["name"].partition(" ")[0] for each in events if "program.py" in each["name"]]
    return ran.stderr, Counter(names)


def test_viztracer_stops_at_the_first_nested_call_that_suspends(tmp_path: Path) -> None:
    """With a warning of its own: it takes the switch for a return. findings/viztracer-greenlet.sh has it without us."""
    write(tmp_path)
    said, calls = traced(tmp_path, "process", "switch", "3")
    assert "VizTracer: Unexpected function return, tracing is stopped" in said
    assert calls["burn_outer"] == 0


@SCOPES
def test_viztracer_traces_it_all_where_nested_calls_run_on_threads(tmp_path: Path, scope: str) -> None:
    """With `nested="thread"`; without the task that waits for others: the loop below it is blocked then."""
    write(tmp_path)
    program = tmp_path / "program.py"
    program.write_text(program.read_text().replace("create_task(parked_outer(done))", "create_task(outer())"))
    said, calls = traced(tmp_path, scope, "thread", "3")
    assert "Unexpected" not in said
    assert (calls["burn_inner"], calls["burn_outer"]) == (14, 7)


def test_the_doctor_warns_of_viztracer_while_it_traces(tmp_path: Path) -> None:
    """With the setting that helps."""
    pytest.importorskip("viztracer", exc_type=ImportError)
    (tmp_path / "program.py").write_text("import syncline; print(syncline.doctor())")
    ran = python(tmp_path, "-m", "viztracer", "--quiet", "-o", "out.json", "program.py")
    said = " ".join(ran.stdout.split())
    assert "warning, tools: viztracer is at work" in said
    assert '-> syncline.configure(nested="thread")' in said
