"""Measures what a call from sync code to async code costs, against the standard library and other libraries.

    python bench/bench.py --quick           # all of it, in short
    python bench/bench.py --list            # what there is
    python bench/bench.py --peer syncline --scenario plain --repeats 15 --check

Each peer is measured in a process of its own for each placement (worker.py), so that none disturbs another, and none
that hangs or crashes ends the run. README.md says how to read the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import report
from peers import PEERS
from results import Result, Results
from scenarios import SCENARIOS
from targets import verdicts

from syncline._bench.placement import PLACEMENTS, possible_placements

WORKER = Path(__file__).with_name("worker.py")
RESULTS = Path(__file__).with_name("results")
HANGS_AFTER = 60.0
"""Seconds without a word from a worker. The longest scenario takes a few."""


@dataclass(frozen=True)
class Form:
    """How thoroughly to measure."""

    repeats: int
    slice_seconds: float


QUICK = Form(repeats=3, slice_seconds=0.02)
FULL = Form(repeats=15, slice_seconds=0.05)


class Worker:
    """A child process that measures, seen as an iterator over what it says."""

    def __init__(self, python: str, *arguments: str) -> None:
        command = [python, "-W", "ignore", str(WORKER), *arguments]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._errors: list[str] = []
        self._error_reader = threading.Thread(target=self._read_errors, daemon=True)
        self._error_reader.start()
        threading.Thread(target=self._read, daemon=True).start()

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Ends when the process does. Raises TimeoutError if it says nothing for too long, having ended it."""
        while True:
            try:
                line = self._lines.get(timeout=HANGS_AFTER)
            except queue.Empty:
                self._process.kill()
                self._process.wait()
                raise TimeoutError(f"hangs: no answer for {HANGS_AFTER:.0f} s") from None
            if line is None:
                self._process.wait()
                self._error_reader.join()
                return
            yield json.loads(line)

    @property
    def failure(self) -> str | None:
        """Why the process ended, if not as it should."""
        status = self._process.returncode
        if status == 0:
            return None
        return f"ended with status {status}: {self._errors[-1] if self._errors else 'no message'}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._errors.append(line.strip())


def measure(python: str, peer: str, placement: str, scenarios: list[str], form: Form) -> Iterator[Result]:
    """One peer in one placement; a scenario that hangs or crashes is noted, and the others get a new process."""
    left = list(scenarios)
    while left:
        options = [f"--peer={peer}", f"--placement={placement}", f"--repeats={form.repeats}"]
        options += [f"--slice={form.slice_seconds}", *(f"--scenario={name}" for name in left)]
        worker = Worker(python, *options)
        current, why = left[0], None
        try:
            for said in worker:
                if "begin" in said:
                    current = said["begin"]
                    continue
                left.remove(said["scenario"])
                values, reference = said.get("peer", []), said.get("reference", [])
                yield Result(peer, placement, said["scenario"], values, reference, said.get("why", ""))
            why = worker.failure
        except TimeoutError as error:
            why = str(error)
        if left:
            left.remove(current)
            yield Result(peer, placement, current, why=why or "ended without an answer")


def find_pythons(candidates: list[str]) -> tuple[dict[str, str], dict[str, str]]:
    """For each peer the first interpreter that has it; and what is missing where none does."""
    found: dict[str, str] = {}
    missing: dict[str, str] = {}
    for python in candidates:
        (said,) = list(Worker(python, "--list"))
        for peer, why in said["missing"].items():
            if why is None:
                found.setdefault(peer, python)
            else:
                missing.setdefault(peer, why)
    return found, {peer: why for peer, why in missing.items() if peer not in found}


def machine() -> dict[str, str]:
    """What the figures depend on, and the reader should know."""
    return {
        "Python": platform.python_version(),
        "system": platform.system(),
        "cores": str(os.cpu_count()),
        "load at start": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--quick", action="store_true", help="fewer and shorter samples: some minutes, and noisy")
    add("--list", action="store_true", help="show peers, scenarios and placements, and end")
    add("--peer", action="append", choices=PEERS, metavar="NAME", help="only this peer; repeatable")
    add("--scenario", action="append", choices=SCENARIOS, metavar="NAME", help="likewise")
    add("--placement", action="append", choices=PLACEMENTS, metavar="NAME", help="likewise")
    add("--repeats", type=int, metavar="N", help="samples of each figure")
    add(
        "--python",
        action="append",
        default=[],
        metavar="PATH",
        help="another interpreter, for peers missing here",
    )
    add("--json", type=Path, default=RESULTS / "bench.json", metavar="OUT", help="where to write all samples")
    add(
        "--plot", type=Path, default=RESULTS / "bench.png", metavar="OUT.png", help="where to draw the tables"
    )
    add("--csv", type=Path, metavar="OUT.csv", help="also write the tables for docs/figures.csv there")
    add("--best", action="store_true", help="also print tables of the best samples, rather than medians")
    add("--check", action="store_true", help="hold our figures to the targets; fail if one is missed")
    return parser.parse_args()


def show_list(found: dict[str, str]) -> None:
    print("peers")
    for name, peer in PEERS.items():
        installed = "" if name in found else " (not installed)"
        print(f"  {name:<16} {(peer.__doc__ or '').splitlines()[0]}{installed}")
    print("scenarios")
    for name, scenario in SCENARIOS.items():
        print(f"  {name:<16} {scenario.title}")
    print("placements")
    for name, placement in PLACEMENTS.items():
        possible = "" if name in possible_placements() else " (not on this machine)"
        print(f"  {name:<16} {placement.title}{possible}")


def run(options: argparse.Namespace, pythons: dict[str, str], missing: dict[str, str]) -> Results:
    form = QUICK if options.quick else FULL
    form = Form(options.repeats or form.repeats, form.slice_seconds)
    wanted = options.peer or list(PEERS)
    results = Results(
        machine(),
        peers=[name for name in PEERS if name in wanted and name in pythons],
        placements=[name for name in possible_placements() if name in (options.placement or PLACEMENTS)],
        scenarios=[name for name in SCENARIOS if name in (options.scenario or SCENARIOS)],
        missing={name: why for name, why in missing.items() if name in wanted},
    )
    for placement in results.placements:
        scenarios = [name for name in results.scenarios if SCENARIOS[name].placed or placement == "unpinned"]
        for peer in results.peers:
            start = time.monotonic()
            results.results += measure(pythons[peer], peer, placement, scenarios, form)
            print(f"{placement}, {peer}: {time.monotonic() - start:.0f} s", file=sys.stderr, flush=True)
    return results


def main() -> int:
    options = parse()
    pythons, missing = find_pythons([sys.executable, *options.python])
    if options.list:
        show_list(pythons)
        return 0
    results = run(options, pythons, missing)
    for line in report.tables(results):
        print(line)
    if options.best:
        for line in report.tables(results, best=True):
            print(line)
    for line in report.reasons(results):
        print(line)
    results.write(options.json)
    if options.csv:
        options.csv.write_text("".join(f"{line}\n" for line in report.rows(results)))
    try:
        report.plot(results, options.plot)
    except ImportError as error:
        print(f"\nno plot: {error}", file=sys.stderr)
    if not options.check:
        return 0
    print("\ntargets")
    outcomes = list(verdicts(results))
    print("\n".join(map(str, outcomes)) or "none of them is about what was measured")
    return 0 if outcomes and all(outcome.reached for outcome in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
