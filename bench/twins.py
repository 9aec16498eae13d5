"""A class and its blocking twin: what a twin costs, beside synchronicity's.

    python bench/twins.py                   # some seconds
    taskset -c 0 python bench/twins.py      # both threads on one core

Both wrap the same class, and all is measured in turns in one process: figures are medians of those turns. What counts
is the ratio, and for the first line the difference to a call of `run_sync` with the same method.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any, Self

import synchronicity

import syncline

ITEMS = 100
MANY = 10_000
METHODS = 200


class AsyncClient:
    """What both make a twin of."""

    async def get(self, key: str, *, default: str | None = None) -> str | None:
        return default

    async def child(self) -> AsyncClient:
        return AsyncClient()

    async def items(self, count: int) -> AsyncIterator[int]:
        for number in range(count):
            yield number

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None: ...


def large_class() -> type:
    """A class with many methods."""
    lines = ["class Large:"]
    for number in range(METHODS):
        lines.append(f"    async def method_{number}(self, key: str, *, default: str | None = None) -> str:")
        lines.append("        'One of many.'")
        lines.append("        return key")
    space: dict[str, Any] = {}
    exec("\n".join(lines), space)
    made: type = space["Large"]
    return made


def seconds(body: Callable[[], Any], count: int) -> float:
    """What one of so many calls takes."""
    start = time.perf_counter()
    for _ in range(count):
        body()
    return (time.perf_counter() - start) / count


def in_turns(bodies: dict[str, Callable[[], Any]], count: int, rounds: int) -> dict[str, list[float]]:
    """Measures each in each round, so that what disturbs one of them disturbs all."""
    for body in bodies.values():
        body()
    found: dict[str, list[float]] = {name: [] for name in bodies}
    for _ in range(rounds):
        for name, body in bodies.items():
            found[name].append(seconds(body, count))
    return found


def enter(make: Callable[[], Any]) -> None:
    with make():
        pass


def bytes_each(make: Callable[[], list[Any]]) -> float:
    """The memory that so many twins take, without their objects."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = make()
    gc.collect()
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    return taken / len(made)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=25, metavar="N", help="how often each is measured")
    rounds = parser.parse_args().rounds

    synchronizer = synchronicity.Synchronizer()
    their_class: Any = synchronizer.create_blocking(AsyncClient, "Theirs", __name__)
    our_class = syncline.blocking(AsyncClient, name="Ours")
    ours, theirs = our_class(), their_class()
    raw = AsyncClient()

    calls = in_turns(
        {
            "run_sync": lambda: syncline.run_sync(raw.get, "key"),
            "syncline": lambda: ours.get("key"),
            "synchronicity": lambda: theirs.get("key"),
        },
        300,
        rounds,
    )
    apart = statistics.median(
        twin - call for call, twin in zip(calls["run_sync"], calls["syncline"], strict=True)
    )
    print(f"{'microseconds':<34}{'syncline':>10}{'synchronicity':>15}{'ratio':>8}")

    def row(what: str, found: dict[str, list[float]], per: int = 1) -> None:
        mine, other = (statistics.median(found[name]) / per * 1e6 for name in ("syncline", "synchronicity"))
        print(f"{what:<34}{mine:>10.2f}{other:>15.2f}{mine / other:>8.3f}")

    row("a method's call", calls)
    made = in_turns({"syncline": ours.child, "synchronicity": theirs.child}, 200, rounds)
    row("a call that gives a twin", made)
    items = in_turns(
        {"syncline": lambda: list(ours.items(ITEMS)), "synchronicity": lambda: list(theirs.items(ITEMS))},
        3,
        rounds,
    )
    row("an item of a generator", items, ITEMS)
    entered = in_turns(
        {"syncline": lambda: enter(lambda: ours), "synchronicity": lambda: enter(lambda: theirs)}, 100, rounds
    )
    row("entering and leaving", entered)
    new = in_turns({"syncline": our_class, "synchronicity": their_class}, 200, rounds)
    row("making an object", new)
    print(
        f"\na method's call takes {apart * 1e6:.2f} us more than run_sync, which takes "
        f"{statistics.median(calls['run_sync']) * 1e6:.2f} us"
    )

    large = [large_class() for _ in range(10)]
    twins = [seconds(lambda kind=kind: syncline.blocking(kind), 1) for kind in large]
    peers = [
        seconds(lambda kind=kind: synchronizer.create_blocking(kind, "Large", __name__), 1)
        for kind in [large_class() for _ in range(10)]
    ]
    print(
        f"the twin of a class with {METHODS} methods: {statistics.median(twins) * 1e3:.1f} ms, synchronicity's "
        f"{statistics.median(peers) * 1e3:.1f} ms"
    )
    objects = [AsyncClient() for _ in range(MANY)]
    mine = bytes_each(lambda: [syncline.blocking(each) for each in objects])
    others = [AsyncClient() for _ in range(MANY)]
    other = bytes_each(lambda: [synchronizer._translate_out(each) for each in others])
    print(f"{MANY} twins of objects that are there: {mine:.0f} bytes each, synchronicity's {other:.0f}")


if __name__ == "__main__":
    main()
