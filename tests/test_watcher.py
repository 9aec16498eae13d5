"""The watcher: stalls of all kinds of loops are reported, each once, whether or not anybody waits for them.

What blocks a loop in these tests goes on until the report is there, where there is to be one.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trio
import uvloop

import syncline
from child import FORKS, eventually, run_script
from closing import MakeBridge
from hosts import stopping
from stalls import Reports, reports
from syncline import _core, _watcher

__all__ = ["reports"]

AFTER = 0.1
LONG = 0.5
"""Where there is to be no report: on a busy machine, a loop that could turn may not get to it for some time."""
KINDS = ["ours", "thread", "uvloop", "a factory's", "trio", "somebody's", "somebody's uvloop"]
kinds = pytest.mark.parametrize("kind", KINDS)
asked_to_turn = pytest.mark.parametrize(
    "kind", ["uvloop", "a factory's", "trio", "somebody's", "somebody's uvloop"]
)


@pytest.fixture
def somebodys_loop(kind: str) -> Iterator[asyncio.AbstractEventLoop]:
    """A loop that a thread runs."""
    with stopping(uvloop.new_event_loop if "uvloop" in kind else asyncio.new_event_loop) as theirs:
        yield theirs.loop


@pytest.fixture
def after() -> float:
    """Seconds after which a loop counts as blocked."""
    return AFTER


@pytest.fixture
def bridge(
    request: pytest.FixtureRequest, kind: str, after: float, make_bridge: MakeBridge
) -> syncline.Bridge:
    """One of that kind, with reports of stalls."""
    options: dict[str, Any] = {"scope": "process" if kind == "ours" else kind}
    if kind == "a factory's":
        options = {"loop_factory": asyncio.SelectorEventLoop}
    elif kind.startswith("somebody's"):
        options = {"loop": request.getfixturevalue("somebodys_loop")}
    return make_bridge(name="watched", stall_after=after, **options)


@kinds
def test_a_submitted_coroutine_that_blocks_its_loop_is_reported(
    bridge: syncline.Bridge, reports: Reports
) -> None:
    """Nobody waits for it: its future is looked at after the report."""

    async def blocks() -> None:
        reports.blocks()

    future = bridge.submit(blocks)
    assert reports.came.wait(20)
    future.result(10)
    text = reports.the_only()
    assert "the loop 'watched" in text.splitlines()[0]


@kinds
def test_a_plain_task_that_blocks_its_loop_is_reported(
    kind: str, bridge: syncline.Bridge, reports: Reports
) -> None:
    """It goes on when the call that started it has ended, and sleeps for a while first."""
    done = threading.Event()

    def blocks() -> None:
        reports.blocks()
        done.set()

    async def later() -> None:
        await asyncio.sleep(5 * AFTER)
        blocks()

    async def later_in_trio() -> None:
        await trio.sleep(5 * AFTER)
        blocks()

    async def starts() -> None:
        tasks.append(asyncio.create_task(later()))

    async def starts_in_trio() -> None:
        trio.lowlevel.spawn_system_task(later_in_trio)

    tasks: list[Any] = []
    bridge.run_sync(starts_in_trio if kind == "trio" else starts)
    assert done.wait(20)
    reports.the_only()


def test_a_loop_that_its_caller_drives_is_watched(make_bridge: MakeBridge, reports: Reports) -> None:
    """Scope "caller": in the first step, and after a suspension."""
    bridge = make_bridge(scope="caller", stall_after=AFTER)

    async def blocks() -> None:
        reports.blocks()

    async def suspends_first() -> None:
        await asyncio.sleep(0)
        await blocks()

    for fn in (blocks, suspends_first):
        bridge.run_sync(fn)
        reports.the_only()
        reports.forget()


def test_a_loop_of_scope_caller_that_nobody_drives_is_no_stall(
    make_bridge: MakeBridge, reports: Reports
) -> None:
    """Between two calls it does not turn, and has no reason to."""
    bridge = make_bridge(scope="caller", stall_after=LONG)
    bridge.run_sync(asyncio.sleep, 0)
    assert not threading.Event().wait(3 * LONG)  # what is measured is a span of time
    bridge.run_sync(asyncio.sleep, 3 * LONG)
    assert reports.texts == []


@pytest.mark.parametrize(
    "new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_an_installed_loop_is_watched(new_loop: Callable[[], Any], reports: Reports) -> None:
    """What blocks it is no call of a bridge."""

    def blocks() -> None:
        reports.blocks()

    async def main() -> None:
        undo = syncline.install(stall_after=AFTER)
        await asyncio.sleep(0)
        blocks()
        undo()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    reports.the_only()


def test_an_installed_trio_run_is_watched(reports: Reports) -> None:
    """By its token."""

    def blocks() -> None:
        reports.blocks()

    async def main() -> None:
        syncline.install(stall_after=AFTER)
        await trio.lowlevel.checkpoint()
        blocks()

    trio.run(main)
    reports.the_only()


def test_a_task_that_waits_for_good_for_a_lock_of_a_parked_one_is_reported(reports: Reports) -> None:
    """On a loop of the program's own, where no caller looks: the report says who has the lock."""
    lock, ended = threading.Lock(), threading.Event()

    def parked(event: asyncio.Event) -> None:
        with lock:
            syncline.run_sync(event.wait)

    def takes_the_lock() -> None:
        lock.acquire()
        ended.set()

    async def parks(event: asyncio.Event) -> None:
        parked(event)

    async def main() -> None:
        syncline.install(stall_after=AFTER)
        event = asyncio.Event()
        task = asyncio.create_task(parks(event))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        takes_the_lock()
        event.set()
        await task

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert reports.came.wait(20)
    lock.release()
    thread.join(10)
    text = reports.the_only("takes_the_lock()", __file__)
    assert "which parked() at" in text.splitlines()[0]
    assert ended.is_set()


