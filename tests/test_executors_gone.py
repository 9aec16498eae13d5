"""`map(executor=...)` where the program ends, or an executor does not do what it is there for any more."""

from __future__ import annotations

import asyncio
import itertools
import multiprocessing
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pytest

import executor_code as code
import syncline
from child import eventually, run_script

pytestmark = [
    pytest.mark.timeout(120),
    # What Python 3.12 says of a fork in a program with threads, as the test run is one.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
]
SPAWN = multiprocessing.get_context("spawn")
MAKE = {
    "processes": "ProcessPoolExecutor(2, mp_context=multiprocessing.get_context('spawn'))",
    "threads": "ThreadPoolExecutor(2)",
    "pool": "multiprocessing.get_context('spawn').Pool(2)",
}
OPEN_AT_THE_END = """
import functools, itertools, multiprocessing, sys, threading
sys.path.insert(0, {tests!r})
import syncline
import executor_code as code
from child import eventually
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from syncline._many import chunks, executors

if __name__ == "__main__":
    # Often, so that one comes between the program's end and the process's.
    chunks.LOOK_FOR_DEAD_EVERY = executors.LOOK_FOR_DEAD_EVERY = 0.005
    executor = {executor}
    stays = functools.partial(code.stays, {folder!r})

    def use():
        global results
        results = syncline.map(stays, itertools.count(), chunk=1, executor=executor)
        print(next(results), flush=True)
        has_result.set()
        if {waits}:
            next(results)

    has_result = threading.Event()
    if {thread}:
        threading.Thread(target=use, daemon=True).start()
        has_result.wait()
        # Interleaving: the thread waits when the program ends.
        assert not {waits} or eventually(lambda: syncline.default_bridge().stats()["active"])
    else:
        use()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it shows what is left in the folder for temporary files")
@pytest.mark.parametrize("kind", MAKE)
@pytest.mark.parametrize(
    ("thread", "waits"),
    [(False, False), (True, False), (True, True)],
    ids=["the main thread", "a daemon thread", "one that waits"],
)
def test_a_map_that_is_open_when_the_program_ends(
    tmp_path: Path, kind: str, thread: bool, waits: bool
) -> None:
    """Its workers are told to end before Python waits for them: their calls, which would go on for ever, clean up;
    nothing is printed, and no file is left."""
    (tmp_path / "calls").mkdir()
    (tmp_path / "temporary").mkdir()
    here = str(Path(__file__).parent)
    script = OPEN_AT_THE_END.format(
        tests=here, executor=MAKE[kind], folder=str(tmp_path / "calls"), thread=thread, waits=waits
    )
    end = run_script(script, env={"TMPDIR": str(tmp_path / "temporary")}, limit=60)
    assert end.lines == ["0"]
    end.assert_clean()
    assert not [*(tmp_path / "temporary").glob("syncline-map-*")]
    if kind != "pool":  # Python kills the workers of pools
        assert not [*(tmp_path / "calls").iterdir()]


def test_a_thread_that_python_waits_for_has_all_results_of_what_was_given_out() -> None:
    """When the main thread's program has ended, the executor takes nothing more, as it says then; what runs goes on."""
    script = f"""
import multiprocessing, sys, threading
sys.path.insert(0, {str(Path(__file__).parent)!r})
import syncline
import executor_code as code
from concurrent.futures import ThreadPoolExecutor

def use():
    got = []
    try:
        for number in syncline.map(code.double, range(100), chunk=1, executor=executor):
            got.append(number)
            if number == 0:
                has_result.set()
                threading.main_thread().join()
    except RuntimeError as error:
        print(got == [2 * number for number in range(len(got))], len(got) >= 4, str(error)[:33])

class AllOut(ThreadPoolExecutor):
    # Interleaving: no call ends before four were given out.
    count, all_out = 0, threading.Event()
    def submit(self, fn, *args):
        def run():
            assert self.all_out.wait(30)
            return fn(*args)
        future = super().submit(run)
        self.count += 1
        if self.count == 4:
            self.all_out.set()
        return future

has_result = threading.Event()
executor = AllOut(2)
threading.Thread(target=use).start()
has_result.wait()
"""
    end = run_script(script, limit=60)
    assert end.lines == ["True True cannot schedule new futures after"]
    end.assert_clean()


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_pools_worker_that_dies_of_what_travels() -> None:
    """Of the function or an item, as it is made of what was pickled, or of a result that it pickles: out of memory,
    mostly. The pool itself would wait for ever."""
    with SPAWN.Pool(2) as pool:
        with pytest.raises(syncline.WorkerDiedError) as caught:
            list(syncline.map(code.DiesOnTheWay(os.getpid()), range(4), chunk=2, executor=pool))
        assert caught.value.items == [0, 1]
        bad = code.DiesOnTheWay(os.getpid())
        with pytest.raises(syncline.WorkerDiedError) as caught:
            list(syncline.map(code.process_of, [0, 1, 2, bad], chunk=2, executor=pool))
        assert caught.value.items == [2, bad]
        with pytest.raises(syncline.WorkerDiedError) as caught:
            list(syncline.map(code.gives_what_dies, range(6), chunk=2, executor=pool))
        assert caught.value.items == [2, 3]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
