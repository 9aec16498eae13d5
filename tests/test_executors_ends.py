"""How `map(executor=...)` ends: errors, a `break`, Ctrl-C, a worker that dies. Nothing is left running."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

import executor_code as code
import syncline
from child import Child, eventually

pytestmark = pytest.mark.timeout(120)
SPAWN = multiprocessing.get_context("spawn")


def new_executor(workers: int = 2) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=SPAWN)


@pytest.fixture(scope="module")
def executor() -> Iterator[ProcessPoolExecutor]:
    """Two processes, which all of these tests use, one after the other: none breaks them."""
    with new_executor() as executor:
        yield executor


def is_idle(executor: ProcessPoolExecutor) -> bool:
    """Whether its workers take new work at once, both of them."""
    futures = [executor.submit(os.getpid) for _ in range(2)]
    return all(future.result(timeout=20) for future in futures)


@pytest.mark.parametrize("ordered", [True, False])
def test_the_first_error_ends_it(executor: ProcessPoolExecutor, tmp_path: Path, ordered: bool) -> None:
    """The error is of the call's own type, and says where it was raised; the results before it come; what ran is
    cancelled and has cleaned up."""
    fails = functools.partial(code.fails_at, 7)
    results = syncline.map(fails, range(100), chunk=5, ordered=ordered, executor=executor)
    got = []
    with pytest.raises(ValueError, match="not 7") as caught:
        got.extend(itertools.takewhile(lambda _: True, results))
    if ordered:
        assert got == [0, 1, 2, 3, 4, 5, 6]
    (note,) = caught.value.__notes__
    assert "raised in process" in note
    assert "in fails_at" in note
    assert list(results) == []
    assert is_idle(executor)


def test_what_runs_beside_an_error_is_cancelled(executor: ProcessPoolExecutor, tmp_path: Path) -> None:
    """In its own chunk and in the others, and it has cleaned up when the error is raised."""

    async def stays_or_fails(number: int) -> int:
        if number == 9:
            while len(os.listdir(tmp_path)) < 6:
                await asyncio.sleep(0.01)
            raise ValueError("enough")
        return await code.stays(str(tmp_path), number)

    with pytest.raises(ValueError, match="enough"):
        list(syncline.map(stays_or_fails, [1, 2, 3, 9, 4, 5, 6], chunk=4, ordered=False, executor=executor))
    assert list(tmp_path.iterdir()) == []
    assert is_idle(executor)


def test_errors_may_be_results(executor: ProcessPoolExecutor) -> None:
    """And all others come."""
    fails = functools.partial(code.fails_at, 3)
    found = list(syncline.map(fails, range(6), chunk=2, return_exceptions=True, executor=executor))
    error = found.pop(3)
    assert isinstance(error, ValueError)
    assert found == [0, 1, 2, 4, 5]


@pytest.mark.parametrize(
    ("fn", "kind", "message"),
    [
        (code.raises_picky, RuntimeError, r"Picky: one \(which can't be pickled"),
        (code.exits, SystemExit, "3"),
        (
            code.gives_a_lock,
            TypeError,
            "the result for 3 can't be sent back, as it is of type lock",
        ),
        (os.getpid, TypeError, "getpid"),
    ],
    ids=["an error that can't be pickled", "SystemExit", "a result that can't be pickled", "a sync function"],
)
def test_what_else_a_call_can_do(executor: ProcessPoolExecutor, fn: Any, kind: type, message: str) -> None:
    """The worker lives on, and the error says what is wrong."""
    with pytest.raises(kind, match=message):
        list(syncline.map(fn, range(5), executor=executor))
    assert is_idle(executor)


def test_items_that_can_not_be_sent(executor: ProcessPoolExecutor) -> None:
    """The error names the first."""
    with pytest.raises(TypeError, match=r"the item <unlocked _thread.lock .* can't be sent to a worker"):
        list(syncline.map(code.process_of, [1, threading.Lock()], executor=executor))
    assert is_idle(executor)


def test_a_function_that_can_not_be_sent(executor: ProcessPoolExecutor) -> None:
    """It is named, before anything begins."""
    lock = threading.Lock()

    async def uses_a_lock(number: int) -> int:
        return number if lock else 0

    with pytest.raises(TypeError, match=r"map\(\) can't send 'uses_a_lock' to a worker: .*lock"):
        syncline.map(uses_a_lock, range(3), executor=executor)


def test_a_source_that_fails(executor: ProcessPoolExecutor) -> None:
    """Its error comes after the results of its items."""

    def numbers() -> Iterator[int]:
        yield from range(7)
        raise OSError("no more")

    results = syncline.map(code.double, numbers(), chunk=5, executor=executor)
    assert [next(results) for _ in range(7)] == [0, 2, 4, 6, 8, 10, 12]
    with pytest.raises(OSError, match="no more"):
        next(results)


@pytest.mark.parametrize("how", ["break", "close", "with"])
def test_an_early_end_cancels_what_waits_and_what_runs(
    executor: ProcessPoolExecutor, tmp_path: Path, how: str
) -> None:
    """Calls in other processes have cleaned up when the loop is left."""
    stays = functools.partial(code.stays, str(tmp_path))

    def end_it() -> None:
        results = syncline.map(stays, itertools.count(), chunk=1, executor=executor)
        if how == "break":
            for result in results:
                assert result == 0
                assert eventually(lambda: any(tmp_path.iterdir()))
                break
        elif how == "with":
            with results:
                next(results)
                assert eventually(lambda: any(tmp_path.iterdir()))
        else:
            next(results)
            assert eventually(lambda: any(tmp_path.iterdir()))
            results.close()

    end_it()
    assert list(tmp_path.iterdir()) == []
    assert is_idle(executor)


def test_an_early_end_of_amap(executor: ProcessPoolExecutor, tmp_path: Path) -> None:
    """The same in async code, by cancellation."""
    stays = functools.partial(code.stays, str(tmp_path))

    async def main() -> None:
        async def consume() -> None:
            async with contextlib.aclosing(
                syncline.amap(stays, itertools.count(1), chunk=1, executor=executor)
            ) as results:
                async for _ in results:
                    pass

        task = asyncio.create_task(consume())
        while not os.listdir(tmp_path):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert os.listdir(tmp_path) == []

    asyncio.run(main())
    assert is_idle(executor)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a process there")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.parametrize("whole_group", [False, True], ids=["the program alone", "as a terminal sends it"])
def test_ctrl_c(tmp_path: Path, method: str, whole_group: bool) -> None:
    """KeyboardInterrupt comes when the calls in the workers have cleaned up; nothing is printed, and all processes end.

    A terminal sends the signal to the workers, too. These ignore it, as the documentation recommends.
    """
    script = f"""
