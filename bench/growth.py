"""What grows: the time and the memory of an item while there are more and more of them.

    python bench/growth.py                  # a table; some two minutes
    python bench/growth.py --quick          # without the largest numbers
    python bench/growth.py --csv docs/growth.csv --check

Each figure comes from a process of its own. Most are CPU time, which other processes disturb least. `--check` fails if
anything of ours grows faster than its number: if ten times as many take more than `TOLERATED` times ten times as long.
Python's garbage collector goes through all objects that live, again and again while many are made, so what is made in
masses is measured with and without it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextvars
import csv
import gc
import json
import math
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import syncline

TOLERATED = 1.6
"""Ten times as many objects don't fit the processor's caches any more, which alone makes each one dearer."""
FEWEST_SECONDS = 0.002
"""What takes less is too short to say anything about growth."""
CALLS = 2000
AT_ONCE = 16


def resident() -> int:
    """Bytes of memory that this process has in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class Cost:
    """What a block costs, in seconds of CPU time, and in bytes that it leaves in use."""

    def __enter__(self) -> Self:
        self._bytes, self._begun = resident(), time.process_time()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.seconds = time.process_time() - self._begun
        self.bytes = resident() - self._bytes


async def nothing() -> None: ...


async def turn() -> None:
    await asyncio.sleep(0)


AsyncFunction = Callable[[], Coroutine[Any, Any, None]]
Measured = dict[str, tuple[float, int | None]]
"""Seconds in all, and bytes, of each thing that was measured."""


def submitted(number: int) -> Measured:
    """So many calls in flight: what it takes to start them, and to get all results."""

    def waiting(_: syncline.Bridge, event: asyncio.Event) -> AsyncFunction:
        async def wait() -> None:
            await event.wait()

        return wait

    start, end = _in_flight(number, waiting)
    return {"submit": (start.seconds, start.bytes), "results": (end.seconds, None)}


def parked(number: int) -> Measured:
    """So many nested calls that wait at a time, each in a stack of its own."""

    def nesting(bridge: syncline.Bridge, event: asyncio.Event) -> AsyncFunction:
        async def outer() -> None:
            bridge.run_sync(event.wait)  # sync code would stand in between

        return outer

    start, end = _in_flight(number, nesting)
    return {"park": (start.seconds, start.bytes), "resume": (end.seconds, None)}


def _in_flight(
    number: int, made: Callable[[syncline.Bridge, asyncio.Event], AsyncFunction]
) -> tuple[Cost, Cost]:
    """So many calls of what is made for a bridge and an event: begun until they wait for it, and ended."""
    with syncline.Bridge() as bridge:
        event = bridge.run_sync(_new_event)
        call = made(bridge, event)
        bridge.submit(turn).result()
        with Cost() as start:
            futures = [bridge.submit(call) for _ in range(number)]
            bridge.run_sync(turn)
        with Cost() as end:
            bridge.call(event.set)
            for future in futures:
                future.result()
    return start, end


def cancelled(number: int) -> Measured:
    """The same, but all are cancelled, the last one first."""
    with syncline.Bridge() as bridge:

        async def wait() -> None:
            # No event's: asyncio's own queue of waiters is searched through for each that leaves it.
            await asyncio.get_running_loop().create_future()

        futures = [bridge.submit(wait) for _ in range(number)]
        bridge.run_sync(turn)
        with Cost() as cost:
            for future in reversed(futures):
                future.cancel()
            bridge.run_sync(turn)
            bridge.run_sync(turn)
    return {"cancel": (cost.seconds, None)}