def test_a_pools_worker_that_dies_while_others_give_results(tmp_path: Path) -> None:
    """In any order there is always a result to take, and the dead one is noticed all the same."""

    async def dies_first(number: int) -> int:
        if number == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.01)
        return number

    with SPAWN.Pool(2) as pool:
        results = syncline.map(dies_first, itertools.count(), chunk=1, ordered=False, executor=pool)
        with pytest.raises(syncline.WorkerDiedError) as caught:
            list(results)
    assert caught.value.items == [0]


@pytest.mark.parametrize("make", ["multiprocessing.get_context('spawn').Pool", "ThreadPool"])
def test_a_pool_whose_workers_can_not_begin(make: str) -> None:
    """The pool starts others for ever; the map ends. The program is left without the pool's own end, which may wait for
    ever for such workers."""
    script = f"""
import multiprocessing, os, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import syncline
import executor_code as code
from multiprocessing.pool import ThreadPool

if __name__ == "__main__":
    pool = {make}(2, code.fails_to_begin)
    try:
        list(syncline.map(code.double, range(9), executor=pool))
    except RuntimeError as error:
        print(str(error)[:54], flush=True)
    os._exit(0)
"""
    end = run_script(script, limit=60)
    assert end.lines == ["the workers of the pool die before they begin anything"]


def test_a_pool_that_is_terminated() -> None:
    """By another thread, while all of its workers do something else."""
    gate, entered = threading.Event(), threading.Barrier(3)

    def waits() -> None:
        entered.wait(30)
        gate.wait(30)

    pool = ThreadPool(2)
    try:
        for _ in range(2):
            pool.apply_async(waits)
        entered.wait(30)
        results = syncline.map(code.double, sends(pool.terminate, gate), executor=pool, chunk=1)
        with pytest.raises((RuntimeError, ValueError), match=r"pool was terminated while|Pool not running"):
            list(results)
    finally:
        gate.set()


def sends(terminate: Callable[[], None], gate: threading.Event) -> Iterator[int]:
    """Numbers; the pool is terminated after the first, and has no worker for that one."""
    yield 1
    threading.Thread(target=terminate).start()
    threading.Timer(5, gate.set).start()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(
    "make",
    [lambda: ProcessPoolExecutor(1, mp_context=SPAWN), lambda: SPAWN.Pool(1), lambda: ThreadPoolExecutor(1)],
    ids=["processes", "pool", "threads"],
)
def test_an_executor_that_came_by_a_fork(make: Callable[[], Any]) -> None:
    """It takes work and never does it, so that is said at once; the parent's goes on."""
    with make() as executor:
        assert list(syncline.map(code.double, [1], executor=executor)) == [2]
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            try:
                list(syncline.map(code.double, [1], executor=executor))
            except RuntimeError as error:
                os._exit(0 if "the process that this one was forked from" in str(error) else 1)
            finally:
                os._exit(2)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert list(syncline.map(code.double, [2], executor=executor)) == [4]


def test_what_can_not_be_given_out_comes_after_the_results_before_it() -> None:
    """An item that can't be pickled, and an executor that takes nothing more: as where the source fails."""
    items: list[Any] = [0, 1, 2, 3, threading.Lock(), 5]

    def numbers() -> Iterator[int]:
        yield from range(4)
        executor.shutdown(wait=False)
        yield 4

    with ThreadPoolExecutor(2) as executor:
        results = syncline.map(code.double, items, chunk=1, executor=executor)
        assert list(itertools.islice(results, 4)) == [0, 2, 4, 6]
        with pytest.raises(TypeError, match="can't be sent to a worker"):
            next(results)
        results = syncline.map(code.double, numbers(), chunk=1, executor=executor)
        assert list(itertools.islice(results, 4)) == [0, 2, 4, 6]
        with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
            next(results)


