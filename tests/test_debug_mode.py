"""asyncio's debug mode, Python's development mode and warnings as errors stay silent."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import asyncio
import syncline

async def add(a, b):
    await asyncio.sleep(0)
    return a + b

@syncline.synced
async def count(n):
    for i in range(n):
        yield i

def nested():
    return syncline.run_sync(add, 1, 1)

async def outer():
    return nested()

for scope in ("process", "thread", "caller"):
    bridge = syncline.Bridge(scope=scope)
    assert bridge.run_sync(add, 1, 2) == 3
    assert bridge.run(add(1, 2), timeout=5) == 3
    assert bridge.submit(add, 1, 2).result(5) == 3
    assert bridge.run_sync(outer) == 2
    if scope != "process":
        bridge.close()
assert list(count(3)) == [0, 1, 2]
next(count(3))
assert asyncio.run(outer()) == 2
print("done")
"""


@pytest.mark.parametrize(
    "flags", [[], ["-X", "dev"], ["-W", "error"], ["-X", "dev", "-W", "error"]], ids=" ".join
)
@pytest.mark.parametrize("debug", ["", "1"], ids=["plain", "asyncio debug"])
def test_every_mode_is_silent(flags: list[str], debug: str) -> None:
    """No warning, no unclosed loop, no slow-callback report (cases 21, 87)."""
    environment = {**os.environ, "PYTHONASYNCIODEBUG": debug}
    ended = subprocess.run(
        [sys.executable, *flags, "-c", SCRIPT],
        capture_output=True,
        text=True,
        timeout=50,
        env=environment,
        check=False,
    )
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "done\n")


def test_import_loads_nothing_heavy() -> None:
    """asyncio, anyio and greenlet come with the first call."""
    script = """
import sys
sys.path[:0] = PATH
import syncline
print([name for name in ("asyncio", "anyio", "greenlet", "inspect", "typing") if name in sys.modules])
"""
    command = [sys.executable, "-I", "-S", "-c", script.replace("PATH", repr(sys.path))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=50, check=True)
    assert ended.stdout == "[]\n"
