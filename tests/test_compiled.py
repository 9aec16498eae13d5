"""Where Python compiles what is run often (`PYTHON_JIT=1`), calls come out right: where its compiler errs, and where it
frees compiled code while a stack that runs it waits elsewhere."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from child import run_script

jit: Any = getattr(sys, "_jit", None)
pytestmark = pytest.mark.skipif(
    jit is None or not jit.is_available() or sys.version_info < (3, 15),
    reason="about Python 3.15, built with its compiler; 3.14 frees compiled code at other moments",
)

# Tasks of trio's that await the code in question: it is not compiled where C code steps it, as asyncio's tasks do. All
# that is awaited suspends until that code was compiled so, and then no more.
SCRIPT = """
import sys
from concurrent.futures import ThreadPoolExecutor

import trio

import syncline

MANY = 5000

async def item_of(number):
    if number < MANY:
        await trio.sleep(0)
    return number

async def source():
    for number in range(MANY + 100):
        yield await item_of(number)

async def same(item):
    return item

async def count(results):
    # Not `async for`, which would be compiled wrongly itself.
    while await anext(results, None) is not None:
        counted.append(1)

async def main():
    if sys.argv[1] == "source":
        await count(syncline.amap(same, source(), limit=3))
    else:
        with ThreadPoolExecutor(1) as executor:
            await count(syncline.amap(item_of, range(MANY + 100), limit=1, executor=executor, chunk=500))

counted = []
trio.run(main)
print(sys._jit.is_enabled(), len(counted))
"""
SOON = {
    f"PYTHON_JIT_{what}_INITIAL_VALUE": number
    for what, number in {"JUMP_BACKWARD": "250", "RESUME": "63", "SIDE_EXIT": "1000"}.items()
}


@pytest.mark.parametrize("where", ["source", "worker"])
def test_what_a_map_awaits_may_first_always_suspend_and_then_never(where: str) -> None:
    """An async source's items, and the results that a worker collects."""
    end = run_script(f"import sys\nsys.argv[1:] = [{where!r}]\n{SCRIPT}", env={"PYTHON_JIT": "1", **SOON})
    assert end.lines == ["True 5100"], end.err
    end.assert_clean()


# Compiled code that does not run while Python compiles some thousand others is freed, unless a thread names it in its
# `current_executor`, or somebody holds it. Here it is that of a function that waits for its call, or of the loop whose
# step makes the call.
FREED = """
import asyncio
import sys
from types import FunctionType

import syncline

MANY = 3000

def hot():
    for _ in range(400):
        pass

def compile_others():
    for _ in range(4000):
        FunctionType(hot.__code__.replace(), {"range": range})()

async def frees_the_caller(is_last):
    if is_last:
        asyncio.get_running_loop().call_soon(compile_others)
        await asyncio.sleep(0)

async def frees_the_loop(is_last):
    await asyncio.sleep(0)
    if is_last:
        compile_others()

async def call_often(call):
    for number in range(MANY):
        # One line, as another one would not be compiled.
        syncline.run_sync(call, number == MANY - 1)
    return number + 1

async def main():
    syncline.install()
    return await asyncio.create_task(call_often(globals()[f"frees_the_{sys.argv[1]}"]))

print(sys._jit.is_enabled(), asyncio.run(main()))
"""


@pytest.mark.parametrize("whose", ["caller", "loop"])
def test_compiled_code_is_not_freed_while_a_stack_that_runs_it_waits(whose: str) -> None:
    """That of a function whose call suspends, and that of a loop during a step."""
    end = run_script(f"import sys\nsys.argv[1:] = [{whose!r}]\n{FREED}", env={"PYTHON_JIT": "1", **SOON})
    assert (end.status, end.lines) == (0, ["True 3000"])
    end.assert_clean()