def test_the_same_in_async_code() -> None:
    """amap, too."""
    items: list[Any] = [0, 1, 2, 3, threading.Lock(), 5]

    async def main(executor: ThreadPoolExecutor) -> list[int]:
        results = syncline.amap(code.double, items, chunk=1, executor=executor)
        got = [await anext(results) for _ in range(4)]
        with pytest.raises(TypeError, match="can't be sent to a worker"):
            await anext(results)
        return got

    with ThreadPoolExecutor(2) as executor:
        assert asyncio.run(main(executor)) == [0, 2, 4, 6]


def test_a_process_pool_that_forgets_to_start_workers() -> None:
    """Python's with max_tasks_per_child takes a result that came for an idle worker (cpython#115634): of two calls of
    one worker, the first makes it believe that there is another one when that has ended. It would wait for ever."""
    with ProcessPoolExecutor(1, mp_context=SPAWN, max_tasks_per_child=2) as executor:
        processes: dict[int, Any] = executor._processes  # type: ignore[assignment]

        def numbers() -> Iterator[int]:
            yield 0
            first = set(processes)
            yield 1
            assert eventually(lambda: not first & set(processes), 30)
            yield from (2, 3, 4)

        assert list(syncline.map(code.double, numbers(), chunk=1, executor=executor)) == [0, 2, 4, 6, 8]


@pytest.mark.skipif(sys.platform == "win32", reason="the others start there like this one")
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_what_workers_have_open_is_closed_when_they_end(method: str, tmp_path: Path) -> None:
    """With the initializer of docs/processes.md: multiprocessing calls no function registered with atexit in processes
    that it forks."""
    script = f"""
import functools, multiprocessing, os, sys, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning)
sys.path.insert(0, {str(Path(__file__).parent)!r})
import syncline
import executor_code as code
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    context = multiprocessing.get_context({method!r})
    with ProcessPoolExecutor(1, mp_context=context, initializer=code.close_at_the_end) as executor:
        holds = functools.partial(code.holds, {str(tmp_path)!r})
        print(list(syncline.map(holds, [1, 2], executor=executor)), len(os.listdir({str(tmp_path)!r})))
    print(os.listdir({str(tmp_path)!r}))
"""
    end = run_script(script, limit=60)
    assert end.lines == ["[1, 2] 1", "[]"]
    end.assert_clean()


has_looked = threading.Event()


async def answers_later(number: int) -> int:
    await asyncio.to_thread(has_looked.wait)
    return number


def test_a_mark_that_goes_as_it_is_read_is_of_a_chunk_that_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forced: the worker takes its mark away when the consumer has seen that there is one, and is about to read whose
    it is; its answer comes after that. Nobody has died."""
    has_looked.clear()
    read = Path.read_text

    def read_too_late(path: Path, *args: Any, **kwargs: Any) -> str:
        if path.parent.name.startswith("syncline-map-"):
            path.unlink()
            has_looked.set()
        return read(path, *args, **kwargs)

    monkeypatch.setattr(Path, "read_text", read_too_late)
    with ThreadPool(1) as pool:
        assert list(syncline.map(answers_later, range(3), chunk=3, executor=pool)) == [0, 1, 2]
    assert has_looked.is_set()


@pytest.mark.skipif(sys.platform == "win32", reason="it removes a folder in which a file is open")
def test_a_folder_that_goes_as_it_is_read_has_no_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forced: the last worker removes the folder when the iterator that is closed is about to look who runs still."""
    removed = []
    listed = Path.iterdir

    def list_too_late(path: Path) -> Iterator[Path]:
        if path.name.startswith("syncline-map-"):
            shutil.rmtree(path)
            removed.append(path)
        return listed(path)

    with ThreadPoolExecutor(1) as executor:
        results = syncline.map(code.double, itertools.count(), executor=executor)
        assert next(results) == 0
        monkeypatch.setattr(Path, "iterdir", list_too_late)
        results.close()
    assert removed
