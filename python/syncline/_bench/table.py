"""The hop on this machine in some seconds, as a table: our scopes against the reference, in turns, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

from .peers import Peer, Reference, Syncline, SynclineCaller, SynclineThread
from .placement import Placement
from .samples import (
    Sample,
    answer,
    calling,
    entering,
    fitting_count,
    in_turns,
    in_worker_threads,
    iterating,
    nested,
    turn,
)

COLUMNS: tuple[tuple[str, type[Peer]], ...] = (
    ("reference", Reference),
    ('"process"', Syncline),
    ('"thread"', SynclineThread),
    ('"caller"', SynclineCaller),
)
ROWS: dict[str, Sample] = {
    "plain": calling(answer),
    "sleep0": calling(turn),
    "nested": nested(answer),
    "items": iterating(0),
    "enter": entering,
    "to_thread": in_worker_threads(1, on_its_loop=True),
}
LEGEND = """\
Microseconds, and their ratio to the reference, asyncio.run_coroutine_threadsafe(coro, loop).result() on a loop that
runs in another thread: below 1 is cheaper. Medians, all measured in turns in one process.
  plain      a call whose coroutine never suspends
  sleep0     a call that suspends for one turn of its loop
  nested     plain, made by sync code that a coroutine called; the reference's calls aren't nested
  items      an item of an async generator in a `for`; the reference makes a call for each
  enter      `with`, on an async context manager; the reference makes one call
  to_thread  a coroutine awaits a sync function in another thread; the reference is asyncio.to_thread
noise is how far the reference's own samples lie apart (their middle half): differences below that are none."""
_FEWEST_ROUNDS, _USUAL_ROUNDS = 3, 7
_SHORTEST_SLICE = 0.001


class _Setting:
    def __init__(self, placement: Placement) -> None:
        self.placement = placement


def lines(placement: Placement, seconds: float) -> Iterator[str]:
    """The table for this process, which has been placed, in about that time."""
    deadline = time.perf_counter() + seconds
    setting = _Setting(placement)
    peers = [peer() for _, peer in COLUMNS]
    for peer in peers:
        peer.open()
    table = [["", *(name for name, _ in COLUMNS), "noise"]]
    for left, (name, sample) in zip(range(len(ROWS), 0, -1), ROWS.items(), strict=True):
        until = time.perf_counter() + max(0.0, deadline - time.perf_counter()) / left
        taken = _measured(setting, sample, peers, until)
        medians = [statistics.median(taken[peer]) for peer in peers]
        cells = [f"{medians[0] * 1e6:.1f}", *(_cell(each, medians[0]) for each in medians[1:])]
        table.append([name, *cells, f"{_spread(taken[peers[0]]):.0%}"])
    for peer in peers:
        peer.close()
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for name, *cells in table:
        padded = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join([name.ljust(widths[0]), *padded])


def _measured(setting: _Setting, sample: Sample, peers: list[Peer], until: float) -> dict[Peer, list[float]]:
    wanted = max(0.0, until - time.perf_counter()) / (len(peers) * (_USUAL_ROUNDS + 1))
    counts = {peer: fitting_count(setting, peer, sample, max(wanted, _SHORTEST_SLICE)) for peer in peers}
    return in_turns(setting, sample, counts, _rounds(until))


def _rounds(until: float) -> Iterator[int]:
    """As many as there is time for, if each takes as long as the first one."""
    start = time.perf_counter()
    made = 0
    while made < _FEWEST_ROUNDS or time.perf_counter() + (time.perf_counter() - start) / made <= until:
        yield made
        made += 1


def _cell(value: float, reference: float) -> str:
    ratio = value / reference
    return f"{value * 1e6:.1f} ({ratio:.3f})" if ratio < 0.1 else f"{value * 1e6:.1f} ({ratio:.2f})"


def _spread(values: list[float]) -> float:
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / middle