@kinds
def test_a_stall_is_reported_once_whoever_waits_and_the_next_one_again(
    bridge: syncline.Bridge, reports: Reports
) -> None:
    """Ten callers and a future wait behind it, and it goes on for some time after its report."""

    async def nothing() -> None:
        pass

    def waits() -> None:
        bridge.run_sync(nothing)

    for _ in range(2):
        reports.forget()
        begun, all_wait = threading.Event(), threading.Event()

        async def blocks(begun: threading.Event = begun, all_wait: threading.Event = all_wait) -> None:
            begun.set()
            assert all_wait.wait(20)
            reports.blocks()
            threading.Event().wait(5 * AFTER)  # several looks later

        future = bridge.submit(blocks)
        assert begun.wait(10)
        threads = [threading.Thread(target=waits) for _ in range(10)]
        for thread in threads:
            thread.start()
        all_wait.set()
        future.result(20)
        for thread in threads:
            thread.join()
        assert len(reports.texts) == 1


@pytest.mark.parametrize("after", [LONG])
@asked_to_turn
def test_a_long_call_is_no_stall(kind: str, bridge: syncline.Bridge, reports: Reports) -> None:
    """On loops that do not say when they turn: they turn when they are asked to."""
    bridge.run_sync(trio.sleep if kind == "trio" else asyncio.sleep, 3 * LONG)
    assert reports.texts == []


def test_of_loops_that_wait_for_each_other_the_blocked_one_is_reported(
    make_bridge: MakeBridge, reports: Reports
) -> None:
    """A nested call blocks its loop until the deeper one turns: one stall, whose report names the offender."""
    bridge = make_bridge(nested="thread", stall_after=AFTER)

    async def blocks() -> None:
        reports.blocks()
        threading.Event().wait(5 * AFTER)

    async def calls() -> None:
        bridge.run_sync(blocks)

    bridge.run_sync(calls)
    assert [text.partition(" at ")[0] for text in reports.texts if "blocks()" in text.splitlines()[0]] == [
        "blocks()"
    ]
    assert len(reports.texts) == 1


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "syncline-watcher"]


def is_at_rest() -> bool:
    """Whether the watcher waits without a limit."""
    (thread,) = watchers()
    frame: Any = sys._current_frames().get(thread.ident or 0)
    while frame is not None and frame.f_code is not threading.Event.wait.__code__:
        frame = frame.f_back
    return frame is not None and frame.f_locals["timeout"] is None


def test_one_thread_watches_all_loops_while_there_are_any(make_bridge: MakeBridge) -> None:
    """There is none without `stall_after`; it comes with the first use, and ends with the last loop."""
    assert eventually(lambda: not watchers())
    plain, unused = make_bridge(), make_bridge(stall_after=50)
    plain.run_sync(asyncio.sleep, 0)
    assert not watchers()
    bridges = [unused, make_bridge(stall_after=50), make_bridge(scope="caller", stall_after=50)]
    for bridge in bridges:
        bridge.run_sync(asyncio.sleep, 0)
    assert len(watchers()) == 1
    for bridge in bridges:
        bridge.close()
    assert eventually(lambda: not watchers())


@pytest.mark.parametrize("kind", ["ours", "thread", "uvloop", "a factory's"])
def test_the_watcher_sleeps_while_no_loop_has_anything_to_do(
    kind: str, bridge: syncline.Bridge, reports: Reports
) -> None:
    """And is there when one has."""
    bridge.run_sync(asyncio.sleep, 0)
    assert eventually(is_at_rest)

    async def blocks() -> None:
        reports.blocks()

    bridge.submit(blocks).result(20)
    reports.the_only()
    assert eventually(is_at_rest)


