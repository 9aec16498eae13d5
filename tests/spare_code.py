"""Calls that run as one task: those that never suspend, once some of them have run.

A module of tests of them is marked `without_asgiref`.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import sys
import weakref
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


async def context_here() -> contextvars.Context:
    return (await task_here()).get_context()  # type: ignore[no-any-return, attr-defined]


async def marks_here() -> tuple[bool, bool, int]:
    """What `leave_mark` of another call may have left: whether the task has its name, and its attribute, and how
    often it is being cancelled."""
    task = await task_here()
    await asyncio.sleep(0)
    return task.get_name() == "mine", hasattr(task, "mine"), task.cancelling()


async def leave_mark(how: str) -> None:
    task = await task_here()
    if how == "name":
        task.set_name("mine")
    elif how == "attribute":
        task.mine = True  # type: ignore[attr-defined]
    else:
        task.cancel("mine")
    if how == "uncancelled":
        task.uncancel()


WEAKLY: dict[str, Callable[[Any], Any]] = {
    "with callback": lambda task: weakref.ref(task, lambda _: None),
    "without": weakref.ref,
    "proxy": weakref.proxy,
}
"""The kinds of weak references."""


def assert_dead(kind: str, references: list[Any]) -> None:
    """What these weak references meant is gone."""
    gc.collect()
    for reference in references:
        if kind == "proxy":
            with pytest.raises(ReferenceError):
                reference.get_name()
        else:
            assert reference() is None


def assert_own_and_done(tasks: list[asyncio.Task[Any]]) -> None:
    """Each is another one, has a name of its own, and has ended well."""
    assert len(set(map(id, tasks))) == len(tasks)
    assert len({task.get_name() for task in tasks}) == len(tasks)
    for task in tasks:
        assert task.done()
        assert not task.cancelled()
        assert task.result() is None
        assert not task.cancel()


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
