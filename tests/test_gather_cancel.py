"""A task that is cancelled while errors end its group: it learns of both."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

import anyio
import anyio.lowlevel
import pytest

import syncline

RunAsync = Callable[[Callable[[], Coroutine[Any, Any, Any]]], Any]
unwraps = pytest.mark.parametrize("unwrap", [False, True])


async def fails() -> NoReturn:
    await anyio.lowlevel.checkpoint()
    raise LookupError


def cancels(cancel: Callable[[], object]) -> Callable[[], Coroutine[Any, Any, None]]:
    """A function that cancels something when it is cancelled itself."""

    # Interleaving: the group's task waits for this one, which the error of another has cancelled.
    async def work() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancel()
            with anyio.CancelScope(shield=True):
                await anyio.lowlevel.checkpoint()

    return work


@unwraps
def test_the_errors_are_raised_and_the_next_await_is_cancelled(run_async: RunAsync, unwrap: bool) -> None:
    """As asyncio's own groups do from Python 3.13 on. The cancellation counts once."""
    seen: list[object] = []

    async def gathers() -> None:
        task = asyncio.current_task()
        assert task is not None
        try:
            await syncline.gather(fails, cancels(task.cancel), unwrap=unwrap)
        except* LookupError:
            seen.append("errors")
        seen.append(task.cancelling())
        await anyio.lowlevel.checkpoint()
        seen.append("went on")

    async def main() -> None:
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(gathers())

    run_async(main)
    assert seen == ["errors", 1]


@unwraps
def test_a_timeout_that_comes_then_is_one(run_async: RunAsync, unwrap: bool) -> None:
    """asyncio.timeout knows its own cancellation by how often the task was cancelled."""

    # Interleaving: the time is over while the group waits for what its error has cancelled.
    async def gathers() -> None:
        task = asyncio.current_task()
        assert task is not None

        async def until_timeout() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                with anyio.CancelScope(shield=True):
                    timeout.reschedule(0)
                    while not task.cancelling():
                        await anyio.lowlevel.checkpoint()

        async with asyncio.timeout(None) as timeout:
            try:
                await syncline.gather(fails, until_timeout, unwrap=unwrap)
            except* LookupError:
                await anyio.sleep_forever()

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await gathers()

    run_async(main)


@unwraps
def test_a_cancelled_scope_around_it_cancels_no_more_than_what_is_in_it(
    anywhere: RunAsync, unwrap: bool
) -> None:
    """Such a scope cancels by itself again what awaits in it, and nothing that comes after it."""
    seen: list[str] = []

    async def main() -> None:
        with anyio.CancelScope() as scope:
            try:
                await syncline.gather(fails, cancels(scope.cancel), unwrap=unwrap)
            except* LookupError:
                seen.append("errors")
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        seen.append("went on")

    anywhere(main)
    assert seen == ["errors", "went on"]
