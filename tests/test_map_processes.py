"""map: Ctrl-C, forks, the exit, and memory, each in a process of its own."""

from __future__ import annotations

import pytest

from child import Child, run_script

SCOPES = pytest.mark.parametrize(
    "options",
    ["", "scope='thread'", "scope='caller'", "backend='trio'", "loop_factory=uvloop.new_event_loop"],
)
CALLS = """
import contextlib, os, sys, time
import anyio, syncline, uvloop

begun = cleaned = 0

async def call(item):
    global begun, cleaned
    begun += 1
    try:
        if item == 0:
            return item
        if item == 5:
            print("waits", flush=True)
        await anyio.sleep(1000)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)
        cleaned += 1
"""


@SCOPES
@pytest.mark.parametrize("progress", [False, True])
def test_ctrl_c_in_the_wait_for_a_result_cancels_all(options: str, progress: bool) -> None:
    """Each call has cleaned up before KeyboardInterrupt is raised, nothing is printed, and the bar is closed."""
    script = f"""{CALLS}
bridge = syncline.Bridge({options})
class Bar:
    closed = False
    def __init__(self, total): Bar.total = total
    def set_postfix(self, refresh, **others): pass
    def update(self, count): pass
    def close(self): Bar.closed = True
try:
    for item in bridge.map(call, range(100), limit=10, progress=Bar if {progress} else None):
        print("first", flush=True)
except KeyboardInterrupt:
    print("interrupted", begun == cleaned == 11, Bar.closed)
bridge.close()
"""
    with Child(script) as child:
        child.expect("waits")
        child.expect("first")
        child.signal()
        child.expect(f"interrupted True {progress}")
        child.finish().assert_clean()


@SCOPES
def test_ctrl_c_in_the_loops_body_cancels_all(options: str) -> None:
    """Nobody catches it inside: the calls have cleaned up when it comes out of the `for`."""
    script = f"""{CALLS}
bridge = syncline.Bridge({options})
try:
    for item in bridge.map(call, range(100), limit=10):
        print("first", flush=True)
        while True:  # one long wait would miss a signal that comes just before it
            time.sleep(0.01)
except KeyboardInterrupt:
    print("interrupted", begun == cleaned >= 10)
bridge.close()
"""
    with Child(script) as child:
        child.expect("waits")
        child.expect("first")
        child.signal()
        child.expect("interrupted True")
        child.finish().assert_clean()


def test_ctrl_c_ends_a_program_quietly() -> None:
    """A script that does not catch it shows its traceback, and no other one."""
    script = f"""{CALLS}
for item in syncline.map(call, range(100), limit=10):
    print("first", flush=True)
"""
    with Child(script) as child:
        child.expect("waits")
        child.expect("first")
        child.signal()
        end = child.finish()
    assert end.err.count("Traceback") == 1, end.err
    assert end.err.rstrip().endswith("KeyboardInterrupt")


@pytest.mark.parametrize("options", ["", "scope='thread'", "scope='caller'"])
def test_a_forked_child_begins_anew(options: str) -> None:
    """What the parent iterates over is the parent's; the child is told so, and its own map works."""
    end = run_script(f"""{CALLS}
bridge = syncline.Bridge({options})

async def double(item):
    await anyio.sleep(0.001)
    return 2 * item

results = bridge.map(double, range(100), limit=2)
assert next(results) == 0
process = os.fork()
if not process:
    try:
        with contextlib.suppress(StopIteration):
            while True:
                next(results)
        os._exit(3)
    except syncline.RunnerClosedError:
        pass
    del results
    assert list(bridge.map(double, range(5))) == [0, 2, 4, 6, 8]
    os._exit(0)
assert os.waitpid(process, 0)[1] == 0
assert list(results) == list(range(2, 200, 2))
bridge.close()
""")
    assert end.status == 0, end.err  # Python warns of forks in a program with threads


@pytest.mark.parametrize("options", ["", "scope='thread'", "scope='caller'", "backend='trio'"])
def test_the_exit_ends_what_is_under_way(options: str) -> None:
    """Calls of a map that a module still holds are cancelled, and clean up."""
    end = run_script(f"""{CALLS}
begun = []

async def call(item):
    begun.append(item)
    try:
        if item:
            await anyio.sleep(1000)
        while len(begun) < 4:  # a slow machine has a result before all have begun
            await anyio.sleep(0)
    finally:
        os.write(1, b"end ")

bridge = syncline.Bridge({options})
results = bridge.map(call, range(4), limit=4)
next(results)
""")
    end.assert_clean()
    assert end.out == "end " * 4


@pytest.mark.parametrize("ordered", [True, False])
def test_memory_does_not_grow_with_the_items(ordered: bool) -> None:
    """A hundred thousand items of 1 kB each; some calls suspend, one in a hundred fails."""
    run_script(
        f"""
import asyncio, resource, syncline

async def call(item):
    if item % 3 == 0:
        await asyncio.sleep(0)
    if item % 100 == 7:
        raise ValueError(item)
    return bytes(1000)

def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

for n in (20_000, 100_000):
    before = rss()
    results = syncline.map(call, range(n), return_exceptions=True, ordered={ordered})
    assert sum(1 for _ in results) == n
assert rss() - before < 5_000_000, rss() - before
""",
        limit=50,
    ).assert_clean()


@pytest.mark.timeout(180)
def test_a_million_items_take_no_more_memory_than_some() -> None:
    """In constant memory: less than 10 MB more for a million items."""
    run_script(
        """
import itertools, resource, syncline

async def call(item):
    return str(item)

def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

results = syncline.map(call, itertools.count(), limit=1000)
for _ in itertools.islice(results, 10_000):
    pass
before = rss()
for _ in itertools.islice(results, 1_000_000):
    pass
print((rss() - before) // 1000, "kB")
assert rss() - before < 10_000_000
results.close()
""",
        limit=150,
    ).assert_clean()


def test_in_a_notebook_a_running_loop_does_not_matter() -> None:
    """The cell's code runs inside asyncio's loop; also nested, where the loop nests."""
    run_script("""
import asyncio, syncline

async def double(item):
    await asyncio.sleep(0.001)
    return 2 * item

async def cell(expected):
    ticks = 0
    async def tick():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)
    task = asyncio.create_task(tick())
    await asyncio.sleep(0)
    assert list(syncline.map(double, range(20), limit=5)) == list(range(0, 40, 2))
    assert (ticks > 10) is expected
    task.cancel()

asyncio.run(cell(False))
asyncio.run(syncline.run_nestable(cell, True))
syncline.run_sync(cell, True)
""").assert_clean()
