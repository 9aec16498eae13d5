"""Ctrl-C while loops are closed: cleanup goes on and it is raised at the end; a second one ends the closing."""

from __future__ import annotations

import pytest

from child import run_script
from scripts import WORK

pytestmark = pytest.mark.timeout(60)
scopes = pytest.mark.parametrize("scope", ["process", "thread", "caller"])

# A task that cleans up until it is told that the signal has come, which its own cleanup sends to the main thread.
CLEANS = """
handled = threading.Event()

def interrupt(number, frame):
    handled.set()
    raise RAISES("by a handler")

signal.signal(signal.SIGINT, interrupt)
strikes = 1

async def cleans():
    try:
        await asyncio.sleep(3600)
    finally:
        for _ in range(strikes):
            handled.clear()
            # Not in this coroutine's own code, which the main thread runs in scope "caller": while the loop sleeps.
            threading.Timer(0.1, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)).start()
            while not handled.is_set():
                await asyncio.sleep(0.5)
        if strikes == 2:
            await asyncio.sleep(30)
        print("cleaned up", flush=True)

async def begins():
    global task
    task = asyncio.create_task(cleans())
    await asyncio.sleep(0)

"""


def closing(scope: str, raises: str, script: str) -> list[str]:
    text = WORK.format(scope=scope, cleanup_timeout=60.0) + CLEANS.replace("RAISES", raises) + script
    end = run_script(text)
    assert end.status == 0, end.err
    assert end.seconds < 15
    return end.lines


@scopes
@pytest.mark.parametrize("raises", ["KeyboardInterrupt", "TimeoutError", "SystemExit"])
@pytest.mark.parametrize("how", ["close", "with"])
def test_one_is_raised_when_all_is_cleaned_up(scope: str, raises: str, how: str) -> None:
    """By close() and by leaving the `with` block; nothing of it is left for what comes next (cases 44, 51)."""
    close = "bridge.close()" if how == "close" else "with bridge:\n        pass"
    script = f"""
bridge.run_sync(begins)
try:
    {close}
except {raises} as error:
    print("caught", error, flush=True)
bridge.close()
print(syncline.run_sync(answer), bridge.stats()["active"], flush=True)
"""
    assert closing(scope, raises, script) == ["cleaned up", "caught by a handler", "42 0"]


@scopes
def test_a_second_one_ends_the_closing(scope: str) -> None:
    """What does not come to its end is left behind (case 45)."""
    script = """
strikes = 2
bridge.run_sync(begins)
try:
    bridge.close()
except KeyboardInterrupt as error:
    print("caught", error, flush=True)
os._exit(0)
"""
    assert closing(scope, "KeyboardInterrupt", script) == ["caught by a handler"]


@pytest.mark.parametrize("raises", ["KeyboardInterrupt", "TimeoutError", "SystemExit"])
def test_one_in_the_cleanup_of_run_in_new_loop(raises: str) -> None:
    """The loop is cleaned up and closed, and the call raises it (case 44)."""
    script = f"""
try:
    syncline.run_in_new_loop(begins)
except {raises} as error:
    print("caught", error, flush=True)
print(syncline.run_sync(answer), flush=True)
"""
    assert closing("process", raises, script) == ["cleaned up", "caught by a handler", "42"]


def test_one_in_the_destructor_of_a_bridge_is_raised_right_after() -> None:
    """Scope "caller": the loop is cleaned up in the destructor, which can raise nothing itself (case 44)."""
    script = """
bridge.run_sync(begins)
try:
    del bridge
    for _ in range(1000):
        pass
except KeyboardInterrupt as error:
    print("caught", error, flush=True)
print(syncline.run_sync(answer), flush=True)
"""
    assert closing("caller", "KeyboardInterrupt", script) == ["cleaned up", "caught by a handler", "42"]
