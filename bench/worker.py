"""Measures one peer against the reference, in one placement, in a process of its own.

1. Peer and reference take turns, sample by sample, so that what disturbs the machine disturbs both.
2. A peer that patches asyncio is measured after the reference, as it would slow that down too.
3. Each line of standard output is one JSON object; whatever libraries print goes to standard error.
4. Each scenario is announced before it begins, so that whoever reads this knows which one hangs.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import warnings
from typing import Any, TextIO

from peers import PEERS, Peer, Reference
from scenarios import SCENARIOS, Scenario, Setting

from syncline._bench.placement import PLACEMENTS
from syncline._bench.samples import fitting_count, in_turns


class Measurement:
    """Takes the samples of peer and reference in one setting."""

    def __init__(self, peer: Peer, setting: Setting, repeats: int, slice_seconds: float) -> None:
        self._peer = peer
        self._reference = Reference()
        self._setting = setting
        self._repeats = repeats
        self._slice_seconds = slice_seconds

    def run(self, names: list[str], out: TextIO) -> None:
        self._reference.open()
        scenarios = [SCENARIOS[name] for name in names]
        before: dict[str, list[float]] = {}
        if self._peer.patches:  # by 2
            for scenario in scenarios:
                _say(out, {"begin": scenario.name})
                before[scenario.name] = self._samples(scenario, self._reference)[0]
        self._peer.open()
        for scenario in scenarios:
            _say(out, {"begin": scenario.name})
            result: dict[str, Any] = {"scenario": scenario.name}
            try:
                if self._peer.patches:
                    result |= {
                        "peer": self._samples(scenario, self._peer)[0],
                        "reference": before[scenario.name],
                    }
                else:
                    mine, others = self._samples(scenario, self._peer, self._reference)
                    result |= {"peer": mine, "reference": others}
            except Exception as error:
                result["why"] = f"{type(error).__name__}: {error}".splitlines()[0]
            _say(out, result)

    def _samples(self, scenario: Scenario, *peers: Peer) -> list[list[float]]:
        """By 1."""
        counts = {peer: self._count(scenario, peer) for peer in peers}
        rounds = range(self._repeats if scenario.unit != "left" else 1)
        return list(in_turns(self._setting, scenario.sample, counts, iter(rounds)).values())

    def _count(self, scenario: Scenario, peer: Peer) -> int:
        """How many calls fill a slice of time."""
        if scenario.fixed_count is not None:
            return scenario.fixed_count
        seconds = self._slice_seconds * scenario.slices
        return fitting_count(self._setting, peer, scenario.sample, seconds, scenario.threads)


def _say(out: TextIO, what: dict[str, Any]) -> None:
    print(json.dumps(what), file=out, flush=True)


def _own_output() -> TextIO:
    """The real standard output, which everybody else loses to standard error, by 3."""
    own = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return own


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--list", action="store_true", help="tell which peers are installed, and for which Python"
    )
    parser.add_argument("--peer")
    parser.add_argument("--placement")
    parser.add_argument("--scenario", action="append", default=[])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--slice", type=float, default=0.02)
    options = parser.parse_args()
    out = _own_output()
    if options.list:
        missing = {name: peer.missing() for name, peer in PEERS.items()}
        _say(out, {"python": sys.version.split()[0], "missing": missing})
        return
    warnings.simplefilter("ignore")  # such as of coroutines that a peer refused and left un-awaited
    placement = PLACEMENTS[options.placement]()
    placement.start()
    setting = Setting(placement)
    peer = PEERS[options.peer]()
    Measurement(peer, setting, options.repeats, options.slice).run(options.scenario, out)
    setting.close()
    # Not every peer ends well, and nobody needs it to.
    out.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
