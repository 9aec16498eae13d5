"""Context managers and iterators whose tasks serve one after the other, once the first of them is over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, TypeVar

import pytest

import syncline
from spare_code import name_here

T = TypeVar("T")


class Manager:
    """Says in its task what it is asked, when it is entered, and suspends where it is told to."""

    def __init__(self, function: Callable[[], Awaitable[Any]], suspends: str = "") -> None:
        self.function = function
        self.suspends = suspends

    async def __aenter__(self) -> Any:
        if self.suspends == "entering":
            await asyncio.sleep(0)
        return await self.function()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.suspends == "leaving":
            await asyncio.sleep(0)


async def items(function: Callable[[], Awaitable[T]]) -> AsyncIterator[T]:
    """What the function says in the iterator's task, twice."""
    for _ in range(2):
        yield await function()


def by_manager(bridge: syncline.Bridge, function: Callable[[], Awaitable[Any]], suspends: str = "") -> Any:
    """What the function says in the task of a context manager."""
    with bridge.enter(Manager(function, suspends)) as said:
        return said


def by_iterator(bridge: syncline.Bridge, function: Callable[[], Awaitable[Any]], suspends: str = "") -> Any:
    """What the function says in the task of an iterator."""

    async def asked() -> Any:
        if suspends:
            await asyncio.sleep(0)
        return await function()

    said, _ = bridge.iterate(items(asked))
    return said


Session = Callable[..., Any]
SESSIONS: dict[str, Session] = {"manager": by_manager, "iterator": by_iterator}


@pytest.fixture(params=SESSIONS)
def session(request: pytest.FixtureRequest) -> Session:
    """Has a function called in the task of a session that ends."""
    return SESSIONS[request.param]


def stems(bridge: syncline.Bridge, suspends: str = "", *, sessions: int = 3) -> set[str]:
    """How the names of the tasks of some sessions begin: those that serve one after the other begin alike."""
    return {by_manager(bridge, name_here, suspends).partition(".")[0] for _ in range(sessions)}
