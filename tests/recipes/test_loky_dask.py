"""`map(executor=...)` with loky, and with Dask on a cluster of two processes."""

from __future__ import annotations

import functools
import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import executor_code as code
import syncline
from child import eventually, run_script

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("default"),
]  # theirs are not ours to answer for
HERE = str(Path(__file__).parent.parent)


def loky() -> Iterator[Any]:
    module = pytest.importorskip("loky")
    executor = module.ProcessPoolExecutor(2)
    yield executor
    executor.shutdown(kill_workers=True)


def dask() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client.get_executor()


@pytest.fixture(scope="module", params=[loky, dask], ids=lambda make: make.__name__)
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """Each of them, with two processes that find the modules of the tests."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([HERE, *filter(None, [before])])
    try:
        yield from request.param()
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def test_results_come_from_other_processes(executor: Any) -> None:
    """In order or not, from both of them."""
    assert list(syncline.map(code.double, range(200), limit=10, executor=executor)) == [
        2 * number for number in range(200)
    ]
    pairs = syncline.map(code.double, range(60), chunk=7, ordered=False, with_input=True, executor=executor)
    assert sorted(pairs) == [(number, 2 * number) for number in range(60)]
    processes = set(syncline.map(code.process_of, range(100), chunk=2, executor=executor))
    assert os.getpid() not in processes


def test_the_number_of_its_workers_is_known(executor: Any) -> None:
    """So that two chunks for each are out."""
    taken = 0

    def numbers() -> Iterator[int]:
        nonlocal taken
        while True:
            taken += 1
            yield taken

    with syncline.map(code.double, numbers(), chunk=3, executor=executor) as results:
        assert next(results) == 2
        assert taken <= (2 * 2 + 1) * 3


def test_lambdas_and_decorated_functions_travel(executor: Any) -> None:
    """As everywhere."""
    assert list(syncline.map(lambda number: code.decorated(number + 1), [1, 2], executor=executor)) == [4, 6]


def test_an_error_is_of_its_own_type(executor: Any) -> None:
    """After the results before it; and the executor works on."""
    results = syncline.map(functools.partial(code.fails_at, 7), itertools.count(), chunk=5, executor=executor)
    assert [next(results) for _ in range(7)] == list(range(7))
    with pytest.raises(ValueError, match="not 7") as caught:
        next(results)
    assert "raised in process" in caught.value.__notes__[0]
    assert list(syncline.map(code.double, [1], executor=executor)) == [2]


def test_an_early_end_leaves_nothing_running(executor: Any, tmp_path: Path) -> None:
    """What waits is cancelled, and what runs has cleaned up."""
    stays = functools.partial(code.stays, str(tmp_path))
    for result in syncline.map(stays, itertools.count(), chunk=1, executor=executor):
        assert result == 0
        assert eventually(lambda: any(tmp_path.iterdir()), 30)
        break
    assert list(tmp_path.iterdir()) == []
    assert list(syncline.map(code.double, [1], executor=executor)) == [2]


def test_a_worker_that_dies(executor: Any, tmp_path: Path) -> None:
    """Its items are named; or Dask has started another one, and given it the items again."""
    dies = functools.partial(code.dies, str(tmp_path), 13, 1)
    results = syncline.map(dies, range(20), chunk=5, executor=executor)
    if "distributed" in type(executor).__module__:
        assert list(results) == list(range(20))
    else:
        with pytest.raises(syncline.WorkerDiedError) as caught:
            list(results)
        assert 13 in caught.value.items


def test_loky_is_made_anew(tmp_path: Path) -> None:
    """By the function that makes it, as its own documentation has it."""
    loky = pytest.importorskip("loky")
    dies = functools.partial(code.dies, str(tmp_path), 13, 1)
    found = syncline.map(
        dies, range(40), chunk=5, executor=functools.partial(loky.get_reusable_executor, 2), worker_retries=1
    )
    assert list(found) == list(range(40))


def test_lokys_map_that_is_open_when_the_program_ends(tmp_path: Path) -> None:
    """Its workers' calls clean up, though loky registers only at its first work what waits for them."""
    pytest.importorskip("loky")
    script = f"""
import functools, itertools, sys
sys.path.insert(0, {HERE!r})
import loky, syncline
import executor_code as code

if __name__ == "__main__":
    stays = functools.partial(code.stays, {str(tmp_path)!r})
    results = syncline.map(stays, itertools.count(), chunk=1, executor=loky.ProcessPoolExecutor(2))
    print(next(results), flush=True)
"""
    end = run_script(script, env={"PYTHONPATH": os.pathsep.join([HERE, *sys.path])}, limit=60)
    assert end.lines == ["0"]
    assert end.status == 0
    assert not [*tmp_path.iterdir()]
