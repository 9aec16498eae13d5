"""A Ctrl-C in the callback by which asyncio's TaskGroup hears of a task's end: the block ends all the same.

Scope "caller", where loops run in the main thread. The time for cleanup is long: a block that did not end would
wait for it.
"""

from __future__ import annotations

import sys

import pytest

from child import run_script

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends a signal")

CODE = """
import asyncio, signal, syncline

struck, ended, heard = [], [], []

class Group(asyncio.TaskGroup):
    # Interleaving: the signal comes in the middle of that callback, or before it has done anything.
    def _on_task_done(self, task):
        heard.append(task.get_name())
        if not struck and task.get_name() == "{name}":
            struck.append(1)
            if {late}:
                self._tasks.discard(task)
            signal.raise_signal(signal.SIGINT)
        super()._on_task_done(task)

async def fails():
    raise ValueError("of a child")

async def main():
    try:
        async with Group() as group:
            group.create_task(asyncio.sleep(0.01), name="first")
            group.create_task({last}, name="last")
    except BaseException as error:
        ended.append(error)
        raise

async def answer():
    await asyncio.sleep(0)
    return 42

with syncline.Bridge(scope="caller", cleanup_timeout=30) as bridge:
    try:
        bridge.run_sync(main)
    except KeyboardInterrupt:
        print("raised")
    print(len(ended), bridge.run_sync(answer), len(heard))
    errors = getattr(ended[0], "exceptions", ())
    print([str(error) for error in errors])
"""


@pytest.mark.timeout(25)
@pytest.mark.parametrize("name", ["first", "last"])
@pytest.mark.parametrize("late", [False, True], ids=["before", "after the task is forgotten"])
def test_the_block_ends(name: str, late: bool) -> None:
    """The interrupt is raised, and the bridge goes on."""
    code = CODE.format(name=name, late=late, last="asyncio.sleep(0.02)")
    finished = run_script(code)
    assert finished.lines[0] == "raised", finished
    assert finished.lines[1].startswith("1 42"), finished


@pytest.mark.timeout(25)
def test_a_childs_error_is_heard_of_once() -> None:
    """It is in the group's, and the interrupt is raised."""
    finished = run_script(CODE.format(name="last", late=False, last="fails()"))
    assert finished.lines[0] == "raised", finished
    assert finished.lines[-1] == "['of a child']", finished
