"""Managers, iterators and groups of other threads that are open on a loop as the program ends that runs it
(`Bridge(loop=...)`): they end with it, and don't keep it from ending."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

import syncline
from child import eventually
from closing import Caller, is_closed_error
from hosts import KINDS, Host, hosted, stopping
from neutral import CANCELLED, sleep_forever, turn

Uses = Callable[[syncline.Bridge, "Left", Callable[[], None]], None]


@pytest.fixture(params=KINDS)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with hosted(request.param) as one:
        yield one


class Left:
    """What an async object that somebody uses has seen of its end, and in which thread."""

    def __init__(self) -> None:
        self.by: list[BaseException] = []
        self.threads: list[int] = []
        self.begun = threading.Event()

    @asynccontextmanager
    async def entered(self) -> AsyncIterator[int]:
        await turn()
        try:
            yield 1
        except BaseException as error:
            self.by.append(error)
            raise
        finally:
            self.threads.append(threading.get_ident())

    async def items(self) -> AsyncIterator[int]:
        async with self.entered():
            for number in range(9):
                yield number

    @asynccontextmanager
    async def never_entered(self) -> AsyncIterator[None]:
        await self.lasts()
        yield

    async def never_gives(self) -> AsyncIterator[None]:
        await self.lasts()
        yield

    async def lasts(self, tells: bool = True) -> None:
        try:
            if tells:
                self.begun.set()
            await sleep_forever()
        finally:
            self.threads.append(threading.get_ident())


def in_a_block(bridge: syncline.Bridge, left: Left, body: Callable[[], None]) -> None:
    with bridge.enter(left.entered()):
        body()


def between_two_items(bridge: syncline.Bridge, left: Left, body: Callable[[], None]) -> None:
    for _ in bridge.iterate(left.items()):
        body()


def among_fetched_items(bridge: syncline.Bridge, left: Left, body: Callable[[], None]) -> None:
    for _ in bridge.iterate(left.items(), prefetch=1):
        body()


def in_a_groups_block(bridge: syncline.Bridge, left: Left, body: Callable[[], None]) -> None:
    with bridge.group() as group:
        group.start(left.lasts)
        body()


@pytest.mark.parametrize("use", [in_a_block, between_two_items, among_fetched_items, in_a_groups_block])
def test_what_is_open_between_two_steps_is_closed_on_its_loop(host: Host, use: Uses) -> None:
    """As by `close()`: a manager is left as if its block had been cancelled. The next step raises RunnerClosedError."""
    left, is_open, go_on = Left(), threading.Event(), threading.Event()

    def body() -> None:
        is_open.set()
        assert go_on.wait(20)

    with syncline.Bridge(loop=host.loop) as bridge:
        user = Caller(lambda: use(bridge, left, body))
        assert is_open.wait(10)
        if use is in_a_groups_block:
            assert left.begun.wait(10)
        thread = host.thread
        host.end()  # while the block goes on
        assert left.threads == [thread]
        if use is in_a_block:
            assert isinstance(left.by[0], CANCELLED)
        go_on.set()
        assert user.has_got.wait(10)
        assert is_closed_error(user.got)


def result_in_a_group(bridge: syncline.Bridge, left: Left) -> None:
    with bridge.group() as group:
        task = group.start(left.lasts, False)
        add: Any = task._future.add_done_callback

        def add_and_tell(callback: Any) -> None:
            # Interleaving: the program ends when this thread waits, as the loop knows. A task of a group that was
            # cancelled before that gives its cancellation.
            add(callback)
            left.begun.set()

        vars(task._future)["add_done_callback"] = add_and_tell
        task.result()


STEPS: dict[str, Callable[[syncline.Bridge, Left], object]] = {
    "entering": lambda bridge, left: bridge.enter(left.never_entered()).__enter__(),
    "an item": lambda bridge, left: next(iter(bridge.iterate(left.never_gives()))),
    "a fetched item": lambda bridge, left: next(iter(bridge.iterate(left.never_gives(), prefetch=2))),
    "a group's result": result_in_a_group,
    "a map's": lambda bridge, left: list(bridge.map(lambda _: left.lasts(), [1])),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_under_way_raises_that_the_loop_is_gone(host: Host, step: str) -> None:
    """Not the cancellation with which the program ends its tasks: that is of another thread, maybe another library."""
    left = Left()
    with syncline.Bridge(loop=host.loop) as bridge:
        user = Caller(lambda: STEPS[step](bridge, left))
        assert left.begun.wait(10)
        host.end()
        assert user.has_got.wait(10)
        assert is_closed_error(user.got), user.got
        assert len(left.threads) == 1


@pytest.mark.parametrize("host", ["asyncio", "uvloop"], indirect=True)
def test_a_cancellation_that_is_a_managers_own_is_kept_for_it(host: Host) -> None:
    """Its task group cancels the task as a child fails: that arrives in the next step, and the program's other tasks
    go on."""
    failed = threading.Event()

    @asynccontextmanager
    async def with_children() -> AsyncIterator[None]:
        async def fails() -> None:
            asyncio.get_running_loop().call_soon(failed.set)
            raise LookupError("child")

        async with asyncio.TaskGroup() as group:
            group.create_task(fails())
            yield

    with syncline.Bridge(loop=host.loop) as bridge:
        manager = bridge.enter(with_children())
        manager.__enter__()
        assert failed.wait(10)
        bridge.run_sync(turn)
        with pytest.raises(ExceptionGroup) as failure:
            manager.__exit__(None, None, None)
    assert isinstance(failure.value.exceptions[0], LookupError)


@pytest.mark.parametrize("host", ["asyncio", "uvloop"], indirect=True)
def test_nothing_of_ours_stays_among_the_programs_tasks(host: Host) -> None:
    """The task that sees the program's end is there while something is open."""

    async def names() -> set[str]:
        return {task.get_name() for task in asyncio.all_tasks(host.loop)}

    with syncline.Bridge(loop=host.loop) as bridge:
        before = host.run(names)
        with bridge.enter(Left().entered()), bridge.enter(Left().entered()):
            assert "syncline-guard" in host.run(names)
        # The name of the task that asks is a new one each time.
        assert eventually(lambda: len(host.run(names)) == len(before))


def test_one_is_opened_as_the_last_one_ends(host: Host) -> None:
    """The task that sees the program's end is ended by us then, which is not the program's end."""
    with syncline.Bridge(loop=host.loop) as bridge:
        for _ in range(300):
            with bridge.enter(Left().entered()) as number:
                assert number == 1


@pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_loop_that_is_closed_without_being_cleaned_up_reports_nothing_of_ours(
    make: Callable[[], Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody has cancelled its tasks: those of ours are given up quietly."""
    left = Left()

    with caplog.at_level(logging.WARNING):
        with stopping(make) as theirs:
            bridge = syncline.Bridge(loop=theirs.loop)
            manager = bridge.enter(left.entered())
            manager.__enter__()
        with pytest.raises(syncline.RunnerClosedError):
            manager.__exit__(None, None, None)
        bridge.close()
        del theirs, manager, bridge
        gc.collect()
    assert not caplog.records
