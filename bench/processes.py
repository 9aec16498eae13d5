"""`map` in one process and in several: what `executor=` gains, and where it doesn't.

    python bench/processes.py [--check]

In turns, medians of the calls a second, each process where the system puts it. `--check` fails if four processes on two
cores don't make 1.8 times the calls of one, for calls that compute for a millisecond.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import syncline

ROUNDS = 3
COMPUTES_SECONDS = 0.001
TARGET = 1.8


async def nothing(item: int) -> int:
    """Never suspends."""
    return item


async def waits(item: int) -> int:
    """Waits for a timer of 10 ms, as for a service."""
    await asyncio.sleep(0.01)
    return item


async def computes(item: int) -> int:
    """Computes for a millisecond of CPU time."""
    end = time.thread_time() + COMPUTES_SECONDS
    while time.thread_time() < end:
        pass
    return item


async def both(item: int) -> int:
    """Fetches and parses."""
    await asyncio.sleep(0.01)
    return await computes(item)


WORK: dict[str, tuple[Callable[[int], Any], int, int]] = {
    "never suspends": (nothing, 20_000, 1000),
    "waits 10 ms": (waits, 2000, 250),
    "computes 1 ms": (computes, 400, 20),
    "waits 10 ms, computes 1 ms": (both, 400, 20),
}
"""What is called, how often, and in chunks of how many."""
SETTINGS = {"no executor": 0, "1 process": 1, "2 processes": 2, "4 processes": 4}


def per_second(fn: Callable[[int], Any], count: int, options: dict[str, Any]) -> float:
    """Calls a second of one `map`."""
    start = time.perf_counter()
    for _ in syncline.map(fn, range(count), limit=100, **options):
        pass
    return count / (time.perf_counter() - start)


def measured(executors: dict[str, Any]) -> Iterator[tuple[str, dict[str, float]]]:
    """Medians by setting, for each kind of work."""
    for work, (fn, count, chunk) in WORK.items():
        samples: dict[str, list[float]] = {setting: [] for setting in SETTINGS}
        for _ in range(ROUNDS):
            for setting, executor in executors.items():
                options = {} if executor is None else {"executor": executor, "chunk": chunk}
                samples[setting].append(per_second(fn, count, options))
        yield work, {setting: statistics.median(each) for setting, each in samples.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="fail if the target is missed")
    checks = parser.parse_args().check
    context = get_context("spawn")
    executors: dict[str, Any] = {}
    for setting, processes in SETTINGS.items():
        executors[setting] = ProcessPoolExecutor(processes, mp_context=context) if processes else None
    for executor in filter(None, executors.values()):  # starts all processes, and their loops
        list(syncline.map(functools.partial(waits), range(40), chunk=1, executor=executor))
    print(f"| {os.cpu_count()} cores | {' | '.join(SETTINGS)} |")
    print(f"|---|{'---|' * len(SETTINGS)}")
    gain = 0.0
    for work, medians in measured(executors):
        print(f"| {work} | {' | '.join(f'{medians[setting]:,.0f}' for setting in SETTINGS)} |", flush=True)
        if work == "computes 1 ms":
            gain = medians["4 processes"] / medians["1 process"]
    print(f"\n4 processes compute {gain:.2f} times what one does")
    for executor in filter(None, executors.values()):
        executor.shutdown()
    if checks and gain < TARGET:
        raise SystemExit(f"missed: {TARGET} times")


if __name__ == "__main__":
    main()
