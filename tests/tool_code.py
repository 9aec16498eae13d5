"""Programs with nested calls in place, for tools to look at.

`ONE_CALL` makes one, that suspends, while another task turns. In `PROGRAM` two tasks at a time compute in a coroutine
that sync code waits for, before and after it suspends, and in the coroutine that called that sync code. A third task is
parked in a nested call meanwhile.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

BURNS_SECONDS = 0.02
PROGRAM = f"""\
import asyncio
import sys
import time

import syncline

bridge = syncline.Bridge(scope=sys.argv[1], nested=sys.argv[2])


def burn():
    end = time.thread_time() + {BURNS_SECONDS}
    while time.thread_time() < end:
        sum(range(200))


def burn_inner():
    burn()


def burn_outer():
    burn()


async def inner():
    burn_inner()
    await asyncio.sleep(0.001)
    burn_inner()


def sync_code():
    bridge.run_sync(inner)


async def outer():
    sync_code()
    burn_outer()


async def parked_inner(done):
    await done.wait()


def parked_sync(done):
    bridge.run_sync(parked_inner, done)


async def parked_outer(done):
    parked_sync(done)


async def main(rounds):
    done = asyncio.Event()
    parked = asyncio.create_task(parked_outer(done))
    for _ in range(rounds):
        await asyncio.gather(outer(), outer())
    done.set()
    await parked


def program(rounds):
    bridge.run_sync(main, rounds)


if __name__ == "__main__":
    program(int(sys.argv[3]))
"""
ONE_CALL = """\
import asyncio
import sys

import syncline

bridge = syncline.Bridge(scope=sys.argv[1])


async def inner(number):
    before = number + 1
    await asyncio.sleep(0.01)
    after = before + 1
    return after


def sync_code(number):
    got = bridge.run_sync(inner, number)
    return got + 1


async def outer(number):
    got = sync_code(number)
    return got + 1


async def ticks():
    for _ in range(5):
        await asyncio.sleep(0.003)


async def main():
    ticking = asyncio.create_task(ticks())
    result = await outer(1)
    await ticking
    return result

print("result", bridge.run_sync(main))
"""
STACK = ["carry", "outer", "sync_code", "inner", "burn_inner", "burn"]
"""Where an inner coroutine computes, from the base of its greenlet on."""


def write(folder: Path) -> None:
    """Writes the program."""
    (folder / "program.py").write_text(PROGRAM)


def python(folder: Path, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    """Runs Python there, with something on its standard input."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        input=said,
        capture_output=True,
        text=True,
        timeout=55,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["", *sys.path])},
    )
