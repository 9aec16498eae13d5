"""Calls that run as one task, and what each of them sees all the same.

Calls that never suspend do, once some of them have run: each test makes so many first.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import random
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import syncline
import trace_format
from child import eventually
from spare_code import (
    MANY,
    VAR,
    address_here,
    are_shared,
    bridge,
    in_new_thread,
    leave_mark,
    marks_here,
    name_here,
    task_here,
    tasks_begin_in_the_call,
    warm,
    without_asgiref,
)
from waiting import Gate, chain, in_thread, root

__all__ = ["bridge"]
pytestmark = without_asgiref


@tasks_begin_in_the_call
@in_new_thread
def test_calls_that_never_suspend_run_as_one_task(bridge: syncline.Bridge) -> None:
    """What the tests below are about."""
    assert are_shared(bridge)
    assert len({bridge.run_sync(address_here) for _ in range(10)}) == 1


@tasks_begin_in_the_call
@in_new_thread
def test_where_each_task_is_remembered_no_more_are_kept_in_reserve(bridge: syncline.Bridge) -> None:
    """To keep one costs more than it saves there; so it is tried less and less often."""
    kept = [bridge.run_sync(task_here) for _ in range(500)]
    assert len(set(map(id, kept))) == 500
    assert not are_shared(bridge)
    assert are_shared(bridge, calls=1000)


def test_each_call_has_a_name_of_its_own(bridge: syncline.Bridge) -> None:
    """No two tasks of a process have one name, unless somebody gave it to them."""
    assert len({bridge.run_sync(name_here) for _ in range(20)}) == 20


def test_what_a_call_sets_on_its_task_the_next_one_does_not_see(bridge: syncline.Bridge) -> None:
    """A name, an attribute, a cancellation that was taken back, one that was not."""

    for how in ("name", "attribute", "cancelled", "uncancelled"):
        warm(bridge).run_sync(leave_mark, how)
        assert bridge.run_sync(marks_here) == (False, False, 0), how


def test_a_cancellation_of_oneself_comes_where_the_call_suspends(bridge: syncline.Bridge) -> None:
    """With its message; the task counts it."""

    async def cancelled() -> tuple[Any, int]:
        task = await task_here()
        task.cancel("here")
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError as error:
            return error.args, task.cancelling()
        return None, 0

    assert bridge.run_sync(cancelled) == (("here",), 1)
    assert not bridge.run_sync(task_here).cancelled()


def test_a_call_that_suspends_stays_in_its_task(bridge: syncline.Bridge) -> None:
    """From its first step on: alone in the list of tasks, itself the current one, and never another call's."""

    async def suspends() -> asyncio.Task[Any]:
        task = await task_here()
        for _ in range(3):
            assert asyncio.all_tasks() == {task}
            await asyncio.sleep(0)
            assert asyncio.current_task() is task
        return task

    tasks = [warm(bridge).run_sync(suspends) for _ in range(2)]
    assert tasks[0] is not tasks[1]
    assert all(task.done() for task in tasks)


def test_timeouts_task_groups_and_tasks_inside(bridge: syncline.Bridge) -> None:
    """What asks for the current task gets the call's; tasks that it starts inherit its context."""

    async def child() -> int:
        await asyncio.sleep(0)
        return VAR.get()

    async def inside() -> tuple[int, int]:
        VAR.set(5)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await asyncio.sleep(10)
        async with asyncio.TaskGroup() as group:
            one = group.create_task(child())
        two = asyncio.create_task(child())
        return one.result(), await two

    context = contextvars.copy_context()
    assert context.run(lambda: warm(bridge).run_sync(inside)) == (5, 5)
    with pytest.raises(TimeoutError):
        warm(bridge).run(asyncio.sleep(10), timeout=0.01)
    assert bridge.run_sync(asyncio.sleep, 0, 3) == 3


def test_a_nested_call_awaits_in_the_task(bridge: syncline.Bridge) -> None:
    """Below sync code, in a task that other calls ran as before, and that was never begun."""

    async def inner() -> asyncio.Task[Any]:
        await asyncio.sleep(0)
        return await task_here()

    async def outer() -> tuple[asyncio.Task[Any], asyncio.Task[Any]]:
        return await task_here(), bridge.run_sync(inner)

    for _ in range(2):
        own, nested = warm(bridge).run_sync(outer)
        assert own is nested


