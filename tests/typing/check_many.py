"""map, amap and group: the types of what they give."""

from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any, assert_type

import syncline
from syncline._many.group import GroupTask
from syncline._many.results import MapIterator


async def length(word: str) -> int:
    return len(word)


async def add(one: int, other: str) -> float:
    return one + float(other)


async def words() -> AsyncIterator[str]:
    yield "word"


def results_have_the_functions_type() -> None:
    assert_type(syncline.map(length, ["a"]), MapIterator[int])
    assert_type(syncline.map(length, words(), limit=3, ordered=False, timeout=1.5), MapIterator[int])
    assert_type(next(syncline.map(length, ["a"], progress=True)), int)
    assert_type(syncline.map(add, [1], ["2"]), MapIterator[float])
    with syncline.Bridge() as bridge, bridge.map(length, ["a"]) as results:
        for result in results:
            assert_type(result, int)


def options_change_it() -> None:
    assert_type(syncline.map(length, ["a"], with_input=True), MapIterator[tuple[str, int]])
    assert_type(syncline.map(length, ["a"], return_exceptions=True), MapIterator[int | Exception])
    assert_type(
        syncline.map(length, ["a"], return_exceptions=True, with_input=True),
        MapIterator[tuple[str, int | Exception]],
    )
    assert_type(syncline.map(add, [1], ["2"], with_input=True), MapIterator[Any])


async def for_async_code() -> None:
    assert_type(syncline.amap(length, ["a"]), AsyncGenerator[int, None])
    assert_type(syncline.amap(length, words(), with_input=True), AsyncGenerator[tuple[str, int], None])


def wrong_arguments() -> None:
    syncline.map(length, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    syncline.map(len, ["a"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    syncline.map(length, ["a"], limits=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


def groups() -> None:
    with syncline.group(timeout=3) as group:
        assert_type(group.start(length, "a"), GroupTask[int])
        assert_type(group.start(add, 1, "2").result(timeout=1), float)
        group.start(length, 1)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
        assert_type(group.start(length, wait_started=True), Any)
