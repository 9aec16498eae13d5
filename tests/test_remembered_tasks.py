"""Who remembers the task of a call has that call's task, though many calls run as one task.

Calls that never suspend do, once some of them have run: each test makes so many first.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import syncline
from spare_code import (
    VAR,
    WEAKLY,
    address_here,
    are_shared,
    assert_dead,
    assert_own_and_done,
    bridge,
    context_here,
    in_new_thread,
    name_here,
    task_here,
    tasks_begin_in_the_call,
    warm,
    without_asgiref,
)

__all__ = ["bridge"]
pytestmark = without_asgiref


@in_new_thread
def test_a_task_that_is_kept_is_done_and_no_other_calls(bridge: syncline.Bridge) -> None:
    """Each stays what it was."""
    kept = [warm(bridge).run_sync(task_here) for _ in range(3)]
    bridge.run_sync(name_here)
    assert len(kept) == 3
    assert_own_and_done(kept)
    assert are_shared(bridge) or sys.version_info < (3, 12)


def test_a_task_that_is_only_weakly_remembered_is_gone_after_its_call(bridge: syncline.Bridge) -> None:
    """Libraries keep what belongs to a task in weak mappings, as anyio does."""
    seen: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
    gone: list[Any] = []

    async def remembered() -> bool:
        task = await task_here()
        was_known = task in seen
        seen.add(task)
        weakref.finalize(task, gone.append, task.get_name())
        return was_known

    assert not any(warm(bridge).run_sync(remembered) for _ in range(3))
    gc.collect()
    assert len(gone) == 3
    assert not seen


@pytest.mark.parametrize("kind", WEAKLY)
def test_a_weak_reference_means_the_task_of_its_call_alone(bridge: syncline.Bridge, kind: str) -> None:
    """Also where nobody but a reference remembers it: that is dead after the call."""

    async def remembered() -> Any:
        return WEAKLY[kind](await task_here())

    kept = [warm(bridge).run_sync(remembered) for _ in range(2)]
    assert_dead(kind, kept)


def test_asyncios_own_set_of_tasks_is_as_without_us(bridge: syncline.Bridge) -> None:
    """A call finds itself there, and whoever kept what was found finds that call's task only."""

    async def all_here() -> tuple[str, set[asyncio.Task[Any]]]:
        return await name_here(), asyncio.all_tasks()

    found = [warm(bridge).run_sync(all_here) for _ in range(2)]
    warm(bridge)
    for name, tasks in found:
        assert [task.get_name() for task in tasks] == [name]
        assert all(task.done() for task in tasks)
    weakly = weakref.WeakSet(warm(bridge).run_sync(all_here)[1])
    warm(bridge)
    gc.collect()
    assert not weakly


def test_the_frames_of_an_error_keep_the_task_of_their_call(bridge: syncline.Bridge) -> None:
    """An error that is looked at later, by a debugger or a reporter, shows what was."""

    async def fails() -> None:
        task = await task_here()
        raise LookupError(task.get_name())

    kept = []
    for _ in range(2):
        with pytest.raises(LookupError) as caught:
            warm(bridge).run_sync(fails)
        kept.append(caught.value)
    warm(bridge)
    for error in kept:
        traceback = error.__traceback__
        while traceback is not None and traceback.tb_frame.f_code.co_name != "fails":
            traceback = traceback.tb_next
        assert traceback is not None
        task = traceback.tb_frame.f_locals["task"]
        assert task.get_name() == str(error)
        assert task.done()


def test_what_a_trace_function_has_seen_is_no_other_calls(bridge: syncline.Bridge) -> None:
    """Debuggers and coverage tools run in the middle of calls, in frames of the user's and of ours."""
    seen: dict[str, Any] = {}

    def tracer(frame: Any, event: str, arg: object) -> Any:
        with contextlib.suppress(RuntimeError):
            task = asyncio.current_task()
            if task is not None:
                assert seen.setdefault(task.get_name(), task) is task
        return tracer

    warm(bridge)
    earlier = bridge.call(sys.gettrace)
    bridge.call(sys.settrace, tracer)  # in the thread in which the loop runs
    try:
        names = {bridge.run_sync(name_here) for _ in range(3)}
    finally:
        bridge.call(sys.settrace, earlier)
    assert len(names) == 3
    assert names <= seen.keys()
    for name in names:
        assert seen[name].get_name() == name
        assert seen[name].done()


@tasks_begin_in_the_call
def test_tasks_that_begin_eagerly_inside_of_a_call(bridge: syncline.Bridge) -> None:
    """While one takes its first step it is the current task, then the call's is again; who is kept is done."""

    async def child() -> tuple[asyncio.Task[Any], asyncio.Task[Any]]:
        before = await task_here()
        await asyncio.sleep(0)
        return before, await task_here()

    async def parent(*, waits: bool) -> Any:
        own = await task_here()
        loop = asyncio.get_running_loop()
        begun: Any = asyncio.Task(child(), loop=loop, eager_start=True)  # type: ignore[call-arg]
        assert await task_here() is own
        assert asyncio.all_tasks() == {own, begun}
        return (own, begun, await begun) if waits else (own, begun, None)

    for waits in (False, True):
        own, begun, steps = warm(bridge).run_sync(parent, waits=waits)
        bridge.run_sync(asyncio.sleep, 0)
        assert own.done()
        assert begun.done()
        assert set(begun.result()) == {begun}
        assert steps in (None, begun.result())