def test_calls_see_what_the_caller_sets_between_them(bridge: syncline.Bridge) -> None:
    """A task has one context for all its steps, so a call with other variables runs as another task."""

    async def get() -> int | None:
        return VAR.get(None)

    def caller() -> list[int | None]:
        seen = []
        for value in (1, 2):
            token = VAR.set(value)
            seen += [bridge.run_sync(get) for _ in range(MANY)]
            VAR.reset(token)
            seen.append(bridge.run_sync(get))
        return seen

    expected = [*[1] * MANY, None, *[2] * MANY, None]
    assert contextvars.copy_context().run(caller) == expected


@pytest.mark.parametrize(
    "error", [ValueError, KeyboardInterrupt, SystemExit, asyncio.CancelledError, StopIteration]
)
def test_a_call_that_raises_leaves_the_task_to_the_next(
    bridge: syncline.Bridge, error: type[BaseException]
) -> None:
    """The error is for its caller alone."""
    raised = error("mine")

    async def fails() -> None:
        raise raised

    for _ in range(3):
        with pytest.raises(RuntimeError if error is StopIteration else error):
            bridge.run_sync(fails)
    assert bridge.run_sync(asyncio.sleep, 0, 3) == 3


@in_new_thread
def test_in_debug_mode_each_call_has_a_new_task(bridge: syncline.Bridge) -> None:
    """Debug mode watches how long each task's steps take, and where tasks are made."""

    async def debug(enabled: bool) -> None:
        asyncio.get_running_loop().set_debug(enabled)

    bridge.run_sync(debug, True)
    assert not are_shared(bridge)
    bridge.run_sync(debug, False)
    assert are_shared(bridge) or sys.version_info < (3, 12)


