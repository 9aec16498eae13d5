"""The figures that we mean to reach, and whether a run reached them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from results import Results

EVERYWHERE = ("one-core", "two-cores", "unpinned")


@dataclass(frozen=True)
class Target:
    """A limit for the median of one of our peers, in one scenario."""

    scenario: str
    peer: str
    limit: float
    placements: tuple[str, ...] = EVERYWHERE
    absolute: bool = False
    """Seconds, rather than a ratio to the reference."""
    since: tuple[int, int] = (3, 11)
    """The first Python that it is meant for."""


TARGETS = (
    Target("plain", "syncline", 0.07, ("two-cores",)),
    Target("plain", "syncline", 0.25, ("one-core",)),
    Target("sleep0", "syncline", 0.10, ("two-cores",)),
    Target("sleep0", "syncline", 0.30, ("one-core",)),
    Target("threads-8", "syncline", 1 / 3.5),
    Target("busy", "syncline", 0.25, ("one-core", "unpinned")),
    Target("busy", "syncline", 0.5, ("two-cores",)),
    Target("busy", "syncline-caller", 0.02),
    Target("nested", "syncline", 0.01),
    Target("nested-sleep0", "syncline", 0.15),
    Target("items", "syncline", 0.12, ("two-cores",)),
    Target("items", "syncline", 0.30, ("one-core",)),
    # Ten times cheaper than a hop for each item, which costs the peers more than the reference (case 42).
    Target("items-ahead", "syncline", 0.06, ("one-core", "two-cores")),
    Target("map", "syncline", 0.04, ("two-cores",), since=(3, 12)),  # where tasks can start eagerly
    Target("map", "syncline", 0.12, ("one-core",), since=(3, 12)),
    Target("map-io", "syncline", 1 / 4),
    Target("map-async", "syncline", 1 / 0.9),
    Target("enter", "syncline", 0.25, ("two-cores",)),
    Target("enter", "syncline", 0.55, ("one-core",)),
    Target("to-thread", "syncline", 0.45),
    Target("to-thread-100", "syncline", 1 / 1.5),
    Target("cpu-nap", "syncline", 1.05),
    Target("cpu-socket", "syncline", 1.05),
    Target("plain", "syncline-caller", 0.05, since=(3, 12)),  # where tasks can start eagerly
    Target("plain", "syncline-uvloop", 0.15, ("two-cores",)),
    Target("plain", "syncline-uvloop", 0.22, ("one-core",)),
    Target("sleep0", "syncline-uvloop", 0.20, ("two-cores",)),
    Target("sleep0", "syncline-uvloop", 0.35, ("one-core",)),
    Target("items", "syncline-uvloop", 0.12, ("two-cores",)),
    Target("items", "syncline-uvloop", 0.20, ("one-core",)),
    Target("enter", "syncline-uvloop", 0.30, ("two-cores",)),
    Target("enter", "syncline-uvloop", 0.40, ("one-core",)),
    Target("import", "syncline", 0.008, ("unpinned",), absolute=True),
)


@dataclass(frozen=True)
class Verdict:
    """What came of a target in one placement."""

    target: Target
    placement: str
    figure: float | None
    """None where it was not measured."""

    @property
    def reached(self) -> bool:
        return self.figure is not None and self.figure <= self.target.limit

    def __str__(self) -> str:
        def shown(value: float) -> str:
            if self.target.absolute:
                return f"{value * 1e3:.1f} ms"
            return (
                f"{1 / value:.2f} times the calls"
                if self.target.scenario.startswith("threads")
                else f"{value:.3f}"
            )

        outcome = "pass" if self.reached else "MISS" if self.figure is not None else "----"
        figure = "not measured" if self.figure is None else shown(self.figure)
        where = f"{self.target.scenario}, {self.placement}, {self.target.peer}"
        return f"{outcome}  {where:<40} {figure}  (target: {shown(self.target.limit)})"


def verdicts(results: Results) -> Iterator[Verdict]:
    """One for each target and placement that this run was about."""
    for target in TARGETS:
        if sys.version_info < target.since:
            continue
        for placement in target.placements:
            if not results.includes(target.peer, placement, target.scenario):
                continue
            result = results.find(target.peer, placement, target.scenario)
            figure = None
            if result is not None and result.values:
                figure = result.median if target.absolute else result.ratio
            yield Verdict(target, placement, figure)