def test_a_done_callback_is_called_once_with_the_task(bridge: syncline.Bridge) -> None:
    """It was added to that call's task only."""
    called: list[tuple[str, bool]] = []

    async def with_callback() -> str:
        task = await task_here()
        task.add_done_callback(lambda task: called.append((task.get_name(), task.done())))
        return task.get_name()

    names = [bridge.run_sync(with_callback) for _ in range(2)]
    bridge.run_sync(asyncio.sleep, 0)
    assert called == [(name, True) for name in names]


def test_a_kept_task_that_cancelled_itself_counts_as_cancelled(bridge: syncline.Bridge) -> None:
    """As a task of asyncio's own that returns with its cancellation undelivered."""

    async def cancelled() -> asyncio.Task[Any]:
        task = await task_here()
        task.cancel()
        return task

    assert bridge.run_sync(cancelled).cancelled()


def test_another_thread_finds_the_tasks_of_calls_only(bridge: syncline.Bridge) -> None:
    """`all_tasks` has the task while its call runs, and none between two calls; the one that it gave is done then."""
    asked, answered = threading.Event(), threading.Event()
    found: list[set[asyncio.Task[Any]]] = []
    loops: list[asyncio.AbstractEventLoop] = []

    def other() -> None:
        asked.wait()
        found.append(asyncio.all_tasks(loops[0]))
        answered.set()

    async def seen() -> str:
        loops.append(asyncio.get_running_loop())
        asked.set()
        answered.wait()  # the other thread looks in the middle of the step
        return await name_here()

    thread = threading.Thread(target=other)
    thread.start()
    name = bridge.run_sync(seen)
    thread.join()
    assert [task.get_name() for task in found[0]] == [name]
    assert all(task.done() for task in found[0])
    warm(bridge)
    assert asyncio.all_tasks(loops[0]) == set()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks don't tell their context")
@in_new_thread
def test_the_context_of_a_kept_task_is_no_other_calls(bridge: syncline.Bridge) -> None:
    """Who has the Context object of a task may run code in it, and change it."""

    kept = [warm(bridge).run_sync(context_here) for _ in range(2)]
    assert kept[0] is not kept[1]
    kept[0].run(VAR.set, 1)
    assert VAR not in warm(bridge).run_sync(context_here)


@tasks_begin_in_the_call
@in_new_thread
def test_a_context_that_is_kept_where_its_caller_gave_up_is_no_other_calls(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """The caller's reference is gone by then. Interleaving: the step goes on when its caller has stopped to wait."""
    bridge = warm(make_bridge(cleanup_timeout=0.05))
    given_up = threading.Event()
    kept: list[contextvars.Context] = []

    async def keeps() -> None:
        kept.append(await context_here())
        assert given_up.wait(20)

    with pytest.raises(TimeoutError):
        bridge.run(keeps(), timeout=0.05)
    gc.collect()
    given_up.set()
    bridge.run_sync(asyncio.sleep, 0)  # begins when that step is over
    assert bridge.run_sync(context_here) is not kept[0]


def test_a_coroutine_that_is_kept_shows_its_own_call(bridge: syncline.Bridge) -> None:
    """`get_coro()` of a task."""

    async def coroutine_here() -> Any:
        return (await task_here()).get_coro()

    kept = bridge.run_sync(coroutine_here)
    warm(bridge)
    assert kept.__name__ == "coroutine_here"


@pytest.mark.parametrize("kind", ["own", "eager"])
def test_a_task_factory_makes_the_task_of_each_call(bridge: syncline.Bridge, kind: str) -> None:
    """Also one that is set when calls have long run."""
    made: list[asyncio.Task[Any]] = []
    if kind == "eager" and sys.version_info < (3, 12):
        pytest.skip("asyncio has no eager tasks")

    def factory(loop: asyncio.AbstractEventLoop, coro: Any, **options: Any) -> asyncio.Task[Any]:
        if kind == "eager":
            options["eager_start"] = True
        made.append(asyncio.Task(coro, loop=loop, **options))
        return made[-1]

    async def use(factory: Any) -> None:
        asyncio.get_running_loop().set_task_factory(factory)

    bridge.run_sync(use, factory)
    # Not by their names: on Python 3.13.0 an eager task of a factory is renamed "None" once it has run.
    assert [bridge.run_sync(address_here) for _ in range(3)] == [id(task) for task in made]
    bridge.run_sync(use, None)
    bridge.run_sync(name_here)
    assert len(made) == 4  # the call that took it away was the last one
