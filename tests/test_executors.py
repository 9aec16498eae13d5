"""`map(executor=...)`: calls made by other processes, of all start methods, and by pools."""

from __future__ import annotations

import asyncio
import functools
import itertools
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

import pytest
import trio

import executor_code as code
import syncline
from child import DEV, run_script

METHODS = multiprocessing.get_all_start_methods()
pytestmark = [
    pytest.mark.timeout(120),
    # What Python 3.12 says of a fork in a program with threads, as the test run is one.
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning"),
]


def make(kind: str) -> Any:
    """Two workers."""
    if kind == "threads":
        return ThreadPoolExecutor(2)
    if kind == "pool":
        return multiprocessing.get_context("spawn").Pool(2)
    return ProcessPoolExecutor(2, mp_context=multiprocessing.get_context(kind))


@pytest.fixture(scope="module", params=[*METHODS, "pool", "threads"])
def each_executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A pool of processes of each start method, multiprocessing's own, and threads."""
    with make(request.param) as executor:
        yield executor


@pytest.fixture(scope="module")
def executor() -> Iterator[ProcessPoolExecutor]:
    """One of them, for what doesn't depend on that."""
    with make("spawn") as executor:
        yield executor


def test_results_come_in_order_from_other_processes(each_executor: Any) -> None:
    """Those of a long source, each once; of several iterables, too."""
    assert list(syncline.map(code.double, range(1000), limit=10, executor=each_executor)) == [
        2 * number for number in range(1000)
    ]
    assert list(syncline.map(code.add, range(50), itertools.count(1), executor=each_executor)) == [
        2 * number + 1 for number in range(50)
    ]
    if not isinstance(each_executor, ThreadPoolExecutor):
        assert os.getpid() not in set(
            syncline.map(code.process_of, range(100), executor=each_executor, chunk=5)
        )


def test_in_any_order_with_their_input(each_executor: Any) -> None:
    """Each result is beside its own item."""
    pairs = syncline.map(
        code.double, range(200), limit=5, chunk=7, ordered=False, with_input=True, executor=each_executor
    )
    assert sorted(pairs) == [(number, 2 * number) for number in range(200)]


def test_from_wherever_the_iterator_is_used(
    inside: Callable[[Callable[[], list[int]]], list[int]],
    each_bridge: syncline.Bridge,
    executor: ProcessPoolExecutor,
) -> None:
    """In plain threads and inside loops, by every kind of bridge; the worker has one of the same kind."""
    fn = code.double_in_trio if "trio" in repr(each_bridge._options) else code.double
    body = lambda: list(each_bridge.map(fn, range(20), chunk=5, executor=executor))  # noqa: E731
    assert inside(body) == [2 * number for number in range(20)]


@pytest.mark.parametrize("run", ["asyncio", "uvloop", "our own loop"])
def test_amap(run: str, executor: ProcessPoolExecutor, run_async: Callable[[Any], list[int]]) -> None:
    """In async code, from a sync source and from an async one."""

    async def numbers() -> AsyncIterator[int]:
        for number in range(50):
            await asyncio.sleep(0)
            yield number

    async def main() -> list[int]:
        found = [each async for each in syncline.amap(code.double, range(50), executor=executor)]
        return found + [
            each async for each in syncline.amap(code.double, numbers(), chunk=8, executor=executor)
        ]

    assert run_async(main) == [2 * number for number in range(50)] * 2


def test_amap_in_a_trio_run(executor: ProcessPoolExecutor) -> None:
    """The function is one for trio, and runs with trio in the workers."""

    async def main() -> list[int]:
        return [each async for each in syncline.amap(code.double_in_trio, range(50), executor=executor)]

    assert trio.run(main) == [2 * number for number in range(50)]


def test_amap_of_a_bridge_of_ones_own(executor: ProcessPoolExecutor) -> None:
    """Workers make its calls on a bridge like that one, whatever loop asks for the results: here one that runs trio."""

    async def main(bridge: syncline.Bridge) -> list[int]:
        return [each async for each in bridge.amap(code.double_in_trio, range(20), executor=executor)]

    with syncline.Bridge(backend="trio") as bridge:
        assert asyncio.run(main(bridge)) == [2 * number for number in range(20)]


def test_an_async_source_in_sync_code(executor: ProcessPoolExecutor) -> None:
    """It is advanced by the bridge."""

    async def numbers() -> AsyncIterator[int]:
        for number in range(30):
            await asyncio.sleep(0)
            yield number

    assert list(syncline.map(code.double, numbers(), executor=executor)) == [
        2 * number for number in range(30)
    ]


def test_an_endless_source_is_advanced_for_two_chunks_a_worker(executor: ProcessPoolExecutor) -> None:
    """As long as nobody takes results, no more goes out; each result that is taken makes room."""
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    with syncline.map(code.double, numbers(), limit=3, chunk=5, executor=executor) as results:
        assert next(results) == 2
        assert taken <= (2 * 2 + 1) * 5
        for _ in range(200):
            next(results)
        assert taken <= 201 + (2 * 2 + 1) * 5
    assert list(results) == []


def test_a_source_that_takes_its_time_is_not_waited_for_until_a_chunk_is_full(
    executor: ProcessPoolExecutor,
) -> None:
    """What is there after a tenth of a second goes out, and results come while the source has most items still."""
    asked: list[int] = []

    def numbers() -> Iterator[int]:
        for number in itertools.count():
            asked.append(number)
            time.sleep(0.11)  # the source's own work
            yield number

    with syncline.map(code.double, numbers(), executor=executor, limit=100) as results:
        assert next(results) == 0
    assert len(asked) <= 5