SCRIPT = """
import asyncio, logging, os, sys, threading, time
import syncline
came = threading.Event()
class Reports(logging.Handler):
    def emit(self, record):
        print(record.getMessage().partition(" at ")[0], flush=True)
        came.set()
logging.getLogger("syncline").addHandler(Reports())
logging.getLogger("syncline").propagate = False
bridge = syncline.Bridge(stall_after=0.1)
async def blocks():
    assert came.wait(20)
"""


def test_a_forked_child_is_watched_too() -> None:
    """It has a watcher of its own, and the parent keeps its own."""
    finished = run_script(
        SCRIPT
        + """
bridge.submit(blocks).result()
came.clear()
pid = os.fork()
if pid == 0:
    bridge.submit(blocks).result()
    os._exit(0 if threading.active_count() >= 3 else 1)
assert os.waitpid(pid, 0)[1] == 0
bridge.submit(blocks).result()
""",
        flags=FORKS,
    )
    finished.assert_clean()
    assert finished.lines == ["blocks()"] * 3


@pytest.mark.parametrize(
    "at_the_end", ["", "bridge.submit(asyncio.sleep, 60)", "bridge.submit(blocks); came.wait()"]
)
def test_the_watcher_ends_with_the_process_without_a_word(at_the_end: str) -> None:
    """At rest, at work, and just after a report."""
    finished = run_script(SCRIPT + "bridge.run_sync(asyncio.sleep, 0)\n" + at_the_end)
    assert (finished.status, finished.err) == (0, "")


def test_install_takes_a_number_of_seconds() -> None:
    """Above 0; otherwise nothing is installed."""

    async def main() -> None:
        for wrong in (0, -1, float("nan")):
            with pytest.raises(ValueError, match="seconds above 0"):
                syncline.install(stall_after=wrong)
        assert asyncio.get_running_loop().get_task_factory() is None

    asyncio.run(main())
    assert not _watcher.watches(None)
    assert _core.long_waits() == {}


class Late:
    """Time, for a thread that the system lets run ten times as late as it wants to, and the event it waits for."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def wait(self, timeout: float) -> bool:
        self.now += 10 * timeout
        return False

    def is_set(self) -> bool:
        return False

    def clear(self) -> None:
        pass


class Slow:
    """A loop that turns between every second and third look, until it ends."""

    looks = 0

    def look(self) -> tuple[int, bool, int, None, str] | None:
        self.looks += 1
        return (self.looks // 2, False, threading.get_ident(), None, "slow") if self.looks < 20 else None


def test_what_the_watcher_itself_is_late_counts_for_nobody(
    monkeypatch: pytest.MonkeyPatch, reports: Reports
) -> None:
    """Neither it nor the loop got to run meanwhile, on a machine that is too busy."""
    assert eventually(lambda: not watchers())
    late, slow = Late(), Slow()
    for name in ("time", "_ended", "_stirred"):
        monkeypatch.setattr(_watcher, name, late)
    monkeypatch.setattr(_watcher, "_watched", [_watcher._Watched(slow, 0.5)])
    _watcher._watch()
    assert slow.looks == 20
    assert reports.texts == []


class Told:
    """A loop that turns when it is told to."""

    def __init__(self, name: str, thread: int) -> None:
        self.name, self.thread, self.turns = name, thread, 0

    def look(self) -> tuple[int, bool, int, None, str]:
        return self.turns, False, self.thread, None, self.name


def test_a_loop_that_had_to_wait_for_another_one_is_not_late_as_well(
    monkeypatch: pytest.MonkeyPatch, reports: Reports
) -> None:
    """Interleaving: the watcher looks when the other one has turned again, and it has not yet."""
    assert eventually(lambda: not watchers())
    inner, outer = Told("inner", threading.get_ident()), Told("outer", 1)
    waits = {outer.thread: (0, inner.thread)}
    monkeypatch.setattr(_core, "long_waits", lambda: waits)
    monkeypatch.setattr(_watcher, "_watched", [_watcher._Watched(loop, 1.0) for loop in (inner, outer)])
    for now in (0.0, 0.5, 1.0, 1.5, 2.0):
        _watcher._look_at_all(now)
    inner.turns += 1
    waits.clear()
    _watcher._look_at_all(2.5)
    assert ["'inner'" in text for text in reports.texts] == [True]
    # From then on it is on its own.
    inner.turns += 1
    _watcher._look_at_all(3.0)
    assert ["'outer'" in text for text in reports.texts] == [False, True]