def test_a_bridge_that_ends_leaves_no_task_behind(
    make_bridge: Callable[..., syncline.Bridge], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a message about one that was destroyed, nor the object."""
    tasks: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def loop_here() -> None:
        tasks.append(weakref.ref(asyncio.get_running_loop()))

    with caplog.at_level(logging.DEBUG):
        with syncline.Bridge(scope="caller") as bridge:
            warm(bridge).run_sync(loop_here)
        gc.collect()
    assert tasks[0]() is None
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@in_new_thread
def test_nothing_of_what_a_caller_has_set_is_kept_between_calls(bridge: syncline.Bridge) -> None:
    """The value of a context variable is freed as soon as its caller lets go of it."""

    class Value:
        pass

    variable: contextvars.ContextVar[Any] = contextvars.ContextVar("variable")
    warm(bridge)
    value = Value()
    alive = weakref.ref(value)
    token = variable.set(value)
    warm(bridge)
    variable.reset(token)
    del value, token
    gc.collect()
    assert alive() is None
    assert are_shared(bridge, calls=1) or sys.version_info < (3, 12)


def test_an_error_is_not_kept_between_calls(bridge: syncline.Bridge) -> None:
    """Neither that of a call that failed, nor of one that was cancelled, nor the message of a cancellation."""

    class Cancelled(asyncio.CancelledError):
        pass

    class FailedError(Exception):
        pass

    async def fails(error: BaseException) -> None:
        raise error

    for kind in (Cancelled, FailedError):
        error = kind()
        alive = weakref.ref(error)
        with pytest.raises(kind):
            bridge.run_sync(fails, error)
        del error
        gc.collect()
        assert alive() is None


@tasks_begin_in_the_call
@in_new_thread
def test_a_visible_bridge_makes_a_task_for_each_call(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """What tools show of a task is named after its function, and belongs to one call."""
    bridge = make_bridge(scope="caller", visible=True)
    kept = [warm(bridge).run_sync(task_here) for _ in range(2)]
    assert kept[0] is not kept[1]
    assert {bridge.run_sync(name_here) for _ in range(MANY)} == {"name_here"}
    assert [task.get_name() for task in kept] == ["task_here", "task_here"]


@tasks_begin_in_the_call
@in_new_thread
def test_a_trace_shows_each_call_by_itself(
    tmp_path: Path, make_bridge: Callable[..., syncline.Bridge]
) -> None:
    """Also those that run as one task; one of them suspends, and has its track."""

    async def suspends() -> None:
        await asyncio.sleep(0)

    for options in ({}, {"timed": True}):
        bridge = warm(make_bridge(scope="caller", **options))
        with syncline.trace(tmp_path / "out.json"):
            assert are_shared(bridge)
            bridge.run_sync(suspends)
        found = trace_format.read(tmp_path / "out.json")
        steps = [step for _, step in found.named("name_here", "step")]
        assert len(steps) == len(found.named("name_here", "call")) == MANY + 3
        assert len({step.args["call"] for step in steps}) == MANY + 3
        assert len(found.named("test_a_trace_shows_each_call_by_itself.<locals>.suspends", "step")) == 2
        assert len(found.tracks) == 1


def test_a_call_that_waits_is_shown_in_its_task(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """`waits()` and `dump()` find its coroutine, whatever ran as that task before."""
    bridge, gate = make_bridge(scope="caller"), Gate()
    names: list[str] = []

    async def below() -> None:
        names.append(await name_here())
        await gate.wait()

    with in_thread(lambda: warm(bridge).run_sync(below), "the caller", gate.let_through):
        gate.await_entered()
        _, task = chain(root("the caller"))
        dumped = syncline.dump()
    assert (task.name, task.task) == (below.__qualname__, names[0])
    assert task.kind == "task"
    assert [frame.function.rpartition(".")[2] for frame in task.stack] == ["below", "wait"]
    assert ".below" in dumped


def test_ctrl_c_ends_a_call_and_leaves_the_next_ones_alone(bridge: syncline.Bridge) -> None:
    """One that sleeps is cancelled, in its own task; one that never suspends raises it where it came."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
    cleaned = []

    async def sleeps() -> None:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        try:
            await asyncio.sleep(60)
        finally:
            cleaned.append(await name_here())

    async def raises() -> None:
        cleaned.append(await name_here())
        signal.raise_signal(signal.SIGINT)

    try:
        for function in (sleeps, raises, sleeps, raises):
            with pytest.raises(KeyboardInterrupt):
                warm(bridge).run_sync(function)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(set(cleaned)) == 4
    assert not warm(bridge).run_sync(task_here).cancelled()


@tasks_begin_in_the_call
def test_what_an_interrupted_making_leaves_is_not_complained_of(
    make_bridge: Callable[..., syncline.Bridge],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The Ctrl-C comes in the loop's call_soon, while asyncio makes the task that is kept in reserve."""
    bridge = make_bridge(scope="caller")
    loop = type(bridge.call(asyncio.get_running_loop))

    def interrupted(*args: Any, **options: Any) -> None:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "call_soon", interrupted)
    with pytest.raises(KeyboardInterrupt):
        warm(bridge)
    gc.collect()
    assert caplog.records == []
    assert are_shared(bridge)


@in_new_thread
def test_calls_of_all_kinds_in_any_order(bridge: syncline.Bridge) -> None:
    """Whoever keeps a task has his own, and all that are kept are done."""
    seed = int(os.environ.get("SYNCLINE_SEED", random.SystemRandom().randrange(2**32)))
    chosen = random.Random(seed)
    kept: dict[int, tuple[str, asyncio.Task[Any]]] = {}

    async def call(keeps: bool, suspends: bool, nests: bool, fails: bool, changes: bool) -> str:
        task = await task_here()
        if keeps:
            assert id(task) not in kept
            kept[id(task)] = task.get_name(), task
        if changes:
            VAR.set(chosen.random())
        if nests:
            assert bridge.run_sync(call, False, suspends, False, False, changes) == task.get_name()
        if suspends:
            await asyncio.sleep(0)
        assert await task_here() is task
        if fails:
            raise LookupError(task.get_name())
        return task.get_name()

    names = []
    for _ in range(600):
        try:
            names.append(bridge.run_sync(call, *(chosen.random() < 0.08 for _ in range(5))))
        except LookupError as error:
            names.append(error.args[0])
    assert len(set(names)) == 600, seed
    # A call that suspends tells its caller before its task has ended.
    bridge.run_sync(asyncio.sleep, 0)
    assert all(task.done() and task.get_name() == name for name, task in kept.values()), seed


@tasks_begin_in_the_call
def test_calls_of_two_threads_share_no_context(make_bridge: Callable[..., syncline.Bridge]) -> None:
    """Neither sees what the other one changes. Interleaving: both are made while the loop is blocked, and begin one
    after the other."""
    bridge = make_bridge()
    begun = threading.Event()
    seen: list[int | None] = []

    async def blocks() -> None:
        begun.set()
        assert eventually(lambda: bridge.stats()["active"] == 3)

    async def changes(number: int) -> None:
        seen.append(VAR.get(None))
        VAR.set(number)

    def call(number: int) -> int:
        bridge.run_sync(changes, number)
        return VAR.get()

    with ThreadPoolExecutor(2) as pool:
        pool.submit(warm, bridge).result()
        blocked = bridge.submit(blocks)
        assert begun.wait(20)
        assert list(pool.map(call, (1, 2))) == [1, 2]
    blocked.result()
    assert seen == [None, None]