def test_the_limit_is_each_workers(executor: ProcessPoolExecutor) -> None:
    """So many calls of a chunk run at once, and no more."""
    peaks = list(syncline.map(code.counts_itself, range(60), limit=4, chunk=30, executor=executor))
    assert max(peaks) == 4


def test_a_limit_of_time_for_each_call(executor: ProcessPoolExecutor) -> None:
    """As for calls made here."""
    with pytest.raises(TimeoutError):
        list(syncline.map(asyncio.sleep, [0, 3600], timeout=0.1, executor=executor))


def test_decorated_functions_travel(executor: ProcessPoolExecutor) -> None:
    """Partials and lambdas, too: by cloudpickle."""
    assert list(syncline.map(code.decorated, [1, 2], executor=executor)) == [2, 4]
    assert list(syncline.map(functools.partial(code.add, 1), [1, 2], executor=executor)) == [2, 3]
    assert list(syncline.map(lambda number: code.double(number + 1), [1, 2], executor=executor)) == [4, 6]


def test_workers_open_a_resource_of_their_own_once(executor: ProcessPoolExecutor) -> None:
    """Their calls, of all chunks, run on one loop of that process."""
    here = code.number_of_process.get()
    found = set(syncline.map(code.uses_a_resource, range(40), chunk=2, executor=executor))
    assert here == os.getpid()
    assert here not in found
    assert 1 <= len(found) <= 2
    code.number_of_process.close()


def test_progress_counts_items(executor: ProcessPoolExecutor) -> None:
    """Of chunks that have ended, with those that have failed."""
    seen: list[Any] = []
    fails = functools.partial(code.fails_at, 3)
    results = syncline.map(
        fails, range(10), chunk=5, return_exceptions=True, executor=executor, progress=seen.append
    )
    assert len(list(results)) == 10
    last = seen[-1]
    assert (last.done, last.failed, last.in_flight, last.total) == (10, 1, 0, 10)
    assert [each.done for each in seen] == sorted(each.done for each in seen)


def test_a_function_that_makes_an_executor() -> None:
    """It is called at the first use, and what it makes is shut down at the end."""
    made: list[ProcessPoolExecutor] = []

    def make_one() -> ProcessPoolExecutor:
        made.append(make("spawn"))
        return made[-1]

    results = syncline.map(code.double, range(30), executor=make_one)
    assert not made
    assert list(results) == [2 * number for number in range(30)]
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        made[0].submit(int)
    pool = functools.partial(multiprocessing.get_context("spawn").Pool, 1)
    assert list(syncline.map(code.double, range(3), executor=pool)) == [0, 2, 4]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("has_cloudpickle", [True, False])
def test_functions_of_a_script_travel(method: str, has_cloudpickle: bool) -> None:
    """By value with cloudpickle; without it as with any executor: the worker finds them in the script."""
    script = f"""
import asyncio, functools, multiprocessing, sys, warnings
warnings.filterwarnings("ignore", "This process .* is multi-threaded, use of fork", DeprecationWarning)
if not {has_cloudpickle}:
    sys.modules["cloudpickle"] = None
import syncline
from concurrent.futures import ProcessPoolExecutor

def doubled(fn):
    @functools.wraps(fn)
    async def wrapper(number):
        return 2 * await fn(number)
    return wrapper

@doubled
async def fetch(number):
    await asyncio.sleep(0)
    return number

if __name__ == "__main__":
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context({method!r})) as executor:
        print(list(syncline.map(fetch, range(4), executor=executor)))
"""
    # Python's own resource tracker and queues are noisy in development mode, with fork.
    end = run_script(script, flags=DEV if method == "spawn" else (), limit=60)
    assert end.lines == ["[0, 2, 4, 6]"]
    end.assert_clean()


@pytest.mark.parametrize("has_cloudpickle", [True, False])
def test_what_cannot_travel_is_named_with_what_helps(
    monkeypatch: pytest.MonkeyPatch, has_cloudpickle: bool, executor: ProcessPoolExecutor
) -> None:
    """Cloudpickle is recommended where it is missing, not where it has failed."""
    lock = threading.Lock()

    async def fetch(number: int) -> int:
        with lock:
            return number

    if has_cloudpickle:
        pytest.importorskip("cloudpickle")
    else:
        monkeypatch.setitem(sys.modules, "cloudpickle", None)
    with pytest.raises(
        TypeError, match=r"map\(\) can't send 'fetch' to a worker: .* top of a module"
    ) as caught:
        list(syncline.map(fetch, range(3), executor=executor))
    assert ("pip install cloudpickle" in str(caught.value)) is not has_cloudpickle


@pytest.mark.skipif(sys.platform == "win32", reason="it shows what is left in the folder for temporary files")
def test_nothing_is_left_in_the_file_system(
    executor: ProcessPoolExecutor, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder by which workers know that they are wanted is gone with the iterator."""
    import tempfile

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    results = syncline.map(code.double, itertools.count(), executor=executor)
    next(results)
    assert len(list(tmp_path.iterdir())) == 1
    results.close()
    assert list(tmp_path.iterdir()) == []
