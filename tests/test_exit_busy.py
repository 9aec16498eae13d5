"""Code that never ends keeps a loop busy as the program ends: its thread is left behind; the process ends as any."""

from __future__ import annotations

import pytest

from child import run_script

pytestmark = pytest.mark.timeout(60)

SCRIPT = """
import asyncio
import sys
import threading

import syncline

begun = threading.Event()

def spin():
    begun.set()
    while True:
        pass

async def first_step():
    spin()

async def cleanup():
    begun.set()
    try:
        await asyncio.sleep(60)
    finally:
        spin()

async def callback():
    asyncio.get_running_loop().call_soon(spin)
    await asyncio.sleep(60)

async def nested():
    bridge.run_sync(first_step)

async def errand():
    await syncline.to_caller(spin)

bridge = syncline.Bridge(cleanup_timeout=0.2, scope={scope!r}, backend={backend!r})
threading.Thread(target=bridge.run_sync, args=({what},), daemon=True).start()
begun.wait()
print("end")
"""


@pytest.mark.parametrize("scope", ["process", "thread", "caller"])
@pytest.mark.parametrize("what", ["first_step", "cleanup", "callback", "nested", "errand"])
def test_a_thread_that_is_left_behind_does_not_break_the_exit(scope: str, what: str) -> None:
    """Where the interpreter kills threads, before Python 3.14, by unwinding them, that aborted. Interleaving: the
    program ends once the code has begun that never does."""
    end = run_script(SCRIPT.format(scope=scope, backend="asyncio", what=what), limit=30)
    assert (end.status, end.lines) == (0, ["end"]), end.err


@pytest.mark.parametrize("what", ["first_step", "nested", "errand"])
def test_nor_does_one_of_trio(what: str) -> None:
    end = run_script(SCRIPT.format(scope="process", backend="trio", what=what), limit=30)
    assert (end.status, end.lines) == (0, ["end"]), end.err


LOOKED_AT = """
import asyncio
import threading
import time

import syncline
import syncline._diagnosis

begun, looks = threading.Event(), threading.Event()

def look():
    # Interleaving: the program ends while a thread that waits is in here, which the exit has to wait for.
    if threading.current_thread().name == "waits":
        looks.set()
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass

class Loop(asyncio.SelectorEventLoop):
    def is_running(self):
        look()
        return super().is_running()

def thread_of_loop(loop):
    look()

syncline._diagnosis.thread_of_loop = thread_of_loop
loop = {loop}
threading.Thread(target=loop.run_forever, daemon=True).start()
bridge = syncline.Bridge(loop=loop)

async def never():
    begun.set()
    await asyncio.sleep(60)

threading.Thread(target=bridge.run_sync, args=(never,), daemon=True, name="waits").start()
begun.wait()
looks.wait()
print("end")
"""


@pytest.mark.parametrize(
    "loop", ["Loop()", "__import__('uvloop').new_event_loop()"], ids=["asyncio", "uvloop"]
)
def test_a_look_of_a_thread_that_waits_is_waited_for(loop: str) -> None:
    """By what Python code it asks whether a loop of somebody else's runs, and, of uvloop's, in which thread. Before
    Python 3.14 that crashed."""
    if "uvloop" in loop:
        pytest.importorskip("uvloop")
    end = run_script(LOOKED_AT.format(loop=loop), limit=30)
    assert (end.status, end.lines) == (0, ["end"]), end.err


ASKED_AT_THE_END = """
import asyncio
import threading
import time

import anyio
import syncline
import syncline._trio

begun = threading.Event()

def look():
    # Interleaving: the program ends while a worker whose call has ended is in here.
    if threading.current_thread().name.startswith("syncline-worker"):
        until = time.monotonic() + 0.3
        while time.monotonic() < until:
            pass

class Loop(asyncio.SelectorEventLoop):
    def is_closed(self):
        look()
        return super().is_closed()

class TrioLoop(syncline._trio.TrioLoop):
    def is_closed(self):
        look()
        return super().is_closed()

syncline._trio.TrioLoop = TrioLoop
bridge = syncline.Bridge({options})

async def never():
    begun.set()
    await anyio.sleep_forever()

def wait():
    bridge.run_sync(syncline.to_thread, bridge.run_sync, never)

threading.Thread(target=wait, daemon=True).start()
begun.wait()
print("end")
"""


@pytest.mark.parametrize("options", ["backend='trio'", "loop_factory=Loop"])
def test_a_worker_whose_call_the_exit_has_ended_asks_no_loop(options: str) -> None:
    """For its error, it need not know whether its bridge's loop is closed. Before Python 3.14 the exit killed it there,
    which crashed."""
    end = run_script(ASKED_AT_THE_END.format(options=options), limit=30)
    assert (end.status, end.lines) == (0, ["end"]), end.err
