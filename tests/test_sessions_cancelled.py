"""The task of a manager, or of a generator, is cancelled between two of its steps: by a timeout, a task group, a cancel
scope. The next step begins all the same, and has the cancellation where it suspends, on every loop.

Interleaving: the body's call goes on until the task is cancelled, and only then comes the next step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import uvloop

import syncline
from closing import MakeBridge
from hosts import stopping

SCOPES = ["process", "thread", "caller"]
FACTORIES: dict[str, Any] = {
    "ours": None,
    "asyncio's": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
}


@pytest.fixture(params=[*((scope, loop) for scope in SCOPES for loop in FACTORIES), ("somebody else's", "")])
def bridge(request: pytest.FixtureRequest, make_bridge: MakeBridge) -> Iterator[syncline.Bridge]:
    scope, loop = request.param
    if scope in SCOPES:
        yield make_bridge(scope=scope, loop_factory=FACTORIES[loop])
        return
    with stopping(asyncio.new_event_loop) as theirs:
        yield make_bridge(loop=theirs.loop)


class Steps:
    """Notes the task of the steps."""

    task: asyncio.Task[Any] | None = None

    def note(self) -> None:
        self.task = asyncio.current_task()

    async def until_cancelled(self) -> None:
        assert self.task is not None
        while not self.task.cancelling():
            await asyncio.sleep(0)

    async def cancel(self) -> None:
        assert self.task is not None
        self.task.cancel("kept")


async def fails() -> None:
    raise LookupError("the child's")


def test_a_manager_is_left_whose_timeout_has_passed(bridge: syncline.Bridge) -> None:
    """And raises it, as it suspends while it is left."""
    steps, left = Steps(), []

    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        steps.note()
        async with asyncio.timeout(0.001):
            yield
            left.append("begun")
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError), bridge.enter(manager()):
        bridge.run_sync(steps.until_cancelled)
    assert left == ["begun"]


@asynccontextmanager
async def with_child() -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        group.create_task(fails())
        yield


@asynccontextmanager
async def with_child_of_anyio() -> AsyncIterator[None]:
    """It cancels its task again and again, and must be left by the one that has entered it."""
    async with anyio.create_task_group() as group:
        group.start_soon(fails)
        yield


@pytest.mark.parametrize("grouped", [with_child, with_child_of_anyio])
def test_a_manager_is_left_whose_group_has_failed(bridge: syncline.Bridge, grouped: Any) -> None:
    """The child's error comes out of it."""
    steps = Steps()

    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        steps.note()
        async with grouped():
            yield

    with pytest.raises(ExceptionGroup) as caught, bridge.enter(manager()):
        bridge.run_sync(steps.until_cancelled)
    assert [str(error) for error in caught.value.exceptions] == ["the child's"]


@pytest.mark.parametrize("grouped", [with_child, with_child_of_anyio])
def test_cleanup_after_a_group_that_has_failed_is_not_broken_off(
    bridge: syncline.Bridge, grouped: Any
) -> None:
    """The group takes its cancellation back as it is left, and only then the step suspends."""
    steps, cleaned = Steps(), []

    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        steps.note()
        try:
            async with grouped():
                yield
        finally:
            await asyncio.sleep(0)
            cleaned.append("up")

    with pytest.raises(ExceptionGroup), bridge.enter(manager()):
        bridge.run_sync(steps.until_cancelled)
    assert cleaned == ["up"]


def test_a_step_that_does_not_suspend_leaves_it_to_the_next_one(bridge: syncline.Bridge) -> None:
    """With its message, and counted once."""
    steps = Steps()
    seen: list[object] = []

    async def items() -> AsyncIterator[int]:
        steps.note()
        yield 1
        yield 2
        assert steps.task is not None
        seen.append(steps.task.cancelling())
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            seen.extend(error.args)
            steps.task.uncancel()
        yield 3

    found = bridge.iterate(items())
    assert next(found) == 1
    bridge.run_sync(steps.cancel)
    assert list(found) == [2, 3]
    assert seen == [1, "kept"]


def test_one_that_comes_before_the_tasks_first_turn_is_kept(bridge: syncline.Bridge) -> None:
    """The first step is made before there is a turn of the task, and does not suspend."""
    steps = Steps()
    seen: list[object] = []

    @asynccontextmanager
    async def manager() -> AsyncIterator[None]:
        steps.note()
        await steps.cancel()
        yield
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError as error:
            seen.extend(error.args)
            assert steps.task is not None
            steps.task.uncancel()

    with bridge.enter(manager()):
        bridge.run_sync(asyncio.sleep, 0)
    assert seen == ["kept"]
