"""docs/recipes-workers.md: processes that are frozen, as AWS Lambda does it, here by SIGSTOP."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

import recipe_code
from child import Child

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="nothing stops processes there")

RUNTIME = """
import asyncio, sys, threading
sys.path.insert(0, {folder!r})
import syncline, function

function.bridge = syncline.Bridge(scope={scope!r})

class Context:
    def __init__(self, milliseconds):
        self.milliseconds = milliseconds
    def get_remaining_time_in_millis(self):
        return self.milliseconds

async def waits_within(event):
    # From then on the caller waits, and may be frozen. Ends by a line that comes after it was thawed.
    asyncio.get_running_loop().call_soon(lambda: print("waits", flush=True))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    return {{"greeting": "thawed"}}

async def waits_too_long(event):
    asyncio.get_running_loop().call_soon(lambda: print("waits", flush=True))
    await asyncio.sleep(3600)

print("ready", __import__("os").getpid(), flush=True)
for line in sys.stdin:
    match line.strip():
        case "end":
            break
        case "within":
            function.handle, usual = waits_within, function.handle
        case "limited":
            function.handle, usual = waits_too_long, function.handle
        case _:
            usual = function.handle
    try:
        answer = function.handler({{"name": line.strip()}}, Context(60_000 if line.strip() != "limited" else 1_500))
        print(answer["greeting"], flush=True)
    except TimeoutError:
        print("too late", flush=True)
    function.handle = usual
print(threading.active_count(), flush=True)
"""


class Frozen:
    """Stops a process, and lets it go on at the end of a `with` block."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __enter__(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        # Returns when it stands still.
        assert os.WIFSTOPPED(os.waitpid(self.pid, os.WUNTRACED)[1])

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGCONT)


@pytest.mark.parametrize("scope", ["caller", "process", "thread"])
def test_a_process_that_is_frozen_between_calls_and_in_them(tmp_path: Path, scope: str) -> None:
    """Each call has its result, on the same loop; one that was frozen past its limit says so."""
    recipe_code.write(tmp_path, "recipes-workers.md", "AWS Lambda, and whatever freezes processes")
    with Child(RUNTIME.format(folder=str(tmp_path), scope=scope)) as child:
        pid = child.pid
        frozen = Frozen(pid)
        child.expect(f"ready {pid}")
        for name in ("ann", "bob"):
            child.tell(name)
            child.expect(f"hello {name}")
            with frozen:
                pass
        child.tell("within")
        child.expect("waits")
        with frozen:
            child.tell("go on")
        child.expect("thawed")
        child.tell("limited")
        child.expect("waits")
        with frozen:
            pass
        child.expect("too late")
        child.tell("cid")
        child.expect("hello cid")
        child.tell("end")
        # The executor's thread, and the runner's.
        child.expect("2" if scope == "caller" else "3")
        child.finish().assert_clean()
