"""Calls in every direction, for a package that was just installed: a program, to be run where nothing else is."""

from __future__ import annotations

import asyncio
import importlib.metadata
import platform
import sys
import sysconfig
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import syncline


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return number * 2


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(count):
        yield await double(number)


@syncline.contextmanager
async def session() -> AsyncIterator[str]:
    yield "open"


def nested() -> tuple[int, bool]:
    """The result of a call made on the loop's thread, and whether it started a thread."""
    before = threading.active_count()
    return syncline.run_sync(double, 4), threading.active_count() > before


async def in_a_task() -> tuple[int, bool]:
    return nested()


async def in_a_worker() -> int:
    return await syncline.to_thread(syncline.from_thread, double, 5)


def checks() -> Iterator[tuple[str, bool]]:
    """What was tried, and whether it did what it should."""
    yield "run_sync", syncline.run_sync(double, 1) == 2
    yield "run with a timeout", syncline.run(double(2), timeout=5) == 4
    yield "submit", syncline.submit(double, 3).result(5) == 6
    yield "a nested call, in place", syncline.run_sync(in_a_task) == (8, False)
    yield "worker threads", syncline.run_sync(in_a_worker) == 10
    yield "iterate", list(syncline.iterate(numbers(3), prefetch=2)) == [0, 2, 4]
    with session() as state:
        yield "contextmanager", state == "open"
    yield "run_in_new_loop", syncline.run_in_new_loop(double, 6) == 12
    with syncline.Bridge(scope="caller") as bridge:
        yield 'scope "caller"', bridge.run_sync(double, 7) == 14
    yield "types", (Path(syncline.__file__).parent / "py.typed").exists()


failed = [what for what, is_right in checks() if not is_right]
result = f"failed: {', '.join(failed)}" if failed else "works"
system = (
    f"{platform.python_implementation()} {platform.python_version()}, {sysconfig.get_config_var('SOABI')}"
)
print(f"syncline {importlib.metadata.version('syncline')} on {system}: {result}")
sys.exit(bool(failed))
