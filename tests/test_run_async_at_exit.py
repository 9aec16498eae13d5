"""Async code that the program runs in a function registered with atexit, where no thread can be started any more."""

from __future__ import annotations

import pytest

from child import DEV, run_script

pytestmark = pytest.mark.timeout(60)

IN_ATEXIT = """
import atexit

def last():
    print(run(main()), flush=True)
    try:
        threading.Thread(target=print, args=("starts threads",)).start()
    except RuntimeError:
        print("starts none")

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


@pytest.mark.parametrize("run", ["asyncio.run", "uvloop.run"])
@pytest.mark.parametrize("scope", ["process", "caller"])
@pytest.mark.parametrize("used", [False, True], ids=["first-call", "used-before"])
@pytest.mark.parametrize("registered", ["before-import", "after-import"])
@pytest.mark.parametrize("main", [RUN_ASYNC, SYNC_CODE], ids=["run_async", "sync code"])
def test_a_task_inside_atexit_awaits_what_no_other_loop_can_run(
    run: str, scope: str, used: bool, registered: str, main: str
) -> None:
    """It runs in that very task, with its context variables; where the bridge has a loop, or can have one, as some
    versions of Python start threads there, it runs on that (case 82)."""
    script = IN_ATEXIT.format(run=run, scope=scope, used=used, registered=registered, main=main)
    end = run_script(script, flags=DEV)
    found, starts = end.lines
    has_loop = registered == "after-import" and (used or starts == "starts threads")
    assert found == f"((3, '{'syncline' if has_loop else 'MainThread'}'), 3)"
    end.assert_clean()
