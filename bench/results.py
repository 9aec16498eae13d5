"""What a run of the benchmarks found, as an object and as JSON."""

from __future__ import annotations

import json
import statistics
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Result:
    """The samples of one peer in one placement and scenario, and those of the reference that it took turns with."""

    peer: str
    placement: str
    scenario: str
    values: list[float] = field(default_factory=list[float])
    reference: list[float] = field(default_factory=list[float])
    why: str = ""
    """Why there are no samples."""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def ratio(self) -> float | None:
        """Median by the reference's median: below one is better than the reference."""
        return _divide(self.median, statistics.median(self.reference))

    @property
    def best_ratio(self) -> float | None:
        """Minimum by the reference's minimum."""
        return _divide(min(self.values), min(self.reference))


def _divide(value: float, by: float) -> float | None:
    return value / by if by > 0 else None


@dataclass
class Results:
    """All that one run measured, and where."""

    machine: dict[str, str]
    peers: list[str]
    placements: list[str]
    scenarios: list[str]
    missing: dict[str, str] = field(default_factory=dict[str, str])
    results: list[Result] = field(default_factory=list[Result])

    def find(self, peer: str, placement: str, scenario: str) -> Result | None:
        """The result, if this was measured, or at least tried."""
        for result in self.results:
            if (result.peer, result.placement, result.scenario) == (peer, placement, scenario):
                return result
        return None

    def includes(self, peer: str, placement: str, scenario: str) -> bool:
        """Whether this run was about it."""
        return peer in self.peers and placement in self.placements and scenario in self.scenarios

    def reference_median(self, placement: str, scenario: str) -> float | None:
        """Of all samples of the reference, whichever peer it took turns with."""
        values = [
            value
            for result in self.results
            if (result.placement, result.scenario) == (placement, scenario)
            for value in result.reference
        ]
        return statistics.median(values) if values else None

    def write(self, path: Path) -> None:
        """As JSON; with the figures, though they follow from the samples, for readers who don't compute."""
        content = asdict(self)
        for entry, result in zip(content["results"], self.results, strict=True):
            if result.values:
                entry |= {"median": result.median, "ratio": result.ratio, "best_ratio": result.best_ratio}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1) + "\n")
