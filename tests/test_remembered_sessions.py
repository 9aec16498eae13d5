"""Who remembers the task of a context manager or an iterator has that one's task, though others have one in common."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import signal
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import syncline
from session_code import Manager, Session, by_iterator, by_manager, session, stems
from spare_code import (
    VAR,
    WEAKLY,
    assert_dead,
    assert_own_and_done,
    context_here,
    in_new_thread,
    name_here,
    task_here,
    tasks_begin_in_the_call,
    without_asgiref,
)

__all__ = ["session"]
pytestmark = without_asgiref


@pytest.fixture(params=["caller", "process", "thread"])
def bridge(make_bridge: Callable[..., syncline.Bridge], request: pytest.FixtureRequest) -> syncline.Bridge:
    """A bridge on which a session has left its task to the next."""
    bridge = make_bridge(scope=request.param)
    by_manager(bridge, name_here)
    return bridge


@pytest.mark.parametrize("suspends", ["", "entering"])
@in_new_thread
def test_a_task_that_is_kept_is_done_and_no_other_sessions(
    bridge: syncline.Bridge, session: Session, suspends: str
) -> None:
    """Each stays what it was, whether it has begun by itself or not."""
    kept = [session(bridge, task_here, suspends) for _ in range(3)]
    session(bridge, name_here)
    assert len(kept) == 3
    assert_own_and_done(kept)
    assert len(stems(bridge)) == 1 or sys.version_info < (3, 12)


def test_a_task_that_is_kept_between_the_steps_is_done_after_the_last(bridge: syncline.Bridge) -> None:
    """It is pending until then, and can be cancelled where the session suspends next."""
    with bridge.enter(Manager(task_here)) as kept:
        assert not kept.done()
    assert kept.done()

    async def cancel() -> None:
        kept.cancel("from outside")

    with pytest.raises(asyncio.CancelledError), bridge.enter(Manager(task_here, "leaving")) as kept:
        bridge.run_sync(cancel)
    by_manager(bridge, name_here)
    assert kept.done()


def test_a_task_that_is_only_weakly_remembered_is_gone(bridge: syncline.Bridge, session: Session) -> None:
    """Libraries keep what belongs to a task in weak mappings, as anyio does."""
    seen: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
    gone: list[Any] = []

    async def remembered() -> None:
        task = await task_here()
        if task not in seen:
            seen.add(task)
            weakref.finalize(task, gone.append, task.get_name())

    for _ in range(3):
        session(bridge, remembered)
    gc.collect()
    assert len(set(gone)) == 3
    assert not seen


@pytest.mark.parametrize("kind", WEAKLY)
def test_a_weak_reference_means_the_task_of_its_session_alone(
    bridge: syncline.Bridge, session: Session, kind: str
) -> None:
    """Also where nobody but a reference remembers it: that is dead after the session."""

    async def remembered() -> Any:
        return WEAKLY[kind](await task_here())

    kept = [session(bridge, remembered) for _ in range(2)]
    assert_dead(kind, kept)


def test_a_done_callback_is_called_once_with_the_task(bridge: syncline.Bridge) -> None:
    """It was added to that session's task only."""
    called: list[tuple[str, bool]] = []

    async def with_callback() -> str:
        task = await task_here()
        task.add_done_callback(lambda task: called.append((task.get_name(), task.done())))
        return task.get_name()

    names = [by_manager(bridge, with_callback) for _ in range(2)]
    bridge.run_sync(asyncio.sleep, 0)
    assert called == [(name, True) for name in names]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks don't tell their context")
@in_new_thread
def test_the_context_of_a_kept_task_is_no_other_sessions(bridge: syncline.Bridge, session: Session) -> None:
    """Who has the Context object of a task may run code in it, and change it."""

    async def get() -> int | None:
        return VAR.get(None)

    kept = [session(bridge, context_here) for _ in range(2)]
    assert kept[0] is not kept[1]
    kept[0].run(VAR.set, 1)
    assert session(bridge, get) is None


def test_a_coroutine_that_is_kept_stays_its_own_sessions(bridge: syncline.Bridge, session: Session) -> None:
    """`get_coro()` of a task."""

    async def coroutine_here() -> Any:
        return (await task_here()).get_coro()

    kept = [session(bridge, coroutine_here) for _ in range(2)]
    assert kept[0] is not kept[1]
    session(bridge, name_here)
    kept[0].close()
    assert session(bridge, name_here).startswith("Task-")


def test_what_a_task_waits_for_between_steps_wakes_no_other_session(bridge: syncline.Bridge) -> None:
    """Who has kept that may say that it is done, when another session has begun."""

    async def waiter_of(task: asyncio.Task[Any]) -> Any:
        return task._fut_waiter  # type: ignore[attr-defined]

    async def set_result(waiter: Any) -> None:
        waiter.set_result(None)

    with bridge.enter(Manager(task_here)) as task:
        kept = bridge.run_sync(waiter_of, task)
        del task
    with bridge.enter(Manager(name_here)):
        bridge.run_sync(set_result, kept)
        bridge.run_sync(asyncio.sleep, 0)
    assert by_iterator(bridge, name_here, "each").startswith("Task-")


def test_another_thread_finds_the_tasks_of_open_sessions_only(bridge: syncline.Bridge) -> None:
    """What it found is done after its session, and none is there between two."""

    async def loop_here() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    found: list[set[asyncio.Task[Any]]] = []

    def look(loop: asyncio.AbstractEventLoop) -> None:
        thread = threading.Thread(target=lambda: found.append(asyncio.all_tasks(loop)))
        thread.start()
        thread.join()

    for _ in range(2):
        with bridge.enter(Manager(loop_here)) as loop:
            look(loop)
        look(loop)
    assert [len(tasks) for tasks in found] == [1, 0, 1, 0]
    assert found[0] != found[2]
    assert all(task.done() for tasks in found for task in tasks)


@tasks_begin_in_the_call
def test_a_context_that_is_kept_where_its_caller_gave_up_is_no_other_sessions(
    make_bridge: Callable[..., syncline.Bridge],
) -> None:
    """The caller has left its reference. Interleaving: the last step goes on when the caller has stopped to wait."""
    bridge = make_bridge(cleanup_timeout=0.05)
    begun, given_up = threading.Event(), threading.Event()
    main = threading.get_ident()
    kept: list[contextvars.Context] = []

    class Keeping(Manager):
        async def __aexit__(self, *error: object) -> None:
            kept.append(await context_here())
            begun.set()
            assert given_up.wait(20)

    def interrupt() -> None:
        assert begun.wait(20)
        signal.pthread_kill(main, signal.SIGINT)

    def body() -> None:
        by_manager(bridge, name_here)
        with pytest.raises(KeyboardInterrupt), bridge.enter(Keeping(name_here)):
            pass
        gc.collect()
        given_up.set()
        bridge.run_sync(asyncio.sleep, 0)  # begins when that step is over
        assert by_manager(bridge, context_here) is not kept[0]

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    try:
        contextvars.Context().run(body)  # with nothing of what other tests have set
    finally:
        signal.signal(signal.SIGINT, before)
        interrupter.join()
