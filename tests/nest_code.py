"""Programs that make nested calls by asyncio's own functions, for the tests of `syncline.compat.nest_asyncio`."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

import pytest
import uvloop

from syncline.compat import nest_asyncio

R = TypeVar("R")
FACTORIES: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def run_on(kind: str, main: Callable[[], Coroutine[Any, Any, R]]) -> R:
    """Runs a program on asyncio's loop or on uvloop's. "late" applies the patches in its main task, on asyncio's."""
    if kind == "late":

        async def late() -> R:
            nest_asyncio.apply()
            return await main()

        return asyncio.run(late())
    nest_asyncio.apply()
    with asyncio.Runner(loop_factory=FACTORIES[kind]) as runner:
        return runner.run(main())


@pytest.fixture
def unapplied() -> Iterator[None]:
    """Whatever a test has patched is put back."""
    yield
    nest_asyncio.unapply()


hosts = pytest.mark.parametrize("host", ["asyncio", "uvloop", "late"])
"""Where tasks switch, on both kinds of loops; and where the main task was there before `apply()`."""


def _by_run(coroutine: Coroutine[Any, Any, R]) -> R:
    return asyncio.run(coroutine)


def _by_loop(coroutine: Coroutine[Any, Any, R]) -> R:
    return asyncio.get_running_loop().run_until_complete(coroutine)


def _by_runner(coroutine: Coroutine[Any, Any, R]) -> R:
    with asyncio.Runner() as runner:
        return runner.run(coroutine)


WAYS: dict[str, Callable[[Coroutine[Any, Any, Any]], Any]] = {
    "asyncio.run": _by_run,
    "run_until_complete": _by_loop,
    "Runner.run": _by_runner,
}
"""The functions that nest."""
ways = pytest.mark.parametrize("way", WAYS)


async def turns(count: int = 1) -> int:
    """Suspends that often."""
    for _ in range(count):
        await asyncio.sleep(0)
    return count


def here() -> tuple[int, asyncio.AbstractEventLoop]:
    """The thread and the loop that this code runs in."""
    return threading.get_ident(), asyncio.get_running_loop()