import asyncio, functools, multiprocessing, os, signal, sys, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning)
sys.path.insert(0, {str(Path(__file__).parent)!r})
import syncline
import executor_code as code
from concurrent.futures import Future, ProcessPoolExecutor

if __name__ == "__main__":
    folder = {str(tmp_path)!r}
    context = multiprocessing.get_context({method!r})
    ignore = (signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(2, mp_context=context, initializer=signal.signal, initargs=ignore) as executor:
        stays = functools.partial(code.stays, folder)
        try:
            for number in syncline.map(stays, range(1000), chunk=3, executor=executor, ordered=False, limit=2):
                print("first", number, flush=True)
        except KeyboardInterrupt:
            print("interrupted", os.listdir(folder), flush=True)
"""
    with Child(script, limit=60) as child:
        # Two calls in each worker: both are past their start, in which a signal would kill them.
        assert eventually(lambda: len(list(tmp_path.iterdir())) == 4, 40)
        if whole_group:
            os.killpg(child.pid, signal.SIGINT)
        else:
            child.signal()
        end = child.finish()
    assert end.lines == ["interrupted []"]
    end.assert_clean()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_workers_end_what_nobody_wants_any_more(tmp_path: Path) -> None:
    """The program is killed: calls in its workers are cancelled, and clean up, and no file is left."""
    script = f"""
import functools, multiprocessing, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import syncline
import executor_code as code
from concurrent.futures import Future, ProcessPoolExecutor

if __name__ == "__main__":
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
        stays = functools.partial(code.stays, {str(tmp_path / "calls")!r})
        list(syncline.map(stays, [1, 2], chunk=2, executor=executor))
"""
    (tmp_path / "calls").mkdir()
    (tmp_path / "temporary").mkdir()
    with Child(script, env={"TMPDIR": str(tmp_path / "temporary")}, limit=60) as child:
        assert eventually(lambda: len(list((tmp_path / "calls").iterdir())) == 2, 40)
        child.signal(signal.SIGKILL)
        assert eventually(lambda: not list((tmp_path / "calls").iterdir()), 20)
        assert eventually(lambda: not list((tmp_path / "temporary").glob("syncline-map-*")))


def test_a_worker_that_dies_names_its_items(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Those of the chunks that were begun; and the dead are not waited for."""
    dies = functools.partial(code.dies, str(tmp_path), 13, 1)
    with new_executor() as executor:
        results = syncline.map(dies, range(40), chunk=10, executor=executor)
        with pytest.raises(
            syncline.WorkerDiedError, match="a worker died while these items were run"
        ) as caught:
            list(results)
    assert 13 in caught.value.items
    assert len(caught.value.items) in (10, 20)
    assert isinstance(caught.value.__cause__, BrokenProcessPool)
    assert not caplog.records
    assert list(results) == []


def test_a_pool_that_breaks_while_the_map_ends_is_shut_down(tmp_path: Path) -> None:
    """Of four chunks a pool of two workers takes three for running, so only the fourth can be cancelled. The pool is
    held as it gives up the third, until the map is over. Before Python 3.12.1 it failed over the cancelled one then,
    and left its workers running."""
    before = set(multiprocessing.active_children())
    gate = tmp_path / "gate"
    sent: list[Future[Any]] = []
    given_up: list[Future[Any]] = []
    is_over = threading.Event()

    class HeldPool(ProcessPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **options: Any) -> Future[Any]:
            future = super().submit(fn, *args, **options)
            future.add_done_callback(hold)
            sent.append(future)
            if len(sent) == 4:
                gate.touch()
            return future

    def hold(future: Future[Any]) -> None:
        if not future.cancelled():
            given_up.append(future)
            if len(given_up) == 3:
                assert is_over.wait(30)

    dies = functools.partial(code.dies_at_the_gate, str(gate))
    with HeldPool(2, mp_context=SPAWN) as executor:
        with pytest.raises(syncline.WorkerDiedError):
            list(syncline.map(dies, range(8), chunk=1, executor=executor, ordered=False))
        is_over.set()
    assert len(sent) == 4
    assert all(isinstance(future.exception(), BrokenProcessPool) for future in given_up)
    assert set(multiprocessing.active_children()) == before


def test_items_of_a_dead_worker_are_retried_where_that_is_asked(tmp_path: Path) -> None:
    """With a new executor, as Python's is broken; each result comes once, in order."""
    dies = functools.partial(code.dies, str(tmp_path), 13, 2)
    found = list(syncline.map(dies, range(100), chunk=5, executor=new_executor, worker_retries=2))
    assert found == list(range(100))
    assert (tmp_path / "deaths").read_text() == "2"


def test_items_that_kill_each_worker_end_it(tmp_path: Path) -> None:
    """After as many retries as were asked for."""
    dies = functools.partial(code.dies, str(tmp_path), 3, 100)
    with pytest.raises(syncline.WorkerDiedError) as caught:
        list(syncline.map(dies, range(8), chunk=2, executor=new_executor, worker_retries=1))
    assert 3 in caught.value.items
    assert (tmp_path / "deaths").read_text() == "2"


def test_an_executor_that_can_not_be_made_anew_says_so(tmp_path: Path) -> None:
    """The advice shows how to write it."""
    dies = functools.partial(code.dies, str(tmp_path), 3, 1)
    with (
        new_executor() as executor,
        pytest.raises(
            syncline.WorkerDiedError, match=r"executor=functools.partial\(ProcessPoolExecutor, 4\)"
        ),
    ):
        list(syncline.map(dies, range(8), chunk=2, executor=executor, worker_retries=1))


def test_a_pool_whose_worker_dies(tmp_path: Path) -> None:
    """multiprocessing's own waits for ever, so it is looked after; and it has started another worker meanwhile."""
    dies = functools.partial(code.dies, str(tmp_path), 13, 2)
    with SPAWN.Pool(2) as pool:
        with pytest.raises(syncline.WorkerDiedError) as caught:
            list(syncline.map(dies, range(40), chunk=10, executor=pool))
        assert caught.value.items == list(range(10, 20))
        assert list(syncline.map(dies, range(40), chunk=10, executor=pool, worker_retries=1)) == list(
            range(40)
        )


def test_a_call_that_blocks_its_loop_is_left_behind(
    executor: ProcessPoolExecutor,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The program goes on after a while, and the log says why. The first result comes while the second call blocks."""
    monkeypatch.setattr("syncline._many.executors.LONGEST_END", 0.3)
    gate = str(tmp_path / "gate")
    results = syncline.map(functools.partial(code.blocks, gate), [0, 1], chunk=1, executor=executor)
    assert next(results) == 0
    assert eventually(lambda: Path(f"{gate}.1").exists())
    results.close()
    Path(gate).touch()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "1 of its chunks still run" in caplog.text
    assert is_idle(executor)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (
            {"executor": ProcessPoolExecutor},
            TypeError,
            r"the class ProcessPoolExecutor; make one: .*Executor\(\)",
        ),
        (
            {"executor": 4},
            TypeError,
            "is a concurrent.futures.Executor, a pool with apply_async, or a function",
        ),
        ({"chunk": 4}, TypeError, "a chunk and no executor"),
        ({"worker_retries": 4}, TypeError, "no executor whose workers could die"),
        (
            {"executor": ProcessPoolExecutor.__new__(ProcessPoolExecutor), "chunk": 0},
            ValueError,
            "1 or more, not 0",
        ),
    ],
)
def test_mistakes_are_named(options: dict[str, Any], kind: type[Exception], message: str) -> None:
    """Before anything begins."""
    with pytest.raises(kind, match=message):
        syncline.map(code.double, range(3), **options)


def test_a_function_that_makes_no_executor_is_named() -> None:
    """When it is called, which is at the first use."""

    async def makes_it_later() -> ProcessPoolExecutor:
        return new_executor()

    for make, made in ((lambda: None, "NoneType"), (makes_it_later, "coroutine")):
        results = syncline.map(code.double, range(3), executor=make)
        with pytest.raises(TypeError, match=f"is a function that makes .*; this one made a {made}"):
            list(results)


def test_a_ctrl_c_as_the_folder_is_made_leaves_none(
    executor: ProcessPoolExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What makes it lets go of the interpreter, and then the signal is handled."""
    real = os.mkdir

    def interrupted(path: Any, *args: Any, **options: Any) -> None:
        real(path, *args, **options)
        if "syncline-map-" in str(path):
            raise KeyboardInterrupt

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(os, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(syncline.map(code.double, range(3), executor=executor))
    assert not [*tmp_path.iterdir()]
