"""Calls that begin a few frames below the recursion limit: RecursionError or the value, and the next call works."""

from __future__ import annotations

import pytest

from child import run_script

pytestmark = pytest.mark.timeout(240)

SCRIPT = """
import asyncio, contextlib, sys, threading
import syncline
if PLACE == "trio":
    import trio

async def answer():
    return 42

async def turn():
    await (trio.lowlevel.checkpoint() if PLACE == "trio" else asyncio.sleep(0))

async def suspends():
    await turn()
    return 42

async def numbers():
    yield 42

@contextlib.asynccontextmanager
async def managed():
    yield 42

async def in_worker():
    return await syncline.to_thread(int, 42)

async def in_caller():
    await turn()
    return await syncline.to_caller(int, 42)

async def steps():
    await turn()
    yield 42

async def nests(bridge):
    return bridge.run_sync(answer)

async def in_executor():
    return await asyncio.get_running_loop().run_in_executor(None, int, 42)

async def answer_later(_):
    await turn()
    return 42

async def in_tasks():
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        tasks = [group.create_task(suspends()) for _ in range(2)]
    return (await asyncio.gather(asyncio.wait_for(tasks[0], 20), tasks[1]))[0]

@contextlib.asynccontextmanager
async def suspending():
    await turn()
    yield 42
    await turn()

def entered(bridge, manager=None):
    with bridge.enter(manager or managed()) as value:
        return value

def closed(bridge):
    bridge.run_sync(answer)
    bridge.close()
    return 42

kinds = {
    "run_sync": lambda bridge: bridge.run_sync(answer),
    "suspends": lambda bridge: bridge.run_sync(suspends),
    "run": lambda bridge: bridge.run(answer(), timeout=20),
    "submit": lambda bridge: bridge.submit(answer).result(20),
    "iterate": lambda bridge: list(bridge.iterate(numbers()))[0],
    "enter": entered,
    "to_thread": lambda bridge: bridge.run_sync(in_worker),
    "to_caller": lambda bridge: bridge.run_sync(in_caller),
    "steps": lambda bridge: list(bridge.iterate(steps()))[0],
    "map": lambda bridge: min(bridge.map(answer_later, range(3))),
    "left": lambda bridge: entered(bridge, suspending()),
    "nested": lambda bridge: bridge.run_sync(nests, bridge),
}
if PLACE != "trio":
    kinds |= {
        "tasks": lambda bridge: bridge.run_sync(in_tasks),
        "executor": lambda bridge: bridge.run_sync(in_executor),
    }
# There C counts as frames, and a loop that turns in this thread needs more of them.
FURTHEST = 36 if PLACE.startswith("caller") and sys.version_info < (3, 12) else 12
sys.unraisablehook = lambda what: None  # destructors are at the limit, too
loops = {"caller on uvloop": ("caller", True), "process on uvloop": ("process", True)}
scope, on_uvloop = loops.get(PLACE, (PLACE, False))
options = {"scope": scope} if scope != "trio" else {"backend": "trio"}
if on_uvloop:
    import uvloop
    options["loop_factory"] = uvloop.new_event_loop

def depth():
    frame, count = sys._getframe(), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1
    return count

def below(frames, call, bridge):
    if depth() < sys.getrecursionlimit() - frames:
        return below(frames, call, bridge)
    return call(bridge)

def check():
    for is_first in (True, False):
        for frames in range(1, FURTHEST + 1):
            bridge = syncline.Bridge(**options)
            for name, call in kinds.items():
                if not is_first:
                    call(bridge)
                try:
                    got = below(frames, call, bridge)
                except RecursionError:
                    got = 42
                assert got == 42, (name, frames, got)
                assert call(bridge) == 42, (name, frames)
                assert bridge.stats()["active"] == 0, (name, frames, bridge.stats())
            try:
                below(frames, closed, bridge)
            except RecursionError:
                pass
            bridge.close()

check()
"""


@pytest.mark.parametrize(
    "place", ["process", "thread", "caller", "process on uvloop", "caller on uvloop", "trio"]
)
def test_a_call_at_the_recursion_limit_fails_or_works_and_the_next_one_works(place: str) -> None:
    """Each kind of call, as a first one and later, begun 1 to 12 (36) frames below the limit; and closing there."""
    # The recursion limit makes asyncio's and our own code fail at each of its lines in turn.
    # Its thousand calls take some seconds of the processor: a busy machine needs more than a hang is else given.
    end = run_script(f"PLACE = {place!r}\n{SCRIPT}", limit=200)
    assert end.status == 0, f"{end.out}\n{end.err}"


HERE_AND_AGAIN = """
import sys
import syncline

bridge = syncline.Bridge(backend=BACKEND)

async def in_caller():
    return await syncline.to_caller(int)

def below(frames):
    return below(frames) if depth() < sys.getrecursionlimit() - frames else bridge.run_sync(in_caller)

def depth():
    frame, count = sys._getframe(), 0
    while frame is not None:
        frame, count = frame.f_back, count + 1
    return count

bridge.run_sync(in_caller)
sys.setrecursionlimit(300)
for frames in range(1, 30):
    try:
        below(frames)
    except RecursionError:
        pass
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_an_answer_from_the_recursion_limit_reaches_the_loop(backend: str) -> None:
    """What is called back there ends, and the loop hears of it, though the caller's thread has no stack to tell it."""
    end = run_script(f"BACKEND = {backend!r}\n{HERE_AND_AGAIN}", limit=60)
    assert end.status == 0, end.err[-2000:]
