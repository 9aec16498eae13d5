"""What the tests of the trio backend share: its bridge, where sync code uses it, and coroutines of trio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import trio

import syncline
from places import in_asyncio, in_trio

places = pytest.mark.parametrize(
    "inside", [lambda body: body(), in_trio, in_asyncio], ids=["plain", "trio", "asyncio"]
)


@pytest.fixture
def bridge() -> Iterator[syncline.Bridge]:
    """A bridge that runs coroutines with trio."""
    with syncline.Bridge(backend="trio", name="trio") as bridge:
        yield bridge


async def add(a: int, b: int = 1) -> int:
    await trio.lowlevel.checkpoint()
    return a + b


async def count(stop: int) -> AsyncIterator[int]:
    for number in range(stop):
        await trio.lowlevel.checkpoint()
        yield number
