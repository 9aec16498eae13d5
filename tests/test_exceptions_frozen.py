"""Exceptions whose classes refuse to be changed, such as frozen dataclasses, arrive as all others do."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import NoReturn

import pytest

import syncline
from failing_code import Way, by_group, by_map, fail_later
from neutral import make_bridge_of

pytestmark = pytest.mark.timeout(30)


@dataclass(frozen=True)
class FrozenError(Exception):
    """What generators of code make of an error: nothing of it can be assigned, not even its traceback."""

    number: int


class StubbornError(Exception):
    """Refuses whatever it can refuse."""

    def __init__(self, number: int) -> None:
        super().__init__(number)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(name)

    def with_traceback(self, tb: TracebackType | None, /) -> NoReturn:
        raise TypeError(tb)

    def add_note(self, note: str, /) -> NoReturn:
        raise TypeError(note)

    def __str__(self) -> str:
        raise ValueError


def fail(error: Exception) -> NoReturn:
    raise error


def by_worker(bridge: syncline.Bridge, error: Exception) -> None:
    async def main() -> None:
        await syncline.to_thread(fail, error)

    bridge.run_sync(main)


def by_caller(bridge: syncline.Bridge, error: Exception) -> None:
    async def main() -> None:
        await syncline.to_caller(fail, error)

    bridge.run_sync(main)


def by_own_worker(bridge: syncline.Bridge, error: Exception) -> None:
    async def main() -> None:
        async with syncline.Worker() as worker:
            await worker.to_thread(fail, error)

    bridge.run_sync(main)


def by_iterator_in_a_thread(bridge: syncline.Bridge, error: Exception) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise error

    async def main() -> list[int]:
        return [item async for item in syncline.aiterate(items())]

    bridge.run_sync(main)


def by_resource(bridge: syncline.Bridge, error: Exception) -> None:
    async def opened() -> None:
        await fail_later(error)

    bridge.resource(opened).get(timeout=10)


def by_end_of_resource(bridge: syncline.Bridge, error: Exception) -> None:
    async def opened() -> AsyncIterator[int]:
        yield 1
        await fail_later(error)

    resource = bridge.resource(opened)
    assert resource.get(timeout=10) == 1
    resource.close()


def by_throw(bridge: syncline.Bridge, error: Exception) -> None:
    @bridge.generator
    async def steps() -> AsyncIterator[int]:
        yield 1

    generator = steps()
    next(generator)
    generator.throw(type(error), error, traceback_of_another())


def traceback_of_another() -> TracebackType | None:
    try:
        raise KeyError
    except KeyError as other:
        return other.__traceback__


def by_gather(bridge: syncline.Bridge, error: Exception) -> None:
    bridge.run_sync(syncline.gather, lambda: fail_later(error), unwrap=True)


WAYS = [
    by_worker,
    by_caller,
    by_own_worker,
    by_iterator_in_a_thread,
    by_resource,
    by_end_of_resource,
    by_throw,
    by_gather,
    by_group,
    by_map,
]


@pytest.mark.parametrize("kind", ["process", "caller", "trio"])
@pytest.mark.parametrize("error", [FrozenError(1), StubbornError(1)], ids=["frozen", "stubborn"])
@pytest.mark.parametrize("way", WAYS)
def test_it_arrives_as_the_same_object_also_a_second_time(way: Way, error: Exception, kind: str) -> None:
    """A worker ended by the first one, as it could not take a frame off its traceback, and its caller waited for ever.
    A resource was opened again and again."""
    if way is by_gather and kind == "trio" and isinstance(error, StubbornError):
        pytest.skip("trio itself calls with_traceback")
    with make_bridge_of(kind) as bridge:
        for _ in range(2):
            with pytest.raises(type(error)) as caught:
                way(bridge, error)
            assert caught.value is error


def test_its_traceback_has_no_frame_of_the_worker() -> None:
    """It is set past the class."""

    async def main() -> None:
        await syncline.to_thread(fail, FrozenError(2))

    with pytest.raises(FrozenError) as caught:
        syncline.run_sync(main)
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert "work" not in names
    assert names[-1] == "fail"


async def fails_with(number: int) -> NoReturn:
    await asyncio.sleep(0)
    raise (FrozenError, StubbornError)[number](number)


def test_it_comes_home_from_a_worker_of_a_map() -> None:
    """Without a note of where it was raised, which would not arrive. Frozen dataclasses can't be unpickled."""
    with ThreadPoolExecutor(1) as executor:
        frozen, stubborn = syncline.map(fails_with, [0, 1], executor=executor, return_exceptions=True)
    assert "FrozenError" in str(frozen)
    assert type(stubborn) is StubbornError


class UnpicklableError(Exception):
    def __str__(self) -> str:
        raise ValueError

    def __reduce__(self) -> NoReturn:
        raise self


async def fails_without_words(_: int) -> NoReturn:
    await asyncio.sleep(0)
    raise UnpicklableError


def test_one_that_neither_pickles_nor_prints_is_named() -> None:
    """Its place is taken by a RuntimeError, as it is for others that can't be pickled."""
    with ThreadPoolExecutor(1) as executor:
        (found,) = syncline.map(fails_without_words, [0], executor=executor, return_exceptions=True)
    assert isinstance(found, RuntimeError)
    assert "UnpicklableError: <exception str() failed>" in str(found)
