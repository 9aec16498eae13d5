"""Tracebacks show the user's code, and of this package one frame: the function that the user has called."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

import syncline
from test_mistakes import frames_of_ours

made: Any = syncline  # without its types, which know the mistakes, too


async def fails(_item: object = None) -> None:
    raise LookupError("the user's")


def fails_at_once(_item: object = None) -> Any:
    raise LookupError("the user's")


async def passes(item: object = None) -> object:
    return item


def failing_source() -> Iterator[int]:
    yield 1
    raise LookupError("the user's")


async def failing_async_source() -> AsyncIterator[int]:
    yield 1
    raise LookupError("the user's")


async def all_of(*arguments: Any, of: Any = made) -> None:
    async with aclosing(of.amap(*arguments)) as results:
        async for _ in results:
            pass


def by_executor(function: Any, items: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        list(made.map(function, items, executor=pool))


def in_group(*arguments: Any) -> None:
    with syncline.group() as group:
        made_group: Any = group
        made_group.start(*arguments)


def closed() -> Any:
    bridge = syncline.Bridge()
    bridge.close()
    return bridge


USERS: dict[str, tuple[Callable[[], object], str]] = {
    "map": (lambda: list(made.map(fails, [1])), "fails"),
    "map, before it awaits": (lambda: list(made.map(fails_at_once, [1])), "fails_at_once"),
    "map's items": (lambda: list(made.map(passes, failing_source())), "failing_source"),
    "map's async items": (lambda: list(made.map(passes, failing_async_source())), "failing_async_source"),
    "map by an executor, items": (lambda: by_executor(passes, failing_source()), "failing_source"),
    "amap": (lambda: syncline.run(all_of(fails, [1])), "fails"),
    "amap's items": (lambda: syncline.run(all_of(passes, failing_source())), "failing_source"),
    "group": (lambda: in_group(fails), "fails"),
    "group, before it awaits": (lambda: in_group(fails_at_once), "fails_at_once"),
    "iterate": (lambda: list(made.iterate(failing_async_source())), "failing_async_source"),
    "iterate, ahead": (
        lambda: list(made.iterate(failing_async_source(), prefetch=2)),
        "failing_async_source",
    ),
    "submit": (lambda: made.submit(fails).result(), "fails"),
}
OURS: dict[str, Callable[[], object]] = {
    "map of two async sources": lambda: made.map(passes, failing_async_source(), failing_async_source()),
    "amap of two async sources": lambda: made.amap(passes, failing_async_source(), failing_async_source()),
    "map without items": lambda: made.map(passes),
    "a map's end": lambda: next(made.map(passes, [])),
    "map of a closed bridge": lambda: list(closed().map(passes, [1])),
    "a group's timeout": lambda: made.group(timeout="soon"),
    "a group's number": lambda: in_group(3),
    "start_soon of a number": lambda: made.create_gather_task_group().start_soon(3),
    "finalize of a number": lambda: made.finalize(3, passes),
    "finalize without a function": lambda: made.finalize(closed(), 3),
    "finalize of a closed bridge": lambda: closed().finalize(passes, passes),
    "dump_on": lambda: made.dump_on("SIGUSR1"),
    "dump_on a file": lambda: made.dump_on(10, 1.5),
    "configure": lambda: made.configure(scop="thread"),
    "trace": lambda: made.trace(3),
    "a trace in no folder": lambda: made.trace(Path(__file__) / "trace.json").__enter__(),
}


def each_of(error: BaseException) -> Iterator[BaseException]:
    """The error and those of a group."""
    yield error
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from each_of(one)


@pytest.mark.parametrize(("call", "function"), USERS.values(), ids=USERS)
def test_an_error_of_the_users_shows_one_frame_of_ours_at_most(
    call: Callable[[], object], function: str
) -> None:
    """And where it was raised."""
    with pytest.raises((LookupError, ExceptionGroup)) as caught:
        call()
    *_, error = each_of(caught.value)
    assert isinstance(error, LookupError)
    assert traceback.extract_tb(error.__traceback__)[-1].name == function
    for each in each_of(caught.value):
        assert len(frames_of_ours(each)) <= 1


@pytest.mark.parametrize("call", OURS.values(), ids=OURS)
def test_an_error_of_ours_shows_one_frame_of_ours_at_most(call: Callable[[], object]) -> None:
    """That of the function which the user has called."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - of any kind
        call()
    for each in each_of(caught.value):
        assert len(frames_of_ours(each)) <= 1


def test_amap_of_a_bridge_shows_one_frame_for_each_loop() -> None:
    """`amap`, and the call that it makes on the bridge's loop."""
    with syncline.Bridge() as bridge, pytest.raises(LookupError) as caught:
        syncline.run(all_of(fails, [1], of=bridge))
    assert [frame for frame in frames_of_ours(caught.value) if frame != "run_async"] == ["_results"]


def test_a_frame_of_the_users_is_shown_wherever_it_is() -> None:
    """Between two of ours, too: it is not ours to hide."""

    async def calls_another() -> None:
        list(made.map(fails, [1]))

    with pytest.raises(LookupError) as caught:
        list(made.map(lambda _: calls_another(), [1]))
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert [name for name in names if name != "__next__"] == [
        "test_a_frame_of_the_users_is_shown_wherever_it_is",
        "calls_another",
        "fails",
    ]