def queued(number: int) -> Measured:
    """Calls that queue for a worker thread, and are cancelled, the last one first."""

    async def main() -> Measured:
        gate, limiter = threading.Event(), syncline.ThreadLimiter(1)
        first = asyncio.create_task(limiter.to_thread(gate.wait))
        await turn()
        with Cost() as queue:
            tasks = [asyncio.create_task(limiter.to_thread(int)) for _ in range(number)]
            await turn()
        with Cost() as cancel:
            for task in reversed(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        gate.set()
        await first
        return {"queue": (queue.seconds, queue.bytes), "cancel queued": (cancel.seconds, None)}

    return asyncio.run(main())


def plain_tasks(number: int) -> Measured:
    """asyncio's own tasks, for comparison."""

    async def main() -> Measured:
        event = asyncio.Event()
        with Cost() as start:
            tasks = [asyncio.create_task(event.wait()) for _ in range(number)]
            await turn()
        with Cost() as end:
            event.set()
            await asyncio.wait(tasks)
        return {"asyncio tasks": (start.seconds, start.bytes), "their results": (end.seconds, None)}

    return asyncio.run(main())


def callers(number: int) -> Measured:
    """So many threads that call one loop; the memory is that of a thread. The same with the standard library's way."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def reference(fn: Any) -> None:
        asyncio.run_coroutine_threadsafe(fn(), loop).result()

    with syncline.Bridge() as bridge:
        mine, size = _of_threads(number, bridge.run_sync)
    theirs, _ = _of_threads(number, reference)
    loop.call_soon_threadsafe(loop.stop)
    return {"callers": (mine, size), "callers of the reference": (theirs, None)}


def _of_threads(number: int, call: Callable[[Any], object]) -> tuple[float, int]:
    """CPU seconds of one call of each thread, and bytes of them all."""
    ready, gate = threading.Semaphore(0), threading.Event()
    calls = max(AT_ONCE, CALLS // number)

    def caller() -> None:
        call(nothing)
        ready.release()
        gate.wait()
        for _ in range(calls):
            call(turn)

    threads = [threading.Thread(target=caller) for _ in range(number)]
    with Cost() as start:
        for thread in threads:
            thread.start()
            ready.acquire()
    with Cost() as cost:
        gate.set()
        for thread in threads:
            thread.join()
    return cost.seconds / calls, start.bytes


def loops(number: int) -> Measured:
    """So many loops of scope "thread": a caller's first call, and the closing of the bridge."""
    bridge = syncline.Bridge(scope="thread")
    ready, gate = threading.Semaphore(0), threading.Event()

    def caller() -> None:
        bridge.run_sync(nothing)
        ready.release()
        gate.wait()

    threads = [threading.Thread(target=caller) for _ in range(number)]
    with Cost() as start:
        for index, thread in enumerate(threads):
            thread.start()
            if index >= AT_ONCE:
                ready.acquire()
        for _ in threads[:AT_ONCE]:
            ready.acquire()
    with Cost() as close:
        bridge.close()
    gate.set()
    for thread in threads:
        thread.join()
    return {"loops": (start.seconds, start.bytes), "close": (close.seconds, None)}


def variables(number: int) -> Measured:
    """Calls from a context with so many variables; seconds of a thousand calls, not of a variable."""
    for index in range(number):
        contextvars.ContextVar(f"v{index}").set(index)
    changed: contextvars.ContextVar[int] = contextvars.ContextVar("changed")

    async def change() -> None:
        changed.set(changed.get(0) + 1)

    def calls(fn: Any) -> float:
        with syncline.Bridge() as bridge:
            bridge.run_sync(fn)
            with Cost() as cost:
                for _ in range(1000):
                    bridge.run_sync(fn)
        return cost.seconds

    return {"call": (calls(nothing), None), "call that changes one": (calls(change), None)}


async def _new_event() -> asyncio.Event:
    return asyncio.Event()


@dataclass(frozen=True)
class Kind:
    """What is measured, and of how many."""

    measure: Callable[[int], Measured]
    numbers: tuple[int, ...]
    ours: bool = True
    collects: bool = False
    """Whether so many objects are made that the garbage collector counts: then both are measured, and the figures
    without it are ours."""
    an_item: bool = True
    """Whether the figure is that of an item; else that of a call beside so many."""


KINDS: dict[str, Kind] = {
    "submitted": Kind(submitted, (1000, 10_000, 100_000, 1_000_000), collects=True),
    "plain_tasks": Kind(plain_tasks, (1000, 10_000, 100_000, 1_000_000), ours=False, collects=True),
    "cancelled": Kind(cancelled, (1000, 10_000, 100_000), collects=True),
    "queued": Kind(queued, (1000, 10_000, 100_000), collects=True),
    "parked": Kind(parked, (100, 1000, 10_000, 100_000), collects=True),
    "callers": Kind(callers, (1, 10, 100, 1000)),
    "loops": Kind(loops, (10, 100, 1000)),
    "variables": Kind(variables, (10, 100, 1000, 10_000), an_item=False),
}


@dataclass(frozen=True)
class Figure:
    """One figure: of an item, where that makes sense."""

    what: str
    number: int
    seconds: float
    size: float | None
    ours: bool
    an_item: bool

    @property
    def each(self) -> float:
        """Seconds of an item; or of a call, of which there were a thousand."""
        return self.seconds / (self.number if self.an_item else 1000)


def measured(name: str, number: int, collected: bool) -> Iterator[Figure]:
    """In a process of its own."""
    command = [sys.executable, __file__, "--one", name, str(number)]
    environment = os.environ | ({} if collected else {"GROWTH_WITHOUT_GC": "1"})
    answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment, timeout=300).stdout
    kind = KINDS[name]
    for what, (seconds, size) in json.loads(answer).items():
        shown = what if collected or not kind.collects else f"{what}, no gc"
        each = None if size is None else size / number
        yield Figure(shown, number, seconds, each, kind.ours, kind.an_item)


