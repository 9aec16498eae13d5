"""What workers of executors run, in the tests of `map(executor=...)`: importable by all of them."""

from __future__ import annotations

import asyncio
import functools
import multiprocessing.util
import os
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import trio
import trio.lowlevel

import syncline


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def double_in_trio(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * number


async def add(first: int, second: int) -> int:
    await asyncio.sleep(0)
    return first + second


async def process_of(_: object) -> int:
    await asyncio.sleep(0)
    return os.getpid()


async def fails_at(bad: int, number: int) -> int:
    await asyncio.sleep(0)
    if number == bad:
        raise ValueError(f"not {number}")
    return number


class Picky(Exception):  # noqa: N818 -- short, as it stands in messages
    """Can't be pickled and be made again."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first)


async def raises_picky(number: int) -> int:
    raise Picky("one", "two")


async def exits(number: int) -> int:
    raise SystemExit(3)


async def gives_a_lock(number: int) -> Any:
    return threading.Lock() if number == 3 else number


def doubled(fn: Callable[[int], Coroutine[Any, Any, int]]) -> Callable[[int], Coroutine[Any, Any, int]]:
    @functools.wraps(fn)
    async def wrapper(number: int) -> int:
        return 2 * await fn(number)

    return wrapper


@doubled
async def decorated(number: int) -> int:
    await asyncio.sleep(0)
    return number


peak: list[int] = [0, 0]


async def counts_itself(number: int) -> int:
    """Returns how many run at once in this process, at most."""
    peak[0] += 1
    peak[1] = max(peak)
    await asyncio.sleep(0.002)
    peak[0] -= 1
    return peak[1]


async def stays(folder: str, number: int) -> int:
    """Runs until it is cancelled, and leaves a file while it does. Number 0 returns at once."""
    if number == 0:
        return 0
    mark = Path(folder) / f"{number}"
    mark.touch()
    try:
        await asyncio.sleep(3600)
    finally:
        await asyncio.sleep(0.01)
        mark.unlink()
    return number


def _wait_for_the_gate(gate: Path) -> None:
    gate.with_suffix(".1").touch()
    while not gate.exists():
        time.sleep(0.01)


async def blocks(gate: str, number: int) -> int:
    """Number 1 blocks its loop until the gate is there, and leaves a file first."""
    if number == 1:
        _wait_for_the_gate(Path(gate))
    return number


async def dies(folder: str, bad: int, times: int, number: int) -> int:
    """Number `bad` kills its process, that many times in all."""
    await asyncio.sleep(0)
    if number == bad:
        deaths = Path(folder) / "deaths"
        before = int(deaths.read_text()) if deaths.exists() else 0
        if before < times:
            deaths.write_text(str(before + 1))
            os.kill(os.getpid(), signal.SIGKILL)
    return number


async def dies_at_the_gate(gate: str, number: int) -> None:
    """Number 0 kills its process when the gate is there; the others stay."""
    if number == 0:
        _wait_for_the_gate(Path(gate))
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(3600)


@syncline.resource
async def number_of_process() -> int:
    await asyncio.sleep(0)
    return os.getpid()


class Held:
    """A resource that leaves a file for as long as it is open."""

    def __init__(self) -> None:
        self.file: Path | None = None

    async def hold(self, file: str) -> None:
        self.file = Path(file)
        self.file.touch()

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        if self.file is not None:
            self.file.unlink()


@syncline.resource
async def held() -> Held:
    return Held()


async def holds(folder: str, number: int) -> int:
    await (await held.aget()).hold(f"{folder}/{os.getpid()}")
    return number


def close_at_the_end() -> None:
    """As docs/processes.md has it."""
    multiprocessing.util.Finalize(None, syncline.default_bridge().close, exitpriority=0)


async def uses_a_resource(_: object) -> int:
    return await number_of_process.aget()


class DiesOnTheWay:
    """Kills each process but its own that makes it of what was pickled, as an async function or as an item."""

    def __init__(self, home: int) -> None:
        self._home = home

    def __reduce__(self) -> Any:
        return _made_on_the_way, (self._home,)

    async def __call__(self, number: int) -> int:
        return number


def _made_on_the_way(home: int) -> DiesOnTheWay:
    if os.getpid() != home:
        os.kill(os.getpid(), signal.SIGKILL)
    return DiesOnTheWay(home)


class DiesOnTheWayBack:
    """Kills the process that pickles it."""

    def __reduce__(self) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


async def gives_what_dies(number: int) -> Any:
    return DiesOnTheWayBack() if number == 3 else number


def fails_to_begin() -> None:
    raise SystemExit(1)  # nothing is printed
