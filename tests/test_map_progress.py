"""map(progress=...): which bar is shown, what it says, and that it is closed."""

from __future__ import annotations

import io
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import syncline
from child import run_script
from neutral import new_event, sleep, turn

tqdm = pytest.importorskip("tqdm")
rich_progress = pytest.importorskip("rich.progress")
rich_console = pytest.importorskip("rich.console")


async def call(item: int) -> int:
    await turn()
    if item % 10 == 3:
        raise ValueError(item)
    return item


def numbers(stop: int) -> Iterator[int]:
    yield from range(stop)


def test_a_function_is_told_how_far_it_is(each_bridge: syncline.Bridge) -> None:
    """In the calling thread, which may call the bridge there; for the last time when all is done."""
    seen: list[Any] = []

    def show(progress: Any) -> None:
        seen.append(progress)
        each_bridge.run_sync(sleep, 0)

    assert len(list(each_bridge.map(call, range(50), limit=5, return_exceptions=True, progress=show))) == 50
    assert (seen[-1].done, seen[-1].failed, seen[-1].in_flight, seen[-1].total) == (50, 5, 0, 50)
    assert len(seen) >= 5
    assert [progress.done for progress in seen] == sorted(progress.done for progress in seen)
    assert max(progress.in_flight for progress in seen) <= 5


def test_without_a_length_there_is_no_total() -> None:
    """Of a generator; of several iterables, the shortest counts."""
    seen: list[Any] = []

    async def pair(one: int, other: int) -> int:
        return one + other

    async def anumbers() -> AsyncIterator[int]:
        for item in range(3):
            yield item

    list(syncline.map(call, numbers(3), progress=seen.append))
    assert {progress.total for progress in seen} == {None}
    seen.clear()
    list(syncline.map(call, anumbers(), progress=seen.append))
    assert {progress.total for progress in seen} == {None}
    seen.clear()
    list(syncline.map(pair, [1, 2, 3], [1, 2], progress=seen.append))
    assert {progress.total for progress in seen} == {2}


def test_a_length_that_can_not_be_had_is_not_known(each_bridge: syncline.Bridge) -> None:
    """As that of a streamed data set, whose class has one for others; as it is asked for before anything else, no map
    could be made of such a source."""
    seen: list[Any] = []

    class Streamed:
        def __iter__(self) -> Iterator[int]:
            return numbers(3)

        def __len__(self) -> int:
            raise NotImplementedError("a stream has no length")

    assert list(each_bridge.map(call, Streamed(), progress=seen.append)) == [0, 1, 2]
    assert {progress.total for progress in seen} == {None}


def test_calls_that_have_ended_show_before_their_results_come(each_bridge: syncline.Bridge) -> None:
    """The first call ends when the function has been told that the others have."""
    told: list[int] = []
    event: list[Any] = []

    async def wait_first(item: int) -> int:
        if item == 0:
            event.append(new_event())
            await event[0].wait()
        else:
            await sleep(0.12 * item)
        return item

    async def let_go() -> None:
        event[0].set()

    def show(progress: Any) -> None:
        told.append(progress.done)
        if progress.done and len(told) < 100:
            told.extend([0] * 100)
            each_bridge.run_sync(let_go)

    assert list(each_bridge.map(wait_first, range(3), progress=show)) == [0, 1, 2]
    assert 1 in told


def test_true_shows_tqdms_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """With count, rate, failures, and how many run."""
    list(syncline.map(call, range(50), return_exceptions=True, progress=True))
    shown = capsys.readouterr().err
    last = shown.rpartition("\r")[2]
    assert "50/50" in last
    assert "it/s" in last
    assert "failed=5, running=0" in last
    assert shown.endswith("\n")


def test_true_shows_richs_bar_without_tqdm(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the same things."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    monkeypatch.setenv("COLUMNS", "120")
    list(syncline.map(call, range(50), return_exceptions=True, progress=True))
    shown = capsys.readouterr().out
    assert "50/50" in shown
    assert "/s" in shown
    assert "failed=5 running=0" in shown


def test_without_either_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is begun."""
    for name in ("tqdm", "tqdm.auto", "rich", "rich.progress", "syncline._many.rich_bars"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "syncline._many.rich_bars")
    with pytest.raises(ImportError, match=r"pip install \"syncline\[progress\]\""):
        syncline.map(call, range(5), progress=True)


def test_a_bar_of_the_users_goes_on_and_stays_open(each_bridge: syncline.Bridge) -> None:
    """Two maps in one bar."""
    out = io.StringIO()
    with tqdm.tqdm(total=20, file=out, ascii=True) as bar:
        for _ in range(2):
            list(each_bridge.map(call, range(10), return_exceptions=True, progress=bar))
        assert bar.n == 20
        assert not bar.disable
    assert "20/20" in out.getvalue()


def test_a_display_of_richs_gets_a_task_for_each_map(each_bridge: syncline.Bridge) -> None:
    """It stays the user's, who has started it."""
    console = rich_console.Console(file=io.StringIO(), force_terminal=True)
    with rich_progress.Progress(console=console) as bars:
        for _ in range(2):
            list(each_bridge.map(call, range(10), return_exceptions=True, progress=bars))
        assert [(task.completed, task.total, task.fields["failed"]) for task in bars.tasks] == [
            (10, 10, 1)
        ] * 2
        assert bars.live.is_started


class Bar(tqdm.tqdm):  # type: ignore[misc]
    """A class of the user's, whose objects are ours to close."""

    closed = 0

    def __init__(self, **options: Any) -> None:
        super().__init__(file=io.StringIO(), **options)

    def close(self) -> None:
        if not self.disable:
            type(self).closed += 1
        super().close()


@pytest.mark.parametrize("way", ["end", "error", "break", "close", "never begun"])
def test_the_bar_is_closed_however_it_ends(each_bridge: syncline.Bridge, way: str) -> None:
    """Once. (Ctrl-C is in test_map_processes.py.)"""
    Bar.closed = 0

    def use() -> None:
        results = each_bridge.map(call, range(50), limit=5, return_exceptions=way != "error", progress=Bar)
        if way == "never begun":
            return
        for result in results:
            if way == "break" and result == 2:
                break
            if way == "close":
                results.close()

    if way == "error":
        with pytest.raises(ValueError, match="3"):
            use()
    else:
        use()
    assert Bar.closed == 1


def test_amap_shows_progress_too() -> None:
    """And closes the bar."""
    Bar.closed = 0

    async def main() -> None:
        results = syncline.amap(call, range(50), return_exceptions=True, progress=Bar)
        assert len([result async for result in results]) == 50

    syncline.run_sync(main)
    assert Bar.closed == 1


def test_nothing_is_imported_without_progress() -> None:
    """Neither library is looked for."""
    run_script("""
import sys, syncline

async def call(item):
    return item

loaded = {name for name in sys.modules if name.startswith("syncline._many.")}
assert loaded <= {"syncline._many.methods", "syncline._many.lost"}, loaded  # these two import nothing
assert list(syncline.map(call, range(5))) == list(range(5))
assert not {"tqdm", "rich", "anyio", "trio"} & sys.modules.keys()
""").assert_clean()