def exponent(figures: list[Figure]) -> float | None:
    """By which power of the number the whole time grows, over the last steps that took long enough."""
    usable = [figure for figure in figures if figure.seconds >= FEWEST_SECONDS]
    if len(usable) < 2:
        return None
    first, last = usable[-min(3, len(usable))], usable[-1]
    by = math.log(last.number / first.number)
    grown = math.log(last.each / first.each) / by
    return grown + 1 if last.an_item else grown


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="without the largest numbers")
    parser.add_argument(
        "--kind", action="append", choices=KINDS, metavar="NAME", help="only this; repeatable"
    )
    parser.add_argument(
        "--csv", type=Path, metavar="OUT.csv", help="also write the figures there, for the docs"
    )
    parser.add_argument("--check", action="store_true", help="fail if anything grows faster than its number")
    parser.add_argument("--one", nargs=2, metavar=("KIND", "NUMBER"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        if os.environ.get("GROWTH_WITHOUT_GC"):
            gc.disable()
        print(json.dumps(KINDS[options.one[0]].measure(int(options.one[1]))))
        return 0
    rows: dict[str, list[Figure]] = {}
    for name, kind in KINDS.items():
        if options.kind and name not in options.kind:
            continue
        for number in kind.numbers[: -1 if options.quick else None]:
            for collected in (True, False) if kind.collects else (True,):
                for figure in measured(name, number, collected):
                    rows.setdefault(figure.what, []).append(figure)
    limit = 1 + math.log10(TOLERATED)
    judged = {what for what in rows if is_judged(what, rows)}
    beside = exponent(rows.get("callers of the reference", [])) or 1.0
    missed = False
    print("| | how many: microseconds of CPU time each (bytes each) | time grows with the power |")
    print("|---|---|---|")
    for what, figures in rows.items():
        grows = exponent(figures)
        cells = [f"{figure.number:,}: {figure.each * 1e6:.3g}{_bytes(figure.size)}" for figure in figures]
        allowed = max(limit, beside + 0.1) if what == "callers" else limit
        fails = what in judged and grows is not None and grows > allowed
        missed |= fails
        shown = "-" if grows is None else f"{grows:.2f}{' MISS' if fails and options.check else ''}"
        print(f"| {what} | {'; '.join(cells)} | {shown} |")
    if options.csv:
        with options.csv.open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["what", "number", "microseconds", "bytes"])
            for each in (figure for row in rows.values() for figure in row):
                size = "" if each.size is None else f"{each.size:.0f}"
                writer.writerow([each.what, each.number, f"{each.each * 1e6:.3g}", size])
    return int(missed and options.check)


def is_judged(what: str, rows: dict[str, list[Figure]]) -> bool:
    """Whether it is ours: not that of asyncio's own things, nor where the collector's passes are counted."""
    return rows[what][0].ours and f"{what}, no gc" not in rows and "reference" not in what


def _bytes(size: float | None) -> str:
    return "" if size is None else f" ({size:,.0f})"


if __name__ == "__main__":
    sys.exit(main())
