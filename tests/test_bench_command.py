"""`python -m syncline bench`: the table, how long it takes, and how threads are placed for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from syncline._bench import samples, table
from syncline._bench.peers import Peer, Reference, Syncline
from syncline._bench.placement import OneCore, Placement, TwoCores, possible_placements
from syncline._bench.samples import Sample, fitting_count, in_turns
from syncline._commands import main

ROW = re.compile(r"(\w+) +([\d.]+)" + r" +([\d.]+) \(([\d.]+)\)" * 3 + r" +\d+%")


def rows(text: str) -> dict[str, list[float]]:
    """The figures of each line of a table: the reference's; each scope's and its ratio."""
    matches = [ROW.fullmatch(line) for line in text.splitlines()]
    return {match[1]: [float(each) for each in match.groups()[1:]] for match in matches if match}


@pytest.mark.timeout(200)
def test_there_is_a_table_for_each_placement() -> None:
    """In a process of its own, with each row, each scope, and what the figures mean. A second is enough to see it."""
    command = [sys.executable, "-m", "syncline", "bench", "--seconds=1"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert (ran.returncode, ran.stderr) == (0, "")
    head, *parts = ran.stdout.split("\n\n")
    assert head.startswith("syncline ")
    assert len(parts) == len(possible_placements()) + 1
    for part in parts[:-1]:
        figures = rows(part)
        assert list(figures) == list(table.ROWS)
        for reference, *others in figures.values():
            assert reference > 0
            for value, ratio in zip(others[::2], others[1::2], strict=True):
                # Both are rounded.
                assert value / reference == pytest.approx(ratio, abs=0.05 + 0.2 * ratio)
    assert parts[-1].strip() == table.LEGEND


def test_one_placement_is_measured_in_this_process(capsys: pytest.CaptureFixture[str]) -> None:
    """Its table only; and all threads of it end."""
    before = set(threading.enumerate())
    assert main(["bench", "--placement=unpinned", "--seconds=1"]) == 0
    said = capsys.readouterr().out
    assert list(rows(said)) == list(table.ROWS)
    assert said.splitlines()[0].split() == ["reference", '"process"', '"thread"', '"caller"', "noise"]
    left = {each.name for each in set(threading.enumerate()) - before}
    # Workers of `to_thread` are shared, and kept for a while.
    assert {name for name in left if not name.startswith("syncline-worker")} == set()


@pytest.mark.parametrize("seconds", ["0", "-1", "inf", "nan"])
def test_a_time_that_is_none_is_a_mistake(seconds: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 2, and what it takes."""
    assert main(["bench", f"--seconds={seconds}"]) == 2
    assert "--seconds takes a number above 0" in capsys.readouterr().err


def test_peers_take_turns() -> None:
    """A sample of each in each round."""
    order: list[str] = []

    def sample(_: object, peer: Peer, count: int) -> float:
        order.append(peer.name)
        return float(count)

    first, second = Reference(), Syncline()
    taken = in_turns(table._Setting(Placement()), sample, {first: 3, second: 5}, iter(range(3)))
    assert order == ["reference", "syncline"] * 3
    assert taken == {first: [3.0] * 3, second: [5.0] * 3}


def test_rows_share_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that takes longer leaves less for those after it: the last one ends in time."""
    now = 0.0
    monkeypatch.setattr(table.time, "perf_counter", lambda: now)
    ends: list[float] = []

    def measured(_: object, sample: Sample, peers: list[Peer], until: float) -> dict[Peer, list[float]]:
        nonlocal now
        now = until if ends else 3.5
        ends.append(until)
        return {peer: [1.0] * 3 for peer in peers}

    monkeypatch.setattr(table, "_measured", measured)
    assert len(list(table.lines(Placement(), 6.0))) == 1 + len(table.ROWS)
    assert ends == [1.0, 4.0, 4.5, 5.0, 5.5, 6.0]


def test_rounds_end_when_the_time_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three at least; then as many as fit, if the next one takes as long as those before."""
    now = 0.0
    monkeypatch.setattr(table.time, "perf_counter", lambda: now)

    def made(until: float) -> Iterator[int]:
        nonlocal now
        now = 0.0
        for each in table._rounds(until):
            yield each
            now += 1.0

    assert list(made(0.5)) == [0, 1, 2]
    assert list(made(5.5)) == [0, 1, 2, 3, 4]


def test_calls_are_counted_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as fill the time that is asked for; three at least."""
    now = 0.0
    monkeypatch.setattr(samples.time, "perf_counter", lambda: now)

    def taking(seconds: float) -> Sample:
        def sample(_: object, peer: Peer, count: int) -> float:
            nonlocal now
            now += seconds * count
            return seconds

        return sample

    setting, peer = table._Setting(Placement()), Syncline()
    assert fitting_count(setting, peer, taking(0.001), 0.05) == 50
    assert fitting_count(setting, peer, taking(0.01), 0.05) == 5
    assert fitting_count(setting, peer, taking(1.0), 0.05) == 3


def test_threads_that_a_sample_starts_are_not_counted_as_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many calls as fill the time, however long the threads take that make them."""
    now = 0.0
    monkeypatch.setattr(samples.time, "perf_counter", lambda: now)

    def sample(_: object, peer: Peer, count: int) -> float:
        nonlocal now
        now += 0.1 + 0.001 * count
        return 0.001 / 8  # of eight threads each makes a call in a millisecond

    assert fitting_count(table._Setting(Placement()), Syncline(), sample, 0.05, threads=8) == 50


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_threads_are_placed_as_the_titles_say() -> None:
    """Callers on one core and all others on another; or the whole process on one."""
    cores = os.sched_getaffinity(0)
    ready, done = threading.Event(), threading.Event()

    def other() -> None:
        ready.set()
        done.wait()

    thread = threading.Thread(target=other)
    thread.start()
    ready.wait()
    try:
        two = TwoCores()
        two.pin([threading.current_thread()])
        assert thread.native_id is not None
        assert os.sched_getaffinity(0) != os.sched_getaffinity(thread.native_id)
        assert len(os.sched_getaffinity(0)) == len(os.sched_getaffinity(thread.native_id)) == 1
        two.free()
        assert os.sched_getaffinity(0) == cores
        OneCore().start()
        assert os.sched_getaffinity(0) == {min(cores)}
    finally:
        done.set()
        thread.join()
        for each in threading.enumerate():
            if each.native_id is not None:
                os.sched_setaffinity(each.native_id, cores)
