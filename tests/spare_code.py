"""Calls that run as one task: those that never suspend, once some of them have run.

A module of tests of them is marked `without_asgiref`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
from collections.abc import Callable
from typing import Any

import pytest

import syncline
from places import in_thread

# asgiref has a variable of its own in each call's context, and once it is loaded each call has a task of its own.
without_asgiref = pytest.mark.skipif(
    "'asgiref.sync' in sys.modules", reason="test_spare_tasks runs these without asgiref"
)
tasks_begin_in_the_call = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="tasks can't begin in the call itself"
)
VAR: contextvars.ContextVar[int] = contextvars.ContextVar("VAR")
MANY = 8
"""After so many calls that never suspend the next one runs as a task that is used again."""


async def task_here() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


async def name_here() -> str:
    return (await task_here()).get_name()


async def address_here() -> int:
    return id(await task_here())


def warm(bridge: syncline.Bridge) -> syncline.Bridge:
    for _ in range(MANY):
        bridge.run_sync(name_here)
    return bridge


@pytest.fixture(params=["caller", "process", "thread"])
def bridge(make_bridge: Callable[..., syncline.Bridge], request: pytest.FixtureRequest) -> syncline.Bridge:
    """A bridge whose next call in this thread runs as a task that is used again."""
    return warm(make_bridge(scope=request.param))


def in_new_thread(test: Callable[..., None]) -> Callable[..., None]:
    """For tests of what is so where no earlier call of the thread has changed a context variable."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        in_thread(lambda: test(*args, **kwargs))

    return run


def are_shared(bridge: syncline.Bridge, calls: int = MANY) -> bool:
    """Whether calls run as one task after so many: their names then have one beginning."""
    for _ in range(calls):
        bridge.run_sync(name_here)
    return len({bridge.run_sync(name_here).partition(".")[0] for _ in range(3)}) == 1
