"""What a sync function in a worker thread costs, called from async code: with syncline, and with others.

    python bench/threads.py                  # loops: asyncio, uvloop; one core, and unpinned
    python bench/threads.py --check          # fails where we miss a target

1. Each placement and loop gets a process of its own. 2. In it all peers take turns, sample by sample, and the figure is
the median of the samples by the median of `asyncio.to_thread`'s.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from placement import PLACEMENTS

ToThread = Callable[..., Awaitable[Any]]
REFERENCE = "asyncio.to_thread"
AT_ONCE = 100
TARGETS = {"one": 0.6, "hundred": 1 / 1.5, "back": 1.0}
"""The most that we may cost, as a ratio to the reference."""
TITLES = {
    "one": "one await",
    "hundred": f"one of {AT_ONCE} at once",
    "back": "one await, which calls back once",
}


def nothing() -> None:
    """What is called: only the way there and back costs something."""


async def nothing_async() -> None:
    """What is called back."""


def peers() -> dict[str, tuple[ToThread, Callable[[], Any] | None]]:
    """Each way to call a function in a thread, and a function that calls back to the loop from there."""
    import syncline

    loop = asyncio.get_running_loop()

    def back_by_future() -> Any:
        return asyncio.run_coroutine_threadsafe(nothing_async(), loop).result()

    found: dict[str, tuple[ToThread, Callable[[], Any] | None]] = {
        REFERENCE: (asyncio.to_thread, back_by_future),
        "run_in_executor": (lambda fn: loop.run_in_executor(None, fn), back_by_future),
        "syncline": (syncline.to_thread, lambda: syncline.from_thread(nothing_async)),
    }
    if importlib.util.find_spec("anyio"):
        import anyio.from_thread
        import anyio.to_thread

        found["anyio"] = (anyio.to_thread.run_sync, lambda: anyio.from_thread.run(nothing_async))
    if importlib.util.find_spec("asgiref"):
        from asgiref.sync import sync_to_async

        found["asgiref"] = (lambda fn: sync_to_async(fn, thread_sensitive=False)(), None)
    return found


async def one(call: ToThread, function: Callable[[], Any], count: int) -> None:
    for _ in range(count):
        await call(function)


async def hundred(call: ToThread, function: Callable[[], Any], count: int) -> None:
    for _ in range(max(count // AT_ONCE, 1)):
        await asyncio.gather(*(call(function) for _ in range(AT_ONCE)))


async def measure(samples: int, count: int) -> dict[str, dict[str, float]]:
    """Microseconds a call, by scenario and peer."""
    taken: dict[str, dict[str, list[float]]] = {scenario: {} for scenario in TITLES}
    for sample in range(samples + 1):
        for name, (call, back) in peers().items():
            for scenario, body in (("one", one), ("hundred", hundred), ("back", one)):
                function = back if scenario == "back" else nothing
                if function is None:
                    continue
                began = time.perf_counter()
                await body(call, function, count)
                spent = (time.perf_counter() - began) / count * 1e6
                # The first round starts threads, and does not count.
                if sample:
                    taken[scenario].setdefault(name, []).append(spent)
    return {
        scenario: {name: statistics.median(all_) for name, all_ in by.items()}
        for scenario, by in taken.items()
    }


def child(placement: str, loop: str, samples: int, count: int) -> None:
    PLACEMENTS[placement]().start()
    if loop == "uvloop":
        import uvloop

        print(json.dumps(uvloop.run(measure(samples, count))))
    else:
        print(json.dumps(asyncio.run(measure(samples, count))))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--samples", type=int, default=9)
    parser.add_argument("--count", type=int, default=2000, help="calls in a sample")
    parser.add_argument("--check", action="store_true", help="fail where we miss a target on one core")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(*options.child, options.samples, options.count)
        return 0
    missed = []
    for placement in ("one-core", "unpinned"):
        for loop in ["asyncio"] + (["uvloop"] if importlib.util.find_spec("uvloop") else []):
            sizes = ["--samples", str(options.samples), "--count", str(options.count)]
            command = [sys.executable, __file__, "--child", placement, loop, *sizes]
            figures = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            print(f"\n{PLACEMENTS[placement].title}, {loop}; microseconds a call (ratio to {REFERENCE})")
            for scenario, by_peer in figures.items():
                reference = by_peer[REFERENCE]
                row = "  ".join(f"{name} {us:.1f} ({us / reference:.2f})" for name, us in by_peer.items())
                print(f"  {TITLES[scenario]}: {row}")
                if placement == "one-core" and by_peer["syncline"] / reference > TARGETS[scenario]:
                    missed.append(f"{scenario} on {loop}")
    if missed:
        print("missed:", ", ".join(missed))
    return int(bool(missed) and options.check)


if __name__ == "__main__":
    sys.exit(main())
