"""What the tests of the flytekit layer share: a manager, what its users call, and how it names threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from syncline.compat.flytekit import _AsyncLoopManager


@pytest.fixture
def manager() -> Iterator[_AsyncLoopManager]:
    """A manager of the test's own, whose runners are closed at the end."""
    manager = _AsyncLoopManager()
    yield manager
    for runner in list(manager._runner_map.values()):
        runner._close()


async def async_add(a: int, b: int) -> int:
    """What flytekit's documents call."""
    await asyncio.sleep(0)
    return a + b


def key_of(name: str) -> str:
    """The key that flytekit gives a thread of that name."""
    return name + f"PID:{os.getpid()}"
