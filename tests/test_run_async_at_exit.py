"""Async code that the program runs in a function registered with atexit, where no thread can be started any more."""

from __future__ import annotations

import sys

import pytest

from child import DEV, run_script

pytestmark = pytest.mark.timeout(60)

IN_ATEXIT = """
import atexit

def last():
    print(run(main()), flush=True)

if {registered!r} == "before-import":
    atexit.register(last)
import asyncio
import contextvars
import threading
import uvloop
import syncline
if {registered!r} == "after-import":
    atexit.register(last)

run = {run}
bridge = syncline.Bridge(scope={scope!r})
number = contextvars.ContextVar("number", default=1)

async def counted(by):
    await asyncio.sleep(0)
    number.set(number.get() + by)
    return number.get(), threading.current_thread().name

async def fails():
    await asyncio.sleep(0)
    raise LookupError

if {used}:
    bridge.submit(asyncio.sleep, 0).result()

{main}
"""

RUN_ASYNC = """
async def main():
    found = await bridge.run_async(counted, 2)
    try:
        await bridge.run_async(fails)
    except LookupError:
        return found, number.get()
"""

SYNC_CODE = """
@syncline.nestable
async def main():
    found = bridge.run_sync(counted, 2)
    try:
        bridge.run_sync(fails)
    except LookupError:
        return found, number.get()
"""


def of_the_main_thread(used: bool, registered: str) -> bool:
    """Whether nothing else could run the call."""
    has_runner = used and registered == "after-import"
    can_have_one = sys.version_info < (3, 12) and registered == "after-import"
    return not (has_runner or can_have_one)


@pytest.mark.parametrize("run", ["asyncio.run", "uvloop.run"])
@pytest.mark.parametrize("scope", ["process", "caller"])
@pytest.mark.parametrize("used", [False, True], ids=["first-call", "used-before"])
@pytest.mark.parametrize("registered", ["before-import", "after-import"])
@pytest.mark.parametrize("main", [RUN_ASYNC, SYNC_CODE], ids=["run_async", "sync code"])
def test_a_task_inside_atexit_awaits_what_no_other_loop_can_run(
    run: str, scope: str, used: bool, registered: str, main: str
) -> None:
    """It runs in that very task, with its context variables; where the bridge has a loop, it runs there (case 82)."""
    script = IN_ATEXIT.format(run=run, scope=scope, used=used, registered=registered, main=main)
    end = run_script(script, flags=DEV)
    thread = "MainThread" if of_the_main_thread(used, registered) else "syncline"
    assert end.lines == [f"((3, '{thread}'), 3)"], end.err
    end.assert_clean()
